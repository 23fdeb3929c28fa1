"""Shared weights: which part of which tensor a network is, and that it is the network that would be exported."""

import random
from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor

from mnas.errors import InputError, MnasError
from mnas.model import build_module
from mnas.registry import BUILTIN, make
from mnas.search_space import NetworkSpec, SearchSpace, StageSpec, Style
from mnas.search_space.space import Choice, Factor, Values
from mnas.supernet import Supernet
from mnas.supernet.plan import Piece, make_plan
from mnas.supernet.weights import cut

pytestmark = pytest.mark.usefixtures("one_thread")

EXPRESSED = ("mbconv", "mnasnet", "macro", "efficientnetv2", "igcv3", "ghost")
REFUSED = ("resnet-rs", "regnet")


def named(name: str) -> SearchSpace:
    space: SearchSpace = make("space", name, {"resolution": 32, "num_classes": 10}, "decode")
    return space


def factored(name: str, *stages: dict[str, tuple[object, ...]]) -> SearchSpace:
    """A space of these stages, each field with its options; a stage of no repeats is left out."""
    choices, factors = [], []
    for number, fields in enumerate(stages, 1):
        own = tuple(f"stage{number}.{field}" for field in fields)
        choices += [Choice(name, options) for name, options in zip(own, fields.values(), strict=True)]  # type: ignore[arg-type]

        def made(
            values: Values, own: tuple[str, ...] = own, names: tuple[str, ...] = tuple(fields)
        ) -> tuple[StageSpec, ...]:
            given = dict(zip(names, (values[name] for name in own), strict=True))
            return (StageSpec(**given),) if given.get("repeats", 1) else ()  # type: ignore[arg-type]

        factors.append(Factor(own, made))

    def build(values: Values) -> NetworkSpec:
        parts = tuple(stage for factor in factors for stage in factor.stages(values))
        return NetworkSpec(4, parts, 8, 8, 3, dropout=0.1, drop_path=0.1, style=Style("relu"), stem_stride=1)

    return SearchSpace(name, tuple(choices), build, factors=tuple(factors))


TINY = factored(
    "tiny",
    {
        "op": ("mbconv",),
        "kernel": (3, 5),
        "stride": (1,),
        "out_channels": (4, 6),
        "repeats": (1, 2),
        "expansion": (2, 3),
        "se_ratio": (0.0, 0.5),
    },
    {"op": ("conv", "sepconv"), "kernel": (3,), "stride": (2,), "out_channels": (8,), "repeats": (0, 1)},
)


def members(space: SearchSpace, count: int, seed: int = 0) -> list[NetworkSpec]:
    rng = random.Random(seed)
    return [space.decode(space.sample(rng)) for _ in range(count)]


def spec_of(space: SearchSpace, **values: object) -> NetworkSpec:
    """The first member but for these values, `stage1__kernel=5` for example."""
    given = {name.replace("__", "."): value for name, value in values.items()}
    return space.decode(space.from_values({**space.values(space.first), **given}))  # type: ignore[dict-item]


@pytest.fixture(scope="module")
def net() -> Supernet:
    return Supernet(TINY, seed=1)


def test_every_space_is_expressed_or_refused_by_name() -> None:
    assert {*EXPRESSED, *REFUSED} == set(BUILTIN["space"])
    for name in REFUSED:
        with pytest.raises(InputError, match=f"do not express the space '{name}': .*Use --accuracy proxy"):
            make_plan(named(name))


@pytest.mark.parametrize("name", EXPRESSED)
def test_each_parameter_of_a_member_is_a_part_of_a_shared_tensor(name: str) -> None:
    space = named(name)
    plan = make_plan(space)
    for spec in members(space, 4):
        wanted = {name: tuple(p.shape) for name, p in build_module(spec).named_parameters()}
        pieces = plan.pieces(spec)
        shapes = {
            name: (prod(piece.shape[:2]), *piece.shape[2:]) if piece.grouped else piece.shape
            for name, piece in pieces.items()
        }
        assert shapes == wanted
        assert len({piece.key for piece in pieces.values()}) == len(pieces)  # no two share one
        for piece in pieces.values():
            assert all(n <= most for n, most in zip(piece.shape, plan.shapes[piece.key], strict=True))


def test_shared_tensors_of_a_space_by_hand() -> None:
    shapes = make_plan(TINY).shapes
    # 4 or 6 channels in, 3 times as many inside at most: the first layer has 4 in, the second up to 6
    assert shapes["0/0/mbconv/conv_pw/weight"] == (12, 4, 1, 1)
    assert shapes["0/1/mbconv/conv_pw/weight"] == (18, 6, 1, 1)
    assert shapes["0/1/mbconv+depthwise/conv_dw/weight"] == (18, 1, 5, 5)
    assert shapes["0/1/mbconv/se/conv_reduce/weight"] == (3, 18, 1, 1)
    assert shapes["1/0/conv/conv/weight"] == (8, 6, 3, 3)
    assert shapes["1/0/sepconv+depthwise/conv_dw/weight"] == (6, 1, 3, 3)
    # behind the second stage, or behind the first where there is no second
    assert shapes["head/conv_head/weight"] == (8, 8, 1, 1)
    assert shapes["head/classifier/weight"] == (3, 8)
    assert not any("0/2/" in key for key in shapes)


def test_slices_by_hand() -> None:
    kernel = torch.arange(2 * 3 * 25.0).view(2, 3, 5, 5)
    middle = cut(kernel, Piece("", (1, 2, 3, 3)))
    assert middle.tolist() == [
        [[[6, 7, 8], [11, 12, 13], [16, 17, 18]], [[31, 32, 33], [36, 37, 38], [41, 42, 43]]]
    ]
    assert cut(torch.arange(6.0), Piece("", (4,))).tolist() == [0, 1, 2, 3]
    assert cut(torch.arange(6.0).view(2, 3), Piece("", (2, 2))).tolist() == [[0, 1], [3, 4]]
    # two groups of up to three channels out and two in: the first two out and the first in of each group
    groups = torch.arange(12.0).view(2, 3, 2, 1, 1)
    assert cut(groups, Piece("", (2, 2, 1, 1, 1))).flatten().tolist() == [0, 2, 6, 8]
    assert cut(groups, Piece("", (2, 2, 1, 1, 1))).shape == (4, 1, 1, 1)


@pytest.mark.parametrize("name", EXPRESSED)
def test_logits_are_those_of_the_extracted_and_of_the_built_module(name: str) -> None:
    space = named(name)
    net = Supernet(space)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for spec in members(space, 2, seed=3):
        logits = net.bind(spec).train()(x)
        extracted = net.extract(spec)
        built = build_module(replace(spec, dropout=0.0, drop_path=0.0))
        built.load_state_dict(extracted.state_dict())
        torch.testing.assert_close(logits, extracted(x), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(logits, built(x), rtol=1e-4, atol=1e-4)


def test_extracted_weights_are_copies(net: Supernet) -> None:
    spec = TINY.decode(TINY.first)
    before = {key: weight.detach().clone() for key, weight in net.shared.items()}
    for parameter in net.extract(spec).parameters():
        assert parameter.requires_grad
        parameter.data.fill_(7.0)
    assert all(torch.equal(before[key], weight) for key, weight in net.shared.items())


def test_gradients_go_to_the_parts_that_are_used_and_nowhere_else(net: Supernet) -> None:
    spec = spec_of(TINY, stage1__kernel=3, stage1__expansion=2, stage1__out_channels=6, stage2__repeats=1)
    net.zero_grad()
    net.bind(spec).train()(torch.randn(4, 3, 8, 8)).square().sum().backward()
    pieces = {piece.key: piece for piece in net.plan.pieces(spec).values()}
    assert {key for key, weight in net.shared.items() if weight.grad is not None} == pieces.keys()
    dw = net.shared["0/0/mbconv+depthwise/conv_dw/weight"].grad
    assert dw is not None
    ring = dw.clone()
    ring[:8, :, 1:4, 1:4] = 0  # 4 channels in, twice as many inside: the middle of the first 8
    assert not ring.any()
    assert dw[:8, :, 1:4, 1:4].flatten(1).any(1).all()
    net.zero_grad()


def test_a_residual_branch_starts_at_zero_where_it_always_is_one(net: Supernet) -> None:
    # the first layer of stage 1 is residual with 4 channels out, not with 6; the second always is
    assert net.shared["0/0/mbconv/bn3/weight"].tolist() == [1.0] * 6
    assert net.shared["0/1/mbconv/bn3/weight"].tolist() == [0.0] * 6
    assert net.shared["0/1/mbconv/bn2/weight"].tolist() == [1.0] * 18


def test_equal_networks_are_one_and_others_do_not_depend_on_what_was_bound(net: Supernet) -> None:
    one, other = spec_of(TINY, stage1__kernel=5), spec_of(TINY, stage1__kernel=3)
    assert net.bind(one) is net.bind(replace(one))
    x = torch.randn(2, 3, 8, 8)

    def logits(spec: NetworkSpec) -> Tensor:
        with torch.no_grad():
            result: Tensor = net.bind(spec).train()(x)
        return result

    before = logits(other)
    logits(one)
    assert torch.equal(before, logits(other))


def test_the_factor_of_a_stage_is_found_from_the_stages_alone() -> None:
    """Two blocks that may be left out and look alike: as many stages as there are belong to the first."""
    block = {"op": ("conv",), "kernel": (3,), "stride": (1,), "out_channels": (4,), "repeats": (0, 1)}
    last = {"op": ("conv",), "kernel": (1,), "stride": (1,), "out_channels": (4,)}
    plan = make_plan(factored("alike", block, block, last))
    stage = StageSpec("conv", 3, 1, 4)
    end = StageSpec("conv", 1, 1, 4)
    keys = [
        plan.pieces(replace(plan.first, stages=stages))["blocks.0.0.conv.weight"].key
        for stages in ((stage, stage, end), (stage, end), (end,))
    ]
    assert keys == ["0/0/conv/conv/weight", "0/0/conv/conv/weight", "2/0/conv/conv/weight"]
    second = plan.pieces(replace(plan.first, stages=(stage, stage, end)))["blocks.1.0.conv.weight"].key
    assert second == "1/0/conv/conv/weight"


def test_groups_are_branches() -> None:
    plan = make_plan(named("igcv3"))
    keys = [key for key in plan.shapes if key.startswith("1/0/") and key.endswith("conv_pw/weight")]
    assert keys == [
        "1/0/igcv3/conv_pw/weight",
        "1/0/igcv3+2groups/conv_pw/weight",
        "1/0/igcv3+4groups/conv_pw/weight",
    ]
    assert plan.shapes["1/0/igcv3+4groups/conv_pw/weight"] == (4, 24, 4, 1, 1)  # 16 in, 96 inside


@pytest.mark.parametrize(
    "change",
    [{"stem_channels": 8}, {"num_classes": 5}, {"stages": (StageSpec("conv", 7, 1, 4),)}],
    ids=["stem", "classes", "stages"],
)
def test_a_network_of_another_space_is_refused(net: Supernet, change: dict[str, object]) -> None:
    spec = replace(TINY.decode(TINY.first), **change)  # type: ignore[arg-type]
    for use in (net.bind, net.extract):
        with pytest.raises(InputError, match="none of the space 'tiny'"):
            use(spec)


def test_too_many_combinations_are_refused() -> None:
    many = tuple(range(1, 502))
    space = factored(
        "many", {"op": ("conv",), "kernel": (3,), "stride": (1,), "out_channels": many, "repeats": many}
    )
    with pytest.raises(MnasError, match=r"'many': a factor .*251,001 combinations.*--accuracy proxy"):
        make_plan(space)
