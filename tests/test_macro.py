"""The space `macro` against NAS-Bench-Macro: its table, and figures worked out by hand."""

import json
import os
import random
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from commands import MODELS, mnas, result_of, write_photos
from torch import nn

from mnas.accuracy import imagenet_surrogate
from mnas.errors import InputError
from mnas.export.timm_file import refuse_timm
from mnas.graph import build_graph
from mnas.latency.features import FEATURES, network_features
from mnas.latency.kernels import Kernel, named_kernels
from mnas.model import build_module
from mnas.report.blocks import describe, draw
from mnas.report.words import square
from mnas.search_space import (
    StageSpec,
    compound_scale,
    extremes,
    macro_space,
    nas_bench_macro_key,
    network_cost,
    scale,
)
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE = macro_space()
TABLE = "nas-bench-macro_cifar10.json"
POINTS = list(product(range(3), repeat=8))


def cost(key: str) -> tuple[int, int]:
    """Parameters and multiply-adds of the network of a key, sorted or not."""
    found = network_cost(SPACE.decode([int(digit) for digit in key]))
    return found.params, found.madds


def test_costs_of_eight_identities_by_hand() -> None:
    # A norm has 2 parameters a channel; the stem and the first layers of the stages give 32, 16, 8 and 4 pixels.
    #   stem 3x3, 3 -> 32         27 x 32      =     864 + 64     x 1,024 pixels =   884,736
    #   projection 32 -> 64       32 x 64      =   2,048 + 128    x   256 pixels =   524,288
    #   projection 64 -> 128      64 x 128     =   8,192 + 256    x    64 pixels =   524,288
    #   projection 128 -> 256     128 x 256    =  32,768 + 512    x    16 pixels =   524,288
    #   head 1x1, 256 -> 1,280    256 x 1,280  = 327,680 + 2,560  x    16 pixels = 5,242,880
    #   classifier                1,280 x 10   =  12,800 + 10                    =    12,800
    # Parameters: 384,352 + 3,520 + 10.
    assert cost("00000000") == (387_882, 7_713_280)


def test_costs_of_both_mbconvs_by_hand() -> None:
    # Instead of the projection to 64 channels (2,176 parameters, 524,288 multiply-adds) MBConv e3 k3, 96 inside:
    #   32 x 96 at 1,024 pixels, 9 x 96 and 96 x 64 at 256; norms 2 x (96 + 96 + 64):
    #   3,072 + 864 + 6,144 + 512 = 10,592;  3,145,728 + 221,184 + 1,572,864 = 4,939,776.
    # Behind it MBConv e6 k5 on 64 channels, 384 inside, at 256 pixels; norms 2 x (384 + 384 + 64):
    #   24,576 + 9,600 + 24,576 + 1,664 = 60,416;  58,752 x 256 = 15,040,512.
    params, madds = 387_882 - 2_176 + 10_592 + 60_416, 7_713_280 - 524_288 + 4_939_776 + 15_040_512
    assert cost("12000000") == (params, madds) == (456_714, 27_169_280)


def test_an_identity_after_the_first_place_is_nothing_wherever_it_stands() -> None:
    # MBConv e3 k3 on 128 channels, 384 inside, at 64 pixels: 49,152 + 3,456 + 49,152 = 101,760, norms 1,792.
    expected = (387_882 + 101_760 + 1_792, 7_713_280 + 101_760 * 64)
    assert cost("00010000") == cost("00001000") == expected
    assert SPACE.decode([0, 0, 0, 1, 0, 0, 0, 0]) == SPACE.decode([0, 0, 0, 0, 1, 0, 0, 0])


def table() -> dict[str, dict[str, int]]:
    path = Path(os.environ.get("MNAS_BENCH_DATA", "")) / TABLE
    if not path.is_file():
        pytest.skip(f"no {TABLE}: set MNAS_BENCH_DATA to the folder that holds it")
    found: dict[str, dict[str, int]] = json.loads(path.read_bytes())
    return found


def test_every_network_has_the_benchmarks_parameters_and_multiply_adds() -> None:
    rows = table()
    assert len(rows) == 6561
    assert {key: cost(key) for key in rows} == {
        key: (row["params"], row["flops"]) for key, row in rows.items()
    }


def test_the_keys_are_rows_of_the_benchmark() -> None:
    rows = table()
    keys = [nas_bench_macro_key(point) for point in SPACE.enumerate()]
    assert len(set(keys) & rows.keys()) == 3969
    assert all(cost(key) == (rows[key]["params"], rows[key]["flops"]) for key in keys)


def test_points_are_equal_where_networks_are() -> None:
    # A stage of n layers has three first ones, then 0 to n - 1 MBConvs of two kinds: 3 x 3, 3 x 7 and 3 x 7.
    assert SPACE.size == 6561
    assert SPACE.distinct == 9 * 21 * 21 == 3969
    by_point = {SPACE.architecture(key): SPACE.decode(key) for key in POINTS}
    assert len(by_point) == len(set(by_point.values())) == len(list(SPACE.enumerate())) == 3969
    assert all(by_point[SPACE.architecture(key)] == SPACE.decode(key) for key in POINTS)


@pytest.mark.parametrize(
    ("genes", "key"),
    [
        ((0, 0, 0, 0, 0, 0, 0, 0), "00000000"),
        ((0, 2, 0, 0, 1, 0, 1, 2), "02010012"),
        ((2, 1, 1, 0, 2, 2, 0, 0), "21120200"),
    ],
)
def test_the_key_has_identities_last_in_each_stage(genes: tuple[int, ...], key: str) -> None:
    assert nas_bench_macro_key(SPACE.architecture(genes)) == nas_bench_macro_key(genes) == key
    assert SPACE.from_key("-".join(key)) == SPACE.architecture(genes)


@pytest.mark.parametrize("genes", [(0,) * 7, (0,) * 9, (3,) + (0,) * 7])
def test_a_key_of_a_foreign_point_is_refused(genes: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="space 'macro'"):
        nas_bench_macro_key(genes)


def test_the_stages_of_a_network() -> None:
    spec = SPACE.decode([0, 1, 1, 1, 2, 2, 0, 0])
    assert spec.stages == (
        StageSpec("projection", 1, 2, 64),
        StageSpec("mbconv", 3, 1, 64, 1, 3),
        StageSpec("mbconv", 3, 2, 128, 2, 3),
        StageSpec("mbconv", 5, 1, 128, 1, 6),
        StageSpec("mbconv", 5, 2, 256, 1, 6),
    )
    assert (spec.stem_channels, spec.stem_stride, spec.head_channels) == (32, 1, 1280)
    assert (spec.resolution, spec.num_classes, spec.dropout, spec.drop_path) == (32, 10, 0.0, 0.0)
    other = macro_space(resolution=64, num_classes=100).decode([0, 1, 1, 1, 2, 2, 0, 0])
    assert other == replace(spec, resolution=64, num_classes=100)


def test_the_smallest_and_the_largest() -> None:
    ends = extremes(SPACE, lambda spec: network_cost(spec).madds)
    assert [nas_bench_macro_key(point) for point in ends] == ["00000000", "22222222"]


def test_a_projection_is_a_convolution_and_a_norm() -> None:
    (projection,) = build_module(SPACE.decode([0] * 8)).blocks[0]
    assert [type(layer) for layer in projection] == [nn.Conv2d, nn.BatchNorm2d]
    assert (projection(torch.randn(2, 32, 8, 8)) < 0).any()


def test_scaling_repeats_mbconvs_alone_and_keeps_the_stem() -> None:
    grown = scale(SPACE.decode([0, 1, 1, 1, 0, 0, 0, 0]), depth=1.5, width=2.0, resolution=48)
    assert [(stage.op, stage.repeats, stage.out_channels) for stage in grown.stages] == [
        ("projection", 1, 128),
        ("mbconv", 2, 128),
        ("mbconv", 3, 256),
        ("projection", 1, 512),
    ]
    assert (grown.stem_channels, grown.stem_stride) == (64, 1)
    spec = SPACE.decode(SPACE.sample(random.Random(0)))
    assert compound_scale(spec, 0.0) == spec


def test_latency_is_that_of_its_kernels() -> None:
    spec = SPACE.decode([0] * 8)
    kernels = named_kernels(spec)
    assert [item.kernel for item in kernels] == [
        Kernel("dense", 3, 32, 32, 32, 3, 1),
        Kernel("pointwise", 32, 64, 16, 16, 1, 2),
        Kernel("pointwise", 64, 128, 8, 8, 1, 2),
        Kernel("pointwise", 128, 256, 4, 4, 1, 2),
        Kernel("pointwise", 256, 1280, 4, 4),
        Kernel("global_pool", 1280, 1280, 4, 4),
        Kernel("linear", 1280, 10, 1, 1),
    ]
    # The stem and the head are activated, projections are not.
    features = dict(zip(FEATURES, network_features(spec), strict=True))
    assert features["clamp_elements"] == 32 * 32 * 32 + 1280 * 4 * 4
    assert features["dense_madds"] == 884_736
    assert features["pointwise_madds"] == 3 * 524_288 + 5_242_880
    convolutions = {node.name for node in build_graph(spec).graph.node if node.op_type == "Conv"}
    assert {item.names[0] for item in kernels[:5]} == convolutions


def test_timm_has_no_such_stem_and_no_projection() -> None:
    with pytest.raises(
        InputError, match=r"the stem has stride 1, where timm has 2; stage 1: the op projection"
    ):
        refuse_timm(SPACE.decode([0] * 8))
    with pytest.raises(InputError, match=r"network: the stem has stride 1, where timm has 2\. Formats"):
        refuse_timm(replace(published("mobilenetv2"), stem_stride=1))


def test_the_report_says_what_a_network_has() -> None:
    spec = SPACE.decode([0] * 8)
    assert describe(spec.stages[0]) == f"Projection {square(1)}"
    stem, first, *_, head = draw(spec, 1280)
    assert (stem.size, first.size, head.size) == (32, 16, 4)
    assert "stride" not in stem.blocks[0].title
    assert "stride 2" in draw(published("mobilenetv2"), 1280)[0].blocks[0].title


def test_no_surrogate_covers_it() -> None:
    spec = macro_space(resolution=224, num_classes=1000).decode([0] * 8)
    with pytest.raises(
        InputError, match=r"stem_stride is 1, covered is 2.*op is projection.*Train on your own data"
    ):
        imagenet_surrogate().evaluate([spec], seed=0)
    with pytest.raises(InputError, match="stem_stride is 1, covered is 2"):
        imagenet_surrogate().evaluate([replace(published("efficientnet_b0"), stem_stride=1)], seed=0)


@pytest.mark.slow
def test_a_search_trains_its_networks(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    write_photos(tmp_path / "photos", 30, 24, "jpg")
    search = (
        "search",
        "--space",
        "macro",
        "--target-latency",
        "6ms",
        "--latency",
        "models:Latency",
        "--out",
        "run",
    )
    refused = mnas(tmp_path, *search, code=2)
    assert "does not cover the space 'macro'" in refused.stderr
    options = (
        "--data",
        "photos",
        "--trials",
        "2",
        "--epochs",
        "1",
        "--final-epochs",
        "1",
        "--finals",
        "1",
        "--json",
    )
    result = result_of(mnas(tmp_path, *search, *options))
    baseline = result["baseline"]
    assert (result["status"], result["trials"], baseline["resolution"]) == ("done", 2, 32)
    point = SPACE.from_key(baseline["architecture"])
    assert baseline["params"] == network_cost(macro_space(num_classes=3).decode(point)).params
    assert (tmp_path / "run" / "report.html").is_file()
