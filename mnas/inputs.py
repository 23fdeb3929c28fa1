"""What turns images of a data set into a network's input."""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mnas.data import SPLIT_SEED, ImageData, LabelledImages, Split
from mnas.errors import InputError
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

# Pixels below which images are not shrunk; chosen here: one pixel is left after five layers of stride 2.
SMALLEST = 32
STATISTICS_IMAGES = 8192  # chosen here: it gives a mean to a hundredth of the images' spread (1/sqrt(8192))
COUNTED_AT_ONCE = 128  # images whose levels are counted at once, chosen here


@dataclass(frozen=True, slots=True)
class InputTransform:
    """How images become what a network is given.

    Args:
        channels: of the network's input; grey images are replicated.
        resolution: height and width in pixels that images are resized to (bilinear, antialiased).
        mean: of each channel of the training split, pixels in 0..1.
        std: likewise; at least one grey level, 1/255.
    """

    channels: int
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) uint8 -> (n, channels, resolution, resolution) float32, channels-last."""
        x = images.float()  # a copy, which the last line changes in place
        size = (self.resolution, self.resolution)
        if x.shape[2:] != size:
            x = functional.interpolate(x, size=size, mode="bilinear", antialias=True)
        mean, std = (255 * x.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        x = x.sub_(mean).div_(std).expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


def input_transform(spec: NetworkSpec, data: ImageData) -> InputTransform:
    """What turns images of the data set into the network's input, with mean and std of the training split.

    Of training images that are streamed, mean and std are of a seeded sample of at most 8,192.

    Raises:
        InputError: classes, channels or resolution of the network do not fit, or there is no batch to train on.
    """
    channels, *_ = data.train.shape
    problems = []
    if spec.num_classes != len(data.classes):
        problems.append(f"it has {spec.num_classes} outputs for {len(data.classes)} classes")
    if channels not in (1, spec.in_channels):
        problems.append(f"its input has {spec.in_channels} channels, the images have {channels}")
    if spec.resolution < min(data.native_size, SMALLEST):
        problems.append(f"its input of {spec.resolution} pixels is smaller than images of {data.native_size}")
    if len(data.train) < 2:
        problems.append("batch norm needs at least 2 training images, there is 1")
    if problems:
        raise InputError(f"the network does not fit the data set {data.name}: {'; '.join(problems)}.")
    mean, std = _channel_statistics(data.train)
    return InputTransform(spec.in_channels, spec.resolution, mean, std)


@functools.lru_cache(maxsize=1)  # candidates of a search are trained on one split
def _channel_statistics(split: LabelledImages) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel, pixels in 0..1."""
    if not isinstance(split, Split):
        order = np.random.default_rng(derive_seed(SPLIT_SEED, "mean and std")).permutation(len(split))
        split = split.take(np.sort(order[:STATISTICS_IMAGES]))
    mean, std = zip(*(_mean_and_std(split.images[:, c]) for c in range(split.shape[0])), strict=True)
    return mean, std


def _mean_and_std(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Of pixels (n, h, w) in 0..1, from counts of the 256 levels: numpy's own take 8 bytes a pixel at once."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(pixels), COUNTED_AT_ONCE):
        counts += np.bincount(pixels[start : start + COUNTED_AT_ONCE].ravel(), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    std = math.sqrt(counts @ (levels - mean) ** 2 / counts.sum())
    return mean / 255, max(std, 1.0) / 255
