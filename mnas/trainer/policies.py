"""AutoAugment and RandAugment of a batch: each image draws its own operations, those with the same go together."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

# The name of an operation, the probability that it is applied, and its level.
Step = tuple[str, float, int]
Operation = tuple[str, float]  # its name and strength
IDENTITY: Operation = ("Identity", 0.0)

# Both have as many levels as in torchvision (transforms/v2/_auto_augment.py), from 0.
AUTO_LEVELS, RAND_LEVELS = 10, 31
# `randaug_num_layers` in EfficientNet's main.py, `ra_num_layers` in EfficientNetV2's hparams.py.
RAND_STEPS = 2

# torchvision's policy for ImageNet, which it takes from arXiv 1805.09501. EfficientNet's own code has another one
# (`policy_v0` of its autoaugment.py).
AUTO_CHOICES: Sequence[Sequence[Step]] = (
    (("Posterize", 0.4, 8), ("Rotate", 0.6, 9)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
    (("Posterize", 0.6, 7), ("Posterize", 0.6, 6)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Equalize", 0.4, 0), ("Rotate", 0.8, 8)),
    (("Solarize", 0.6, 3), ("Equalize", 0.6, 0)),
    (("Posterize", 0.8, 5), ("Equalize", 1.0, 0)),
    (("Rotate", 0.2, 3), ("Solarize", 0.6, 8)),
    (("Equalize", 0.6, 0), ("Posterize", 0.4, 6)),
    (("Rotate", 0.8, 8), ("Color", 0.4, 0)),
    (("Rotate", 0.4, 9), ("Equalize", 0.6, 0)),
    (("Equalize", 0.0, 0), ("Equalize", 0.8, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Rotate", 0.8, 8), ("Color", 1.0, 2)),
    (("Color", 0.8, 8), ("Solarize", 0.8, 7)),
    (("Sharpness", 0.4, 7), ("Invert", 0.6, 0)),
    (("ShearX", 0.6, 5), ("Equalize", 1.0, 0)),
    (("Color", 0.4, 0), ("Equalize", 0.6, 0)),
    (("Equalize", 0.4, 0), ("Solarize", 0.2, 4)),
    (("Solarize", 0.6, 5), ("AutoContrast", 0.6, 0)),
    (("Invert", 0.6, 0), ("Equalize", 1.0, 0)),
    (("Color", 0.6, 4), ("Contrast", 1.0, 8)),
    (("Equalize", 0.8, 0), ("Equalize", 0.6, 0)),
)
RAND_OPERATIONS = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness"),
    *("Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)

# Strength at the least and at the greatest level, as in torchvision: pixels a pixel, share of the width or height,
# degrees, change of a factor of 1; bits that are left; share of the brightest from which on pixels are inverted.
_SIGNED: Mapping[str, tuple[float, float]] = {
    "ShearX": (0.0, 0.3),
    "ShearY": (0.0, 0.3),
    "TranslateX": (0.0, 150 / 331),
    "TranslateY": (0.0, 150 / 331),
    "Rotate": (0.0, 30.0),
    "Brightness": (0.0, 0.9),
    "Color": (0.0, 0.9),
    "Contrast": (0.0, 0.9),
    "Sharpness": (0.0, 0.9),
}
_UNSIGNED: Mapping[str, tuple[float, float]] = {"Posterize": (8.0, 4.0), "Solarize": (1.0, 0.0)}


def _affine(
    images: Tensor, *, shear: tuple[float, float] = (0, 0), shift: tuple[int, int] = (0, 0)
) -> Tensor:
    """Sheared about the upper left corner, in pixels a pixel, or shifted by pixels, along x and y."""
    degrees = [math.degrees(math.atan(each)) for each in shear]
    moved: Tensor = vision.affine(images, 0.0, list(shift), 1.0, degrees, center=[0.0, 0.0])
    return moved


def _sharpen(images: Tensor, factor: float) -> Tensor:
    """torchvision's `adjust_sharpness`, without its depthwise convolution: a quarter of the time at 32 pixels."""
    x = images.float()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    inner = x[..., 1:-1, 1:-1]
    blurred = (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]).add_(inner, alpha=4).div_(13).round_()
    inner.add_(blurred.sub_(inner), alpha=1 - factor)
    return x.clamp_(0, 255).to(torch.uint8)


# Of these a pixel's value is that of one pixel of the image, whatever the image, or 0.
_MOVES: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "ShearX": lambda x, strength: _affine(x, shear=(strength, 0)),
    "ShearY": lambda x, strength: _affine(x, shear=(0, strength)),
    "TranslateX": lambda x, strength: _affine(x, shift=(int(strength * x.shape[3]), 0)),
    "TranslateY": lambda x, strength: _affine(x, shift=(0, int(strength * x.shape[2]))),
    "Rotate": lambda x, strength: vision.rotate(x, strength),
}
_OTHERS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "Identity": lambda x, _: x,
    "Brightness": lambda x, strength: vision.adjust_brightness(x, 1 + strength),
    "Color": lambda x, strength: vision.adjust_saturation(x, 1 + strength),
    "Contrast": lambda x, strength: vision.adjust_contrast(x, 1 + strength),
    "Sharpness": lambda x, strength: _sharpen(x, 1 + strength),
    "Posterize": lambda x, strength: vision.posterize(x, round(strength)),
    "Solarize": lambda x, strength: x ^ (x >= 255 * strength).to(torch.uint8).neg_(),  # -1 is all bits
    "AutoContrast": lambda x, _: vision.autocontrast(x),
    "Equalize": lambda x, _: vision.equalize(x),
    "Invert": lambda x, _: vision.invert(x),
}


class Policy:
    """Changes each image of a batch by operations that are drawn for it alone.

    Random numbers come from torch's global generator of the CPU, whatever the images' device.

    Args:
        choices: of which one is drawn for each image, all as likely; its steps are taken in turn.
        levels: how many there are.
        repeats: how often one is drawn.
    """

    def __init__(self, choices: Sequence[Sequence[Step]], levels: int, repeats: int) -> None:
        self.repeats = repeats
        plus = [[(name, _strength(name, level, levels)) for name, _, level in choice] for choice in choices]
        minus = [[(name, -s if name in _SIGNED else s) for name, s in choice] for choice in plus]
        used = dict.fromkeys(operation for choice in plus + minus for operation in [*choice, IDENTITY])
        self.operations = sorted(used, key=lambda operation: operation[0] not in _MOVES)  # moves come first
        self._moves = tuple(operation for operation in self.operations if operation[0] in _MOVES)
        self._plus, self._minus = (
            torch.tensor([[self.operations.index(operation) for operation in choice] for choice in side])
            for side in (plus, minus)
        )
        self._chances = torch.tensor([[chance for _, chance, _ in choice] for choice in choices])

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) uint8 with 1 or 3 channels -> the same shape and type."""
        for step in self.draw(len(images)):
            images = self.apply(images, step)
        return images

    def draw(self, count: int) -> Tensor:
        """The number in `operations` of what is done to each image in each step: (steps, count) int64."""
        steps, identity = [], self.operations.index(IDENTITY)
        for _ in range(self.repeats):
            chosen = torch.randint(len(self._chances), (count,))
            for plus, minus, chances in zip(self._plus.T, self._minus.T, self._chances.T, strict=True):
                step = torch.where(torch.rand(count) <= 0.5, minus[chosen], plus[chosen])
                steps.append(torch.where(torch.rand(count) <= chances[chosen], step, identity))
        return torch.stack(steps)

    def apply(self, images: Tensor, step: Tensor) -> Tensor:
        """Operation `step[i]` on image i; (n, c, h, w) uint8 and (n,) int64 on the CPU -> as the images."""
        device, moves = images.device, self._moves
        order = step.argsort(stable=True)
        sizes = step.bincount(minlength=len(self.operations)).tolist()
        moved = sum(sizes[: len(moves)])
        images = images.index_select(0, order.to(device))
        first, *groups = torch.split(images, [moved, *sizes[len(moves) :]])
        changed = [_move(first, moves, step[order[:moved]].to(device))] if moved else []
        for group, (name, strength) in zip(groups, self.operations[len(moves) :], strict=True):
            if len(group):
                changed.append(_OTHERS[name](group, strength))
        return torch.cat(changed).index_select(0, order.argsort().to(device))


def autoaugment() -> Policy:
    """The policy that was learned on ImageNet: arXiv 1805.09501."""
    return Policy(AUTO_CHOICES, AUTO_LEVELS, repeats=1)


def randaugment(magnitude: int) -> Policy:
    """Two operations, all as likely, at one level from 0 to 30: arXiv 1909.13719."""
    return Policy([((name, 1.0, magnitude),) for name in RAND_OPERATIONS], RAND_LEVELS, RAND_STEPS)


def _move(images: Tensor, moves: Sequence[Operation], numbers: Tensor) -> Tensor:
    """Move `numbers[i]` of image i; (n, c, h, w) and (n,) on one device -> as the images."""
    count, channels, height, width = images.shape
    sources = _sources(moves, height, width, images.device).index_select(0, numbers)
    pixels = functional.pad(images.flatten(2), (1, 0))
    return pixels.gather(2, sources[:, None].expand(count, channels, -1)).view(images.shape)


@lru_cache(maxsize=8)
def _sources(moves: Sequence[Operation], height: int, width: int, device: torch.device) -> Tensor:
    """(moves, height x width) int64: the number, from 1, of the pixel that comes to each place; 0 is none."""
    numbers = torch.arange(1.0, height * width + 1, device=device).view(1, 1, height, width)
    return torch.stack([_MOVES[name](numbers, strength).flatten().long() for name, strength in moves])


def _strength(name: str, level: int, levels: int) -> float:
    least, greatest = _SIGNED.get(name) or _UNSIGNED.get(name, (0.0, 0.0))
    return torch.linspace(least, greatest, levels)[level].item()
