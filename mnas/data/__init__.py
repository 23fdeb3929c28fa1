"""Labelled images, split once into training, validation and test."""

from mnas.data.images import (
    DATA_SETS,
    MAX_RESOLUTION,
    ImageData,
    Split,
    load_data,
    read_idx,
    search_resolution,
)

__all__ = [
    "DATA_SETS",
    "MAX_RESOLUTION",
    "ImageData",
    "Split",
    "load_data",
    "read_idx",
    "search_resolution",
]
