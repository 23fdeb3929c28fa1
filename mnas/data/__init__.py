"""Labelled images, split once into training, validation and test."""

from mnas.data.idx import read_idx
from mnas.data.images import (
    MAX_RESOLUTION,
    SPLIT_SEED,
    ImageData,
    LabelledImages,
    Split,
    search_resolution,
    stratified,
)
from mnas.data.load import DATA_SETS, load_data, located

__all__ = [
    "DATA_SETS",
    "MAX_RESOLUTION",
    "SPLIT_SEED",
    "ImageData",
    "LabelledImages",
    "Split",
    "load_data",
    "located",
    "read_idx",
    "search_resolution",
    "stratified",
]
