"""Networks of one cost for all points of a grid: told by costs that are certain, by noisy ones, and by milliseconds."""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import exp, log
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Said

from mnas.errors import InputError, SearchError
from mnas.latency import Conditions, reference_for
from mnas.scalesearch import clock
from mnas.scalesearch.candidates import Candidate, fitted, grow_candidates, rule_of
from mnas.scalesearch.clock import Clock, Timed, pooled
from mnas.scalesearch.grid import GROWTH, grid
from mnas.scalesearch.plan import budget_in_ms
from mnas.scalesearch.together import NOISY, MultiplyAdds, grow_together
from mnas.scaling import RESOLUTION_STEP, Staircases
from mnas.search.reporting import Quiet
from mnas.search.ruler import Ruler, madds_of
from mnas.search_space import NetworkSpec, network_cost
from mnas.search_space.rules import compound
from mnas.store import EventStore
from mnas.zoo import published

NATIVE = 224
BASE = replace(published("efficientnet_b0"), resolution=160)
POINTS = dict(enumerate(grid(15)))
RULES = {number: rule_of(point, BASE, NATIVE) for number, point in POINTS.items()}


def milliseconds(spec: NetworkSpec) -> float:
    """A device on which a block costs as much as 8 million multiply-adds, and nothing else."""
    return madds_of(spec) / 1e8 + 0.08 * sum(stage.repeats for stage in spec.stages)


class Noisy:
    """A gauge of those milliseconds, each measurement off by `noise` (standard deviation of the logarithm)."""

    def __init__(self, noise: float, *, hidden: Callable[[NetworkSpec], bool] = lambda spec: False) -> None:
        self.noise, self.hidden, self.rng = noise, hidden, random.Random(0)
        self.rounds: list[list[NetworkSpec]] = []
        self.timed = [Timed(BASE, milliseconds(BASE), 4)]
        self.known = pooled(self.timed)

    def estimate(self) -> Callable[[NetworkSpec], float]:
        return madds_of

    def measure(self, specs: Sequence[NetworkSpec], careful: bool) -> Mapping[NetworkSpec, dict[str, Any]]:
        self.rounds.append(list(specs))
        told = [spec for spec in specs if not self.hidden(spec)]
        for spec in told:
            off = self.rng.gauss(0, self.noise / 2 if careful else self.noise)
            self.timed.append(Timed(spec, milliseconds(spec) * exp(off), 4 if careful else 2))
        self.known.update(pooled(self.timed))
        return {spec: {"latency_ms": self.known[spec]} for spec in told}


def shape(spec: NetworkSpec) -> NetworkSpec:
    return replace(spec, dropout=0.0)


def test_by_multiply_adds_all_points_cost_the_same_and_no_two_are_one_network() -> None:
    budget = GROWTH * madds_of(BASE)
    steps, missed = grow_together(BASE, RULES, budget, MultiplyAdds(BASE), taken=(), memory=None)
    assert missed == {}
    assert sorted(steps) == list(range(16))
    for number, step in steps.items():
        assert network_cost(step.spec).madds == pytest.approx(budget, rel=0.1)
        assert BASE.resolution <= step.spec.resolution <= NATIVE
        # Grown as its coefficients say: the rule's resolution, rounded to whole, then to even numbers, or the next.
        own = BASE.resolution * RULES[number].coefficients.gamma ** step.phi
        assert abs(step.spec.resolution - own) <= RESOLUTION_STEP + 1.5
    assert len({shape(step.spec) for step in steps.values()}) == 16
    # What training follows is that of the multiply-adds: .22 for 1.92 times, between B0's .2 and .3 for 2.6 times.
    for number, step in steps.items():
        assert step.spec.dropout == RULES[number].training_of(BASE, step.spec).dropout
        assert step.spec.dropout == pytest.approx(0.22, abs=0.02)


@pytest.mark.parametrize(("number", "growth"), [(8, 1.7), (8, 2.2), (4, 1.7), (10, 2.0), (2, 1.5), (0, 1.92)])
def test_near_is_within_a_hundredth_or_the_nearest_of_all_that_the_rule_makes(
    number: int, growth: float
) -> None:
    """Against every phi in steps of .02, with every resolution beside the rule's own."""
    rule, aim = RULES[number], growth * madds_of(BASE)
    every = []
    for step in range(200):
        if BASE.resolution * rule.coefficients.gamma ** (0.02 * step) > NATIVE:
            break
        grown = rule.grow(BASE, 0.02 * step)
        own = round(grown.resolution / 2) * 2
        for resolution in {max(160, own - 2), own, min(NATIVE, own + 2)}:
            every.append(abs(log(madds_of(replace(grown, resolution=resolution)) / aim)))
    stairs = Staircases(BASE, rule, madds_of, None)
    first = stairs.near(aim)
    assert first is not None
    assert abs(log(madds_of(first.spec) / aim)) <= max(0.012, min(every) + 1e-9)
    second = stairs.near(aim, {first.spec})
    assert second is not None
    assert shape(second.spec) != shape(first.spec)


def test_more_resolution_than_the_images_have_leaves_a_point_short_of_the_budget() -> None:
    rules = {1: rule_of(grid(15)[1], BASE, 180)}  # resolution alone
    steps, _ = grow_together(BASE, rules, 1.92 * madds_of(BASE), MultiplyAdds(BASE), taken=(), memory=None)
    assert steps[1].spec.resolution == 180
    assert madds_of(steps[1].spec) < 1.4 * madds_of(BASE)  # a staircase about (180 / 160)^2 = 1.27


def test_noisy_latencies_are_told_apart_by_measuring_again() -> None:
    gauge = Noisy(0.06)
    budget = 2 * milliseconds(BASE)
    steps, missed = grow_together(BASE, RULES, budget, gauge, taken=(), memory=None)
    assert missed == {}
    # Resolution alone ends at the images' own size.
    off = {
        number: abs(log(milliseconds(step.spec) / budget)) for number, step in steps.items() if number != 1
    }
    assert max(off.values()) <= 0.1
    assert median(off.values()) <= 0.05
    assert len({shape(step.spec) for step in steps.values()}) == 16
    times = Counter(spec for every in gauge.rounds for spec in every)
    assert sum(times[step.spec] > 1 for step in steps.values()) >= 12


def test_a_lucky_measurement_does_not_decide() -> None:
    """One that seems to fill the budget at first and takes a quarter more is given up for another."""
    budget, exact = 2 * milliseconds(BASE), Noisy(0.0)
    (lucky,) = grow_together(BASE, {8: RULES[8]}, 1.25 * budget, exact, taken=(), memory=None)[0].values()
    gauge = Noisy(0.0)
    gauge.timed.append(Timed(lucky.spec, milliseconds(lucky.spec) / 1.25**2, 1))
    gauge.known = pooled(gauge.timed)
    steps, _ = grow_together(BASE, {8: RULES[8]}, budget, gauge, taken=(), memory=None)
    assert steps[8].spec != lucky.spec
    assert milliseconds(steps[8].spec) == pytest.approx(budget, rel=0.05)


def test_points_that_cannot_be_told_are_left_out_but_not_the_published_one() -> None:
    def wide(spec: NetworkSpec) -> bool:
        return spec.resolution == 160 and spec.stages[0].repeats == 1 and spec != BASE  # width alone

    budget, told = 2 * milliseconds(BASE), Said()
    found = grow_candidates(BASE, POINTS, NATIVE, budget, Noisy(0.01, hidden=wide), taken=(), reporter=told)
    assert [candidate.number for candidate in found] == [n for n in range(16) if n != 5]
    assert told.warnings == [f"0% depth, 100% width, 0% resolution is left out: {NOISY}"]
    counts, (said,) = fitted(found, budget, 16)
    assert sum(counts) == 14
    assert said.startswith("left out of the surface: 0% depth, 0% width, 100% resolution reaches 7")
    assert said.endswith("% of the budget; 1 have no network")
    with pytest.raises(SearchError, match="no network for the published coefficients"):
        grow_candidates(
            BASE, POINTS, NATIVE, budget, Noisy(0.01, hidden=lambda spec: True), taken=(), reporter=told
        )


def test_what_does_not_fit_into_memory_and_what_others_have_is_not_taken() -> None:
    gauge, budget = MultiplyAdds(BASE), 30 * madds_of(BASE)
    steps, missed = grow_together(BASE, {5: RULES[5]}, budget, gauge, taken=(), memory=10**9)
    assert steps == {}
    assert "no longer fits in this machine's memory" in missed[5]
    budget = 2 * madds_of(BASE)
    first, _ = grow_together(BASE, {8: RULES[8]}, budget, gauge, taken=(), memory=None)
    other, _ = grow_together(BASE, {8: RULES[8]}, budget, gauge, taken={first[8].spec}, memory=None)
    assert other[8].spec != first[8].spec


def test_points_that_hardly_grow_are_said_to_tell_little() -> None:
    found = [
        Candidate(
            number, POINTS[number], replace(BASE, resolution=160 + 2 * number), phi, {"latency_ms": 2.0}
        )
        for number, phi in enumerate((0.02, 0.1, 0.2, 0.3, 1.0, 1.5, 2.0))
    ]
    counts, (said,) = fitted(found, 2.0, 7)
    assert all(counts)
    assert "half of the points grew by a phi of at most 0.30" in said
    assert fitted([replace(one, phi=one.phi + 0.2) for one in found], 2.0, 7) == (counts, [])


def test_points_off_the_budget_on_either_side_stay_out_of_the_surface() -> None:
    gauge = MultiplyAdds(BASE)
    found = grow_candidates(BASE, POINTS, NATIVE, GROWTH * madds_of(BASE), gauge, taken=(), reporter=Quiet())
    assert fitted(found, GROWTH * madds_of(BASE), 16) == ([True] * 16, [])
    with pytest.raises(InputError, match=r"only 0 points are of use, .* reaches 8\d% of the budget"):
        fitted(found, 1.2 * GROWTH * madds_of(BASE), 16)
    with pytest.raises(InputError, match=r"only 0 points are of use, .* reaches 12\d% of the budget"):
        fitted(found, 0.8 * GROWTH * madds_of(BASE), 16)


def test_repeated_measurements_count_by_their_processes() -> None:
    # (1 x 1 x 8 x 8 x 8 x 8)^(1/6) = 4.
    assert pooled([Timed(BASE, 1.0, 2), Timed(BASE, 8.0, 4)]) == {BASE: pytest.approx(4.0)}


SMALL = replace(BASE, resolution=32)
LARGER, LARGEST = (compound(grid(15)[8]).grow(SMALL, phi) for phi in (1.0, 2.0))


def scripted(monkeypatch: pytest.MonkeyPatch, rounds: list[dict[NetworkSpec, float | None]]) -> None:
    """Rounds of ratios to the reference in place of measuring; None is too noisy."""
    left = iter(rounds)

    def spread(networks: Mapping[str, NetworkSpec], **_: Any) -> SimpleNamespace:
        ratios = next(left)
        assert set(networks.values()) == set(ratios)
        return SimpleNamespace(
            warnings=["other work"],
            measurements=[
                SimpleNamespace(
                    name=name,
                    status="noisy" if ratios[spec] is None else "ok",
                    ratio=ratios[spec] or 99.0,
                    ratio_low=0.9 * (ratios[spec] or 99.0),
                    ratio_high=1.2 * (ratios[spec] or 99.0),
                    raw_ms=7.0,
                )
                for name, spec in networks.items()
            ],
        )

    monkeypatch.setattr(clock, "measure_spread", spread)


def test_a_round_is_brought_to_the_level_of_the_rounds_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ruler = Ruler(Conditions(), reference_for(SMALL), reference_ms=10.0)
    scripted(
        monkeypatch,
        [
            {SMALL: 0.2},
            {LARGER: 0.4, SMALL: 0.22},  # all of this round a tenth more
            {LARGER: 0.36, LARGEST: 0.54, SMALL: 0.18},  # all of this one a tenth less
            {LARGEST: None, LARGER: 0.4, SMALL: 0.22},
        ],
    )
    with EventStore.create(tmp_path / "points.db") as store:
        told = Said()
        found = Clock(ruler, 10.0, [], store, 0, told)
        # Four processes at .2 of a reference of 10 ms.
        assert found.measure([SMALL], True)[SMALL]["latency_ms"] == pytest.approx(2.0)
        assert told.warnings == ["other work"]
        fields = found.measure([LARGER], False)
        assert list(fields) == [LARGER]  # what was measured beside it is not asked for
        assert fields[LARGER]["latency_ms"] == pytest.approx(0.4 / 1.1 * 10)
        assert fields[LARGER]["latency_low_ms"] == pytest.approx(0.9 * 0.4 / 1.1 * 10)
        assert fields[LARGER]["latency_raw_ms"] == 7.0
        found.measure([LARGER, LARGEST], False)
        level = (2.0 / 0.18 + 0.4 / 1.1 * 10 / 0.36) / 2  # the median of two
        assert found.known[LARGEST] == pytest.approx(0.54 * level)
        assert found.known[LARGER] == pytest.approx((0.4 / 1.1 * 10 * 0.36 * level) ** 0.5)
        known = dict(found.known)
        assert LARGEST not in found.measure([LARGEST], False)
        assert found.known[LARGEST] == known[LARGEST]
        again = [Timed.from_dict(event.payload) for event in store.events() if event.kind == "timed"]
        assert Clock(ruler, 10.0, again, store, 0, Quiet()).known == pytest.approx(found.known)


def test_with_networks_enough_prices_are_fitted_to_what_was_measured(tmp_path: Path) -> None:
    ruler = Ruler(Conditions(), reference_for(BASE), reference_ms=10.0)
    networks = [rule.grow(BASE, phi) for rule in list(RULES.values())[:8] for phi in (0.0, 0.5, 1.0, 1.5)]
    timed = [Timed(spec, milliseconds(spec), 2) for spec in dict.fromkeys(networks)]
    with EventStore.create(tmp_path / "points.db") as store:
        few = Clock(ruler, 10.0, timed[:9], store, 0, Quiet()).estimate()
        many = Clock(ruler, 10.0, timed, store, 0, Quiet()).estimate()
    unseen = [rule.grow(BASE, 1.2) for rule in list(RULES.values())[8:]]
    assert few(unseen[0]) == madds_of(unseen[0])
    for spec in unseen:
        assert many(spec) == pytest.approx(milliseconds(spec), rel=0.05)


@pytest.mark.times
def test_real_milliseconds_of_networks_measured_twice(tmp_path: Path) -> None:
    ruler = Ruler(Conditions(), reference_for(SMALL), reference_ms=5.0)
    with EventStore.create(tmp_path / "points.db") as store:
        found = Clock(ruler, 5.0, [], store, 0, Quiet())
        found.measure([SMALL], True)
        for _ in range(2):
            fields = found.measure([LARGER, LARGEST], False)
    times = [found.known[spec] for spec in (SMALL, LARGER, LARGEST)]
    # 1.9 and 3.7 times the multiply-adds and more blocks; how much longer they take is the device's affair.
    assert 1.1 < times[1] / times[0] < 6
    assert 1.1 < times[2] / times[1] < 6
    for spec in (LARGER, LARGEST):
        one = fields[spec]
        assert one["latency_low_ms"] < one["latency_ms"] < one["latency_high_ms"]
        assert one["latency_ms"] == pytest.approx(found.known[spec], rel=0.2)


@pytest.mark.parametrize(("text", "ms"), [("20ms", 20.0), ("2x", 6.0), ("1.5 X", 4.5), ("0.02s", 20.0)])
def test_a_budget_is_milliseconds_or_a_multiple_of_the_base(text: str, ms: float) -> None:
    assert budget_in_ms(text, 3.0) == pytest.approx(ms)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1x", "grows nothing: give more than 1x"),
        ("-2x", "positive"),
        ("x", "not a number"),
        ("2", "has no unit"),
    ],
)
def test_other_budgets_are_refused(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        budget_in_ms(text, 3.0)
