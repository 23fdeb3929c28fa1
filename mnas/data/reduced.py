"""Less of a data set, for candidates: fewer training images, and smaller ones."""

import math
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from mnas.data.images import SPLIT_SEED, ImageData, LabelledImages, Split, stratified
from mnas.errors import InputError

RESIZED_AT_ONCE = 256  # chosen here: 154 MB of colour images of 224 pixels as float32


def reduced(data: ImageData, images: int | None, resolution: int | None) -> ImageData:
    """The data set with fewer training images and smaller ones; without its test split, which is not for candidates.

    Args:
        data: all of it.
        images: of the training split, each class with its share; None is all.
        resolution: height and width in pixels that images are brought to; None, or more than they have, leaves them.

    Raises:
        InputError: more images than there are, or fewer than classes.
    """
    train, val = data.train, data.val
    if images is not None:
        if not len(data.classes) <= images <= len(train):
            raise InputError(
                f"--proxy-images must be from {len(data.classes)} (one for each class) to {len(train)}, as many as "
                f"{data.name} has for training; got {images}."
            )
        chosen = stratified(train.labels, images, SPLIT_SEED, f"{data.name} proxy")
        train = train.take(np.flatnonzero(chosen))
    if resolution is not None and resolution < data.native_size:
        train, val = _resized(train, resolution), _resized(val, resolution)
        data = replace(data, native_size=resolution)
    return replace(data, train=train, val=val, test=val)


def _resized(split: LabelledImages, resolution: int) -> Split:
    """In memory, all of height and width `resolution` (bilinear, antialiased)."""
    parts = np.array_split(np.arange(len(split)), math.ceil(len(split) / RESIZED_AT_ONCE))
    size = (resolution, resolution)
    resized = [
        functional.interpolate(torch.tensor(images).float(), size=size, mode="bilinear", antialias=True)
        .round()
        .to(torch.uint8)
        .numpy()
        for images in split.batches(parts)
    ]
    return Split(np.concatenate(resized), split.labels)
