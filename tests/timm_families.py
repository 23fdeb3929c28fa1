"""What the tests of published families share: timm's network with random numbers everywhere, and ours with the same."""

from dataclasses import replace
from math import prod

import torch
from torch import nn

from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.search_space.timm_names import timm_names

# Of the logits' standard deviation, in float64: in float32 a hundred and fifty layers leave differences of 1e-4.
TOLERANCE = 1e-9
RESOLUTION = 64  # of the images whose logits are compared: two pixels a side in the last stage


def hook_count(module: nn.Module, resolution: int) -> int:
    """Multiply-adds of convolutions and linear layers, from the shapes that pass them; on meta tensors."""
    total = 0

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * prod(layer.weight.shape[1:])

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    module.eval()(torch.empty(1, 3, resolution, resolution, device="meta"))
    return total


def images_of(seed: int) -> torch.Tensor:
    """(4, 3, RESOLUTION, RESOLUTION): patches of colour and noise, so that images differ after pooling too."""
    generator = torch.Generator().manual_seed(seed)
    patches = 2 * torch.randn(4, 3, 3, 3, generator=generator)
    noise = torch.randn(4, 3, RESOLUTION, RESOLUTION, generator=generator)
    return nn.functional.interpolate(patches, size=RESOLUTION) + noise


def randomise(module: nn.Module, seed: int) -> None:
    """Draws every weight, affine and statistic; the statistics around real ones, so that signals keep their size."""
    generator = torch.Generator().manual_seed(seed)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = prod(parameter.shape[1:]) if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.copy_(0.5 * torch.rand(norm.weight.shape, generator=generator) + 0.75)
        module.get_classifier().weight.mul_(8)
        module.train()(images_of(seed))
        for norm in norms:
            shift, scale = (draw(norm.bias.shape, generator=generator) for draw in (torch.randn, torch.rand))
            norm.running_mean += 0.1 * shift * norm.running_var.sqrt()
            norm.running_var *= 0.5 * scale + 0.85


def logits_of(module: nn.Module) -> torch.Tensor:
    """Of two images, in float64."""
    with torch.no_grad():
        return module.double().eval()(images_of(seed=1)[:2].double())


def random_logits(module: nn.Module) -> torch.Tensor:
    """Of timm's module with random numbers everywhere; they are finite, large, and depend on the image."""
    randomise(module, seed=0)
    logits = logits_of(module)
    assert torch.isfinite(logits).all()
    assert logits.std() >= 1
    assert (logits[0] - logits[1]).std() >= 0.1 * logits.std()
    return logits


def ours(spec: NetworkSpec, state: dict[str, torch.Tensor]) -> nn.Module:
    """Our network at the test's resolution with the tensors of timm's, by their names there."""
    module = build_module(replace(spec, resolution=RESOLUTION)).double()
    names = timm_names(spec, module.state_dict())
    assert sorted(names.values()) == sorted(state)  # each of theirs is one of ours, and the other way round
    module.load_state_dict({name: state[other] for name, other in names.items()}, strict=True)
    return module


def difference(spec: NetworkSpec, module: nn.Module, logits: torch.Tensor) -> float:
    """The greatest of our logits from those of timm's module, in standard deviations."""
    return float((logits_of(ours(spec, module.state_dict())) - logits).abs().max() / logits.std())
