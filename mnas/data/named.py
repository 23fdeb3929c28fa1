"""Data sets of one channel that come by name: `digits` and `fashion-mnist`."""

from pathlib import Path
from typing import Any

import numpy as np

from mnas.data.idx import read_idx
from mnas.data.images import SPLIT_SEED, ImageData, Split, split_off
from mnas.errors import InputError

DIGITS_TEST, DIGITS_VAL = 360, 359  # of 1,797 images: a fifth each, as the data set has no split of its own
FASHION_VAL_SHARE = 6  # one in six training images: 10,000 of 60,000, as many as the official test images
# Where Debian's package dataset-fashion-mnist puts the files of zalandoresearch/fashion-mnist.
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (  # zalandoresearch/fashion-mnist, README, "Labels"
    *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)


def digits(seed: int) -> ImageData:
    """scikit-learn's digits: 1,797 grey images of 8 x 8 pixels."""
    from sklearn.datasets import load_digits  # at use: it takes a second to import

    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # scikit-learn's pixels are 0..16
    everything = Split(images, bunch.target.astype(np.int64))
    rest, test = split_off(everything, DIGITS_TEST, SPLIT_SEED, "digits test")
    train, val = split_off(rest, DIGITS_VAL, seed, "digits val")
    return ImageData("digits", tuple(map(str, bunch.target_names)), images.shape[-1], train, val, test)


def fashion_mnist(folder: Path, seed: int) -> ImageData:
    """Fashion-MNIST from its four idx files, gzipped or not; raises InputError where they are missing or damaged."""
    official, test = (_idx_split(folder, part) for part in ("train", "t10k"))
    train, val = split_off(official, len(official) // FASHION_VAL_SHARE, seed, "fashion-mnist val")
    native_size = max(train.images.shape[2:])
    return ImageData("fashion-mnist", FASHION_CLASSES, native_size, train, val, test)


def _idx_split(folder: Path, part: str) -> Split:
    files = (folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz")
    paths = [file if file.is_file() else file.with_suffix("") for file in files]  # unpacked ones will do
    missing = [file.name for file, path in zip(files, paths, strict=True) if not path.is_file()]
    if missing:
        raise InputError(
            f"no Fashion-MNIST in {folder}: missing {', '.join(missing)}. Install Debian's package "
            f"dataset-fashion-mnist, or name the folder of the four idx files: fashion-mnist:DIR."
        )
    images, labels = read_idx(paths[0], dimensions=3), read_idx(paths[1], dimensions=1)
    if len(images) != len(labels):
        raise InputError(f"{folder}: {len(images)} images in {paths[0].name}, but {len(labels)} labels.")
    return Split(images[:, None], labels.astype(np.int64))
