"""How latency is known in a search: calibrated here, measured here, or a plug-in's word for its own device."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.errors import MnasError, SearchError
from mnas.latency import (
    check_estimates,
    default_reference,
)
from mnas.protocols import LatencyEstimate, LatencyModel
from mnas.registry import resolve
from mnas.rundir import RunDirectory
from mnas.search.budget import search_budget
from mnas.search.history import History
from mnas.search.measured import MEASURED, DeviceLatencies, measure_here
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec, extremes, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_count, parse_latency_ms

# Random members that a plug-in's range is judged by, beside the smallest and largest (chosen here).
_RANGE_SAMPLE = 64


@dataclass(frozen=True, slots=True)
class Timing:
    """The latency of a search.

    Args:
        predict: checked estimates of networks, in order.
        measured: whether finalists are measured on this device; else the estimates decide.
        source: what a finalist's latency is.
        fastest_ms: of the space's members looked at; with `slowest_ms` its range.
        reference: what measurements are paired with.
        reference_ms: its milliseconds at the start of the search; None where nothing was measured yet.
        calibration: the predictor's held-out error and more, as JSON.
        problem: whose conditions hold.
        budget: the cost to search at, in the unit of the target; see `budget.search_budget`.
    """

    predict: Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]]
    measured: bool
    source: str
    fastest_ms: float
    slowest_ms: float
    reference: NetworkSpec
    reference_ms: float | None
    calibration: Mapping[str, Any] | None
    problem: Problem
    budget: float = math.nan

    def measure(
        self,
        networks: Mapping[str, NetworkSpec],
        *,
        processes: int,
        budget_s: float,
        seed: int,
        reporter: Reporter,
    ) -> DeviceLatencies:
        """All networks interleaved in fresh processes on this device, on the search's scale of milliseconds."""
        return measure_here(
            networks,
            reference=self.reference,
            start_ms=self.reference_ms,
            conditions=self.problem.conditions,
            processes=processes,
            budget_s=budget_s,
            seed=seed,
            reporter=reporter,
        )


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
    """Calibrates, or times the range, or asks the plug-in; then decides at which cost to search.

    Raises:
        SearchError: the target is below the range, or a plug-in fails.
        MeasurementError: a measurement failed, or the machine is too noisy.
    """
    preparation = Preparation(problem, run, store, history, reporter)
    name = problem.config.latency
    if problem.config.target_kind == "madds":
        return _untimed(preparation)
    prepare = _plugin if problem.latency_plugin is not None else resolve("latency", name)
    timing: Timing = prepare(preparation)
    where = "on this device" if timing.measured else f"by {name}"

    def base_ms() -> float:
        if problem.config.base_latency is not None:
            return parse_latency_ms(problem.config.base_latency)
        return timing.reference_ms or timing.predict([timing.reference])[0].ms

    budget = search_budget(
        problem.config.target_value,
        timing.fastest_ms,
        timing.slowest_ms,
        base_ms,
        what=f"{problem.space.name} {where} ({problem.conditions.describe()})",
        show=lambda ms: f"{ms:.3g} ms",
        note=reporter.note,
    )
    return replace(timing, budget=budget)


def _untimed(preparation: Preparation) -> Timing:
    """For a search by multiply-adds: the range is exact, and nothing is timed before the end."""
    problem = preparation.problem
    reference = default_reference(problem.space)
    least, greatest = (float(network_cost(spec).madds) for spec in extreme_specs(problem))
    budget = search_budget(
        problem.config.target_value,
        least,
        greatest,
        lambda: float(network_cost(reference).madds),
        what=f"{problem.space.name} at {reference.resolution} pixels",
        show=lambda count: f"{format_count(count)} MAdds",
        note=preparation.reporter.note,
    )
    return Timing(
        predict=_nothing_predicted,
        measured=True,
        source=MEASURED,
        fastest_ms=0.0,
        slowest_ms=0.0,
        reference=reference,
        reference_ms=None,
        calibration=None,
        problem=problem,
        budget=budget,
    )


def _nothing_predicted(specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
    raise SearchError(f"a search by multiply-adds predicts no latency (asked for {len(specs)} networks).")


def _plugin(preparation: Preparation) -> Timing:
    """The user's own model; its estimates decide, since its device need not be this one."""
    problem, name = preparation.problem, preparation.problem.config.latency
    assert problem.latency_plugin is not None
    predict = checked(problem.latency_plugin, name)
    rng = random.Random(preparation.seed)
    sample = [problem.space.decode(problem.space.sample(rng)) for _ in range(_RANGE_SAMPLE)]
    estimates = predict([*extreme_specs(problem), *sample])
    devices = ", ".join(dict.fromkeys(estimate.device for estimate in estimates))
    preparation.reporter.note(
        f"latencies are those of {name} for the device: {devices}. They decide; nothing is timed on this machine."
    )
    return Timing(
        predict=predict,
        measured=False,
        source=f"predicted by {name}",
        fastest_ms=min(estimate.ms for estimate in estimates),
        slowest_ms=max(estimate.ms for estimate in estimates),
        reference=default_reference(problem.space),
        reference_ms=None,
        calibration=None,
        problem=problem,
    )


def checked(model: LatencyModel, name: str) -> Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]]:
    """The model's `predict` with its exceptions and results turned into one clear error."""

    def predict(specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        try:
            estimates = model.predict(specs)
        except MnasError:
            raise
        except Exception as error:
            raise SearchError(
                f"the latency model {name!r} raised {type(error).__name__}: {error}. "
                f"It must return one estimate for each of {len(specs)} networks."
            ) from error
        return check_estimates(estimates, len(specs), name)

    return predict


def extreme_specs(problem: Problem) -> list[NetworkSpec]:
    """The smallest and the largest member of the space by multiply-adds."""
    points = extremes(problem.space, lambda spec: float(network_cost(spec).madds))
    return [problem.space.decode(point) for point in points]
