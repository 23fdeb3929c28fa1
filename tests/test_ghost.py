"""GhostNet against timm at every width that timm has; the Ghost module and bottleneck by hand; the space `ghost`."""

from collections import Counter
from dataclasses import replace

import pytest
import timm
import torch
from timm_families import TOLERANCE, difference, hook_count, random_logits
from torch import nn

from mnas.errors import InputError
from mnas.graph import build_graph
from mnas.latency.features import FEATURES, network_features
from mnas.latency.kernels import Kernel, named_kernels
from mnas.model import build_block, build_module
from mnas.report.blocks import describe
from mnas.search_space import (
    BLOCKS,
    Layer,
    NetworkSpec,
    StageSpec,
    Style,
    network_cost,
    operation_cost,
    walk,
)
from mnas.search_space.ghost import ghost_space, ghostnet_network
from mnas.search_space.program import Conv
from mnas.search_space.timm_names import timm_names
from mnas.zoo import member, published

pytestmark = pytest.mark.usefixtures("one_thread")

TIMM = {"ghostnet": "ghostnet_100", "ghostnet_050": "ghostnet_050", "ghostnet_130": "ghostnet_130"}


# --- blocks ------------------------------------------------------------------------------------------------


def test_costs_of_the_ghost_module_by_hand() -> None:
    """12 -> 20 channels at 5x4 pixels: a 3x3 convolution to 10 and a depthwise 3x3 on these, each with a norm."""
    layer = Layer(StageSpec("ghost_module", 3, 1, 20), (12, 5, 4), 1, Style())
    costs = [operation_cost(part) for _, part in walk(BLOCKS["ghost_module"](layer))]
    weights = 9 * 12 * 10 + 9 * 10
    assert sum(cost.params for cost in costs) == weights + 2 * (10 + 10)
    assert sum(cost.madds for cost in costs) == weights * 20


def test_costs_of_the_ghost_bottleneck_by_hand() -> None:
    # 16 -> 24 channels, 48 inside, stride 2 from 8x8; squeeze-and-excitation 48 -> 12 -> 48.
    # At 64 pixels 16 x 24 and 9 x 24; at 16 depthwise 9 x 48, then 48 x 12 and 9 x 12, the shortcut 9 x 16 and 16 x 24.
    style = Style("relu", se_of="inside", se_divisor=4, se_gate="hard_sigmoid")
    layer = Layer(StageSpec("ghost", 3, 2, 24, 1, 3, 0.25, "depthwise"), (16, 8, 8), 2, style)
    block = BLOCKS["ghost"](layer)
    costs = [operation_cost(part) for _, part in walk(block) if isinstance(part, Conv)]
    first, later, gate = 16 * 24 + 9 * 24, 9 * 48 + 48 * 12 + 9 * 12 + 9 * 16 + 16 * 24, 2 * 48 * 12
    assert sum(cost.madds for cost in costs) == first * 64 + later * 16 + gate
    assert sum(cost.params for cost in costs) == first + later + gate + 12 + 48
    assert block.out_shape == (24, 4, 4)


@pytest.mark.parametrize("out", [1, 7, 8])
def test_the_halves_of_a_ghost_module(out: int) -> None:
    """Of an odd number of channels the last of the second half is cut."""
    block = BLOCKS["ghost_module"](Layer(StageSpec("ghost_module", 1, 1, out), (6, 3, 2), 1, Style("relu")))
    module = build_block(block).eval()
    image = torch.randn(2, 6, 3, 2, generator=torch.Generator().manual_seed(0))
    half = -(-out // 2)
    with torch.no_grad():
        found, first = module(image), module.primary_conv(image)
        second = nn.Sequential(*module.cheap_operation)(first)
    assert found.shape == (2, out, 3, 2)
    torch.testing.assert_close(found[:, :half], first)
    torch.testing.assert_close(found[:, half:], second[:, : out - half])


# --- GhostNet ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TIMM)
def test_parameters_and_madds_equal_timms(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(TIMM[name], pretrained=False)
    cost = network_cost(published(name))
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.madds == hook_count(module, 224)


def test_costs_of_ghostnet_are_about_the_published_ones() -> None:
    """The paper: 5.2M weights, 141M multiply-adds; timm's table: 3.55M activations."""
    cost = network_cost(published("ghostnet"))
    assert (round(cost.params / 1e6, 1), round(cost.madds / 1e6)) == (5.2, 141)
    assert round(cost.activations / 1e6, 2) == 3.55


@pytest.mark.parametrize("name", TIMM)
def test_logits_equal_timms(name: str) -> None:
    module = timm.create_model(TIMM[name], pretrained=False)
    assert difference(published(name), module, random_logits(module)) <= TOLERANCE


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: replace(spec, style=replace(spec.style, activation="relu6")),
        lambda spec: replace(spec, style=replace(spec.style, se_gate="sigmoid")),
        lambda spec: replace(spec, style=replace(spec.style, se_activation="silu")),
        lambda spec: replace(spec, style=replace(spec.style, norm_eps=1e-3)),
        lambda spec: replace(spec, style=replace(spec.style, padding="same")),
    ],
)
def test_a_changed_network_is_seen(change: object) -> None:
    module = timm.create_model("ghostnet_050", pretrained=False)
    assert difference(change(published("ghostnet_050")), module, random_logits(module)) > 10 * TOLERANCE


def test_names_are_known_and_accuracy_has_a_source() -> None:
    assert published("ghostnet_100") == published("ghostnet")
    assert member("ghostnet").top1 == 0.73982
    assert "results-imagenet.csv" in member("ghostnet").source
    assert (member("ghostnet_050").top1, member("ghostnet_130").top1) == (0.662, 0.757)
    with pytest.raises(InputError, match="expansion must be a number of at least 1"):
        StageSpec("ghost", 3, 1, 8, 1, 0.5)


def test_names_of_other_ghost_networks_are_our_own() -> None:
    spec = ghost_space().decode([0] * len(ghost_space().choices))
    names = build_module(replace(spec, resolution=32)).state_dict()
    assert timm_names(spec, names) == {name: name for name in names}


def test_specs_survive_json_and_are_described() -> None:
    spec = published("ghostnet_130")
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    described = describe(published("ghostnet").stages[6])
    assert described == "Ghost2.5 3\N{MULTIPLICATION SIGN}3, depthwise convolution skip"


# --- latency -----------------------------------------------------------------------------------------------


def test_kernels_of_ghostnet_by_hand() -> None:
    """Sixteen blocks of two Ghost modules, each with a concatenation; a shortcut where shapes change."""
    spec = published("ghostnet")
    kernels = Counter(item.kernel for item in named_kernels(spec))
    kinds = Counter(kernel.kind for kernel in kernels.elements())
    # Shapes change at 16 -> 24, 24 -> 40, 40 -> 80, 80 -> 112 and 112 -> 160; all but the fourth have a stride.
    assert kinds["concat"] == 32
    assert kinds["depthwise"] == 32 + 4 + 5
    assert kinds["pointwise"] == 32 + 5 + 1 + 1  # and the last convolution, and the head's, at one pixel
    # Behind a concatenation only the shortcut's convolution can add, where halves fill blocks of 16: 2 x 80 channels.
    assert kinds["add"] == 15
    assert kernels[Kernel("pointwise", 112, 160, 7, 7, added=True)] == 1
    assert kinds["gate"] == 7
    assert kernels[Kernel("concat", 8, 16, 112, 112)] == 2
    nodes = Counter(node.op_type for node in build_graph(spec).graph.node)
    assert (nodes["Concat"], nodes["Add"], nodes["Conv"]) == (32, 16, 1 + 39 + 41 + 2 * 7)
    features = dict(zip(FEATURES, network_features(spec), strict=True))
    concatenated = [(16 + 16) * 112**2, 48 * 112**2 + 24 * 56**2, (72 + 24) * 56**2, 72 * 56**2 + 40 * 28**2]
    concatenated += [(120 + 40) * 28**2, 240 * 28**2 + 80 * 14**2, (200 + 80 + 2 * (184 + 80)) * 14**2]
    concatenated += [(480 + 112 + 672 + 112) * 14**2, 672 * 14**2 + 160 * 7**2, 4 * (960 + 160) * 7**2]
    assert features["concat_elements"] == sum(concatenated)


# --- the space ---------------------------------------------------------------------------------------------


def test_the_space_by_hand() -> None:
    # Expansion, depth and squeeze-and-excitation: 2 x 2 x 2; then 3 x 3 x 2 and two kernels, five times.
    space = ghost_space()
    assert space.size == space.distinct == 8 * 36**5 == 483_729_408
    values: dict[str, int | float | str] = {}
    for number, (expansion, layers, se_ratio, kernel) in enumerate(
        [(1, 1, 0.0, 3), (3, 2, 0.0, 3), (3, 2, 0.25, 5), (6, 4, 0.0, 3), (6, 2, 0.25, 3), (6, 5, 0.25, 5)], 1
    ):
        values |= {f"block{number}.expansion": expansion, f"block{number}.layers": layers}
        values |= {f"block{number}.se_ratio": se_ratio}
        values |= {f"block{number}.kernel": kernel} if number > 1 else {}
    found, ghostnet = space.decode(space.from_values(values)), ghostnet_network()
    # GhostNet itself but for the 240, 200, 184 and 184 channels inside the fourth, here 6 x 40 and thrice 6 x 80, and
    # for squeeze-and-excitation in two of the last four.
    shapes = [(s.out_channels, s.stride) for s in found.stages for _ in range(s.repeats)]
    assert len(shapes) == sum(stage.repeats for stage in ghostnet.stages) == 17
    assert found.stages[:2] == (ghostnet.stages[0], replace(ghostnet.stages[1], repeats=2))
    assert (found.stages[-1], found.style, found.head) == (ghostnet.stages[-1], ghostnet.style, "late")
