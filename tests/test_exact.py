"""The solver against brute force, and the search's own models on the whole space."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from mnas.accuracy.surrogate import imagenet_surrogate_additive
from mnas.controllers.bound import upper_bound
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


def interacting(seed: int) -> tuple[list[np.ndarray], dict[tuple[int, ...], np.ndarray], list[np.ndarray]]:
    """Made-up tables of five factors, some pairs and a triple among them."""
    rng = np.random.default_rng(seed)
    sizes = (3, 4, 2, 3, 4)
    unary = [np.sort(rng.uniform(0, 1, n)) for n in sizes]
    costs = [np.sort(rng.uniform(0, 1, n)) for n in sizes]
    pairs = [*itertools.combinations(range(5), 2), (0, 2, 4)]
    return unary, {k: rng.normal(0, 0.02, [sizes[f] for f in k]) for k in pairs}, costs


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rounds", [0, 100])
def test_no_network_exceeds_the_bound_and_rounds_bring_it_down(seed: int, rounds: int) -> None:
    unary, joint, costs = interacting(seed)
    networks = list(itertools.product(*(range(len(table)) for table in unary)))
    scores = np.array(
        [
            sum(t[g] for t, g in zip(unary, genes, strict=True))
            + sum(t[tuple(genes[f] for f in k)] for k, t in joint.items())
            for genes in networks
        ]
    )
    cost = np.array([0.5 + sum(t[g] for t, g in zip(costs, genes, strict=True)) for genes in networks])

    def accuracy(score: np.ndarray) -> np.ndarray:
        return 1 - np.exp(-np.asarray(score) / 4)

    gaps = []
    for target in np.quantile(cost, (0.2, 0.5, 0.8)):
        reward = Reward("hard", float(target)).score
        best = float(reward(accuracy(scores), cost).max())
        arguments = {"link": accuracy, "score": reward, "around": float(target), "fixed_cost": 0.5}
        bound = upper_bound(unary, joint, costs, rounds=rounds, **arguments)
        assert bound >= best - 1e-12
        if rounds:
            assert bound <= upper_bound(unary, joint, costs, rounds=0, **arguments) + 1e-12
            gaps.append((bound / best, upper_bound(unary, joint, costs, rounds=0, **arguments) / best))
    if rounds:
        after, before = np.array(gaps).T - 1
        assert after.mean() < 0.7 * before.mean()


def test_without_interactions_the_bound_is_the_optimum() -> None:
    unary, _, costs = interacting(0)
    reward = Reward("hard", 2.0).score
    front_scores, front_costs = separable_front(unary, costs)
    bound = upper_bound(unary, {}, costs, link=lambda s: s / 10, score=reward, around=2.0)
    assert bound == pytest.approx(float(reward(front_scores / 10, front_costs).max()))


def test_a_bound_refuses_tables_that_do_not_fit_and_rewards_that_rise_with_cost() -> None:
    unary, joint, costs = interacting(0)
    arguments = {"link": lambda s: s / 10, "around": 2.0}
    with pytest.raises(InputError, match=r"differ for \[\(0, 1\)\]"):
        upper_bound(unary, {(0, 1): np.zeros((1, 1))}, costs, score=Reward("hard", 2.0).score, **arguments)
    with pytest.raises(InputError, match="rises with the cost"):
        upper_bound(unary, joint, costs, score=Reward("absolute", 9.0).score, **arguments)
