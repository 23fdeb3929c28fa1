"""ResNet, ResNet-RS and RegNet against timm: parameters, multiply-adds, logits and names, of every member."""

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm_families import TOLERANCE, difference, hook_count, random_logits
from torch import nn
from torchvision.ops import StochasticDepth

from mnas.errors import InputError
from mnas.export.timm_file import refuse_timm
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec, network_cost, scale
from mnas.search_space.regnet import RegNetNumbers
from mnas.search_space.timm_names import timm_names
from mnas.trainer.initial import initial_weights
from mnas.weights import save_weights
from mnas.zoo import member, published
from mnas.zoo.regnet import MEMBERS as REGNETS
from mnas.zoo.resnet import MEMBERS as RESNETS

pytestmark = pytest.mark.usefixtures("one_thread")

TIMM = {f"resnet_{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
TIMM |= {f"resnet_rs_{depth}": f"resnetrs{depth}" for depth in (50, 101, 152, 200, 270, 350, 420)}
SIZES = ("200mf", "400mf", "600mf", "800mf", "1_6gf", "3_2gf", "4gf", "6_4gf", "8gf", "12gf", "16gf", "32gf")
CODES = ("002", "004", "006", "008", "016", "032", "040", "064", "080", "120", "160", "320")
TIMM |= {
    f"regnet_{kind}_{size}": f"regnet{kind}_{code}"
    for kind in "xy"
    for size, code in zip(SIZES, CODES, strict=True)
}
SPECS = {name: published(name) for name in TIMM}
# Some 45 million parameters and more take seconds each.
MEMBERS = [
    pytest.param(name, marks=pytest.mark.slow if network_cost(SPECS[name]).params > 13e6 else ())
    for name in TIMM
]
# Parameters: facts of the papers' releases (torchvision's and pycls's integers, ResNet-RS computed by timm).
PARAMS = {
    "resnet_18": 11_689_512,
    "resnet_34": 21_797_672,
    "resnet_50": 25_557_032,
    "resnet_101": 44_549_160,
    "resnet_152": 60_192_808,
    "resnet_rs_50": 35_691_912,
    "resnet_rs_101": 63_618_696,
    "resnet_rs_152": 86_621_576,
    "resnet_rs_200": 93_209_992,
    "resnet_rs_270": 129_861_448,
    "resnet_rs_350": 163_956_168,
    "resnet_rs_420": 191_891_656,
}
# Parameters, multiply-adds and activations: pycls, dev/model_complexity.json; it counts additions of biases too.
PYCLS = {
    "regnet_x_400mf": (5_157_512, 397_678_568, 3_143_272),
    "regnet_y_400mf": (4_344_144, 401_849_056, 3_892_496),
    "regnet_x_4gf": (22_118_248, 3_964_499_816, 12_201_608),
    "regnet_y_4gf": (20_646_656, 3_973_301_344, 12_287_200),
}


def theirs(name: str, **options: object) -> nn.Module:
    return timm.create_model(TIMM[name], pretrained=False, **options)


def test_every_member_has_its_counterpart() -> None:
    assert (RESNETS | REGNETS).keys() == TIMM.keys()
    assert {name: published(alias) for name, alias in TIMM.items()} == SPECS


def test_accuracies_are_the_published_ones() -> None:
    for depth in (18, 34, 50, 101, 152):
        metrics = torchvision.models.get_weight(f"ResNet{depth}_Weights.IMAGENET1K_V1").meta["_metrics"]
        assert member(f"resnet_{depth}").top1 == pytest.approx(metrics["ImageNet-1K"]["acc@1"] / 100)
    for name in TIMM:
        assert 0.68 < member(name).top1 < 0.85
        assert member(name).source
    assert (member("resnet_rs_420").top1, SPECS["resnet_rs_420"].resolution) == (0.844, 320)
    assert member("regnetx_002").top1 == 0.689  # an error of 31.1 %


@pytest.mark.parametrize("name", TIMM)
def test_parameters_and_madds_equal_timms(name: str) -> None:
    with torch.device("meta"):
        module = theirs(name)
    cost = network_cost(SPECS[name])
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.madds == hook_count(module, SPECS[name].resolution)


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_are_the_published_integers(name: str) -> None:
    assert network_cost(SPECS[name]).params == PARAMS[name]


@pytest.mark.parametrize("name", PYCLS)
def test_costs_of_regnets_are_those_of_pycls(name: str) -> None:
    cost, module = network_cost(SPECS[name]), build_module(SPECS[name])
    layers = (layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    biases = sum(layer.bias.numel() for layer in layers if layer.bias is not None)  # each of one pixel
    assert (cost.params, cost.madds + biases, cost.activations) == PYCLS[name]


@pytest.mark.parametrize("name", MEMBERS)
def test_logits_equal_timms(name: str) -> None:
    module = theirs(name)
    logits = random_logits(module)
    assert difference(SPECS[name], module, logits) <= TOLERANCE


def changed(spec: NetworkSpec, **changes: object) -> NetworkSpec:
    return replace(spec, stages=tuple(replace(stage, **changes) for stage in spec.stages))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("resnet_50", lambda spec: replace(spec, style=replace(spec.style, activation="relu6"))),
        ("resnet_50", lambda spec: replace(spec, style=replace(spec.style, norm_eps=1e-3))),
        ("resnet_50", lambda spec: replace(spec, style=replace(spec.style, padding="same"))),
        (
            "resnet_rs_50",
            lambda spec: replace(spec, stages=(*spec.stages[:3], replace(spec.stages[3], stride=1))),
        ),
        ("regnet_y_400mf", lambda spec: replace(spec, style=replace(spec.style, activation="silu"))),
    ],
)
def test_a_changed_network_is_seen(name: str, change: object) -> None:
    module = theirs(name)
    logits = random_logits(module)
    assert difference(change(SPECS[name]), module, logits) > 10 * TOLERANCE


def test_drop_path_of_resnet_rs_is_one_rate_for_each_group() -> None:
    """0.1 x i / 5, i = 2 to 5, in every block of the four groups of 3, 24, 36 and 3."""
    module = build_module(SPECS["resnet_rs_200"])
    rates = [
        [part.p for part in stage.modules() if isinstance(part, StochasticDepth)] for stage in module.blocks
    ]
    assert [len(group) for group in rates] == [3, 24, 36, 3]
    for group, expected in zip(rates, (0.04, 0.06, 0.08, 0.1), strict=True):
        assert group == pytest.approx([expected] * len(group))
    assert not any(
        isinstance(part, StochasticDepth) for part in build_module(SPECS["resnet_rs_50"]).modules()
    )


@pytest.mark.parametrize(
    ("name", "widths", "depths"),
    [
        ("regnet_x_200mf", (24, 56, 152, 368), (1, 1, 4, 7)),
        ("regnet_x_4gf", (80, 240, 560, 1360), (2, 5, 14, 2)),
        ("regnet_y_4gf", (128, 192, 512, 1088), (2, 6, 12, 2)),
    ],
)
def test_regnets_follow_from_their_numbers(
    name: str, widths: tuple[int, ...], depths: tuple[int, ...]
) -> None:
    stages = SPECS[name].stages
    assert tuple(stage.out_channels for stage in stages) == widths
    assert tuple(stage.repeats for stage in stages) == depths


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((0, 24, 36.0, 2.5, 8), "depth must be at least 1"),
        ((13, 20, 36.0, 2.5, 8), "initial_width must be a positive multiple of 8"),
        (
            (13, 24, -1.0, 1.0, 0),
            "group_width must be at least 1; slope must be at least 0; factor must be above 1",
        ),
        ((13, 24, float("nan"), 2.5, 8), "slope must be at least 0"),
        ((13, 24, 0.0, 2.5, 8), "must make 4 stages, not 1"),
    ],
)
def test_numbers_that_make_no_regnet_are_refused(numbers: tuple[float, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        RegNetNumbers(*numbers)


def test_a_wider_regnet_keeps_the_width_of_its_groups() -> None:
    """By hand: 240 channels in groups of 40, times 1.25, are 300, rounded to 304: 7.6, so 8 groups of 40."""
    wider = scale(SPECS["regnet_x_4gf"], depth=1.0, width=1.25, resolution=224)
    assert (wider.stages[1].out_channels, wider.stages[1].groups) == (320, 8)
    assert wider.head_channels == 0
    assert network_cost(wider).params > network_cost(SPECS["regnet_x_4gf"]).params


def test_a_wider_resnet_is_rounded_inside() -> None:
    """64 x 1.1 = 70.4, rounded to 72 channels inside: 288 out."""
    wider = scale(SPECS["resnet_50"], depth=1.5, width=1.1, resolution=256)
    assert [stage.repeats for stage in wider.stages] == [5, 6, 9, 5]
    assert (wider.stem_channels, wider.stages[0].out_channels) == (72, 288)


def test_names_stay_where_timm_has_no_such_network() -> None:
    spec = replace(SPECS["resnet_50"], stages=(*SPECS["resnet_50"].stages, StageSpec("xblock", 3, 2, 64)))
    assert timm_names(spec, ["conv_stem.weight"]) == {"conv_stem.weight": "conv_stem.weight"}


def test_the_format_timm_holds_no_other_stem_or_head() -> None:
    with pytest.raises(InputError, match="the stem is 'max_pool', where timm has 'conv'; the head is 'pool'"):
        refuse_timm(SPECS["resnet_18"])


def test_a_file_with_timms_names_is_where_a_training_begins(tmp_path: Path) -> None:
    spec = replace(SPECS["resnet_18"], num_classes=7)
    module = theirs("resnet_18")
    save_weights(tmp_path / "theirs.safetensors", module)
    found, replaced = initial_weights(tmp_path / "theirs.safetensors", spec)
    assert replaced  # 1000 classes there, 7 here
    assert torch.equal(found["blocks.1.0.shortcut.conv.weight"], module.layer2[0].downsample[0].weight)
    assert set(build_module(spec).state_dict()) - set(found) == {"classifier.weight", "classifier.bias"}
    save_weights(tmp_path / "ours.safetensors", build_module(spec))
    assert not initial_weights(tmp_path / "ours.safetensors", spec)[1]
