"""The solver against brute force, and the search's own models on the whole space."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from mnas.accuracy.surrogate import imagenet_surrogate_additive
from mnas.controllers.exact import SeparableModel, separable_front, solve, undominated
from mnas.errors import InputError
from mnas.objective import Reward
from mnas.search_space import (
    Choice,
    Factor,
    NetworkSpec,
    SearchSpace,
    Segment,
    StageSpec,
    macro_space,
    mbconv_space,
    mnasnet_space,
    network_cost,
    segment_cost,
    segments,
)
from mnas.search_space.mnasnet import Reference
from mnas.search_space.space import Values


def madds(segment: Segment) -> float:
    return float(segment_cost(segment).madds)


def chained_space() -> SearchSpace:
    """48 networks whose second block's cost depends on the filters of the first; one choice matters sometimes only."""
    choices = (
        Choice("a.filters", (8, 16, 24)),
        Choice("a.expansion", (1, 2)),
        Choice("b.op", ("sepconv", "mbconv")),
        Choice("b.kernel", (3, 5), {"b.op": ("mbconv",)}),
        Choice("b.layers", (1, 2)),
    )

    def first(values: Values) -> tuple[StageSpec, ...]:
        return (StageSpec("mbconv", 3, 2, values["a.filters"], 1, values["a.expansion"]),)  # type: ignore[arg-type]

    def second(values: Values) -> tuple[StageSpec, ...]:
        kernel = values["b.kernel"] if values["b.op"] == "mbconv" else 3
        return (StageSpec(values["b.op"], kernel, 1, 16, values["b.layers"]),)  # type: ignore[arg-type]

    factors = (Factor(("a.filters", "a.expansion"), first), Factor(("b.op", "b.kernel", "b.layers"), second))

    def build(values: Values) -> NetworkSpec:
        return NetworkSpec(8, first(values) + second(values), 16, 32, 10)

    return SearchSpace("chained", choices, build, factors=factors)


def scored(number: int, stages: tuple[StageSpec, ...]) -> float:
    """A made-up score that looks at no skip: an identity that applies to no layer is merged with none."""
    return sum(random.Random(repr((number, replace(stage, skip="none")))).random() for stage in stages)


@pytest.mark.parametrize("space", [chained_space(), macro_space()], ids=lambda space: space.name)
def test_the_front_is_that_of_brute_force(space: SearchSpace) -> None:
    front = solve(space, SeparableModel(scored, madds, lambda s: s / 10))
    points = []
    for architecture in space.enumerate():
        values = space.values(architecture)
        score = sum(scored(n, f.stages(values)) for n, f in enumerate(space.factors, 1))
        points.append((network_cost(space.decode(architecture)).madds, score))
    best, expected = -1.0, []
    for cost, score in sorted(points, key=lambda p: (p[0], -p[1])):
        if score > best + 1e-12:
            best = score
            expected.append((cost, score))
    assert front.cost.tolist() == [cost for cost, _ in expected]
    assert (10 * front.accuracy).tolist() == pytest.approx([score for _, score in expected])
    for cost, architecture in zip(front.cost, front.architectures, strict=True):
        assert space.architecture(architecture) == architecture
        assert network_cost(space.decode(architecture)).madds == cost


def test_the_best_network_of_mnasnet_under_a_budget_cannot_be_bettered_by_a_change() -> None:
    space = mnasnet_space(reference=(Reference(16, 1, 1), Reference(24, 2, 2), Reference(32, 2, 2)))
    front = solve(space, SeparableModel(scored, madds))
    target = float(np.median(front.cost))
    best, reward = front.best(Reward("hard", target).score)

    def worth(genes: list[int]) -> float:
        values = space.values(space.architecture(genes))
        score = sum(scored(n, f.stages(values)) for n, f in enumerate(space.factors, 1))
        return float(
            Reward("hard", target).score(score, network_cost(space.decode(space.architecture(genes))).madds)
        )

    assert worth(list(best)) == pytest.approx(reward)
    for a, b in itertools.combinations(range(len(space.choices)), 2):
        for x, y in itertools.product(
            range(len(space.choices[a].options)), range(len(space.choices[b].options))
        ):
            genes = list(best)
            genes[a], genes[b] = x, y
            assert worth(genes) <= reward + 1e-12


def test_the_optimum_of_a_hundred_billion_networks_by_the_additive_surrogate() -> None:
    space, surrogate = mbconv_space(), imagenet_surrogate_additive()
    model = SeparableModel(
        lambda number, stages: surrogate.score(number, stages[0]),
        madds,
        lambda scores: np.array([surrogate.link(surrogate.intercept + s) for s in scores]),
    )
    front = solve(space, model)
    target = 300e6
    best, reward = front.best(Reward("hard", target).score)
    spec = space.decode(best)
    assert network_cost(spec).madds <= target
    assert surrogate.evaluate([spec], seed=0)[0].value == pytest.approx(reward, abs=1e-12)
    rng = random.Random(0)
    for _ in range(300):
        other = space.decode(space.sample(rng))
        value = surrogate.evaluate([other], seed=0)[0].value
        assert float(Reward("hard", target).score(value, network_cost(other).madds)) <= reward
    # the whole network's segments are those that the solver put together
    assert sum(madds(part) for part in segments(spec)) == network_cost(spec).madds


def test_a_reward_that_rises_with_the_cost_is_refused() -> None:
    front = solve(chained_space(), SeparableModel(scored, madds, lambda s: s / 10))
    front.best(Reward("soft", float(front.cost[0])).score)
    with pytest.raises(InputError, match="rises with the cost"):
        front.best(Reward("absolute", float(front.cost[-1]) * 2).score)


def test_what_cannot_be_proved_is_refused() -> None:
    space = chained_space()
    without = SearchSpace("own", space.choices, space.build)
    with pytest.raises(InputError, match="does not say what its factors are"):
        solve(without, SeparableModel(scored, madds))
    with pytest.raises(InputError, match="finite and not negative"):
        solve(space, SeparableModel(scored, lambda segment: -1.0))
    with pytest.raises(InputError, match="score of factor 1 must be finite"):
        solve(space, SeparableModel(lambda number, stages: float("nan"), madds))


def test_undominated_keeps_the_first_of_equals() -> None:
    scores, costs = np.array([1.0, 1.0, 2.0, 2.0, 0.5]), np.array([1.0, 1.0, 3.0, 4.0, 0.5])
    assert undominated(scores, costs).tolist() == [4, 0, 2]


def test_the_separable_front_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    scores, costs = [rng.random(4) for _ in range(4)], [rng.random(4) for _ in range(4)]
    points = [
        (
            sum(s[i] for s, i in zip(scores, pick, strict=True)),
            sum(c[i] for c, i in zip(costs, pick, strict=True)),
        )
        for pick in itertools.product(range(4), repeat=4)
    ]
    best = sorted(p for p in points if not any(q[0] >= p[0] and q[1] <= p[1] and q != p for q in points))
    assert np.allclose(np.array(best), np.array(separable_front(scores, costs)).T)
