"""Our modules against timm's: the same state dict gives the same logits.

The logits of a freshly initialised network are nearly constant, so that any network would pass; every weight,
affine and running statistic is therefore drawn at random, and changed networks are shown to fail.
"""

from dataclasses import replace
from math import prod

import pytest
import timm
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from mnas.model import build_module
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

TIMM_NAMES = {
    "efficientnet_b0": "efficientnet_b0",
    "mnasnet_a1": "semnasnet_100",
    "mnasnet_b1": "mnasnet_100",
    "mnasnet_small": "mnasnet_small",
    "mobilenetv2": "mobilenetv2_100",
}
RESOLUTION = 96  # of the images here: enough pixels for every stage, at a fifth of the time of 224
TOLERANCE = 1e-4  # of the logits' standard deviation


def images_of(seed):
    """(4, 3, RESOLUTION, RESOLUTION): patches of colour and noise, so that images differ after pooling too."""
    generator = torch.Generator().manual_seed(seed)
    patches = 2 * torch.randn(4, 3, 3, 3, generator=generator)
    noise = torch.randn(4, 3, RESOLUTION, RESOLUTION, generator=generator)
    return nn.functional.interpolate(patches, size=RESOLUTION) + noise


def randomise(module, seed):
    """Draws every weight, affine and statistic; the statistics around real ones, so that signals keep their size."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor, kind):
        return kind(tensor.shape, generator=generator)

    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for parameter in module.parameters():
            fan_in = prod(parameter.shape[1:]) if parameter.ndim > 1 else 4
            parameter.copy_(draw(parameter, torch.randn) / fan_in**0.5)
        for norm in norms:
            norm.momentum = 1.0
            norm.weight.copy_(0.5 * draw(norm.weight, torch.rand) + 0.75)
        module.classifier.weight.mul_(8)
        module.train()(images_of(seed))
        for norm in norms:
            norm.running_mean += 0.1 * draw(norm.running_mean, torch.randn) * norm.running_var.sqrt()
            norm.running_var *= 0.5 * draw(norm.running_var, torch.rand) + 0.85


def logits_of(module):
    with torch.no_grad():
        return module.eval()(images_of(seed=1)[:2])


@pytest.fixture(scope="module", params=TIMM_NAMES)
def reference(request):
    """Name, state dict and logits of timm's network with random numbers everywhere."""
    module = timm.create_model(TIMM_NAMES[request.param], pretrained=False)
    randomise(module, seed=0)
    return request.param, module.state_dict(), logits_of(module)


def error(spec, state, logits):
    """Greatest difference of our logits, in standard deviations of timm's."""
    module = build_module(replace(spec, resolution=RESOLUTION))
    module.load_state_dict(state, strict=True)
    return ((logits_of(module) - logits).abs().max() / logits.std()).item()


def test_logits_equal_timms(reference):
    name, state, logits = reference
    assert torch.isfinite(logits).all()
    assert logits.std() >= 1
    assert (logits[0] - logits[1]).std() >= 0.1 * logits.std()  # they depend on the image
    assert error(published(name), state, logits) <= TOLERANCE


def other_activation(spec):
    other = "relu6" if spec.style.activation == "relu" else "relu"
    return replace(spec, style=replace(spec.style, activation=other))


def other_padding(spec):
    return replace(spec, style=replace(spec.style, padding="same"))


def other_eps(spec):
    return replace(spec, style=replace(spec.style, norm_eps=1e-3))


def other_stride(spec):
    first, second, *rest = spec.stages
    return replace(spec, stages=(replace(first, stride=2), replace(second, stride=1), *rest))


def without_a_skip(spec):
    stages = list(spec.stages)
    last = max(number for number, stage in enumerate(stages) if stage.repeats > 1)
    stages[last] = replace(stages[last], skip="none")
    return replace(spec, stages=tuple(stages))


@pytest.mark.parametrize("change", [other_activation, other_padding, other_eps, other_stride, without_a_skip])
def test_a_changed_network_is_seen(reference, change):
    name, state, logits = reference
    assert error(change(published(name)), state, logits) > 10 * TOLERANCE


@pytest.mark.parametrize(
    "part", ["conv_stem.weight", "blocks.3.0.conv_dw.weight", "blocks.5.1.bn2.running_var"]
)
def test_one_changed_tensor_is_seen(reference, part):
    name, state, logits = reference
    assert error(published(name), {**state, part: state[part] * 1.1}, logits) > 10 * TOLERANCE


def test_another_kernel_or_no_squeeze_excitation_does_not_fit(reference):
    name, state, logits = reference
    spec = published(name)
    first, *rest = spec.stages
    with pytest.raises(RuntimeError, match="size mismatch"):
        error(replace(spec, stages=(replace(first, kernel=5), *rest)), state, logits)
    gated = replace(first, se_ratio=0.0 if first.se_ratio else 0.25)
    with pytest.raises(RuntimeError, match=r"blocks.0.0.se.conv_reduce.weight"):
        error(replace(spec, stages=(gated, *rest)), state, logits)


def test_drop_path_rates_are_timms():
    theirs = timm.create_model("efficientnet_b0", pretrained=False, drop_path_rate=0.2)
    ours = build_module(published("efficientnet_b0"))
    rates = {name: getattr(part, "drop_prob", 0.0) for name, part in theirs.named_modules()}
    skips = {name: part.p for name, part in ours.named_modules() if isinstance(part, StochasticDepth)}
    assert len(skips) == 9  # B0: 16 blocks in 7 stages, a skip in every block that is not a stage's first
    assert skips == pytest.approx({name: rates[name] for name in skips})
