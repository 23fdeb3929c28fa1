"""Zero-cost scores: what an untrained network says of how well it would do, from one batch or none.

Each ranks networks of one space; none is an accuracy. How far to believe them on a benchmark of trained networks:
`mnas bench proxy`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mnas.data import ImageData
from mnas.errors import SearchError, UnknownNameError
from mnas.inputs import input_transform
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.threads import torch_threads

# Activations whose sign is a unit's code; sigmoids are the gates of squeeze-and-excitation, which are no such units.
RECTIFIERS = (nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish)
WEIGHTED = (nn.Conv2d, nn.Linear)
# Images of a batch: arXiv 2006.04647 (128); one minibatch in arXiv 2101.08134, whose published code takes 64.
CODED_IMAGES, LOSS_IMAGES = 128, 64


class ZeroCostError(SearchError):
    """A network whose score is not a finite number."""


def zero_cost_score(name: str, spec: NetworkSpec, data: ImageData, *, seed: int, threads: int = 1) -> float:
    """The score of an untrained network; more is better.

    Args:
        name: a key of `SCORES`.
        spec: the network.
        data: whose training images make the batch, where the score takes one.
        seed: of the initial weights and of the choice of images. The same seed and threads give the same score.
        threads: of torch.

    Raises:
        UnknownNameError: no such score.
        InputError: a network that does not fit the data.
        ZeroCostError: a score that is not finite.
    """
    if name not in SCORES:
        raise UnknownNameError("zero-cost score", name, SCORES)
    module = build_module(replace(spec, dropout=0.0, drop_path=0.0), seed=derive_seed(seed, "weights"))
    with torch_threads(threads):
        value = SCORES[name](module, spec, data, derive_seed(seed, "images"))
    if not math.isfinite(value):
        raise ZeroCostError(f"{name} of this network is {value}.")
    return value


def naswot(module: nn.Module, images: Tensor) -> float:
    """log |det K| with K[i, j] = the number of units whose codes agree on images i and j.

    A unit's code is 1 where the input of its ReLU is positive; of SiLU and hard-swish, which the paper does not treat,
    the sign of their input is taken too.

    Args:
        module: left as it was, but for the statistics of its norms, which are in training mode.
        images: `(n, c, h, w)`; two images of one code make the determinant 0 and the score minus infinity.

    Reference: arXiv 2006.04647 (Mellor et al.), sec. 3: s = log |K_H|, K_H of units less Hamming distances.
    """
    count = len(images)
    kernel = torch.zeros(count, count, dtype=torch.float64)

    def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        codes = (inputs[0] > 0).flatten(1).float()  # before the activation, which may work in place
        ones = codes.sum(1)
        kernel.add_(codes.shape[1] - ones[:, None] - ones + 2 * (codes @ codes.T))

    hooks = [
        part.register_forward_pre_hook(take) for part in module.modules() if isinstance(part, RECTIFIERS)
    ]
    try:
        with torch.no_grad():
            module.train()(images)
    finally:
        for hook in hooks:
            hook.remove()
    sign, logarithm = np.linalg.slogdet(kernel.numpy())
    return float(logarithm) if sign else -math.inf


def synflow(module: nn.Module, images: Tensor) -> float:
    """log of sum(theta x dR / dtheta): R is the sum of the outputs, weights are absolute, the input is ones.

    The network is taken as linear: without norms, and without activations except the gates of
    squeeze-and-excitation. The logarithm, which ranks as the sum does, keeps a deep network's within floats.

    Args:
        module: changed; make another for other use.
        images: `(1, c, h, w)` of ones.

    Reference: arXiv 2006.05467 (Tanaka et al.), as a network's score in arXiv 2101.08134 (Abdelfattah et al.), sec. 3.
    """
    _linearise(module)
    module.double().eval()
    weights = _weights(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_()
    gradients = torch.autograd.grad(module(images.double()).sum(), weights)
    total = _sum_of_products(weights, gradients)
    return math.log(total) if total > 0 else -math.inf


def snip(module: nn.Module, images: Tensor, labels: Tensor) -> float:
    """sum |theta x dL / dtheta| over the weights of convolutions and linear layers, L the cross-entropy of a batch.

    Args:
        module: its norms, in training mode, take the batch's statistics.
        images: `(n, c, h, w)`.
        labels: `(n,)`.

    Reference: arXiv 1810.02340 (Lee et al.), as a network's score in arXiv 2101.08134, sec. 3.
    """
    weights = _weights(module)
    loss = functional.cross_entropy(module.train()(images), labels)
    return _sum_of_products(weights, torch.autograd.grad(loss, weights))


def _sum_of_products(weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> float:
    """sum |weight x gradient| over everything."""
    with torch.no_grad():
        return sum(float((w * slope).abs().sum()) for w, slope in zip(weights, gradients, strict=True))


def _weights(module: nn.Module) -> list[Tensor]:
    return [part.weight for part in module.modules() if isinstance(part, WEIGHTED)]


def _linearise(module: nn.Module) -> None:
    """Replaces norms and activations by the identity, gates excepted."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, (nn.BatchNorm2d, *RECTIFIERS)):
                setattr(part, name, nn.Identity())


def _batch(spec: NetworkSpec, data: ImageData, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A seeded choice of training images as the network's input, and their labels."""
    transform = input_transform(spec, data)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:count]
    chosen = data.train.take(order.numpy())
    return transform(torch.tensor(chosen.images)), torch.tensor(chosen.labels)


def _naswot(module: nn.Module, spec: NetworkSpec, data: ImageData, seed: int) -> float:
    return naswot(module, _batch(spec, data, CODED_IMAGES, seed)[0])


def _synflow(module: nn.Module, spec: NetworkSpec, data: ImageData, seed: int) -> float:
    return synflow(module, torch.ones(1, spec.in_channels, spec.resolution, spec.resolution))


def _snip(module: nn.Module, spec: NetworkSpec, data: ImageData, seed: int) -> float:
    return snip(module, *_batch(spec, data, LOSS_IMAGES, seed))


SCORES: Mapping[str, Callable[[nn.Module, NetworkSpec, ImageData, int], float]] = {
    "naswot": _naswot,
    "synflow": _synflow,
    "snip": _snip,
}
