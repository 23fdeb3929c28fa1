"""Data sets by name: `digits` and `fashion-mnist`, each split once into training, validation and test.

Candidates are trained on the first, compared on the second, and only a finished network meets the third.
The splits do not depend on the seed of a search, so that figures of two searches are of the same images.
"""

import gzip
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError, UnknownNameError
from mnas.seeds import derive_seed

DATA_SETS = ("digits", "fashion-mnist")
MAX_RESOLUTION = 224  # EfficientNet-B0's (arXiv 1905.11946, Table 1), the resolution of searches without data
RESOLUTION_STEP = 32  # the total stride of the networks here: five layers of stride 2
SPLIT_SEED = 0  # chosen here: any constant does, as long as it stays
DIGITS_TEST, DIGITS_VAL = 360, 359  # of 1,797 images: a fifth each, as the data set has no split of its own
FASHION_VAL_SHARE = 6  # one in six training images: 10,000 of 60,000, as many as the official test images
# Where Debian's package dataset-fashion-mnist puts the files of zalandoresearch/fashion-mnist.
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
FASHION_CLASSES = (  # zalandoresearch/fashion-mnist, README, "Labels"
    *("t-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_IDX_UINT8 = 0x08  # the idx format's code for unsigned bytes; the magic number is (0, 0, code, dimensions)
_IDX_MAX_BYTES = 1 << 30  # chosen here: 20 times Fashion-MNIST; a damaged header must not fill the memory


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images with their labels.

    Args:
        images: (n, c, h, w) uint8, n at least 1.
        labels: (n,) int64, each the index of a class.

    Raises:
        InputError: another shape or type.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
            raise InputError(f"images must be (n, c, h, w) uint8, got {images.shape} {images.dtype}.")
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise InputError(
                f"{len(images)} images need ({len(images)},) int64 labels, got {labels.shape} {labels.dtype}."
            )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A data set in memory.

    Args:
        name: as the user wrote it, without a folder.
        classes: their names, in the order of the labels.
        native_size: the larger of height and width of the images, in pixels.
        train: what networks are trained on.
        val: what candidates are compared on.
        test: what only a chosen network is scored on.

    Raises:
        InputError: a label without a class, or splits whose images differ in shape.
    """

    name: str
    classes: tuple[str, ...]
    native_size: int
    train: Split
    val: Split
    test: Split

    def __post_init__(self) -> None:
        for split in (self.train, self.val, self.test):
            if split.labels.min() < 0 or split.labels.max() >= len(self.classes):
                raise InputError(
                    f"{self.name} has {len(self.classes)} classes, but labels from "
                    f"{split.labels.min()} to {split.labels.max()}."
                )
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise InputError(
                    f"{self.name}: images of one data set have one shape, "
                    f"got {self.train.images.shape[1:]} and {split.images.shape[1:]}."
                )


def load_data(name: str, *, seed: int = SPLIT_SEED) -> ImageData:
    """The data set of a name, with its splits.

    Args:
        name: `digits` (scikit-learn's: 1,797 grey images of 8 x 8 pixels); `fashion-mnist` (grey, 28 x 28;
            50,000, 10,000 and the official 10,000 images), from Debian's package; `fashion-mnist:DIR`, the
            same from its four idx files in DIR.
        seed: of the border between training and validation, not of the search: the default holds for every
            search. The test images are the same for every seed.

    Returns:
        Splits that share no image, each class with its share in each.

    Raises:
        UnknownNameError: no such data set; the nearest is named.
        InputError: files that are missing or damaged.

    >>> len(load_data("digits").train)
    1078
    """
    base, separator, folder = name.partition(":")
    if base == "digits" and not separator:
        return _digits(seed)
    if base == "fashion-mnist" and bool(separator) == bool(folder):
        return _fashion_mnist(Path(folder).expanduser() if folder else FASHION_FOLDER, seed)
    if base in DATA_SETS:
        raise InputError(
            f"the data set {name!r} is not complete: write digits, fashion-mnist or fashion-mnist:DIR."
        )
    raise UnknownNameError(
        "data set", base, DATA_SETS, hint="A folder of your own images cannot be read yet."
    )


def search_resolution(data: ImageData) -> int:
    """Height and width in pixels that a search uses: the native size, up to a multiple of 32, at most 224."""
    return min(-(-data.native_size // RESOLUTION_STEP) * RESOLUTION_STEP, MAX_RESOLUTION)


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped if its name ends in .gz.

    Args:
        path: the file.
        dimensions: that the array must have: 3 for images (n, h, w), 1 for labels (n,).

    Raises:
        InputError: missing, not an idx file of so many dimensions, empty, truncated, or too long.

    Reference: "The IDX file format" (yann.lecun.com/exdb/mnist): magic number, big-endian sizes, data.
    """
    header_size = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_size)
            if len(header) < header_size or header[:4] != bytes((0, 0, _IDX_UINT8, dimensions)):
                raise InputError(
                    f"{path} is not an idx file of {dimensions} dimensions: expected it to begin with "
                    f"0000{_IDX_UINT8:02x}{dimensions:02x}, got {header[:4].hex() or 'nothing'}."
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            count = 1
            for size in shape:
                count *= size
            if not 0 < count <= _IDX_MAX_BYTES:
                raise InputError(f"{path} is damaged: its header says {shape}, {count} bytes of data.")
            content = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or f"damaged or truncated ({error})"
        raise InputError(f"cannot read {path}: {reason}.") from error
    if len(content) != count:
        found = f"only {len(content)}" if len(content) < count else "more"
        raise InputError(f"{path} is damaged: its header promises {count} bytes of data, it has {found}.")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _digits(seed: int) -> ImageData:
    from sklearn.datasets import load_digits  # at use: it takes a second to import

    bunch: Any = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # scikit-learn's pixels are 0..16
    everything = Split(images, bunch.target.astype(np.int64))
    rest, test = _split_off(everything, DIGITS_TEST, SPLIT_SEED, "digits test")
    train, val = _split_off(rest, DIGITS_VAL, seed, "digits val")
    return ImageData("digits", tuple(map(str, bunch.target_names)), images.shape[-1], train, val, test)


def _fashion_mnist(folder: Path, seed: int) -> ImageData:
    official, test = (_idx_split(folder, part) for part in ("train", "t10k"))
    train, val = _split_off(official, len(official) // FASHION_VAL_SHARE, seed, "fashion-mnist val")
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


def _split_off(split: Split, count: int, seed: int, purpose: str) -> tuple[Split, Split]:
    """The rest, and `count` images of which each class has its share (largest remainders first).

    The order is by hashes, so that a split is the same under every version of numpy.
    """
    labels = split.labels
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    rank = np.array([derive_seed(seed, purpose, index) for index in range(len(labels))])
    chosen = np.zeros(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(rank[members], kind="stable")[:quota]]] = True
    rest, taken = (Split(split.images[mask], labels[mask]) for mask in (~chosen, chosen))
    return rest, taken
