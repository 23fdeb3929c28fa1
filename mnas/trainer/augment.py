"""Training images changed at random, in batches and on the device that they are on."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnas.trainer.recipe import Recipe
from mnas.trainer.schedule import ramped
from mnas.training import InputTransform

# Cutout (arXiv 1708.04552), section 4.1: 4 pixels around images of 32.
PAD_SHARE = 4 / 32
# Images that share a random crop and operation of a policy. Chosen here: at 32 pixels a group takes little longer than
# one image (RandAugment 0.18 ms each by itself, 0.03 in groups), and groups are drawn anew in each epoch.
GROUP = 8
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
        self._group_wise = _group_transform(recipe, inputs.resolution, stage)
        self._mix = _mixing(recipe, classes)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Images (n, c, h, w) uint8 and labels (n,) int64, both on one device.

        Returns:
            Inputs (n, channels, resolution, resolution) float32, channels-last, and targets: (n,) int64, or
            (n, classes) float32 that sum to 1 where images are mixed.
        """
        if self.recipe.crop == "pad":
            images = pad_and_crop(images)
        if self.recipe.flip:
            images = flip_some(images)
        if self._group_wise is not None:
            images = torch.cat([self._group_wise(group) for group in torch.split(images, GROUP)])
        x = self.inputs(images)
        return (x, labels) if self._mix is None else self._mix(x, labels)


def pad_and_crop(images: Tensor) -> Tensor:
    """Zeros around each image, an eighth of its width and height, and a cut of the old size anywhere in that.

    (n, c, h, w) of any type -> the same shape and type.
    """
    count, _, height, width = images.shape
    down, right = round(PAD_SHARE * height), round(PAD_SHARE * width)
    padded = functional.pad(images, (right, right, down, down))
    device = images.device
    tops = torch.randint(0, 2 * down + 1, (count,), device=device)
    lefts = torch.randint(0, 2 * right + 1, (count,), device=device)
    rows = (tops[:, None] + torch.arange(height, device=device))[:, None, :, None]
    columns = (lefts[:, None] + torch.arange(width, device=device))[:, None, None, :]
    numbers = torch.arange(count, device=device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=device)[None, :, None, None]
    return padded[numbers, channels, rows, columns]


def flip_some(images: Tensor) -> Tensor:
    """Each image mirrored left to right with probability 1/2; (n, c, h, w) -> the same shape and type."""
    chosen = torch.rand(len(images), device=images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def _group_transform(recipe: Recipe, resolution: int, stage: int) -> Callable[[Tensor], Tensor] | None:
    """What is done to the images of a group alike; None is nothing."""
    if recipe.crop != "resized" and recipe.policy == "none":
        return None
    from torchvision.transforms import v2  # a second of import

    steps: list[Any] = []
    if recipe.crop == "resized":  # its defaults are those of Inception: 8 to 100 %, 3/4 to 4/3
        steps.append(v2.RandomResizedCrop(resolution, antialias=True))
    if recipe.policy == "autoaugment":
        steps.append(v2.AutoAugment())  # the policy learned on ImageNet: arXiv 1805.09501, Table 9
    if recipe.policy == "randaugment":  # 2 operations: arXiv 1909.13719, section 4.3
        steps.append(v2.RandAugment(2, round(ramped(recipe.magnitude, recipe, stage))))
    transform: Callable[[Tensor], Tensor] = v2.Compose(steps)
    return transform


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
