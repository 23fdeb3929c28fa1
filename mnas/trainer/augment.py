"""Training images changed at random, in batches and on the device that they are on."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from mnas.inputs import InputTransform
from mnas.trainer.recipe import Recipe
from mnas.trainer.schedule import ramped

if TYPE_CHECKING:
    from mnas.trainer.policies import Policy

# Cutout's train.py (uoguelph-mlrg/Cutout): 4 pixels around images of 32.
PAD_SHARE = 4 / 32
# Crops of Inception (arXiv 1409.4842, section 6): area and aspect ratio; as often tried as in torchvision and in
# EfficientNet's preprocessing.py.
AREA, RATIO, ATTEMPTS = (0.08, 1.0), (3 / 4, 4 / 3), 10
# Pixels of a side up to which a CPU resizes a batch by products of matrices rather than image by image. Chosen here:
# 128 images of 32 pixels take one core 3.0 ms and 7.1, of 64 pixels 10.3 and 8.1; 16 of 256, to 224, take 28 and 6.
MATRIX_SIZE = 48
Mix = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class Augmentation:
    """Turns uint8 images and their labels into what one training step takes.

    Random numbers come from torch's global generators, as torchvision's transforms draw from nowhere else; the loop
    seeds them for each part of each step, and gives them back as they were.

    Args:
        recipe: which changes.
        inputs: what turns images into the network's input, at the resolution of the stage.
        classes: number of classes.
        stage: of progressive training, from 0.
    """

    def __init__(self, recipe: Recipe, inputs: InputTransform, classes: int, stage: int) -> None:
        self.recipe, self.inputs, self.classes = recipe, inputs, classes
        self._policy = _policy(recipe, stage)
        self._mix = _mixing(recipe, classes)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w) uint8 and labels (n,) int64, both on one device.

        Returns:
            Inputs (n, channels, resolution, resolution) float32, channels-last, and targets: (n,) int64, or
            (n, classes) float32 that sum to 1 where images are mixed.
        """
        if self.recipe.crop == "pad":
            images = pad_and_crop(images)
        if self.recipe.crop == "resized":
            images = resized_crop(images, self.inputs.resolution)
        if self.recipe.flip:
            images = flip_some(images)
        if self._policy is not None:
            images = self._policy(images)
        x = self.inputs(images)
        return (x, labels) if self._mix is None else self._mix(x, labels)


def pad_and_crop(images: Tensor) -> Tensor:
    """Zeros around each image, an eighth of its width and height, and a cut of the old size anywhere in that.

    (n, c, h, w) of any type -> the same shape and type.
    """
    count, channels, height, width = images.shape
    down, right = round(PAD_SHARE * height), round(PAD_SHARE * width)
    padded = functional.pad(images, (right, right, down, down))
    device = images.device
    tops = torch.randint(0, 2 * down + 1, (count,), device=device)
    lefts = torch.randint(0, 2 * right + 1, (count,), device=device)
    rows = tops[:, None] + torch.arange(height, device=device)
    columns = lefts[:, None] + torch.arange(width, device=device)
    places = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).flatten(1)
    return padded.flatten(2).gather(2, places[:, None].expand(-1, channels, -1)).view(images.shape)


def random_boxes(count: int, height: int, width: int) -> Tensor:
    """Parts of an image, drawn as torchvision's RandomResizedCrop draws them: (4, count) int64.

    Returns:
        Top, left, height and width of each in pixels, on the CPU, from its global generator.
    """
    areas = height * width * torch.empty(ATTEMPTS, count, dtype=torch.float64).uniform_(*AREA)
    ratios = torch.empty_like(areas).uniform_(math.log(RATIO[0]), math.log(RATIO[1])).exp()
    heights, widths = (areas / ratios).sqrt().round(), (areas * ratios).sqrt().round()
    fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
    first, numbers, found = fits.int().argmax(0), torch.arange(count), fits.any(0)
    # where none fits, the largest in the middle
    tall, wide = min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1]))
    heights = torch.where(found, heights[first, numbers], tall)
    widths = torch.where(found, widths[first, numbers], wide)
    shares = torch.where(found, torch.rand(2, count, dtype=torch.float64), 0.5)
    rooms = torch.stack([height - heights, width - widths])
    corners = torch.where(found, shares * (rooms + 1), rooms / 2).floor()
    return torch.cat([corners, torch.stack([heights, widths])]).long()


def resized_crop(images: Tensor, resolution: int) -> Tensor:
    """A random part of each image, resized (bilinear, antialiased).

    (n, c, h, w) uint8 -> (n, c, resolution, resolution) uint8.
    """
    count, channels, height, width = images.shape
    boxes = random_boxes(count, height, width)
    if images.device.type == "cpu" and max(height, width, resolution) > MATRIX_SIZE:
        from torchvision.transforms.v2 import functional as vision

        each = zip(torch.split(images, 1), boxes.T.tolist(), strict=True)
        size = [resolution, resolution]
        return torch.cat([vision.resized_crop(image, *box, size, antialias=True) for image, box in each])
    tops, lefts, heights, widths = boxes.to(images.device)
    rows = resize_weights(tops, heights, height, resolution)
    columns = resize_weights(lefts, widths, width, resolution)
    x = images.flatten(1, 2).float().bmm(columns.transpose(1, 2)).view(count, channels, height, resolution)
    return (rows[:, None] @ x).add_(0.5).to(torch.uint8)  # rounded: all are positive


def resize_weights(starts: Tensor, sizes: Tensor, length: int, resolution: int) -> Tensor:
    """What each of `length` pixels along one axis adds to each of `resolution` pixels of a resized part of it.

    The weights of torch's antialiased bilinear interpolation: triangles, as wide as a new pixel where that is more
    than an old one. (n,) starts and sizes of the parts -> (n, resolution, length) float32; the last axis sums to 1.
    """
    first, size = starts[:, None, None], sizes[:, None, None]
    scale = size / resolution
    centres = first + scale * (torch.arange(resolution, device=starts.device)[:, None] + 0.5)
    pixels = torch.arange(length, device=starts.device)
    weights = (pixels + 0.5 - centres).abs_().mul_(-1 / scale.clamp(min=1)).add_(1).clamp_(min=0)
    weights *= (pixels >= first) & (pixels < first + size)
    return weights.div_(weights.sum(2, keepdim=True))


def flip_some(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2; (n, c, h, w) -> the same shape and type."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    both = torch.cat([images, images.flip(3)])
    return both.index_select(0, torch.arange(len(images), device=images.device) + len(images) * chosen)


def _policy(recipe: Recipe, stage: int) -> "Policy | None":
    if recipe.policy == "none":
        return None
    from mnas.trainer.policies import autoaugment, randaugment  # torchvision: a second of import

    if recipe.policy == "autoaugment":
        return autoaugment()
    return randaugment(round(ramped(recipe.magnitude, recipe, stage)))


def _mixing(recipe: Recipe, classes: int) -> Mix | None:
    """Mixup (arXiv 1710.09412), cutmix (arXiv 1905.04899), or for each batch one of the two."""
    if not recipe.mixup and not recipe.cutmix:
        return None
    from torchvision.transforms import v2

    both: list[Mix] = []
    if recipe.mixup:
        both.append(v2.MixUp(alpha=recipe.mixup, num_classes=classes))
    if recipe.cutmix:
        both.append(v2.CutMix(alpha=recipe.cutmix, num_classes=classes))
    mix: Mix = both[0] if len(both) == 1 else v2.RandomChoice(both)
    return mix
