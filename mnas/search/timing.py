"""How latency is known in a search: calibrated, measured, or a plug-in's word for its own device."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnas.config import DEFAULT_QUANTILE
from mnas.errors import InputError
from mnas.latency import default_reference, describe_conditions
from mnas.registry import resolve
from mnas.rundir import RunDirectory
from mnas.search.budget import search_budgets
from mnas.search.history import History
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search.ruler import Predict, Ruler, checked, madds_of
from mnas.search.steps import Steps
from mnas.search_space import NetworkSpec, extremes
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_count, parse_latency_ms

# Random members that a plug-in's range is judged by, beside the smallest and largest (chosen here).
_RANGE_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of a search.

    Args:
        ruler: how latencies are known.
        fastest_ms: of the space's members looked at; with `slowest_ms` its range. 0 where nothing is timed.
        calibration: the predictor's held-out error and more, as JSON.
        budgets: the costs to search at, one for each target and in its unit; see `budget.search_budget`.
        uncorrected: the ruler's estimates without the correction of refits; None where none corrects them.
        steps: what training steps take; None where the reward does not ask.
    """

    ruler: Ruler
    fastest_ms: float = 0.0
    slowest_ms: float = 0.0
    calibration: Mapping[str, Any] | None = None
    budgets: tuple[float, ...] = ()
    uncorrected: Predict | None = None
    steps: Steps | None = None

    @property
    def predict(self) -> Predict:
        """Checked estimates for the loop."""
        assert self.ruler.predict is not None
        return self.ruler.predict


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a preparation of latency is given."""

    problem: Problem
    run: RunDirectory
    store: EventStore
    history: History
    reporter: Reporter

    @property
    def seed(self) -> int:
        """Of everything random in preparing."""
        return derive_seed(self.problem.config.seed, "calibration")


def prepare_timing(
    problem: Problem, run: RunDirectory, store: EventStore, history: History, reporter: Reporter
) -> Timing:
    """Calibrates, or times the range, or asks the plug-in; then decides at which costs to search.

    Raises:
        SearchError: a target is below the range, or a plug-in fails.
        InputError: a quantile of latency is asked for, and the plug-in knows no intervals.
        MeasurementError: a measurement failed, or the machine is too noisy.
    """
    preparation = Preparation(problem, run, store, history, reporter)
    name = problem.config.latency
    if problem.config.target_kind == "madds":
        return _untimed(preparation)
    prepare: Callable[[Preparation], Timing] = (
        _plugin if problem.latency_plugin is not None else resolve("latency", name)
    )
    timing = prepare(preparation)
    ruler = timing.ruler
    where = f"on {problem.host.name}" if ruler.measures else f"by {name}"

    def base_ms() -> float:
        if problem.config.base_latency is not None:
            return parse_latency_ms(problem.config.base_latency)
        return ruler.reference_ms or timing.predict([ruler.reference])[0].ms

    budgets = search_budgets(
        [goal.target for goal in problem.goals],
        timing.fastest_ms,
        timing.slowest_ms,
        base_ms,
        what=f"{problem.space.name} {where} ({describe_conditions(problem.conditions, problem.host)})",
        show=lambda ms: f"{ms:.3g} ms",
        note=reporter.note,
    )
    return replace(timing, budgets=budgets)


def _untimed(preparation: Preparation) -> Timing:
    """For a search by multiply-adds: the range is exact, and nothing is timed before the end."""
    problem = preparation.problem
    reference = default_reference(problem.space)
    least, greatest = map(madds_of, extreme_specs(problem))
    budgets = search_budgets(
        [goal.target for goal in problem.goals],
        least,
        greatest,
        lambda: madds_of(reference),
        what=f"{problem.space.name} at {reference.resolution} pixels",
        show=lambda count: f"{format_count(count)} MAdds",
        note=preparation.reporter.note,
    )
    return Timing(Ruler(problem.conditions, reference, host=problem.host), budgets=budgets)


def _plugin(preparation: Preparation) -> Timing:
    """The user's own model; its estimates decide, since its device need not be this one."""
    problem, name = preparation.problem, preparation.problem.config.latency
    assert problem.latency_plugin is not None
    predict = checked(problem.latency_plugin, name)
    rng = random.Random(preparation.seed)
    sample = [problem.space.decode(problem.space.sample(rng)) for _ in range(_RANGE_SAMPLE)]
    estimates = predict([*extreme_specs(problem), *sample])
    if problem.config.quantile != DEFAULT_QUANTILE and all(e.low_ms == e.high_ms for e in estimates):
        raise InputError(
            f"--latency-quantile {problem.config.quantile:g} has nothing to work with: {name} gives no intervals. "
            "Leave the flag out, or return LatencyEstimate(ms, low_ms, high_ms, source, device) from predict."
        )
    devices = ", ".join(dict.fromkeys(estimate.device for estimate in estimates))
    preparation.reporter.note(
        f"latencies are those of {name} for the device: {devices}. They decide; nothing is timed on this machine."
    )
    return Timing(
        Ruler(problem.conditions, default_reference(problem.space), predict, plugin=name),
        fastest_ms=min(estimate.ms for estimate in estimates),
        slowest_ms=max(estimate.ms for estimate in estimates),
    )


def extreme_specs(problem: Problem) -> list[NetworkSpec]:
    """The smallest and the largest member of the space by multiply-adds."""
    points = extremes(problem.space, madds_of)
    return [problem.space.decode(point) for point in points]
