"""What a controller may ask of a search beforehand: costs as the search judges them, then and now."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import MODELS, SEARCH, mnas
from loops import SPACE, latency, madds, search
from test_remeasure import Cheap, Device, remeasuring

from mnas.config import make_config
from mnas.controllers.guided import GuidedController
from mnas.controllers.random import RandomController
from mnas.errors import InputError
from mnas.objective import latency_quantile
from mnas.protocols import Objective, Observation
from mnas.search import final, resume_search, start_search
from mnas.search import objective as objective_module
from mnas.search.costing import Limits
from mnas.search.loop import Loop
from mnas.search.objective import CostModel, SearchCosts, SearchObjective
from mnas.search.problem import make_problem
from mnas.search.reporting import Quiet
from mnas.search_space import Architecture

# Asks for the cost of what it proposes when it proposes it, and of all that it was ever asked for when it is told.
CURIOUS = """
from mnas.controllers.random import RandomController

class Curious(RandomController):
    made = []
    def __init__(self, space, *, seed, objective):
        super().__init__(space, seed=seed)
        self.objective, self.costs, self.asked = objective, {}, []
        Curious.made.append(self)
    def ask(self, n=1):
        asked = super().ask(n)
        self.costs |= {a.key: c for a, c in zip(asked, self.objective.cost(asked).tolist())}
        return asked

class Optional(RandomController):
    made = []
    def __init__(self, space, *, seed, objective=None):
        super().__init__(space, seed=seed)
        Optional.made.append(objective)
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with models, where this process works."""
    (tmp_path / "models.py").write_text(MODELS + CURIOUS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    return tmp_path


def results(run: Path) -> dict[str, dict[str, Any]]:
    """What the store says of each network, by its key."""
    from mnas.search.history import History
    from mnas.store import EventStore

    with EventStore.open(run / "trials.db") as store:
        return {t.key: {"reward": t.reward, **t.metrics} for t in History.read(store.events()).trials}


@pytest.mark.parametrize(
    ("target", "limits"),
    [
        ({"target_madds": "8M", "resolution": 32}, {}),
        ({"target_latency": "20ms", "latency": "models:Unsure", "latency_quantile": 0.9}, {}),
        ({"target_latency": "20ms", "latency": "models:Latency"}, {"max_params": "6M"}),
    ],
)
def test_costs_and_rewards_are_those_that_the_search_judges_by(
    work: Path, target: dict[str, Any], limits: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(final, "PROCESSES", 1)
    monkeypatch.setattr(final, "BUDGET_S", 0.5)
    chosen = {"controller": "models:Curious", "accuracy": "models:Accuracy", "trials": 40, "ask_batch": 20}
    config = make_config({**target, **limits, **chosen})
    start_search(config, work / "run", Quiet())
    (controller,) = sys.modules["models"].Curious.made
    judged = results(work / "run")
    assert controller.costs.keys() == judged.keys()
    refused = 0
    for key, cost in controller.costs.items():
        known = judged[key]
        if known["reward"] is None:
            refused += 1
            assert cost == np.inf
            assert known["params"] > 6_000_000
            continue
        timed = "target_latency" in target
        expected = latency_quantile(known, config.quantile) if timed else known["madds"]
        assert cost == pytest.approx(expected, rel=1e-12)
        assert controller.objective.score([known["accuracy"]], [cost]) == pytest.approx(known["reward"])
    assert (refused > 0) == bool(limits)


def test_a_controller_that_must_plan_is_refused_where_each_network_is_measured(work: Path) -> None:
    values = {"target_latency": "20ms", "latency": "measure", "accuracy": "models:Accuracy"}
    with pytest.raises(InputError, match="--controller reinforce") as told:
        make_problem(make_config({**values, "controller": "guided"}).resolved())
    assert "known only once it is measured" in str(told.value)
    done = mnas(
        work, "search", "--target-latency", "20ms", "--latency", "measure", "--controller", "guided", code=2
    )
    assert "--controller reinforce" in done.stderr
    assert not (work / "runs").exists()
    make_problem(make_config({**values, "controller": "models:Optional"}).resolved())
    assert sys.modules["models"].Optional.made == [None]


def test_where_costs_are_known_an_optional_objective_is_given(work: Path) -> None:
    values = {"target_madds": "400M", "controller": "models:Optional"}
    make_problem(make_config(values).resolved())
    (given,) = sys.modules["models"].Optional.made
    assert given is not None


def test_asked_before_the_search_knows_it_says_so() -> None:
    objective = SearchObjective(SearchCosts())
    with pytest.raises(RuntimeError, match="before the search knew its costs"):
        objective.cost([SPACE.architecture([0] * len(SPACE.choices))])
    with pytest.raises(RuntimeError, match="before the search knew its target"):
        objective.score([0.5], [1.0])


def planned(loop: Loop, make: Any) -> Loop:
    """The loop with a controller that plans, replayed, for thirty trials."""
    loop.costs = SearchCosts()
    loop.costs.bind(CostModel(SPACE, loop.limits.refusal, latency, 0.5, loop.history))
    objective = SearchObjective(loop.costs)
    (lane,) = loop.lanes
    objective.aim(lane.reward)
    loop.lanes = [replace(lane, controller=make(SPACE, seed=0, objective=objective))]
    loop.costing = replace(loop.costing, limits=Limits(trials=30, ask_batch=5))
    loop.reporter.warnings.clear()  # type: ignore[attr-defined]  of another controller's replay
    loop.replay()
    return loop


class Killed(Cheap):
    """Interrupted at its fourth batch, which is asked for after the refit."""

    calls = 0

    def evaluate(self, specs: Any, *, seed: int) -> Any:
        self.calls += 1
        if self.calls == 4:
            raise KeyboardInterrupt
        return super().evaluate(specs, seed=seed)


class Curious(RandomController):
    """Asks for the costs of the same networks whenever it is asked or told, and remembers the answers."""

    def __init__(self, space: Any, *, seed: int, objective: Objective) -> None:
        super().__init__(space, seed=seed)
        self.objective, self.answers = objective, list[float]()
        self.points = [space.architecture([n] + [0] * (len(space.choices) - 1)) for n in range(2)]

    def ask(self, n: int = 1) -> list[Architecture]:
        self.answers += self.objective.cost(self.points).tolist()
        return super().ask(n)

    def tell(self, observations: Sequence[Observation]) -> None:
        self.answers += self.objective.cost(self.points).tolist()
        super().tell(observations)


@pytest.mark.parametrize("make", [GuidedController, Curious])
def test_a_search_killed_after_a_refit_ends_as_one_that_was_not(tmp_path: Path, make: Any) -> None:
    whole = planned(remeasuring(tmp_path / "whole.db", Cheap(), Device(latency, 1.2)), make)
    whole.run()
    (refit,) = whole.history.refits
    assert refit.after == 15
    assert refit.factor > 1.1
    cut = planned(remeasuring(tmp_path / "cut.db", Killed(), Device(latency, 1.2)), make)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.store.commit()
    cut.store.close()
    resumed = planned(remeasuring(tmp_path / "cut.db", Cheap(), Device(latency, 1.2)), make)
    assert resumed.history.refits == cut.history.refits != []
    resumed.run()
    assert not resumed.reporter.warnings  # type: ignore[attr-defined]
    assert [(t.key, t.reward) for t in resumed.history.trials] == [
        (t.key, t.reward) for t in whole.history.trials
    ]
    if make is Curious:
        before, after = (
            np.array(whole.lanes[0].controller.answers),
            np.array(resumed.lanes[0].controller.answers),
        )  # type: ignore[attr-defined]
        assert (before == after).all()
        first = np.array([madds(SPACE.decode(point)) / 1e6 for point in whole.lanes[0].controller.points])  # type: ignore[attr-defined]
        np.testing.assert_allclose(before[:2], first)
        np.testing.assert_allclose(before[-2:], refit.factor * first)
        # The third tell comes before the refit, the fourth ask after it: three asks and three tells of two networks.
        np.testing.assert_allclose(before[:12].reshape(-1, 2), [first] * 6)
        np.testing.assert_allclose(before[12:].reshape(-1, 2), [refit.factor * first] * 6)


def test_costs_that_are_forgotten_are_worked_out_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    def counting(specs: Any) -> Any:
        asked.append(len(specs))
        return latency(specs)

    monkeypatch.setattr(objective_module, "KEPT", 10)
    loop = search(tmp_path / "trials.db", Cheap(), 4.0)
    costs = SearchCosts()
    costs.bind(CostModel(SPACE, loop.limits.refusal, counting, 0.5, loop.history))
    points = RandomController(SPACE, seed=0).ask(16)
    first = costs(points[:8])
    assert (costs(points[:8]) == first).all()
    assert asked == [8]
    costs(points[8:])
    assert (costs([*points[:8], points[0]]) == [*first, first[0]]).all()
    assert asked == [8, 8, 8]


def test_a_plug_ins_word_is_what_guided_plans_with(work: Path) -> None:
    done = mnas(work, *SEARCH, "--controller", "guided", "--trials", "40", "--out", "run")
    assert "- searching mbconv with guided" in done.stderr
    again = resume_search(work / "run", {"latency": "models:Latency", "accuracy": "models:Accuracy"}, Quiet())
    assert again["baseline"]["latency_ms"] <= 20.0
