"""The loop where each network is dear: what is not worth training is refused by its cost, and some is stopped early."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from loops import SPACE, madds, search

from mnas.accuracy.proxy import rungs_of
from mnas.controllers.random import RandomController
from mnas.errors import SearchError
from mnas.objective import Reward
from mnas.protocols import AccuracyEstimate
from mnas.search.costing import Limits
from mnas.search.finalists import candidates
from mnas.search.halving import Rungs, mean_epochs
from mnas.search.history import History
from mnas.search_space import NetworkSpec, extremes


class Dear:
    """The larger the better; remembers what it was asked."""

    expensive = True

    def __init__(self) -> None:
        self.asked: list[NetworkSpec] = []

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        self.asked += specs
        return [AccuracyEstimate(min(1.0, madds(spec) / 2e7), 0.01, "made up") for spec in specs]


class Staged(Dear):
    """May stop after 1 and 3 of 9 epochs, with a third and two thirds of its accuracy."""

    epochs, rungs, eta = 9, (1, 3), 3

    def evaluate_staged(
        self, spec: NetworkSpec, *, seed: int, go_on: Callable[[int, float], bool] | None
    ) -> AccuracyEstimate:
        (whole,) = self.evaluate([spec], seed=seed)
        for epoch, share in ((1, 1 / 3), (3, 2 / 3)):
            if go_on is not None and not go_on(epoch, share * whole.value):
                return AccuracyEstimate(share * whole.value, 0.01, "stopped", fidelity=epoch / 9)
        return whole


def test_networks_above_the_target_are_not_trained_and_do_not_count(tmp_path: Path) -> None:
    accuracy = Dear()
    loop = search(tmp_path / "trials.db", accuracy, target=4.0)
    loop.run()
    assert len(accuracy.asked) == 12
    assert all(madds(spec) / 1e6 <= 4.0 for spec in accuracy.asked)
    counts = loop.history.counts()
    assert counts["done"] == 12
    assert counts["infeasible"] > 12  # a random network takes 5 on average
    refused = next(trial for trial in loop.history.trials if trial.status == "infeasible")
    assert refused.error is not None
    assert "is above the target: not evaluated" in refused.error
    assert refused.metrics["latency_ms"] > 4.0


def test_a_quantile_of_latency_decides_what_is_trained(tmp_path: Path) -> None:
    accuracy = Dear()
    loop = search(tmp_path / "trials.db", accuracy, 4.0, reward=Reward("hard", 4.0, 0.95))
    loop.run()
    assert all(1.1 * madds(spec) / 1e6 <= 4.0 for spec in accuracy.asked)  # the interval's upper end
    refused = [trial for trial in loop.history.trials if trial.status == "infeasible"]
    near = [trial for trial in refused if trial.metrics["latency_ms"] <= 4.0]
    assert near, "none lies between its estimate and its upper end: this test shows nothing"
    assert "ms, the 95% quantile of" in str(near[0].error)


def test_where_nothing_is_within_the_cheapest_proposals_are_trained(tmp_path: Path) -> None:
    accuracy = Dear()
    loop = search(tmp_path / "trials.db", accuracy, target=0.5, limits=Limits(trials=4, ask_batch=4))
    loop.run()
    costs = sorted(trial.metrics["latency_ms"] for trial in loop.history.trials)
    assert len(costs) == 4 * 64
    assert sorted(madds(spec) / 1e6 for spec in accuracy.asked) == costs[:4]


@pytest.mark.parametrize(
    "changes", [{"proposals": 1}, {"reward": Reward("soft", 4.0)}, {"reward": Reward("absolute", 4.0)}]
)
def test_all_are_trained_where_costs_take_time_or_the_target_is_soft(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    accuracy = Dear()
    loop = search(tmp_path / "trials.db", accuracy, target=4.0, **changes)
    loop.run()
    assert len(accuracy.asked) == len(loop.history.trials) == 12


def test_explicit_limits_hold_for_any_reward(tmp_path: Path) -> None:
    accuracy = Dear()
    limits = Limits(trials=6, ask_batch=3, max_madds=4_000_000)
    loop = search(tmp_path / "trials.db", accuracy, 4.0, limits=limits, reward=Reward("soft", 4.0))
    loop.run()
    assert len(accuracy.asked) == 6
    assert all(madds(spec) <= 4_000_000 for spec in accuracy.asked)


def test_limits_that_nothing_meets_end_the_search(tmp_path: Path) -> None:
    loop = search(tmp_path / "none.db", Dear(), 4.0, limits=Limits(trials=6, ask_batch=2, max_params=1))
    with pytest.raises(
        SearchError, match=r"none of the last 1280 .* more than the limit of 1\. Raise --max-params"
    ):
        loop.run()  # ten batches of 2 x 64 proposals

    class OneFits(RandomController):
        """Proposes the smallest network first."""

        def ask(self, n: int = 1) -> list[Any]:
            first = [] if smallest in self._known else [smallest]
            for architecture in first:
                self._known.add(architecture)
            return first + super().ask(n - len(first))

    smallest = extremes(SPACE, madds)[0]
    least = int(madds(SPACE.decode(smallest)))
    accuracy = Dear()
    limits = Limits(trials=6, ask_batch=2, max_madds=least)
    one = search(tmp_path / "one.db", accuracy, 4.0, limits=limits, controller=OneFits(SPACE, seed=0))
    one.run()
    assert len(accuracy.asked) == 1
    assert "The search ends here" in one.reporter.notes[-1]  # type: ignore[attr-defined]


def test_multiply_adds_are_a_cost_like_any_other(tmp_path: Path) -> None:
    accuracy = Dear()
    search(tmp_path / "trials.db", accuracy, target=4e6, latencies=None).run()
    assert len(accuracy.asked) == 12
    assert all(madds(spec) <= 4e6 for spec in accuracy.asked)


def test_a_search_cut_off_between_trials_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole.db", Staged(), target=4.0)
    whole.run()

    class Killed(Staged):
        def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
            if len(self.asked) == 7:
                raise KeyboardInterrupt
            return super().evaluate(specs, seed=seed)

    cut = search(tmp_path / "cut.db", Killed(), target=4.0)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.store.commit()
    cut.store.close()
    rest = Staged()
    resumed = search(tmp_path / "cut.db", rest, target=4.0)
    resumed.run()
    assert len(rest.asked) == 5
    for mine, other in zip(resumed.history.trials, whole.history.trials, strict=True):
        assert (mine.key, mine.status, mine.reward) == (other.key, other.status, other.reward)
    assert resumed.history.rungs == whole.history.rungs
    assert History.read(resumed.store.events()).rungs == whole.history.rungs


def test_halving_stops_by_reward_and_the_stopped_are_marked(tmp_path: Path) -> None:
    loop = search(tmp_path / "trials.db", Staged(), target=4.0)
    loop.run()
    done = [trial for trial in loop.history.trials if trial.status == "done"]
    expected: list[float] = []
    first = loop.history.rungs[0].rewards[1]
    for trial in done:  # one after the other, each against those before it
        expected.append(first[trial.number])
        rank = sum(reward > expected[-1] for reward in expected)
        stopped = trial.metrics.get("fidelity") == pytest.approx(1 / 9)
        assert stopped == (rank >= -(-len(expected) // 3))
    fidelities = {trial.number: trial.metrics.get("fidelity", 1.0) for trial in done}
    assert {1 / 9, 1.0} <= set(fidelities.values())
    whole = {c.trial.number for c in candidates(loop.history.trials, "latency_ms") if c.whole}
    assert whole == {number for number, fidelity in fidelities.items() if fidelity == 1.0}


def test_a_trial_trained_again_counts_once_at_its_rung() -> None:
    rungs = Rungs()
    for trial, reward in ((0, 0.3), (1, 0.2), (1, 0.2)):
        rungs.record({"rung": 1, "trial": trial, "reward": reward})
    assert rungs.goes_on(1, 0, eta=2)
    assert not rungs.goes_on(1, 1, eta=2)  # second of two; of three it would be within the best 1.5


@pytest.mark.parametrize(
    ("epochs", "eta", "mean"),
    [(3, 0, 3.0), (3, 3, 1 + 2 / 3), (9, 3, 1 + 2 / 3 + 6 / 9), (6, 2, 1 + 2 / 2 + 3 / 4), (2, 3, 2.0)],
)
def test_mean_epochs_of_successive_halving(epochs: int, eta: int, mean: float) -> None:
    rungs = rungs_of(epochs, eta) if eta else ()
    assert mean_epochs(epochs, rungs, eta) == pytest.approx(mean)


def test_typical_networks_are_those_that_would_be_trained(tmp_path: Path) -> None:
    loop = search(tmp_path / "trials.db", Dear(), target=4.0)
    found = loop.typical(6, random.Random(0))
    assert len(found) == 6
    assert all(madds(spec) / 1e6 <= 4.0 for spec in found)
    unmet = search(tmp_path / "others.db", Dear(), target=0.1).typical(6, random.Random(0))
    assert len(unmet) == 6
    assert max(map(madds, unmet)) < sum(map(madds, found)) / 6
