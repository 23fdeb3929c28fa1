"""Labelled images, and how they are divided.

Candidates are trained on the first split, compared on the second, and only a finished network meets the third.
The splits do not depend on the seed of a search, so that figures of two searches are of the same images.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.seeds import derive_seed

MAX_RESOLUTION = 224  # EfficientNet-B0's (arXiv 1905.11946, Table 1), the resolution of searches without data
RESOLUTION_STEP = 32  # the total stride of the networks here: five layers of stride 2
SPLIT_SEED = 0  # chosen here: any constant does, as long as it stays


class LabelledImages(Protocol):
    """Images of one shape with their labels: in memory (`Split`), or decoded when they are asked for (`stream.py`)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) int64, each the index of a class."""
        ...

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        ...

    def __len__(self) -> int: ...

    def __hash__(self) -> int: ...

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """These images (k of them, in this order) in memory; raises as `batches` does."""
        ...

    def batches(self, chosen: Sequence[NDArray[np.int64]]) -> Generator[NDArray[np.uint8], None, None]:
        """For each (k,) int64 of indices the images (k, c, h, w) uint8, in this order.

        Close the iterator where it is not read to its end: what decodes ahead ends with it.

        Raises:
            SearchError: an image that can no longer be read, by its name.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images with their labels, in memory.

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

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """These images (k of them, at least 1, in this order), copied."""
        return Split(self.images[indices], self.labels[indices])

    def batches(self, chosen: Sequence[NDArray[np.int64]]) -> Generator[NDArray[np.uint8], None, None]:
        """For each (k,) int64 of indices the images (k, c, h, w) uint8, in this order, copied."""
        for indices in chosen:
            yield self.images[indices]


@dataclass(frozen=True, slots=True, eq=False)
class ImageData:
    """A data set.

    Args:
        name: as the user wrote it, without a folder.
        classes: their names, in the order of the labels.
        native_size: the larger of height and width of the images, in pixels.
        train: what networks are trained on.
        val: what candidates are compared on.
        test: what only a chosen network is scored on.
        flip: whether an image mirrored left to right is still one of its class: true of photos, not of digits.
        left_out: what was skipped because the user said so, one sentence each.
        notes: what else a person should know of how the images are read, one sentence each.

    Raises:
        InputError: a label without a class, or splits whose images differ in shape.
    """

    name: str
    classes: tuple[str, ...]
    native_size: int
    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    flip: bool = False
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split in (self.train, self.val, self.test):
            if split.labels.min() < 0 or split.labels.max() >= len(self.classes):
                raise InputError(
                    f"{self.name} has {len(self.classes)} classes, but labels from "
                    f"{split.labels.min()} to {split.labels.max()}."
                )
            if split.shape != self.train.shape:
                raise InputError(
                    f"{self.name}: images of one data set have one shape, got {self.train.shape} and {split.shape}."
                )


def search_resolution(data: ImageData) -> int:
    """Height and width in pixels that a search uses: the native size, up to a multiple of 32, at most 224."""
    return min(-(-data.native_size // RESOLUTION_STEP) * RESOLUTION_STEP, MAX_RESOLUTION)


def split_off(split: Split, count: int, seed: int, purpose: str) -> tuple[Split, Split]:
    """The rest, and `count` images of which each class has its share; see `stratified`."""
    chosen = stratified(split.labels, count, seed, purpose)
    rest, taken = (Split(split.images[mask], split.labels[mask]) for mask in (~chosen, chosen))
    return rest, taken


def stratified(labels: NDArray[np.int64], count: int, seed: int, purpose: str) -> NDArray[np.bool_]:
    """Which `count` of the images are chosen: each class has its share (largest remainders first).

    The order is by hashes, so that a choice is the same under every version of numpy.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    quotas = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    rank = np.array([derive_seed(seed, purpose, index) for index in range(len(labels))])
    chosen = np.zeros(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        members = np.flatnonzero(labels == label)
        chosen[members[np.argsort(rank[members], kind="stable")[:quota]]] = True
    return chosen
