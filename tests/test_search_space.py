import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnas.errors import InputError
from mnas.search_space import (
    Architecture,
    Choice,
    NetworkSpec,
    SearchSpace,
    StageSpec,
    encode_stages,
    extremes,
    layer_costs,
    macro_space,
    mbconv_space,
    mnasnet_space,
    network_cost,
    round_filters,
)
from mnas.search_space.efficientnetv2 import efficientnetv2_space
from mnas.search_space.ghost import ghost_space
from mnas.search_space.igcv3 import igcv3_space
from mnas.search_space.mnasnet import MOBILENETV2, Reference
from mnas.search_space.regnet import regnet_space
from mnas.search_space.resnet import resnet_rs_space
from mnas.zoo import published

SPACES = {
    "mbconv": mbconv_space,
    "mnasnet": mnasnet_space,
    "macro": macro_space,
    "efficientnetv2": efficientnetv2_space,
    "resnet-rs": resnet_rs_space,
    "regnet": regnet_space,
    "igcv3": igcv3_space,
    "ghost": ghost_space,
}
FACTORISED = [space for space in (make() for make in SPACES.values()) if space.factors is not None]


def test_mbconv_has_the_size_of_the_published_benchmark() -> None:
    # afzalxo/Accel-NASBench: 36 options in six blocks, 48 in the 192-channel one.
    assert mbconv_space().size == mbconv_space().distinct == 36**6 * 48 == 104_485_552_128


def test_mnasnet_has_the_size_of_its_options() -> None:
    assert mnasnet_space().size == 192 * 288 * 432**4 * 288


def test_mnasnet_filters_are_rounded_and_merged() -> None:
    expected = [
        (16, 24),
        (24, 32),
        (24, 32, 40),
        (48, 64, 80),
        (72, 96, 120),
        (120, 160, 200),
        (240, 320, 400),
    ]
    assert [block.filters for block in MOBILENETV2] == expected


def test_distinct_networks_of_a_small_instance_by_hand() -> None:
    # One block of 32 channels {24, 32, 40}, one or two layers, stride 1, after a stem of 32.
    # With one layer identity fits only 32 -> 32. So of 16 (op, kernel, SE) x 3 widths x skips:
    #   one layer:  16 x (2 + 2 + 3) = 112;  two layers: 16 x (3 + 3 + 3) = 144.
    space = mnasnet_space(reference=[Reference(32, 1, 1)])
    assert space.size == 16 * 3 * 3 * 2
    assert space.distinct == 112 + 144 == len(list(space.enumerate()))


def test_distinct_networks_depend_on_the_channels_before() -> None:
    # 16 -> {16, 24}, 1 or 2 layers, stride 2: no identity with one layer: 16 x 2 x (2 + 3) = 160, half to each width.
    # Then 16 -> {16, 24} again at stride 1: identity with one layer only where the widths are equal:
    #   from 16 (80 nets): 16 x ((3 + 2) + 2 x 3) = 176; from 24 (80 nets): the same by symmetry.
    space = mnasnet_space(reference=[Reference(16, 1, 2), Reference(16, 1, 1)])
    assert space.distinct == 160 * 176


def test_choices_that_build_one_network_have_one_key() -> None:
    space = mnasnet_space()
    values = space.values(space.architecture([0] * len(space.choices)))
    values |= {"block1.layers": 1, "block1.filters": 16}
    none, identity, pool = (
        space.from_values(values | {"block1.skip": skip}).key for skip in ("none", "identity", "pool")
    )
    assert none == identity != pool
    two = values | {"block1.layers": 2}
    assert space.from_values(two | {"block1.skip": "none"}) != space.from_values(
        two | {"block1.skip": "identity"}
    )


@pytest.mark.parametrize("name", SPACES)
def test_equal_keys_are_equal_costs_and_keys_round_trip(name: str) -> None:
    space = SPACES[name]()
    rng = random.Random(0)
    for _ in range(200):
        genes = [rng.randrange(len(choice.options)) for choice in space.choices]
        point = space.architecture(genes)
        assert space.from_key(point.key) == point == space.architecture(point)
        assert network_cost(space.decode(genes)) == network_cost(space.decode(point))


def test_inactive_choices_are_canonical_and_not_counted() -> None:
    def build(values):  # type: ignore[no-untyped-def]
        op = "mbconv" if values["op"] == "mb" else "conv"
        return NetworkSpec(
            8, (StageSpec(op, 3, 1, 8, expansion=values["e"] if op == "mbconv" else 1),), 8, 32, 10
        )

    space = SearchSpace("own", (Choice("op", ("conv", "mb")), Choice("e", (2, 3, 4), {"op": ("mb",)})), build)
    assert space.size == 6
    assert [point.key for point in space.enumerate()] == ["0-0", "1-0", "1-1", "1-2"]
    assert space.architecture((0, 2)) == Architecture((0, 0))
    assert space.active((0, 2)) == (True, False)
    assert space.active((1, 2)) == (True, True)
    assert space.distinct is None


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ((), "no choices"),
        ((Choice("a", (1,)), Choice("a", (2,))), "two choices"),
        ((Choice("a", (1,), {"b": (1,)}), Choice("b", (1,))), "earlier choice"),
        ((Choice("a", (1,)), Choice("b", (1,), {"a": (7,)})), "options of it"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(choices: tuple[Choice, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchSpace("own", choices, lambda values: published("mnasnet_small"))


@pytest.mark.parametrize("genes", [[0] * 27, [0] * 29, [3] + [0] * 27, [-1] + [0] * 27])
def test_genes_outside_the_space_are_refused(genes: list[int]) -> None:
    with pytest.raises(InputError):
        mbconv_space().architecture(genes)


@pytest.mark.parametrize("key", ["", "a-b", "0-1", "-".join(["9"] * 28)])
def test_keys_outside_the_space_are_refused(key: str) -> None:
    with pytest.raises(InputError):
        mbconv_space().from_key(key)


def test_b0_is_a_member_of_mbconv() -> None:
    b0 = published("efficientnet_b0")
    space = mbconv_space()
    values: dict[str, float] = {}
    for number, stage in enumerate(b0.stages, 1):
        values |= {
            f"block{number}.expansion": stage.expansion,
            f"block{number}.kernel": stage.kernel,
            f"block{number}.layers": stage.repeats,
            f"block{number}.se_ratio": stage.se_ratio,
        }
    assert space.decode(space.from_values(values)) == b0


def test_mobilenetv2_is_a_member_of_mnasnet_up_to_its_first_block_activation() -> None:
    space, reference = mnasnet_space(), published("mobilenetv2")
    values: dict[str, int | float | str] = {}
    for number, stage in enumerate(reference.stages, 1):
        values |= {
            f"block{number}.op": "sepconv" if stage.op == "sepconv" else "mbconv6",
            f"block{number}.kernel": 3,
            f"block{number}.se_ratio": 0.0,
            f"block{number}.skip": "identity",
            f"block{number}.filters": stage.out_channels,
            f"block{number}.layers": stage.repeats,
        }
    assert network_cost(space.decode(space.from_values(values))).madds == 300_774_272


def test_efficientnetv2_b0_is_a_member_of_its_space() -> None:
    """timm's tf_efficientnetv2_b0 has 7,139,704 parameters."""
    space = efficientnetv2_space()
    assert space.size == space.distinct == 36**6
    values: dict[str, int | float | str] = {}
    stages = (("fused_mbconv", 1, 1), ("fused_mbconv", 4, 2), ("fused_mbconv", 4, 2))
    stages += (("mbconv", 4, 3), ("mbconv", 6, 5), ("mbconv", 6, 8))
    for number, (op, expansion, layers) in enumerate(stages, 1):
        own = {"op": op, "kernel": 3, "expansion": expansion, "layers": layers}
        values |= {f"stage{number}.{name}": value for name, value in own.items()}
    b0 = space.decode(space.from_values(values))
    assert network_cost(b0).params == 7_139_704
    assert encode_stages(b0.stages) == [
        "cn_r1_k3_s1_c16_skip",
        "er_r2_k3_s2_e4_c32",
        "er_r2_k3_s2_e4_c48",
        "ir_r3_k3_s2_e4_c96_se0.25",
        "ir_r5_k3_s1_e6_c112_se0.25",
        "ir_r8_k3_s2_e6_c192_se0.25",
    ]


def test_released_resnet_rs_are_members_of_their_space() -> None:
    space = resnet_rs_space(resolution=256)
    assert space.size == space.distinct == 9 * 7 * 7
    values = {"depth": 152, "width": 1.0, "resolution": 256}
    assert space.decode(space.from_values(values)) == published("resnet_rs_152")
    # By hand: sevenths of 256, the resolution itself first.
    assert space.choices[2].options == (256, 146, 183, 219, 293, 329, 366)
    assert {space.decode(point).resolution for point in space.enumerate()} == set(space.choices[2].options)


def test_igcv3_is_a_member_of_its_space() -> None:
    space = igcv3_space()
    # Kernel and groups; expansion in all but the first block; three depths in all but the first and last.
    assert space.size == space.distinct == 6 * 36**5 * 12
    values: dict[str, int | float | str] = {}
    for number, stage in enumerate(published("igcv3").stages, 1):
        values |= {f"block{number}.kernel": 3, f"block{number}.groups": 2}
        values |= {f"block{number}.expansion": stage.expansion} if number > 1 else {}
        values |= {f"block{number}.layers": stage.repeats} if 1 < number < 7 else {}
    assert space.decode(space.from_values(values)) == published("igcv3")


def test_small_images_keep_a_least_size() -> None:
    assert resnet_rs_space(resolution=10).choices[2].options == (10, 8, 9, 11, 13, 14)


def test_points_of_regnet_that_are_one_network_have_one_key() -> None:
    """Points differ where widths do after rounding to groups: 24 of 16,200 have the stages of another."""
    space = regnet_space()
    assert space.size == 16_200
    networks = {space.decode(point) for point in space.enumerate()}
    assert len(networks) == space.distinct == 16_176
    assert all(len(spec.stages) == 4 for spec in networks)


def test_a_regnet_by_hand() -> None:
    """wa = 24 (2^3 - 1) / 15 = 11.2; log2((24 + 11.2 j) / 24) rounds to 0, thrice 1, six times 2, six times 3."""
    space = regnet_space()
    values = {"initial_width": 24, "width_factor": 2.0, "reach": 3.0, "group_width": 8}
    spec = space.decode(space.from_values({"depth": 16, **values, "kind": "y"}))
    assert [(stage.out_channels, stage.repeats, stage.groups) for stage in spec.stages] == [
        (24, 1, 3),
        (48, 3, 6),
        (96, 6, 12),
        (192, 6, 24),
    ]
    assert {stage.se_ratio for stage in spec.stages} == {0.25}


def test_extremes_bound_random_members() -> None:
    space = mbconv_space()
    least, greatest = (
        network_cost(space.decode(p)).madds for p in extremes(space, lambda s: network_cost(s).madds)
    )
    rng = random.Random(1)
    sampled = [network_cost(space.decode(space.sample(rng))).madds for _ in range(300)]
    assert least < min(sampled) < max(sampled) < greatest


def test_costs_of_one_separable_layer_by_hand() -> None:
    # 8 -> 12 channels, 5x5, stride 2, 16x16 -> 8x8, SE from 8 to 2: depthwise 25*8, SE 8*2+2 + 2*8+8, 1x1 8*12, norms.
    spec = NetworkSpec(8, (StageSpec("sepconv", 5, 2, 12, se_ratio=0.25),), 16, resolution=32, num_classes=3)
    rows = {row.name: row.cost for row in layer_costs(spec)}
    assert (rows["blocks.0.0.conv_dw"].params, rows["blocks.0.0.conv_dw"].madds) == (200, 200 * 64)
    assert (rows["blocks.0.0.se.conv_reduce"].params, rows["blocks.0.0.se.conv_reduce"].madds) == (18, 16)
    assert (rows["blocks.0.0.se.conv_expand"].params, rows["blocks.0.0.se.conv_expand"].madds) == (24, 16)
    assert (rows["blocks.0.0.conv_pw"].params, rows["blocks.0.0.conv_pw"].madds) == (96, 96 * 64)
    assert rows["blocks.0.0.conv_pw"].activations == 12 * 64
    assert rows["classifier"].params == 16 * 3 + 3
    stem, head = 27 * 8 + 16, 12 * 16 + 32
    assert network_cost(spec).params == stem + 200 + 16 + 18 + 24 + 96 + 24 + head + 51


@pytest.mark.parametrize("name", SPACES)
def test_network_cost_is_the_sum_of_its_layers(name: str) -> None:
    space = SPACES[name](resolution=65, num_classes=7)
    rng = random.Random(3)
    for _ in range(20):
        spec = space.decode(space.sample(rng))
        total = network_cost(spec)
        rows = [row.cost for row in layer_costs(spec)]
        assert total.params == sum(row.params for row in rows)
        assert total.madds == sum(row.madds for row in rows)
        assert total.activations == sum(row.activations for row in rows)


@pytest.mark.parametrize(
    ("width", "stem", "channels", "head"),
    [
        (1.1, 32, (16, 24, 48, 88, 120, 208, 352), 1408),
        (1.4, 48, (24, 32, 56, 112, 160, 272, 448), 1792),
        (2.0, 64, (32, 48, 80, 160, 224, 384, 640), 2560),
        (4.3, 136, (72, 104, 176, 344, 480, 824, 1376), 5504),
    ],
)
def test_filters_round_as_in_the_released_efficientnets(
    width: float, stem: int, channels: tuple[int, ...], head: int
) -> None:
    # EfficientNet B2, B4, B7 and L2 as released (efficientnet_model.py, round_filters).
    assert round_filters(32 * width) == stem
    assert tuple(round_filters(c * width) for c in (16, 24, 40, 80, 112, 192, 320)) == channels
    assert round_filters(1280 * width) == head


@settings(deadline=None)
@given(st.floats(min_value=1, max_value=5000))
def test_rounded_filters_are_multiples_of_eight_within_ten_percent(filters: float) -> None:
    rounded = round_filters(filters)
    assert rounded % 8 == 0
    assert rounded >= 8
    assert rounded >= 0.9 * filters


@pytest.mark.parametrize("space", FACTORISED, ids=lambda space: space.name)
def test_a_factor_decides_its_stages_whatever_the_other_choices_say(space: SearchSpace) -> None:
    rng = random.Random(0)
    for _ in range(50):
        values, others = (space.values([rng.randrange(len(c.options)) for c in space.choices]) for _ in "ab")
        stages = [part.stages({**others, **{n: values[n] for n in part.choices}}) for part in space.factors]
        assert space.build(values).stages == tuple(stage for part in stages for stage in part)


def test_factors_that_leave_a_choice_out_are_refused() -> None:
    space = mbconv_space()
    with pytest.raises(InputError, match="each once and in its order"):
        SearchSpace("own", space.choices, space.build, factors=space.factors[1:])
