"""Interleaved group convolutions: counts by the papers' formulas, their conditions, IGCV3-D's published integers."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from programs import agree, outputs
from torch import nn

from mnas.errors import InputError
from mnas.graph import build_graph
from mnas.model import build_block, build_module
from mnas.report.blocks import describe
from mnas.search_space import (
    BLOCKS,
    Block,
    Layer,
    NetworkSpec,
    StageSpec,
    Style,
    network_cost,
    operation_cost,
    scale,
    walk,
)
from mnas.search_space.groups import branch_sizes
from mnas.search_space.igc import (
    balance,
    design,
    igc_conditions,
    loose_complementarity,
    path_counts,
    strict_complementarity,
)
from mnas.search_space.igcv3 import igcv3_network
from mnas.search_space.program import Conv, MaxPool, Shuffle
from mnas.search_space.space_file import space_from_file
from mnas.zoo import member, published

pytestmark = pytest.mark.usefixtures("one_thread")


def weights_and_madds(block: Block) -> tuple[int, int]:
    """Of the convolutions alone, without norms."""
    costs = [operation_cost(part) for _, part in walk(block) if isinstance(part, Conv)]
    return sum(cost.params for cost in costs), sum(cost.madds for cost in costs)


# --- counts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("partitions", "each"), [(24, 2), (4, 32), (16, 16), (2, 3), (1, 8), (8, 1)])
def test_weights_of_igcv1_are_the_papers_formula(partitions: int, each: int) -> None:
    """IGCV1: G^2 (S / L + 1 / M) for G = L M channels, here of 3x3 kernels; each is used once a pixel."""
    width = partitions * each
    block = BLOCKS["igcv1"](
        Layer(StageSpec("igcv1", 3, 1, width, groups=partitions), (width, 5, 4), 1, Style())
    )
    expected = width**2 * 9 // partitions + width**2 // each
    assert weights_and_madds(block) == (expected, expected * 20)
    assert block.out_shape == (width, 5, 4)


def test_costs_of_igcv1_that_widens_by_hand() -> None:
    # 12 -> 24 channels, four partitions, stride 2 from 8x8 to 4x4: 3x3 from 3 to 6 in each, then six of 4 channels.
    block = BLOCKS["igcv1"](Layer(StageSpec("igcv1", 3, 2, 24, groups=4), (12, 8, 8), 2, Style()))
    weights = 4 * 9 * 3 * 6 + 6 * 4 * 4
    assert weights_and_madds(block) == (weights, weights * 16)
    assert sum(operation_cost(part).params for _, part in walk(block)) == weights + 2 * 24


@pytest.mark.parametrize(
    ("channels", "groups", "sizes"),
    [
        (64, 8, (8, 8)),
        (512, 64, (8, 8, 8)),
        (96, 12, (8, 12)),
        (96, 24, (4, 4, 6)),
        (30, 1, (30,)),
        (2, 1, (2,)),
    ],
)
def test_weights_of_igcv2_are_the_papers_formula(channels: int, groups: int, sizes: tuple[int, ...]) -> None:
    """IGCV2: C (S K_1 + K_2 + ... + K_L), with K_1 = 1: the first convolution is channel-wise."""
    assert branch_sizes(channels, groups) == sizes
    layer = Layer(StageSpec("igcv2", 3, 1, channels, groups=groups), (channels, 3, 3), 1, Style())
    weights = channels * (9 + sum(sizes))
    assert weights_and_madds(BLOCKS["igcv2"](layer)) == (weights, weights * 9)


def test_costs_of_igcv3_by_hand() -> None:
    # 16 -> 24 channels, expansion 6, two groups, stride 2 from 8x8: 16 x 96 / 2 at 64 pixels, then at 16 the others.
    block = BLOCKS["igcv3"](Layer(StageSpec("igcv3", 3, 2, 24, 1, 6, groups=2), (16, 8, 8), 2, Style()))
    expand, depthwise, project = 16 * 96 // 2, 9 * 96, 96 * 24 // 2
    assert weights_and_madds(block) == (
        expand + depthwise + project,
        expand * 64 + (depthwise + project) * 16,
    )
    names = [name for name, _ in walk(block)]
    assert names == ["conv_pw", "bn1", "shuffle", "conv_dw", "bn2", "act2", "conv_pwl", "bn3"]


# --- conditions --------------------------------------------------------------------------------------------


DESIGNS = [
    (StageSpec("igcv1", 1, 1, 6, groups=2), 6),
    (StageSpec("igcv1", 1, 1, 12, groups=2), 6),
    (StageSpec("igcv2", 1, 1, 24, groups=12), 24),
    (StageSpec("igcv2", 1, 1, 12, groups=4), 24),
    (StageSpec("igcv3", 1, 1, 8, 1, 3, groups=2), 4),
    (StageSpec("igcv3", 1, 1, 8, 1, 2, groups=4), 8),
]


@pytest.mark.parametrize(("stage", "channels"), DESIGNS)
def test_paths_are_those_that_the_torch_module_takes(stage: StageSpec, channels: int) -> None:
    """With every weight 1 and norms that do nothing, one channel of 1 gives in each output its number of paths."""
    block = design(replace(stage, skip="none"), channels)
    module = build_block(block).eval()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.ones_(part.weight)
        if isinstance(part, nn.BatchNorm2d):
            part.eps = 0.0
        if hasattr(part, "inplace"):
            part.forward = lambda x: x
    with torch.no_grad():
        found = module(torch.eye(channels).reshape(channels, channels, 1, 1))
    assert found.flatten(1).round().int().tolist() == path_counts(block)


@pytest.mark.parametrize(
    ("stage", "channels", "holding"),
    [
        (StageSpec("igcv1", 3, 1, 36, groups=18), 36, ("strict", "loose", "balance")),  # M S = L: 2 x 9 = 18
        (StageSpec("igcv1", 3, 1, 48, groups=24), 48, ("strict", "loose")),  # the paper's L24M2
        (StageSpec("igcv2", 3, 1, 81, groups=9), 81, ("strict", "loose", "balance")),  # 9, 9, 9
        (StageSpec("igcv2", 3, 1, 64, groups=8), 64, ("strict", "loose")),  # 9, 8, 8
        (StageSpec("igcv3", 3, 1, 16, 1, 6, groups=2), 16, ("loose",)),
        (StageSpec("igcv3", 3, 1, 16, 1, 6, groups=4), 16, ("loose",)),
    ],
)
def test_conditions_of_the_published_designs(
    stage: StageSpec, channels: int, holding: tuple[str, ...]
) -> None:
    found = igc_conditions(design(stage, channels))
    assert tuple(item.name.split()[0] for item in found if item.holds) == holding
    assert [item.name for item in found] == ["strict complementarity", "loose complementarity", "balance"]


def test_what_fails_is_said() -> None:
    strict, loose, even = igc_conditions(design(StageSpec("igcv3", 3, 1, 16, 1, 6, groups=2), 16))
    # 96 channels inside in two branches of 48, half of each in either branch behind the shuffle: 24 paths a pair.
    assert strict.why == "24 paths from channel 0 in to channel 0 out, where 1 should be"
    assert loose.why == "each pair of channels is joined by 24 paths"
    assert even.why == "it is said of one width, and these channels are 16, 96"
    even = balance(design(StageSpec("igcv1", 3, 1, 48, groups=24), 48))
    # (18 + 24) / (2 sqrt(18 x 24)) = 42 / 41.57
    assert even.why == (
        "kernel area x channels in a branch: 18, 24, which should be equal; the weights are 1.01 times the least"
    )


def test_group_convolutions_without_the_permutation_fail_both() -> None:
    shape = (6, 1, 1)
    steps = (("conv1", Conv(shape, 6, 3, groups=2)), ("conv2", Conv(shape, 6, 1, groups=3)))
    plain = Block("Plain", shape, steps)
    # Branches of 0 1 2 and 3 4 5, then of 0 1, 2 3 and 4 5: channel 0 reaches channels 2 and 3 in one way.
    assert path_counts(plain)[0] == [2, 2, 1, 1, 0, 0]
    assert "2 paths from channel 0 in to channel 0 out" in strict_complementarity(plain).why
    assert not loose_complementarity(plain).holds
    wrong = Block("Wrong", shape, (steps[0], ("shuffle", Shuffle(shape, 3)), steps[1]))
    # The branches of the second are 0 2, 4 1 and 3 5, where each should have one channel of 0 1 2 and one of 3 4 5.
    assert path_counts(wrong)[0] == [2, 2, 1, 1, 0, 0]
    assert loose_complementarity(wrong).why == "1 path from channel 0 in to channel 2 out, where 2 should be"
    right = Block("Right", shape, (steps[0], ("shuffle", Shuffle(shape, 2)), steps[1]))
    assert strict_complementarity(right).holds


def test_conditions_of_other_parts_are_refused() -> None:
    pooled = Block("Pooled", (4, 2, 2), (("pool", MaxPool((4, 2, 2), 3, 1)),))
    with pytest.raises(InputError, match="Pooled has pool, a MaxPool"):
        igc_conditions(pooled)


# --- groups that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"op": "igcv1", "groups": 5},
            "igcv1 with expansion 1 and 5 groups needs out_channels that are a mult",
        ),
        ({"op": "igcv3", "groups": 16}, "multiple of 16, got 24"),
        ({"op": "igcv2", "groups": 24}, "igcv2 needs at least 2 channels in each group"),
        ({"op": "mbconv", "groups": 2}, "mbconv takes 1, got 2"),
        ({"op": "igcv1", "groups": 0}, "groups must be a whole number of at least 1"),
        ({"op": "igcv1", "groups": 2, "expansion": 2}, "igcv1 takes 1, got 2"),
    ],
)
def test_groups_that_do_not_divide_the_channels_out(fields: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        StageSpec(**{"kernel": 3, "stride": 1, "out_channels": 24, **fields})


def test_groups_that_do_not_divide_the_channels_in() -> None:
    stages = (StageSpec("conv", 3, 1, 18), StageSpec("igcv3", 3, 1, 24, groups=4))
    with pytest.raises(
        InputError, match="stage 2: the groups of igcv3 must divide its channels; got 18 channels in"
    ):
        NetworkSpec(16, stages, 32, 32, 10)


def test_a_space_of_ones_own_with_groups(tmp_path) -> None:
    path = tmp_path / "own.toml"
    text = "stem_channels = 16\nhead_channels = 32\n[[stages]]\nop = ['mbconv', 'igcv3']\nkernel = 3\nstride = 1\n"
    path.write_text(f"{text}out_channels = 24\nexpansion = [2, 3]\ngroups = [2, 4]\n")
    space = space_from_file(path, resolution=32, num_classes=10)
    # mbconv has two expansions, igcv3 those and two numbers of groups.
    assert len({space.decode(point) for point in space.enumerate()}) == 2 + 4
    path.write_text(f"{text}out_channels = 24\nexpansion = [2, 3]\ngroups = [2, 5]\n")
    with pytest.raises(InputError, match="multiple of 5, got 24"):
        space_from_file(path)


# --- IGCV3-D -----------------------------------------------------------------------------------------------


# Parameters: pytorchcv's models of these widths. Multiply-adds are beside them for the eye: the paper says 210M of
# width 0.7 and pytorchcv, which counts norms and activations too, 340.79M, 210.95M, 111.12M and 41.29M.
PUBLISHED = {
    "igcv3": 3_491_688,
    "igcv3_075": 2_638_084,
    "igcv3_050": 1_985_528,
    "igcv3_025": 1_534_020,
}


def by_hand(width: float) -> tuple[int, int]:
    """Parameters and multiply-adds of IGCV3-D in two groups: (t, c, n, s) of each stage, 224 pixels."""
    channels, size = int(32 * width), 112
    params = 27 * channels + 2 * channels
    madds = 27 * channels * size**2
    for t, c, n, s in (
        (1, 16, 1, 1),
        (6, 24, 4, 2),
        (6, 32, 6, 2),
        (6, 64, 8, 2),
        (6, 96, 6, 1),
        (6, 160, 6, 2),
        (6, 320, 1, 1),
    ):
        for number in range(n):
            inside, out = channels * t, int(c * width)
            before, size = size, size // (s if number == 0 else 1)
            params += channels * inside // 2 + 9 * inside + inside * out // 2 + 2 * (2 * inside + out)
            madds += channels * inside // 2 * before**2 + (9 * inside + inside * out // 2) * size**2
            channels = out
    params += channels * 1280 + 2 * 1280 + 1280 * 1000 + 1000
    return params, madds + channels * 1280 * 49 + 1280 * 1000


@pytest.mark.parametrize(
    ("name", "width"), [("igcv3", 1), ("igcv3_075", 0.75), ("igcv3_050", 0.5), ("igcv3_025", 0.25)]
)
def test_igcv3_has_the_published_parameters(name: str, width: float) -> None:
    cost = network_cost(published(name))
    assert cost.params == PUBLISHED[name] == by_hand(width)[0]
    assert cost.madds == by_hand(width)[1]
    assert sum(p.numel() for p in build_module(published(name)).parameters()) == cost.params


def test_members_are_known_by_their_names_and_accuracy() -> None:
    assert member("igcv3_w3d4").spec == published("igcv3_075")
    assert member("igcv3").top1 == 0.722
    assert all(member(name).source for name in PUBLISHED)


def test_igcv3_is_activated_behind_the_depthwise_convolutions_alone() -> None:
    program = str(build_module(published("igcv3_025")).blocks[1][1])
    assert program.startswith("IGCV3(")
    assert program.count("ReLU6") == 1
    nodes = [node.op_type for node in build_graph(published("igcv3")).graph.node]
    # Stem, 32 blocks, head; a shuffle in each block; a sum in 25 of them.
    assert (nodes.count("Clip"), nodes.count("Gather"), nodes.count("Add")) == (34, 32, 25)


def test_more_groups_and_less_width() -> None:
    assert network_cost(igcv3_network(groups=4)).params < PUBLISHED["igcv3"]
    # By the code of the variant: 24 x 0.25 = 6 channels become 8, 0.7 x 24 = 16.8 become 17, then 18.
    assert igcv3_network(0.25, groups=4).stages[1].out_channels == 8
    assert igcv3_network(0.7).stages[1].out_channels == 18
    with pytest.raises(InputError, match="out_channels must be a whole number of at least 1, got 0"):
        igcv3_network(0.01)
    with pytest.raises(InputError, match="groups must be a whole number of at least 1, got 0"):
        igcv3_network(groups=0)


def test_a_scaled_network_keeps_its_groups() -> None:
    """The least common multiple of 8 and 12 is 24: 24 x 1.5 = 36 is rounded to 48 (36 + 12 = 48 = 2 x 24)."""
    spec = NetworkSpec(24, (StageSpec("igcv1", 3, 1, 24, 2, groups=12),), 32, 32, 10)
    grown = scale(spec, depth=1.0, width=1.5, resolution=32)
    assert (grown.stem_channels, grown.stages[0].out_channels, grown.stages[0].groups) == (48, 48, 12)
    assert scale(published("igcv3"), depth=1.0, width=1.0, resolution=224) == published("igcv3")


def test_specs_survive_json_and_are_described() -> None:
    spec = published("igcv3_050")
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    assert describe(spec.stages[1]) == "IGCV3-6 3\N{MULTIPLICATION SIGN}3, 2 groups"


def test_the_example_of_the_document_prints_what_it_says() -> None:
    root = Path(__file__).parent.parent
    text = (root / "docs" / "igc.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (expected,) = re.findall(r"^```text\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    command = [sys.executable, "-c", example]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == expected


@pytest.mark.parametrize("op", ["igcv1", "igcv2", "igcv3"])
@pytest.mark.parametrize("groups", [1, 3, 4, 6])
def test_torch_and_onnx_agree_whatever_the_groups(op: str, groups: int) -> None:
    layer = Layer(StageSpec(op, 3, 2, 24, groups=groups), (12, 7, 6), 2, Style("relu"))
    agree(*outputs(BLOCKS[op](layer), 2))
