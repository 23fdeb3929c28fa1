"""The Gaussian process against its own definition, and a policy that practises on it."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from mnas.controllers import RandomController
from mnas.controllers.guided import GROWTH, INITIAL, GuidedController
from mnas.controllers.surrogate import JITTER, AccuracySurrogate, link, unlink
from mnas.objective import Reward
from mnas.protocols import Controller, Observation
from mnas.search_space import (
    Architecture,
    Choice,
    NetworkSpec,
    SearchSpace,
    StageSpec,
    macro_space,
    mbconv_space,
)
from mnas.testing import small_space

Floats = NDArray[np.float64]


class Additive:
    """Made-up effects of each option on accuracy and cost, and a hard reward: an `Objective`."""

    def __init__(self, space: SearchSpace, seed: int, target: float) -> None:
        rng = np.random.default_rng(seed)
        most = 0.45 / len(space.choices)
        self._worth = [np.sort(rng.uniform(0, most, len(c.options))) for c in space.choices]
        self._cost = [np.sort(rng.uniform(0, 1, len(c.options))) for c in space.choices]
        self._reward = Reward("hard", target)

    def accuracy(self, architecture: Architecture) -> float:
        return 0.5 + float(sum(worth[gene] for worth, gene in zip(self._worth, architecture, strict=True)))

    def cost(self, architectures: Sequence[Architecture]) -> Floats:
        return np.array(
            [1.0 + sum(cost[gene] for cost, gene in zip(self._cost, a, strict=True)) for a in architectures]
        )

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> Floats:
        return self._reward.score(accuracy, cost)

    def reward(self, architecture: Architecture) -> float:
        return float(self.score([self.accuracy(architecture)], self.cost([architecture]))[0])

    def observe(self, architecture: Architecture) -> Observation:
        return Observation(
            architecture, "done", self.reward(architecture), {"accuracy": self.accuracy(architecture)}
        )


def search(controller: Controller, objective: Additive, trials: int, size: int = 1) -> list[Architecture]:
    asked: list[Architecture] = []
    while len(asked) < trials:
        batch = controller.ask(size)
        controller.tell([objective.observe(architecture) for architecture in batch])
        asked += batch
    return asked


def trials(space: SearchSpace, n: int, seed: int = 0) -> tuple[list[Architecture], Floats, Floats]:
    """Architectures, standardised log costs, accuracies."""
    architectures = RandomController(space, seed=seed).ask(n)
    objective = Additive(space, seed=1, target=4.0)
    cost = np.log(objective.cost(architectures))
    return (
        architectures,
        (cost - cost.mean()) / cost.std(),
        np.array([objective.accuracy(a) for a in architectures]),
    )


def test_the_link_is_undone() -> None:
    assert link(np.array([1 - np.exp(-2)])) == pytest.approx(2.0)
    assert unlink(link(np.array([0.3, 0.9]))) == pytest.approx([0.3, 0.9])


def test_trials_taken_in_one_by_one_predict_as_all_at_once() -> None:
    space = mbconv_space()
    architectures, cost, accuracy = trials(space, 60)
    together, gradually = AccuracySurrogate(space), AccuracySurrogate(space)
    points = together.points(architectures, cost)
    first = slice(0, 50)
    together.fit(points[first], accuracy[first])
    gradually.fit(points[first], accuracy[first])
    together.extend(points[np.arange(50, 60)], accuracy)
    for row in range(50, 60):
        gradually.extend(points[np.array([row])], accuracy[: row + 1])
    others, other_cost, _ = trials(space, 20, seed=5)
    query = together.points(others, other_cost)
    for a, b in zip(together.predict(query), gradually.predict(query), strict=True):
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)


def test_many_trials_taken_in_one_by_one_stay_as_exact_as_at_first() -> None:
    """An inverse that is bordered again and again loses half of its digits each time; a factor does not."""
    space = mbconv_space()
    architectures, cost, accuracy = trials(space, 400)
    model = AccuracySurrogate(space)
    points = model.points(architectures, cost)
    model.fit(points[np.arange(40)], accuracy[:40])
    for end in range(44, 401, 4):
        model.extend(points[np.arange(end - 4, end)], accuracy[:end])
    gram = model._gram(model._products(points, points), model._prior)
    noisy = gram + (model._prior.noise + JITTER) * np.eye(400)
    assert noisy @ model._weights == pytest.approx(model._targets, abs=1e-6)


def test_mean_variance_and_covariance_are_those_of_the_posterior() -> None:
    space = mbconv_space()
    architectures, cost, accuracy = trials(space, 30)
    model = AccuracySurrogate(space)
    points = model.points(architectures, cost)
    model.fit(points, accuracy)
    targets = link(accuracy)
    mean, scale = targets.mean(), targets.std()
    prior = model._gram(model._products(points, points), model._prior)
    noisy = prior + (model._prior.noise + JITTER) * np.eye(30)
    # Rasmussen and Williams, equations 2.23 and 2.24, at the trials themselves
    expected = mean + prior @ np.linalg.solve(noisy, targets - mean)
    covariance = scale**2 * (prior - prior @ np.linalg.solve(noisy, prior))
    assert model.fitted() == pytest.approx(expected)
    assert model.predict(points)[0] == pytest.approx(expected)
    assert model.covariance(points, points) == pytest.approx(covariance, abs=1e-9)
    assert model.predict(points)[1] == pytest.approx(
        np.maximum(covariance.diagonal(), scale**2 * 1e-10), abs=1e-9
    )
    assert model.noise == pytest.approx(scale**2 * (model._prior.noise + JITTER))


def test_the_model_foretells_networks_it_has_not_seen() -> None:
    space = mbconv_space()
    architectures, cost, accuracy = trials(space, 150)
    model = AccuracySurrogate(space)
    points = model.points(architectures, cost)
    model.fit(points[np.arange(100)], accuracy[:100])
    mean, variance = model.predict(points[np.arange(100, 150)])
    error = link(accuracy[100:]) - mean
    assert np.sqrt((error**2).mean()) < 0.15 * link(accuracy).std()
    assert 0.5 < np.mean(np.abs(error) < 2 * np.sqrt(variance)) <= 1


def test_noise_is_told_from_effects() -> None:
    space = macro_space()
    architectures, cost, accuracy = trials(space, 200)
    noise = np.random.default_rng(3).normal(0, 0.02, 200)
    clean, noisy = AccuracySurrogate(space), AccuracySurrogate(space)
    points = clean.points(architectures, cost)
    clean.fit(points, accuracy)
    noisy.fit(points, accuracy + noise)
    # d link / d accuracy = 1 / (1 - accuracy): the noise's deviation there
    expected = float((0.02 / (1 - accuracy)).mean())
    assert clean.noise**0.5 < 0.1 * expected
    assert 0.3 * expected < noisy.noise**0.5 < 1.2 * expected
    assert np.abs(unlink(noisy.fitted()) - accuracy).mean() < 0.95 * np.abs(noise).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_guided_finds_the_best_of_3969_networks_within_60_evaluations(seed: int) -> None:
    space, objective = macro_space(), Additive(macro_space(), seed=10 + seed, target=4.5)
    best = max(objective.reward(architecture) for architecture in space.enumerate())
    asked = search(GuidedController(space, seed=seed, objective=objective), objective, 60)
    assert len(set(asked)) == 60
    assert max(map(objective.reward, asked)) == pytest.approx(best, abs=1e-12)


def test_asked_in_batches_it_is_far_ahead_of_random() -> None:
    space, objective = mbconv_space(), Additive(mbconv_space(), seed=3, target=12.0)
    guided = search(GuidedController(space, seed=0, objective=objective), objective, 96, 16)
    random = search(RandomController(space, seed=0), objective, 2000, 100)
    assert max(map(objective.reward, guided)) > max(map(objective.reward, random))


def test_networks_of_one_batch_differ_more_than_the_best_candidates() -> None:
    space, objective = mbconv_space(), Additive(mbconv_space(), seed=3, target=12.0)
    controller = GuidedController(space, seed=0, objective=objective)
    search(controller, objective, 30, 10)
    batch = np.array(controller.ask(12))
    assert len({tuple(row) for row in batch.tolist()}) == 12
    # what waits for its result is not asked again, and counts as evaluated when more is asked
    assert not {tuple(row) for row in batch.tolist()} & set(controller.ask(12))


def test_the_first_networks_lie_further_apart_than_random_ones() -> None:
    space = mbconv_space()
    objective = Additive(space, seed=3, target=1e9)  # cost decides nothing
    asked = np.array(GuidedController(space, seed=0, objective=objective).ask(INITIAL))
    random = np.array(RandomController(space, seed=0).ask(INITIAL))

    def nearest(points: Floats) -> float:
        apart = (points[:, None] != points[None]).sum(axis=2) + 99 * np.eye(len(points))
        return float(apart.min(axis=1).mean())

    assert nearest(asked) > nearest(random)


def test_networks_that_a_limit_refuses_are_not_asked() -> None:
    class Limited(Additive):
        def cost(self, architectures: Sequence[Architecture]) -> Floats:
            cost = super().cost(architectures)
            return np.where(cost > 4.0, np.inf, cost)

    space = macro_space()
    objective = Limited(space, seed=10, target=100.0)
    controller = GuidedController(space, seed=0, objective=objective)
    assert np.isinf(objective.cost(list(space.enumerate()))).mean() > 0.5
    asked: list[Architecture] = []
    for _ in range(40):
        (architecture,) = controller.ask()
        asked.append(architecture)
        refused = np.isinf(objective.cost([architecture])[0])
        seen = Observation(architecture, "infeasible", None) if refused else objective.observe(architecture)
        controller.tell([seen])
    assert not np.isinf(objective.cost(asked)).any()


def test_an_accuracy_that_is_not_told_is_read_from_the_reward() -> None:
    space, objective = macro_space(), Additive(macro_space(), seed=10, target=3.0)
    told, untold = (GuidedController(space, seed=0, objective=objective) for _ in "ab")
    for _ in range(INITIAL + 5):
        (architecture,) = told.ask()
        assert untold.ask() == [architecture]
        told.tell([objective.observe(architecture)])
        untold.tell([Observation(architecture, "done", objective.reward(architecture))])
    told._read()
    untold._read()
    assert list(untold._told.values()) == pytest.approx(list(told._told.values()), abs=2e-4)


def test_recommends_what_it_believes_best_rather_than_the_luckiest() -> None:
    space, objective = mbconv_space(), Additive(mbconv_space(), seed=10, target=1e9)
    regret = {"recommended": 0.0, "luckiest": 0.0}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        controller = GuidedController(space, seed=seed, objective=objective)
        seen: dict[Architecture, float] = {}
        for number, architecture in enumerate(RandomController(space, seed=seed).ask(300)):
            if number == 150:
                controller.recommend()  # hyperparameters are chosen a first time
            seen[architecture] = objective.accuracy(architecture) + float(rng.normal(0, 0.03))
            controller.tell(
                [Observation(architecture, "done", seen[architecture], {"accuracy": seen[architecture]})]
            )
        recommended = controller.recommend()
        assert recommended is not None
        best = max(map(objective.reward, seen))
        regret["recommended"] += best - objective.reward(recommended)
        regret["luckiest"] += best - objective.reward(max(seen, key=lambda a: seen[a]))
    assert regret["recommended"] < 0.8 * regret["luckiest"]


def test_neighbours_of_failed_networks_are_avoided() -> None:
    space, objective = macro_space(), Additive(macro_space(), seed=10, target=1e9)
    controller = GuidedController(space, seed=0, objective=objective)
    failed = 0
    for number in range(60):
        (architecture,) = controller.ask()
        if architecture[-2] == 2:  # whatever has this layer fails
            failed += number >= 30
            controller.tell([Observation(architecture, "failed", None)])
        else:
            controller.tell([objective.observe(architecture)])
    assert failed <= 10
    recommended = controller.recommend()
    assert recommended is not None
    assert recommended[-2] != 2


def test_nothing_but_failures_and_a_space_that_ends() -> None:
    space = small_space()
    objective = Additive(space, seed=0, target=1e9)
    controller = GuidedController(space, seed=0, objective=objective)
    assert controller.recommend() is None
    asked = controller.ask(3)
    controller.tell([Observation(architecture, "failed", None) for architecture in asked])
    assert controller.recommend() is None
    assert len(set(asked) | set(controller.ask(3))) == 4
    assert controller.ask(3) == []


def test_the_model_takes_a_bounded_number_of_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnas.controllers.guided.MOST", 40)
    space, objective = macro_space(), Additive(macro_space(), seed=10, target=4.5)
    controller = GuidedController(space, seed=0, objective=objective)
    asked = search(controller, objective, 120, 4)
    controller.ask()
    assert len(controller._rows) <= 40 * GROWTH
    # what was left out of it is not taken for new: hyperparameters are chosen when the trials have grown, not each time
    fits: list[int] = []
    monkeypatch.setattr(controller._model, "fit", lambda points, accuracy: fits.append(len(points)))
    monkeypatch.setattr(controller._model, "extend", lambda points, accuracy: None)
    monkeypatch.setattr(controller._model, "fitted", lambda: np.zeros(len(controller._rows)))
    for architecture in RandomController(space, seed=9).ask(30):
        controller.tell([objective.observe(architecture)])
        controller._read()
        controller._update_model()
    assert len(fits) <= 3
    assert max(asked, key=objective.reward) in controller._rows


def test_a_space_without_factors_or_numbers_is_modelled_too() -> None:
    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8),), 8, 32, 10)

    space = SearchSpace("own", tuple(Choice(name, ("x", "y", "z")) for name in "abcdefg"), build)
    objective = Additive(space, seed=2, target=4.0)
    best = max(objective.reward(architecture) for architecture in space.enumerate())
    asked = search(GuidedController(space, seed=0, objective=objective), objective, 60)
    assert max(map(objective.reward, asked)) == pytest.approx(best, abs=1e-12)


def test_costs_and_accuracies_that_are_all_equal_teach_nothing_and_break_nothing() -> None:
    class Flat(Additive):
        def cost(self, architectures: Sequence[Architecture]) -> Floats:
            return np.full(len(architectures), 0.3)

        def accuracy(self, architecture: Architecture) -> float:
            return 0.7

    space = macro_space()
    objective = Flat(space, seed=0, target=1.0)
    assert len(set(search(GuidedController(space, seed=0, objective=objective), objective, 40, 5))) == 40
