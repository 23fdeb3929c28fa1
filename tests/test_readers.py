"""Torch module, ONNX graph and cost read one program: primitive operations by hand, stems, heads, whole networks.

The blocks are in `test_blocks.py`.
"""

import random
import subprocess
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from programs import agree, exports_and_compiles, images_of, outputs, run, session, weights_of
from torch import nn
from torchvision.ops import StochasticDepth

from mnas.counting import count_madds
from mnas.errors import InputError
from mnas.graph import build_block_graph, build_graph, weight_shapes
from mnas.model import build_block, build_module
from mnas.search_space import (
    BLOCKS,
    Layer,
    NetworkSpec,
    StageSpec,
    Style,
    macro_space,
    mbconv_space,
    mnasnet_space,
    network_cost,
    segment_program,
    segments,
)
from mnas.search_space.efficientnetv2 import efficientnetv2_space
from mnas.search_space.ghost import ghost_space
from mnas.search_space.igcv3 import igcv3_space
from mnas.search_space.network import network_program
from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
    Block,
    Conv,
    MatchChannels,
    MaxPool,
    Shuffle,
    walk,
)
from mnas.search_space.regnet import regnet_space
from mnas.search_space.resnet import resnet_rs_space
from mnas.search_space.spec import HEADS, STEMS
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = replace(published("mnasnet_small"), resolution=32, num_classes=5)
CHANNELS = 8
# One of each kind with few layers: their families are held to timm elsewhere.
NETWORKS = (
    *(
        "efficientnet_b0",
        "efficientnet_lite0",
        "efficientnetv2_b0",
        "mnasnet_a1",
        "mnasnet_b1",
        "mnasnet_small",
    ),
    *("mobilenetv2", "mobilenetv3_small", "resnet_18", "resnet_rs_50", "regnet_x_200mf", "regnet_y_400mf"),
)
QUICK = ("efficientnet_b0", "mobilenetv3_small", "resnet_18", "regnet_y_400mf")


def test_same_padding_is_tensorflows():
    """By hand: a 3x3 kernel of ones with stride 2 on a 4x4 image of ones; TensorFlow pads bottom and right."""
    conv = Block("Conv", (1, 4, 4), (("conv", Conv((1, 4, 4), 1, 3, 2, padding="same")),))
    module = build_block(conv)
    nn.init.ones_(module.conv.weight)
    images = np.ones((1, 1, 4, 4), np.float32)
    expected = [[[[9, 6], [6, 4]]]]
    np.testing.assert_array_equal(module(torch.from_numpy(images)).detach().numpy(), expected)
    np.testing.assert_array_equal(run(build_block_graph(conv, weights=weights_of(module)), images), expected)


def test_the_pooling_skip_by_hand():
    """3x3 average with stride 2 of 1..9, padding not counted; two of three channels, or a zero one appended."""
    numbers = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    images = numbers * torch.tensor([1.0, 2, 3]).reshape(1, 3, 1, 1)
    pooled = [[3, 4], [6, 7]]  # the means of 1 2 4 5, of 2 3 5 6, of 4 5 7 8 and of 5 6 8 9
    for out, factors in ((2, [1, 2]), (4, [1, 2, 3, 0])):
        stage = StageSpec("conv", 3, 2, out, skip="pool")
        shortcut = BLOCKS["conv"](Layer(stage, (3, 3, 3), 2, Style())).shortcut
        expected = np.multiply.outer(factors, pooled)[None]
        np.testing.assert_allclose(build_block(shortcut)(images).numpy(), expected)
        np.testing.assert_allclose(run(build_block_graph(shortcut), images.numpy()), expected)


def test_a_shuffle_by_hand():
    """Two groups of three channels, 0 1 2 and 3 4 5, become three of two: 0 3, 1 4 and 2 5; three groups undo it."""
    shape = (6, 1, 2)
    images = images_of(shape, 2)
    for groups, order in ((2, [0, 3, 1, 4, 2, 5]), (3, [0, 2, 4, 1, 3, 5]), (1, list(range(6)))):
        block = Block("Shuffle", shape, (("shuffle", Shuffle(shape, groups)),))
        np.testing.assert_array_equal(build_block(block)(torch.from_numpy(images)).numpy(), images[:, order])
        np.testing.assert_array_equal(run(build_block_graph(block, batch=2), images.copy()), images[:, order])
    with pytest.raises(InputError, match="got 6 channels and 4 groups"):
        Shuffle(shape, 4)


def test_a_concatenation_by_hand():
    """A branch that doubles 1 and 2: behind the input stands 2 and 4."""
    shape = (1, 1, 2)
    block = Block("Concat", shape, (("conv", Conv(shape, 1, 1)),), "concat")
    module = build_block(block)
    nn.init.constant_(module.conv.weight, 2.0)
    images, expected = np.array([[[[1.0, 2.0]]]], np.float32), [[[[1, 2]], [[2, 4]]]]
    assert block.out_shape == (2, 1, 2)
    np.testing.assert_array_equal(module(torch.from_numpy(images)).detach().numpy(), expected)
    np.testing.assert_array_equal(run(build_block_graph(block, weights=weights_of(module)), images), expected)
    with pytest.raises(InputError, match=r"needs its height and width \(1, 2\), got \(1, 1\)"):
        Block("Concat", shape, (("conv", Conv(shape, 1, 1, 2)),), "concat")
    with pytest.raises(InputError, match="a shortcut can be added alone, got combine='concat'"):
        Block("Concat", shape, block.steps, "concat", Block("Shortcut", shape, ()))


def test_max_pool_and_the_pool_of_a_resnet_d_shortcut_by_hand():
    """1..9 with stride 2: the greatest of 3x3 around each pixel; the means of 1 2 4 5, of 3 6, of 7 8 and of 9."""
    numbers = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    for pool, expected in (
        (MaxPool((1, 3, 3), 3, 2), [[[[5, 6], [8, 9]]]]),
        (AvgPool((1, 3, 3), 2, 2), [[[[3, 4.5], [7.5, 9]]]]),
    ):
        block = Block("Pool", (1, 3, 3), (("pool", pool),))
        # Padding must not count for the greatest either: with every number negative, zeros would show.
        for images in (numbers, numbers - 10):
            wanted = np.array(expected, np.float32) + (images - numbers).mean().item()
            np.testing.assert_allclose(build_block(block)(images).numpy(), wanted)
            np.testing.assert_allclose(run(build_block_graph(block), images.numpy()), wanted)


def test_an_activation_after_the_sum_by_hand():
    """-2 and 3 through a branch that doubles, with the input added: -6 and 9; ReLU leaves 0 and 9."""
    shape = (1, 1, 2)
    steps = (("conv", Conv(shape, 1, 1)),)
    block = Block("Sum", shape, steps, "add", after=Activate(shape, "relu"))
    module = build_block(block)
    nn.init.constant_(module.conv.weight, 2.0)
    images = np.array([[[[-2.0, 3.0]]]], np.float32)
    np.testing.assert_array_equal(module(torch.from_numpy(images)).detach().numpy(), [[[[0, 9]]]])
    np.testing.assert_array_equal(
        run(build_block_graph(block, weights=weights_of(module)), images), [[[[0, 9]]]]
    )
    with pytest.raises(InputError, match="needs combine='add'"):
        Block("Sum", shape, steps, after=Activate(shape, "relu"))


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("resolution", "stem_stride"), [(33, 2), (32, 1), (9, 2)])
def test_stems_and_heads_agree(stem, head, resolution, stem_stride):
    stages = (StageSpec("basic", 3, 2, 12, 2, skip="avg", drop_path_share=0.5),)
    spec = NetworkSpec(
        8,
        stages,
        0 if head == "pool" else 20,
        resolution,
        5,
        style=Style("relu", padding="same" if stem_stride == 1 else "symmetric"),
        stem_stride=stem_stride,
        stem=stem,
        head=head,
    )
    ours, theirs = outputs(network_program(spec), 2)
    agree(ours, theirs)
    module, cost = build_module(spec), network_cost(spec)
    assert sum(parameter.numel() for parameter in module.parameters()) == cost.params
    assert count_madds(module, (3, resolution, resolution)) == cost.madds
    shapes = [part.in_shape for part in segments(spec)]
    programs = [segment_program(part) for part in segments(spec)]
    assert [program.out_shape for program in programs[:-1]] == shapes[1:]
    rates = [part.p for part in module.modules() if isinstance(part, StochasticDepth)]
    assert rates == [0.1, 0.1]  # half of the network's 0.2 in both blocks


def test_a_norm_without_a_convolution_before_it():
    shape = (4, 3, 3)
    norm = Block("Norm", shape, (("channels", MatchChannels(shape, 4)), ("bn", BatchNorm(shape, 1e-3, 0.1))))
    agree(*outputs(norm, 2))


SPACES = (
    mbconv_space,
    mnasnet_space,
    macro_space,
    efficientnetv2_space,
    regnet_space,
    igcv3_space,
    ghost_space,
)
MEMBERS = [(make, seed) for make in SPACES for seed in range(4)]


@pytest.mark.parametrize(("depth", "width", "resolution"), [(26, 0.25, 32), (38, 0.25, 27), (26, 0.75, 23)])
def test_networks_of_resnet_rs_agree(depth, width, resolution):
    space = resnet_rs_space(resolution=32, num_classes=7)
    values = {"depth": depth, "width": width, "resolution": resolution}
    spec = space.decode(space.from_values(values))
    agree(*outputs(network_program(spec), 2))


@pytest.mark.parametrize(("make", "seed"), MEMBERS)
def test_random_networks_of_the_spaces_agree(make, seed):
    space = make(resolution=33 if seed % 2 else 32, num_classes=7)
    spec = space.decode(space.sample(random.Random(seed)))
    if seed >= 2:
        spec = replace(spec, style=replace(spec.style, padding="same", activation="relu6"))
    ours, theirs = outputs(network_program(spec), 1 + seed % 2)
    assert ours.shape == (1 + seed % 2, 7)
    agree(ours, theirs)
    module = build_module(spec)
    cost = network_cost(spec)
    assert sum(parameter.numel() for parameter in module.parameters()) == cost.params
    assert count_madds(module, (3, spec.resolution, spec.resolution)) == cost.madds


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NETWORKS]
)
def test_published_networks_agree_export_and_compile(name):
    spec = replace(published(name), resolution=48, num_classes=9)
    agree(*outputs(network_program(spec), 2))
    exports_and_compiles(build_module(spec), (3, 48, 48))


@pytest.mark.parametrize("name", NETWORKS)
def test_state_dict_and_graph_want_the_same_tensors(name):
    state = build_module(published(name)).state_dict()
    shapes = {key: tuple(t.shape) for key, t in state.items() if not key.endswith("num_batches_tracked")}
    assert weight_shapes(network_program(published(name))) == shapes


def test_the_module_prints_as_its_blocks():
    text = str(build_module(published("efficientnet_b0")))
    assert text.count(": MBConv(") == 15
    assert text.count(": SepConv(") == 1
    assert text.count(": SqueezeExcite(") == 16


def test_drop_path_is_left_out_where_nothing_is_dropped():
    rates = [
        part.p
        for part in build_module(published("efficientnet_b0")).modules()
        if isinstance(part, StochasticDepth)
    ]
    assert rates[0] == pytest.approx(0.2 * 2 / 16)  # the first skip is in the third of 16 blocks
    assert all(rate > 0 for rate in rates)
    assert not any(isinstance(part, StochasticDepth) for part in build_module(SMALL).modules())


def test_initial_weights_are_the_published_ones():
    module = build_module(published("efficientnet_b0"))
    for layer, fan_out in (
        (module.conv_stem, 3 * 3 * 32),
        (module.blocks[5][1].conv_dw, 5 * 5),
        (module.blocks[5][1].conv_pw, 1152),
        (module.conv_head, 1280),
    ):
        assert layer.weight.std().item() == pytest.approx(sqrt(2 / fan_out), rel=0.05)
        assert layer.weight.mean().abs() <= 4 * layer.weight.std() / sqrt(layer.weight.numel())
    bound = 1 / sqrt(1000)
    assert 0.999 * bound <= module.classifier.weight.abs().max() <= bound
    assert module.classifier.weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.01)
    for name, tensor in module.state_dict().items():
        if name.endswith(("bias", "running_mean")):
            assert not tensor.any()
        elif tensor.ndim == 1:
            assert (tensor == 1).all()


def test_the_seed_alone_decides_the_weights():
    before = torch.get_rng_state()
    first, again, other = (build_module(SMALL, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(dict(first), dict(again), rtol=0, atol=0)
    assert not torch.equal(first["conv_stem.weight"], other["conv_stem.weight"])
    plain = build_module(SMALL, channels_last=False).state_dict()
    torch.testing.assert_close(dict(first), dict(plain), rtol=0, atol=0)


def test_channels_last_is_a_memory_format():
    for asked in (True, False):
        weight = build_module(SMALL, channels_last=asked).conv_stem.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) is asked


def test_the_graph_says_what_it_is():
    model = build_graph(SMALL, batch=3, metadata={"network": "small"})
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 10
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 21)]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"network": "small"}
    (given,), (made,) = session(model).get_inputs(), session(model).get_outputs()
    assert (given.name, given.shape, given.type) == ("image", [3, 3, 32, 32], "tensor(float)")
    assert (made.name, made.shape, made.type) == ("logits", [3, 5], "tensor(float)")


def test_nodes_are_called_as_in_the_program():
    model = build_graph(SMALL)
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    folded = {
        name for name, operation in walk(network_program(SMALL)) if not isinstance(operation, BatchNorm)
    }
    assert set(names) >= folded
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)


def test_random_weights_are_the_same_each_time_and_need_no_slow_numbers():
    """A denormal number costs a processor up to a hundred times as long as a normal one."""
    deep = replace(published("efficientnet_b0"), resolution=64)
    deep = replace(deep, stages=tuple(replace(stage, repeats=3 * stage.repeats) for stage in deep.stages))
    model = build_graph(deep)
    assert model.SerializeToString() == build_graph(deep).SerializeToString()
    for node in model.graph.node:
        if node.output[0] != "logits":
            model.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    tensors = session(model).run(None, {"image": images_of((3, 64, 64), 1)})
    tensors += [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    tiny = np.finfo(np.float32).tiny
    for tensor in tensors:
        assert np.isfinite(tensor).all()
        assert not ((tensor != 0) & (np.abs(tensor) < tiny)).any()
    assert tensors[0].std() > 0.01


def test_weights_that_do_not_fit_are_refused_all_at_once():
    weights = weights_of(build_module(SMALL))
    del weights["conv_stem.weight"]
    weights["bn1.bias"] = np.zeros(9, np.float32)
    weights["bn1.weight"] = np.full(8, np.nan, np.float32)
    weights["fc.weight"] = np.zeros(1, np.float32)
    with pytest.raises(InputError) as caught:
        build_graph(SMALL, weights=weights)
    for problem in (
        "conv_stem.weight is missing",
        "bn1.bias has shape (9,), expected (8,)",
        "bn1.weight holds NaN",
        "fc.weight is unknown",
    ):
        assert problem in str(caught.value)
    assert "num_batches_tracked" not in str(caught.value)


def test_a_batch_of_none_is_refused():
    with pytest.raises(InputError, match="batch must be at least 1"):
        build_graph(SMALL, batch=0)


def test_graphs_are_built_without_torch():
    code = (
        "import sys; from mnas.graph import build_graph; from mnas.zoo import published; "
        "build_graph(published('mnasnet_small')); sys.exit('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parent.parent
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
