"""How latency is known in a search: calibrated here, measured here, or a plug-in's word for its own device."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.errors import InputError, MnasError, RunDirectoryError, SearchError
from mnas.files import read_json, sha256_of, write_json
from mnas.latency import (
    Calibration,
    MeasuringLatencyModel,
    calibrate,
    check_estimates,
    default_reference,
    reference_ms_of,
    this_device,
)
from mnas.latency.calibrate import FEWEST, NETWORKS
from mnas.protocols import LatencyEstimate, LatencyModel
from mnas.registry import resolve
from mnas.rundir import RunDirectory
from mnas.search.budget import search_budget
from mnas.search.history import History
from mnas.search.measured import MEASURED, DeviceLatencies, measure_here
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec, SearchSpace, extremes, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_count, parse_latency_ms

# Random members that a plug-in's range is judged by, beside the smallest and largest (chosen here).
_RANGE_SAMPLE = 64
# Points up to which a space is counted by listing it (chosen here: a few milliseconds).
_SMALL_SPACE = 1000


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
    if problem.config.base_latency is not None:
        base_ms = parse_latency_ms(problem.config.base_latency)
    elif timing.reference_ms is not None:
        base_ms = timing.reference_ms
    else:
        base_ms = timing.predict([timing.reference])[0].ms
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
    least, greatest = (float(network_cost(spec).madds) for spec in _extreme_specs(problem))
    budget = search_budget(
        problem.config.target_value,
        least,
        greatest,
        float(network_cost(reference).madds),
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


def calibrated(preparation: Preparation) -> Timing:
    """A predictor fitted to networks measured here now, or the one that the run already has."""
    problem, run, reporter = preparation.problem, preparation.run, preparation.reporter
    if preparation.history.calibration is None:
        reporter.stage("calibrating: timing the reference, then members of the space, on this device")
        reference = default_reference(problem.space)
        reference_ms = _time_reference(preparation, reference)
        calibration = calibrate(
            problem.space,
            problem.conditions,
            networks=_calibration_networks(problem.space),
            seed=preparation.seed,
            on_progress=reporter.progress,
            reference=reference,
            reference_ms=reference_ms,
        )
        write_json(run.calibration, calibration.to_dict())
        preparation.store.append(
            "predictor", [{"file": run.calibration.name, "sha256": sha256_of(run.calibration)}]
        )
        preparation.store.commit()
        for text in calibration.warnings:
            reporter.warn(text)
    else:
        calibration = _stored_calibration(preparation)
    reporter.note(
        f"{problem.space.name} takes {calibration.fastest_ms:.3g} to {calibration.slowest_ms:.3g} ms here "
        f"({problem.conditions.describe()}); predictor: {calibration.error.describe()}"
    )
    return Timing(
        predict=_checked(calibration.predictor, "calibrated"),
        measured=True,
        source=MEASURED,
        fastest_ms=calibration.fastest_ms,
        slowest_ms=calibration.slowest_ms,
        reference=calibration.reference,
        reference_ms=calibration.reference_ms,
        calibration={
            **calibration.error.to_dict(),
            "fastest_ms": calibration.fastest_ms,
            "slowest_ms": calibration.slowest_ms,
            "reference_ms": calibration.reference_ms,
            "seconds": calibration.seconds,
        },
        problem=problem,
    )


def _calibration_networks(space: SearchSpace) -> int:
    """How many members to measure: the usual number, or all of a small space.

    Raises:
        InputError: too few networks to fit a predictor to.
    """
    if space.size > _SMALL_SPACE:
        return NETWORKS
    members = sum(1 for _ in space.enumerate())
    if members < FEWEST:
        raise InputError(
            f"the space {space.name!r} has {members} networks, a predictor needs {FEWEST} to be fitted to. "
            f"Time each of them instead: --latency measure"
        )
    return min(NETWORKS, members)


def measuring(preparation: Preparation) -> Timing:
    """Every candidate is timed; the range is that of the smallest and largest member by multiply-adds."""
    problem, reporter = preparation.problem, preparation.reporter
    reporter.stage("timing the reference and the range of the space on this device")
    reference = default_reference(problem.space)
    stored = preparation.history.references
    reference_ms = stored[0]["ms"] if stored else _time_reference(preparation, reference)
    model = MeasuringLatencyModel(
        reference,
        problem.conditions,
        reference_ms=reference_ms,
        seed=derive_seed(preparation.seed, "each", len(preparation.history.batches)),
    )
    predict = _checked(model, "measure")
    fastest, slowest = (estimate.ms for estimate in predict(_extreme_specs(problem)))
    reporter.note(f"{problem.space.name} takes {fastest:.3g} to {slowest:.3g} ms here")
    return Timing(predict, True, MEASURED, fastest, slowest, reference, reference_ms, None, problem)


def _plugin(preparation: Preparation) -> Timing:
    """The user's own model; its estimates decide, since its device need not be this one."""
    problem, name = preparation.problem, preparation.problem.config.latency
    assert problem.latency_plugin is not None
    predict = _checked(problem.latency_plugin, name)
    rng = random.Random(preparation.seed)
    sample = [problem.space.decode(problem.space.sample(rng)) for _ in range(_RANGE_SAMPLE)]
    estimates = predict([*_extreme_specs(problem), *sample])
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


def _checked(model: LatencyModel, name: str) -> Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]]:
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


def _time_reference(preparation: Preparation, reference: NetworkSpec) -> float:
    """The reference's milliseconds at the start of the search, over three fresh processes; stored."""
    ms = reference_ms_of(
        reference,
        conditions=preparation.problem.conditions,
        seed=derive_seed(preparation.seed, "reference"),
        on_progress=preparation.reporter.progress,
    )
    preparation.store.append("reference", [{"ms": ms, "when": "start"}])
    return ms


def _extreme_specs(problem: Problem) -> list[NetworkSpec]:
    points = extremes(problem.space, lambda spec: float(network_cost(spec).madds))
    return [problem.space.decode(point) for point in points]


def _stored_calibration(preparation: Preparation) -> Calibration:
    """The run's calibration, if it is the one that the store names and holds for this device.

    Raises:
        RunDirectoryError: it was changed, or is missing.
        SearchError: the run was calibrated on another device.
    """
    path, event = preparation.run.calibration, preparation.history.calibration
    assert event is not None
    if not path.is_file() or sha256_of(path) != event["sha256"]:
        raise RunDirectoryError(
            f"{path} is missing or was changed since the search wrote it. Restore it, or begin a new run with --out."
        )
    try:
        calibration = Calibration.from_dict(read_json(path))
    except InputError as error:
        raise RunDirectoryError(f"{path} cannot be used: {error}") from error
    here, there = this_device(), calibration.device
    if here.fingerprint != there.fingerprint:
        raise SearchError(
            f"this run was calibrated on another device ({there.describe()}), this is {here.describe()}. "
            f"Resume it there, or begin a new search here."
        )
    return calibration
