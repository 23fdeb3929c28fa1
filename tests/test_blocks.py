"""The conformance suite of blocks: torch, ONNX and cost agree on every row of `BLOCKS`, and with arithmetic by hand."""

from itertools import cycle, product

import numpy as np
import pytest
import torch
from programs import agree, exports_and_compiles, images_of, outputs, run

from mnas.counting import count_madds
from mnas.graph import build_block_graph
from mnas.model import build_block
from mnas.search_space import BLOCKS, Layer, StageSpec, Style
from mnas.search_space.cost import operation_cost
from mnas.search_space.program import Activate, Block, walk
from mnas.search_space.spec import ACTIVATIONS, SKIPS

pytestmark = pytest.mark.usefixtures("one_thread")

CHANNELS = 8
EXPANSIONS_AND_GROUPS = {
    "mbconv": (3, 1),
    "fused_mbconv": (3, 1),
    "bottleneck": (2, 1),
    "xblock": (1, 2),
    "igcv1": (1, 2),
    "igcv2": (1, 2),
    "igcv3": (3, 2),
    "ghost": (2.5, 1),
}


def block_of(op, kernel, stride, se_ratio, skip, *, out=CHANNELS, size=(8, 7), style=None, drop_path=0.0):
    expansion, groups = EXPANSIONS_AND_GROUPS.get(op, (1, 1))
    stage = StageSpec(op, kernel, stride, out, 1, expansion, se_ratio, skip, groups)
    return BLOCKS[op](Layer(stage, (CHANNELS, *size), stride, style or Style(), drop_path))


# As in EfficientNet, and as in MobileNetV3 with TensorFlow's padding.
TORCHS = {"padding": "symmetric"}
TENSORFLOWS = {
    "padding": "same",
    "se_of": "inside",
    "se_divisor": 4,
    "se_activation": "relu",
    "se_gate": "hard_sigmoid",
}
# Kernels of 5 where a kernel can make a difference: in the branch, and in the shortcut that has one.
CASES = [
    case
    for case in product(BLOCKS, (3, 5), (1, 2), (0.0, 0.25), SKIPS)
    if case[1] == 3 or (case[3] and case[4] in ("identity", "depthwise"))
]


# Narrower, equal and wider; odd and even heights and widths, one pixel; both paddings and gates; activation and batch.
VARIANTS = list(
    zip(
        product((6, 8, 12), ((9, 6), (8, 7), (1, 2)), (TORCHS, TENSORFLOWS)),
        cycle(product(ACTIVATIONS, (1, 2))),
        strict=False,
    )
)
# Of them that many for a case, which move on from case to case, so that each op meets all.
TURNS = 4


@pytest.mark.parametrize(
    ("number", "case"), list(enumerate(CASES)), ids=["-".join(map(str, case)) for case in CASES]
)
def test_torch_onnx_and_cost_agree_on_every_block(number, case):
    op, kernel, stride, se_ratio, skip = case
    for turn in range(TURNS):
        (out, size, kind), (activation, batch) = VARIANTS[(5 * number + 7 * turn) % len(VARIANTS)]
        style = Style(activation, **kind)
        block = block_of(op, kernel, stride, se_ratio, skip, out=out, size=size, style=style)
        ours, theirs = outputs(block, batch)
        assert ours.shape == (batch, *block.out_shape)
        assert block.out_shape == (out, -(-size[0] // stride), -(-size[1] // stride))
        agree(ours, theirs)


@pytest.mark.parametrize(("op", "kernel", "stride", "se_ratio", "skip"), CASES)
def test_counted_parameters_and_madds_are_the_analytic_ones(op, kernel, stride, se_ratio, skip):
    for out, kind in ((6, TORCHS), (8, TENSORFLOWS), (12, TORCHS)):
        block = block_of(op, kernel, stride, se_ratio, skip, out=out, style=Style(**kind))
        costs = [operation_cost(operation) for _, operation in walk(block)]
        module = build_block(block)
        assert sum(parameter.numel() for parameter in module.parameters()) == sum(c.params for c in costs)
        assert count_madds(module, block.in_shape) == sum(c.madds for c in costs)


BASE = ("mbconv", 5, 2, 0.25, "pool")


@pytest.mark.parametrize(
    "other",
    [
        block_of(*BASE, out=12, style=Style("relu")),
        block_of(*BASE, out=12, style=Style(norm_eps=1e-2)),
        block_of(*BASE, out=12, style=Style(padding="same")),
        block_of(*BASE, out=12, style=Style(se_gate="hard_sigmoid")),
        block_of("mbconv", 5, 2, 0.25, "none", out=12),
    ],
    ids=["activation", "eps", "padding", "gate", "skip"],
)
def test_the_comparison_sees_another_block(other):
    block = block_of(*BASE, out=12)
    agree(*outputs(block, 1))
    with pytest.raises(AssertionError):
        agree(*outputs(block, 1, graph_of=other))


# 12 channels in at 8 x 7 pixels, 24 out at 4 x 4, stride 2, kernel 3, squeeze-and-excitation to a quarter of the
# channels in (3; for `basic` and `bottleneck` of those out, 6). By op: expansion and groups; weights of convolutions at
# the input's 56 pixels, and at the output's 16; channels that norms have; channels that are gated.
HAND = {
    "conv": (1, 1, 0, 9 * 12 * 24, 24, 24),
    "sepconv": (1, 1, 0, 9 * 12 + 12 * 24, 12 + 24, 12),
    "mbconv": (3, 1, 12 * 36, 9 * 36 + 36 * 24, 36 + 36 + 24, 36),
    "fused_mbconv": (3, 1, 0, 9 * 12 * 36 + 36 * 24, 36 + 24, 36),
    "projection": (1, 1, 0, 9 * 12 * 24, 24, 24),
    "basic": (1, 1, 0, 9 * 12 * 24 + 9 * 24 * 24, 24 + 24, 24),
    "bottleneck": (2, 1, 12 * 12, 9 * 12 * 12 + 12 * 24, 12 + 12 + 24, 24),
    "xblock": (1, 2, 12 * 24, 9 * 12 * 24 + 24 * 24, 24 + 24 + 24, 24),
    "igcv1": (1, 2, 0, 9 * 6 * 24 + 2 * 24, 24, 24),
    # 6 channels out in a branch, then 4: 24 = 6 x 4; the first takes 12 / 4 = 3 channels in.
    "igcv2": (1, 4, 0, 9 * 12 + 3 * 24 + 4 * 24, 24, 24),
    "igcv3": (3, 2, 6 * 36, 9 * 36 + 18 * 24, 36 + 36 + 24, 36),
    "ghost_module": (1, 1, 0, 9 * 12 * 12 + 9 * 12, 12 + 12, 24),
    "ghost": (3, 1, 12 * 18 + 9 * 18, 9 * 36 + 36 * 12 + 9 * 12, 18 + 18 + 36 + 12 + 12, 36),
}


@pytest.mark.parametrize("op", HAND)
def test_costs_by_hand(op):
    expansion, groups, before, after, normed, gated = HAND[op]
    stage = StageSpec(op, 3, 2, 24, 1, expansion, 0.25, "none", groups)
    costs = [operation_cost(part) for _, part in walk(BLOCKS[op](Layer(stage, (12, 8, 7), 2, Style())))]
    inside = 6 if op in ("basic", "bottleneck") else 3
    assert sum(cost.madds for cost in costs) == 56 * before + 16 * after + 2 * gated * inside
    biases = inside + gated
    assert sum(cost.params for cost in costs) == before + after + 2 * normed + 2 * gated * inside + biases


@pytest.mark.parametrize(
    ("style", "inside"),
    [
        (Style(), 3),  # a quarter of 12
        (Style(se_divisor=8), 8),  # at least the divisor
        (Style(se_of="inside"), 12),  # a quarter of 48
        (Style(se_of="inside", se_divisor=8), 16),  # the nearest multiple of 8 is 16: halves are rounded up
    ],
)
def test_channels_of_squeeze_and_excitation_by_hand(style, inside):
    layer = Layer(StageSpec("mbconv", 3, 1, 24, 1, 4, 0.25), (12, 8, 7), 1, style)
    assert layer.se_channels == inside
    (conv,) = (part for name, part in walk(BLOCKS["mbconv"](layer)) if name == "se.conv_reduce")
    assert conv.out_channels == inside


def test_hard_activations_by_hand():
    """x relu6(x + 3) / 6 and relu6(x + 3) / 6: MobileNetV3 (arXiv 1905.02244), sec. 5.2."""
    images = np.array([[[[-4.0, -1.0, 0.0, 1.0, 4.0]]]], np.float32)
    shape = (1, 1, 5)
    for kind, expected in (
        ("hard_swish", [0, -2 / 6, 0, 4 / 6, 4]),
        ("hard_sigmoid", [0, 2 / 6, 0.5, 4 / 6, 1]),
    ):
        block = Block("Act", shape, (("act", Activate(shape, kind)),))
        ours = build_block(block)(torch.from_numpy(images)).numpy()
        np.testing.assert_allclose(ours, [[[expected]]], atol=1e-6)
        np.testing.assert_allclose(run(build_block_graph(block), images), [[[expected]]], atol=1e-6)


def test_a_stage_has_an_activation_of_its_own():
    """MobileNetV3 mixes them; the gate's is the style's."""
    stage = StageSpec("mbconv", 3, 1, 12, 2, 3, 0.25, activation="relu")
    style = Style("hard_swish", se_activation="relu6", se_gate="hard_sigmoid")
    kinds = {
        name: part.kind
        for name, part in walk(BLOCKS["mbconv"](Layer(stage, (12, 8, 7), 1, style)))
        if isinstance(part, Activate)
    }
    assert kinds == {"act1": "relu", "act2": "relu", "se.act1": "relu6", "se.gate": "hard_sigmoid"}


# Each block with one of the skips, and each skip with one of the blocks.
OPS_AND_SKIPS = list(zip(BLOCKS, cycle(SKIPS), strict=False))


@pytest.mark.parametrize(("op", "skip"), OPS_AND_SKIPS)
def test_every_block_exports_and_compiles(op, skip):
    style = Style("hard_swish", **TENSORFLOWS)
    block = block_of(op, 5, 2, 0.25, skip, out=12, style=style, drop_path=0.5)
    exports_and_compiles(build_block(block), block.in_shape)


def test_drop_path_drops_whole_samples_in_training_only():
    plain, dropping = (block_of("mbconv", 3, 1, 0.0, "identity", drop_path=rate) for rate in (0.0, 0.75))
    images = torch.from_numpy(images_of(plain.in_shape, 64))
    reference, module = build_block(plain, seed=1), build_block(dropping, seed=1)
    torch.manual_seed(0)
    branch = reference(images) - images
    dropped = module(images) - images
    kept = dropped.abs().amax((1, 2, 3)) > 0
    assert 4 <= kept.sum() <= 32  # 16 expected of 64
    torch.testing.assert_close(dropped[kept], branch[kept] / 0.25)  # scaled by the survival
    torch.testing.assert_close(module.eval()(images), reference.eval()(images))
