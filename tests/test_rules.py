"""Scaling rules: published growth, what each dimension gets, and what training follows."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commands import MODELS, mnas, result_of
from timm.models.efficientnet import _gen_efficientnet
from timm_families import hook_count

from mnas.errors import InputError, SearchError, UnknownNameError
from mnas.greedily import greedy_accuracy
from mnas.greedy import grow_greedily
from mnas.scaling import Verdict, fill_budget
from mnas.search_space import Coefficients, NetworkSpec, StageSpec, compound_scale, network_cost, scale
from mnas.search_space.regnet import RegNetNumbers, regnet_network
from mnas.search_space.rules import RULES, SLOWLY, Rule, chosen_rule
from mnas.zoo import published

B0 = published("efficientnet_b0")


def madds(spec: NetworkSpec) -> int:
    return network_cost(spec).madds


@pytest.mark.parametrize(
    ("name", "billions"),
    [("depth", 1.8), ("width", 1.8), ("resolution", 1.9)],
)
def test_one_dimension_alone_costs_what_efficientnets_table_7_says(name: str, billions: float) -> None:
    """d = 4, w = 2, r = 2: four times 0.386 billion by arithmetic; the paper's 1.8 and 1.9 are more than that."""
    grown = RULES[name].grow(B0, 2.0)
    repeats = [stage.repeats for stage in grown.stages]
    assert repeats == [4 * stage.repeats if name == "depth" else stage.repeats for stage in B0.stages]
    widths = [stage.out_channels for stage in grown.stages]
    assert widths == [
        2 * stage.out_channels if name == "width" else stage.out_channels for stage in B0.stages
    ]
    assert grown.resolution == (448 if name == "resolution" else 224)
    # Four times 0.386 is neither 1.8 nor 1.9: these rows are up to a quarter above it, the compound row is not.
    assert madds(grown) / 1e9 == pytest.approx(billions, rel=0.2)
    assert 3.7 < madds(grown) / madds(B0) < 4.15


@pytest.mark.parametrize(("name", "billions"), [("depth", 1.2), ("width", 1.1), ("resolution", 1.2)])
def test_one_dimension_of_mobilenetv2_costs_what_efficientnets_table_3_says(
    name: str, billions: float
) -> None:
    assert round(madds(RULES[name].grow(published("mobilenetv2"), 2.0)) / 1e9, 1) == billions


def test_the_compound_row_of_table_7_is_ours() -> None:
    """d = 1.4, w = 1.2, r = 1.3: 1.8 billion multiply-adds."""
    assert round(madds(scale(B0, depth=1.4, width=1.2, resolution=round(224 * 1.3))) / 1e9, 1) == 1.8


# Squeeze-and-excitation of B0's sixteen blocks, which sees one pixel: 2 x inside x squeezed, by hand.
B0_SE = 2 * (
    32 * 8 + 96 * 4 + 2 * 144 * 6 + 2 * 240 * 10 + 3 * 480 * 20 + 3 * 672 * 28 + 4 * 1152 * 48
)  # fmt: skip


def test_b0_four_times_by_each_rule() -> None:
    """Multiply-adds, parameters and activations at phi 2, from arithmetic, timm and published integers."""
    cost = {name: network_cost(rule.grow(B0, 2.0)) for name, rule in RULES.items()}
    # Twice the pixels along a side: four times everything but squeeze-and-excitation (9,340 outputs: pycls's
    # model_complexity.json counts as many biases) and the classifier (1,280 x 1,000).
    twice = cost["resolution"]
    assert twice.params == 5_288_548
    assert twice.madds == 4 * 385_814_752 - 3 * (B0_SE + 1_280_000)
    assert twice.activations == 4 * 6_748_036 - 3 * (9_340 + 1_000)
    # timm's EfficientNet with these multipliers.
    for name, (wide, deep) in {"depth": (1.0, 4.0), "width": (2.0, 1.0)}.items():
        theirs = _gen_efficientnet("efficientnet_b0", channel_multiplier=wide, depth_multiplier=deep)
        assert cost[name].params == sum(tensor.numel() for tensor in theirs.parameters())
        assert cost[name].madds == hook_count(theirs.to("meta"), 224)
    # B3 has the same stages (1.21 and 1.2 round alike); 1,280 x 1.21 is 1,552 where B3 has 1,536 in the head's
    # convolution (384 channels in), its norm and the classifier.
    assert cost["compound"].params == 12_233_232 + 16 * (384 + 2 + 1000)
    # Resolution and depth alone give activations what they give multiply-adds, width its square root: 2.
    assert cost["width"].activations == pytest.approx(2 * 6_748_036, rel=0.01)
    assert cost["depth"].activations > 3 * 6_748_036
    # s^0.6 = 2.3 for fast, less what rounding repeats to the nearest leaves out; 4^0.83 = 3.2 for compound.
    assert cost["fast"].activations == pytest.approx(4**0.6 * 6_748_036, rel=0.15)
    assert cost["compound"].activations > 1.3 * cost["fast"].activations


def test_fast_rounds_as_its_code_does() -> None:
    """pycls's scaler: 4^0.1 = 1.149, 4^0.4 = 1.741, 4^0.05 = 1.072; channels to the nearest 8, pixels to 4."""
    grown = RULES["fast"].grow(B0, 2.0)
    assert (grown.stem_channels, grown.head_channels, grown.resolution) == (56, 2232, 240)
    # 27.9, 41.8, 69.6, 139.3, 195.0, 334.3, 557.2: EfficientNet's rule would make the first 32.
    assert [stage.out_channels for stage in grown.stages] == [24, 40, 72, 136, 192, 336, 560]
    assert [stage.repeats for stage in grown.stages] == [1, 2, 2, 3, 3, 5, 1]


@pytest.mark.parametrize("name", ["resnet-rs", "resnet-rs-short"])
@pytest.mark.parametrize("resolution", [224, 320, 400])
def test_what_the_limit_keeps_from_the_resolution_goes_to_depth_or_width(name: str, resolution: int) -> None:
    """Phi 3 is 8 times the multiply-adds, whether or not the resolution may still grow.

    At 320 pixels all of it goes to depth (8 times 3, 4, 6, 3 blocks) or to width (8^.5 times 64 channels, 181).
    """
    base = replace(published("resnet_rs_50"), resolution=resolution)
    grown = RULES[name].grow(base, 3.0)
    assert madds(grown) / madds(base) == pytest.approx(8, rel=0.2)
    if resolution >= 320:
        assert grown.resolution == resolution
        if name == "resnet-rs":
            assert [stage.repeats for stage in grown.stages] == [24, 32, 48, 24]
        else:
            assert grown.stem_channels == 184  # 181.02, in multiples of 8


def test_compound_is_the_published_rule_and_takes_other_coefficients() -> None:
    for phi in (0.5, 1.0, 3.5):
        grown = RULES["compound"].grow(B0, phi)
        assert replace(grown, dropout=B0.dropout) == compound_scale(B0, phi)
    assert RULES["compound"].growth == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    own = chosen_rule("compound", alpha=1.3, beta=None, gamma=1.0)
    assert own.coefficients == Coefficients(1.3, 1.1, 1.0)
    assert own.grow(B0, 2.0).resolution == 224


def test_fast_keeps_activations_small() -> None:
    """Dollar et al., sec. 4: with s times the multiply-adds, activations grow as s^0.6, of depth alone as s.

    RegNetX-400MF, sixteen times: groups of 16 grow by 16^0.4 = 3.03 to 48 channels.
    """
    base = regnet_network(RegNetNumbers(22, 24, 24.48, 2.54, 16))
    rule = RULES["fast"]
    assert rule.growth == pytest.approx(2.0)
    grown = rule.grow(base, 4.0)
    first = grown.stages[1]
    assert first.out_channels // first.groups == 48
    # 22 blocks times 16^0.1 = 1.32, each stage rounded: 1, 3, 9, 16.
    assert [stage.repeats for stage in grown.stages] == [1, 3, 9, 16]
    assert grown.resolution == 256  # 224 times 16^0.05 = 257.3, in steps of four pixels
    costs = [network_cost(spec) for spec in (base, grown)]
    s = costs[1].madds / costs[0].madds
    assert np.log(costs[1].activations / costs[0].activations) / np.log(s) == pytest.approx(0.6, abs=0.05)
    others = [network_cost(RULES["depth"].grow(base, 4.0)), network_cost(RULES["resolution"].grow(base, 4.0))]
    for cost in others:
        s = cost.madds / costs[0].madds
        assert np.log(cost.activations / costs[0].activations) / np.log(s) == pytest.approx(1.0, abs=0.15)


RELEASED_RS = {160: (50, 101), 192: (101, 152), 224: (152,), 256: (152, 200, 270, 350), 320: (350, 420)}


def test_resnet_rs_grows_resolution_as_slowly_as_its_released_family() -> None:
    points = [
        (np.log(madds(replace(published(f"resnet_rs_{depth}"), resolution=resolution))), np.log(resolution))
        for resolution, depths in RELEASED_RS.items()
        for depth in depths
    ]
    slope, _ = np.polyfit(*np.array(points).T, 1)
    assert slope == pytest.approx(SLOWLY, abs=0.001)
    base = replace(published("resnet_rs_50"), resolution=160)
    deep, wide = (RULES[name].grow(base, 3.0) for name in ("resnet-rs", "resnet-rs-short"))
    assert deep.resolution == wide.resolution == 254  # 160 x 8^0.223
    assert [stage.out_channels for stage in deep.stages] == [stage.out_channels for stage in base.stages]
    assert [stage.repeats for stage in wide.stages] == [stage.repeats for stage in base.stages]
    assert madds(deep) / madds(base) == pytest.approx(8, rel=0.25)
    assert madds(wide) / madds(base) == pytest.approx(8, rel=0.25)
    # It stops at 320 pixels, and a base above that keeps its own.
    assert RULES["resnet-rs"].grow(base, 8.0).resolution == 320
    assert RULES["resnet-rs"].grow(replace(base, resolution=400), 2.0).resolution == 400


def test_what_training_follows_is_as_published() -> None:
    rule = RULES["compound"]
    # B0 to B7 have 0.2 0.2 0.3 0.3 0.4 0.4 0.5 0.5; phi 2 is nearest to B3, 3.5 to B4, 7 to B7.
    found = [rule.grow(B0, phi).dropout for phi in (0.0, 2.0, 3.5, 7.0)]
    assert found == pytest.approx([0.2, 0.3, 0.4, 0.5], abs=0.03)
    assert rule.grow(B0, 3.0).drop_path == B0.drop_path == 0.2
    assert rule.grow(published("regnet_x_400mf"), 3.0).dropout == 0.0
    base = replace(published("resnet_rs_50"), resolution=160)
    rs = RULES["resnet-rs"]
    found = [rs.training_of(base, rs.grow(base, phi)) for phi in (0.0, 2.0, 3.5, 5.5)]
    # 2.3, 9, 26 and some 70 billion multiply-adds: as ResNet-RS-50, 152, 270 and 420.
    assert [(t.dropout, t.drop_path, t.magnitude) for t in found] == [
        (0.25, 0.0, 10.0),
        (0.25, 0.0, 15.0),
        (0.25, 0.1, 15.0),
        (0.4, 0.1, 15.0),
    ]


@pytest.mark.parametrize("name", RULES)
def test_every_rule_fills_a_budget_of_multiply_adds(name: str) -> None:
    rule, target = RULES[name], 1.5e9

    def exactly(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[None]]:
        return [Verdict(madds(spec), madds(spec), None) for spec in specs]

    filled = fill_budget(
        B0,
        target,
        base_cost=madds(B0),
        estimate=madds,
        judge=exactly,
        rule=rule,
        exact=True,
    )
    assert 0.95 * target <= madds(filled.spec) <= target
    assert (filled.depth, filled.width) == rule.factors(B0.resolution, filled.phi)
    if name == "depth":
        assert filled.depth == pytest.approx(2**filled.phi)


def test_what_grows_by_depth_alone_keeps_its_resolution(tmp_path: Path) -> None:
    """800 million multiply-adds: all repeats twice are 782 million; it had been more depth at 184 pixels instead."""
    result = result_of(
        mnas(
            tmp_path,
            "scale",
            "efficientnet_b0",
            "--rule",
            "depth",
            "--to-madds",
            "800M",
            "--no-measure",
            "--json",
        )
    )
    grown = result["members"][1]
    assert (grown["resolution"], grown["madds"], grown["depth"]) == (224, 782_254_048, 2.0)


def test_a_rule_that_does_not_apply_says_so() -> None:
    plain = NetworkSpec(8, (StageSpec("projection", 3, 1, 16),), 16, resolution=32, num_classes=2)
    with pytest.raises(
        InputError, match="rule 'depth' does not apply to this network: it has nothing that depth"
    ):
        RULES["depth"].check(plain)
    RULES["width"].check(plain)
    with pytest.raises(UnknownNameError, match="did you mean 'resnet-rs'"):
        chosen_rule("resnet_rs")
    with pytest.raises(InputError, match="--alpha belong to the rule 'compound'; 'depth' has"):
        chosen_rule("depth", alpha=1.3)
    with pytest.raises(InputError, match="surrogates cover the mbconv space at 224"):
        greedy_accuracy("latency", "imagenet-surrogate")
    with pytest.raises(InputError, match="phi must be finite"):
        RULES["width"].grow(B0, float("nan"))
    with pytest.raises(InputError, match="never grows"):
        Rule("own", Coefficients(1, 1, 1)).check(B0)


def test_the_greedy_rule_takes_the_dimension_of_most_accuracy_for_a_millisecond() -> None:
    """Accuracy comes of depth alone and a millisecond is 100M multiply-adds: only depth grows, up to the target."""

    def judge(specs: Sequence[NetworkSpec]) -> list[tuple[float, float]]:
        return [(0.01 * sum(stage.repeats for stage in spec.stages), madds(spec) / 1e8) for spec in specs]

    path = grow_greedily(B0, 8.0, judge)
    assert {step.grown for step in path[1:]} == {"depth"}
    assert all(step.ms <= 8.0 for step in path)
    last = path[-1]
    assert last.rule.grow(B0, 1.0) == last.spec
    assert [stage.out_channels for stage in last.spec.stages] == [stage.out_channels for stage in B0.stages]
    # One step more would have been too slow.
    assert judge([Rule("own", Coefficients(2 ** (last.phis[0] + 0.25), 1, 1)).grow(B0, 1.0)])[0][1] > 8.0


def test_the_greedy_rule_weighs_accuracy_against_time() -> None:
    """Width brings twice the accuracy of resolution for the same factor of multiply-adds, at three times its time."""

    def judge(specs: Sequence[NetworkSpec]) -> list[tuple[float, float]]:
        rows = []
        for spec in specs:
            wide = np.log2(spec.head_channels / B0.head_channels)
            fine = np.log2(spec.resolution / B0.resolution)
            rows.append((0.5 + 0.02 * wide + 0.01 * fine, 10 + 3.0 * wide + 1.0 * fine))
        return rows

    assert {step.grown for step in grow_greedily(B0, 10.7, judge)[1:]} == {"resolution"}
    with pytest.raises(SearchError, match="a step in any dimension takes more than 10 ms"):
        grow_greedily(B0, 10.0, lambda specs: [(0.5 + 0.01 * (s != B0), 10.0 + (s != B0)) for s in specs])
    with pytest.raises(SearchError, match="no step within the target is more accurate"):
        grow_greedily(B0, 10.0, lambda specs: [(0.5, 9.0) for _ in specs])


def test_a_family_is_grown_by_any_rule(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    plugin = ("--latency", "models:Latency", "--out", "family", "--json")
    family = result_of(mnas(tmp_path, "scale", "mnasnet_small", "--rule", "width", "--phi", "2", *plugin))
    assert family["rule"] == "width"
    assert family["coefficients"] == {"alpha": 1.0, "beta": pytest.approx(2**0.5), "gamma": 1.0}
    grown = family["members"][1]
    assert (grown["resolution"], grown["depth"], grown["width"]) == (224, 1.0, pytest.approx(2.0))
    flags = ("--rule", "latency", "--accuracy", "models:Accuracy", "--to", "20ms,40ms")
    family = result_of(mnas(tmp_path, "scale", "mnasnet_small", *flags, *plugin))
    assert (family["rule"], family["coefficients"]) == ("latency", None)
    for member, target in zip(family["members"][1:], (20, 40), strict=True):
        assert 0.6 * target < member["latency_ms"] <= target  # steps are some 20 % each
        # The accuracy that the model tells comes of repeats alone, among depth, width and resolution.
        assert (member["width"], member["resolution"]) == (1.0, 224)
        assert (tmp_path / "family" / f"{member['name']}.onnx").is_file()


def test_a_rule_beside_the_table_is_refused_and_a_target_between_steps_warned_of(tmp_path: Path) -> None:
    error = mnas(tmp_path, "scale", "efficientnet_b0", "--released", "--rule", "depth", code=2).stderr
    assert "--released is a table of its own: leave out --rule" in error
    # The next network by resolution alone, of 225 pixels, has 449 million.
    flags = ("--rule", "resolution", "--to-madds", "424M", "--no-measure", "--json")
    done = mnas(tmp_path, "scale", "efficientnet_b0", *flags)
    assert result_of(done)["members"][1]["madds"] == 385_814_752
    assert "424M: filled to 91% only" in done.stderr


def test_a_rule_that_ends_below_the_target_is_filled_as_far_as_it_goes() -> None:
    """Resolution alone, up to 256 pixels: (256 / 224)^2 = 1.31 times the multiply-adds, of 2 that are asked for."""
    rule, target = replace(RULES["resolution"], most_resolution=256), 2.0 * madds(B0)

    def exactly(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[None]]:
        return [Verdict(madds(spec), madds(spec), None) for spec in specs]

    filled = fill_budget(
        B0, target, base_cost=madds(B0), estimate=madds, judge=exactly, rule=rule, exact=True
    )
    assert filled.spec.resolution == 256
    assert madds(filled.spec) / madds(B0) == pytest.approx(1.31, abs=0.01)
