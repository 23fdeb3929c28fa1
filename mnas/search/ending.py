"""How a search ends for one of its targets: finalists, baseline, what is grown from it, and what it is worth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnas.files import write_json
from mnas.protocols import is_expensive
from mnas.rundir import RunDirectory
from mnas.search.against import Sides, equal_sides, verdict
from mnas.search.baseline import write_baseline
from mnas.search.final import Final, judge_finalists
from mnas.search.finals import Finals
from mnas.search.grow import grow
from mnas.search.history import History
from mnas.search.lanes import best_trial_for
from mnas.search.optimum import find_optimum
from mnas.search.problem import Goal, Problem
from mnas.search.reporting import Reporter
from mnas.search.timing import Timing
from mnas.store import EventStore


@dataclass(frozen=True, slots=True)
class Ending:
    """Of one target; the JSON objects of the result, None where there is none."""

    goal: Goal
    final: Final
    best_reward: float | None
    baseline: Mapping[str, Any] | None
    scaled: Mapping[str, Any] | None
    optimum: Mapping[str, Any]
    against: Mapping[str, Any] | None

    def to_dict(self, kind: str, history: History) -> dict[str, Any]:
        """What the result says of this target alone."""
        return {
            "status": self.final.status,
            "target": {"kind": kind, "value": self.goal.target},
            "budget": self.goal.budget,
            "baseline": self.baseline,
            "scaled": self.scaled,
            "best_reward": self.best_reward,
            "optimum": self.optimum,
            "against": self.against,
            "finalists": [_with_training(row, history) for row in self.final.rows],
            "comparison": self.final.comparison,
            "warnings": self.final.warnings,
        }


def end_search(
    run: RunDirectory,
    store: EventStore,
    problem: Problem,
    goal: Goal,
    timing: Timing,
    history: History,
    evidence: dict[str, Any],
    reporter: Reporter,
) -> Ending:
    """Judges the finalists for a target, and writes its baseline and what is grown from it.

    The raw measurements are kept in `finalists.json` before anything else can fail. `evidence` holds those of the
    targets before, by label, and takes this one's.

    Raises:
        MeasurementError: a measurement failed.
        SearchError: the finalists cannot be trained, a file differs from the torch module, or nothing fills the target.
    """
    config = problem.config
    timed = config.target_kind == "latency"
    if goal.label:
        reporter.note(f"for the target {goal.label}:")
    sides = _sides(problem, goal, history)
    choose = Finals(run, problem, store, history, reporter).choose if problem.data is not None else None
    final = judge_finalists(
        problem, goal, timing, history, reporter, choose, () if sides is None else sides.found
    )
    evidence[goal.label] = final.evidence
    write_json(run.finalists, evidence if goal.label else final.evidence)
    timings = [{"ms": ms, "when": "finalists"} for ms in final.references]
    store.append("reference", timings)
    history.references += timings
    baseline = scaled = against = None
    if final.winner is not None:
        reporter.stage("writing the baseline")
        baseline = write_baseline(run, problem, goal.label, final, history)
        if goal.budget < goal.target:
            base = problem.space.decode(problem.space.from_key(baseline["architecture"]))
            scaled = grow(run, problem, goal, timing.ruler, base, final.winner.cost, reporter)
    reporter.stage("looking for the best of all networks")
    best = best_trial_for(history.trials, goal.reward, timed=timed)
    reward = None if best is None else best[1]
    optimum = find_optimum(problem.space, problem.accuracy, goal.reward, config.target_kind)
    if sides is not None:
        assert config.baseline is not None
        assert config.baseline_share is not None
        against = verdict(
            sides,
            controllers=(str(config.controller), config.baseline),
            share=config.baseline_share,
            latencies=final.measured,
            timed=timed,
            mae=getattr(problem.accuracy, "mae", None),
        )
    return Ending(goal, final, reward, baseline, scaled, optimum.to_dict(reward), against)


def _sides(problem: Problem, goal: Goal, history: History) -> Sides | None:
    """What stands for controllers and baselines; None without a baseline."""
    if problem.config.baseline is None:
        return None
    lanes: tuple[set[int], set[int]] = (set(), set())
    for number, lane in enumerate(problem.lanes):
        lanes[lane.baseline].add(number)
    return equal_sides(
        history,
        lanes,
        "latency_ms" if problem.config.target_kind == "latency" else "madds",
        goal.budget,
        expensive=is_expensive(problem.accuracy),
    )


def _with_training(row: Mapping[str, Any], history: History) -> dict[str, Any]:
    """A finalist's row, with its validation accuracy where it was trained longer."""
    trained = history.trained.get(row["trial"], {})
    more = {
        f"trained_{name}": trained[name] for name in ("accuracy", "accuracy_std", "epochs") if name in trained
    }
    return {**row, **more}
