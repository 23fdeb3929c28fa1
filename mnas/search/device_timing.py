"""Latency known from a device: by a predictor calibrated on it, or by timing every candidate."""

from typing import Any

from mnas.errors import InputError, RunDirectoryError
from mnas.files import sha256_of, write_json
from mnas.latency import (
    LOCAL,
    Calibration,
    Conditions,
    Host,
    MeasuringLatencyModel,
    calibrate,
    calibration_path,
    default_reference,
    describe_conditions,
    keep_calibration,
    measure_each,
    read_calibration,
    reference_ms_of,
)
from mnas.protocols import LatencyModel
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler, checked, corrected
from mnas.search.timing import Preparation, Timing, extreme_specs
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

# From this much on, the reference's drift since the calibration is worth a word (chosen here).
DRIFT_NOTED = 0.10
# A target this many times the largest member's predicted upper end needs no measurement to be above it (chosen here).
SURELY_ABOVE = 1.5
# A largest member estimated at so many times the target is not measured (chosen here).
FAR_ABOVE = 5.0


def calibrated(preparation: Preparation) -> Timing:
    """The device's predictor, from the run, from the cache, or fitted now; brought to the reference's present speed."""
    problem, reporter = preparation.problem, preparation.reporter
    event = preparation.history.calibration
    if event is None:
        calibration = device_calibration(
            problem.conditions, reporter, anew=problem.config.recalibrate, host=problem.host
        )
        event = _begin(preparation, calibration)
    else:
        calibration = _stored_calibration(preparation)
    predict = checked(calibration.predictor.scaled(event["factor"]), "calibrated")
    reporter.note(
        f"{problem.space.name} takes {event['fastest_ms']:.3g} to {event['slowest_ms']:.3g} ms "
        f"({describe_conditions(problem.conditions, problem.host)}); predictor: {calibration.error.describe()}"
    )
    range_ms = {name: event[name] for name in ("fastest_ms", "slowest_ms")}
    made = {"reference_ms": event["reference_ms"], "made": calibration.made, "seconds": calibration.seconds}
    return Timing(
        Ruler(
            problem.conditions,
            default_reference(problem.space),
            corrected(predict, lambda: preparation.history.factor),
            reference_ms=event["reference_ms"],
            host=problem.host,
        ),
        calibration={**calibration.error.to_dict(), **range_ms, **made},
        **range_ms,
        uncorrected=predict,
    )


def device_calibration(
    conditions: Conditions, reporter: Reporter, *, anew: bool = False, host: Host = LOCAL
) -> Calibration:
    """A device's calibration under these conditions: the kept one, or one made and kept now.

    Args:
        conditions: threads, batch, precision, provider.
        reporter: told which of these happened.
        anew: makes a new one though there is one.
        host: which device.

    Raises:
        MeasurementError: the device is too noisy, or a measurement failed.
    """
    path = calibration_path(host.device, conditions)
    if path.is_file() and not anew:
        try:
            calibration = read_calibration(path, host.device, conditions)
        except InputError as error:
            reporter.warn(f"{error} Calibrating anew.")
        else:
            reporter.note(
                f"{host.name} was calibrated on {calibration.made} ({path}; --recalibrate measures anew)"
            )
            return calibration
    reporter.stage(f"calibrating: timing 108 networks on {host.name}, once")
    calibration = calibrate(conditions, host=host, on_progress=reporter.progress)
    for text in calibration.warnings:
        reporter.warn(text)
    try:
        reporter.note(f"kept for later searches: {keep_calibration(calibration)}")
    except RunDirectoryError as error:
        reporter.warn(f"this calibration could not be kept for later searches: {error}")
    return calibration


def _begin(preparation: Preparation, calibration: Calibration) -> dict[str, Any]:
    """What a search begins with, measured now and stored: the present speed of the device, the space's range."""
    problem, run, reporter = preparation.problem, preparation.run, preparation.reporter
    reporter.stage(f"timing the reference and the range of the space on {problem.host.name}")
    reference = default_reference(problem.space)
    reference_ms = _time_reference(preparation, reference)
    factor = drift_since(calibration, reference, reference_ms, preparation.seed, reporter, host=problem.host)
    times = _range(preparation, calibration.predictor.scaled(factor), reference, reference_ms)
    write_json(run.calibration, calibration.to_dict())
    event = {
        "file": run.calibration.name,
        "sha256": sha256_of(run.calibration),
        "factor": factor,
        "fastest_ms": min(times),
        "slowest_ms": max(times),
        "reference_ms": reference_ms,
    }
    preparation.store.append("predictor", [event])
    preparation.store.commit()
    return event


def _range(
    preparation: Preparation, predictor: LatencyModel, reference: NetworkSpec, reference_ms: float
) -> list[float]:
    """Milliseconds of the smallest and the largest member: measured, unless the target is surely above both.

    A largest member that takes many times the target is not worth its measurement, which may take minutes.
    """
    problem, reporter = preparation.problem, preparation.reporter
    ends = dict(zip(("smallest", "largest"), extreme_specs(problem), strict=True))
    estimates = dict(zip(ends, predictor.predict(list(ends.values())), strict=True))
    if min(goal.target for goal in problem.goals) > SURELY_ABOVE * max(e.high_ms for e in estimates.values()):
        return [estimate.ms for estimate in estimates.values()]
    highest = max(goal.target for goal in problem.goals)
    found = measure_each(
        {
            name: spec
            for name, spec in ends.items()
            if name == "smallest" or estimates[name].low_ms <= FAR_ABOVE * highest
        },
        reference=reference,
        conditions=problem.conditions,
        processes=1,
        reference_ms=reference_ms,
        seed=preparation.seed,
        host=problem.host,
    )
    for measured in found.measurements:
        estimate = estimates[measured.name]
        if measured.status != "noisy" and not estimate.low_ms <= measured.latency_ms <= estimate.high_ms:
            reporter.warn(
                f"the {measured.name} network of {problem.space.name} takes {measured.latency_ms:.3g} ms where the "
                f"predictor says {estimate.low_ms:.3g} to {estimate.high_ms:.3g}. Finalists are measured in any case."
            )
    known = {measured.name: measured.latency_ms for measured in found.measurements}
    return [known.get(name, estimate.ms) for name, estimate in estimates.items()]


def drift_since(
    calibration: Calibration,
    reference: NetworkSpec,
    reference_ms: float,
    seed: int,
    reporter: Reporter,
    *,
    host: Host = LOCAL,
) -> float:
    """How many times as long a device takes now as when it was calibrated.

    Args:
        calibration: of this device.
        reference: a network just timed, `reference_ms`; where it is not the calibration's, that is timed now.
        reference_ms: of the reference.
        seed: of a measurement.
        reporter: told of a drift worth a word.
        host: the device.

    Raises:
        MeasurementError: a measurement failed.
    """
    now_ms = reference_ms
    if reference != calibration.reference:
        now_ms = reference_ms_of(
            calibration.reference, conditions=calibration.conditions, seed=seed, host=host
        )
    factor = now_ms / calibration.reference_ms
    if abs(factor - 1) > DRIFT_NOTED:
        reporter.note(
            f"{calibration.reference_ms:.3g} ms for the reference then, {now_ms:.3g} ms now: predictions are "
            f"brought to the present speed."
        )
    return factor


def measuring(preparation: Preparation) -> Timing:
    """Every candidate is timed; the range is that of the smallest and largest member by multiply-adds."""
    problem, reporter = preparation.problem, preparation.reporter
    reporter.stage(f"timing the reference and the range of the space on {problem.host.name}")
    reference = default_reference(problem.space)
    stored = preparation.history.references
    if stored and stored[0].get("device", problem.host.device.fingerprint) != problem.host.device.fingerprint:
        raise RunDirectoryError(
            f"this run was begun on another device than {problem.host.name}; latencies of one say nothing about "
            "another. Resume it where it was begun, or begin a new one."
        )
    reference_ms = stored[0]["ms"] if stored else _time_reference(preparation, reference)
    model = MeasuringLatencyModel(
        reference,
        problem.conditions,
        reference_ms=reference_ms,
        seed=derive_seed(preparation.seed, "each", len(preparation.history.batches)),
        host=problem.host,
    )
    predict = checked(model, "measure")
    fastest, slowest = (estimate.ms for estimate in predict(extreme_specs(problem)))
    reporter.note(f"{problem.space.name} takes {fastest:.3g} to {slowest:.3g} ms on {problem.host.name}")
    ruler = Ruler(problem.conditions, reference, predict, reference_ms=reference_ms, host=problem.host)
    return Timing(ruler, fastest, slowest)


def _time_reference(preparation: Preparation, reference: NetworkSpec) -> float:
    """The reference's milliseconds at the start of the search, over three fresh processes; stored."""
    host = preparation.problem.host
    ms = reference_ms_of(
        reference,
        conditions=preparation.problem.conditions,
        seed=derive_seed(preparation.seed, "reference"),
        host=host,
        on_progress=preparation.reporter.progress,
    )
    timed = {"ms": ms, "when": "start", "device": host.device.fingerprint}
    preparation.store.append("reference", [timed])
    preparation.history.references.append(timed)
    return ms


def _stored_calibration(preparation: Preparation) -> Calibration:
    """The run's calibration, if it is the one that the store names and holds for this device.

    Raises:
        RunDirectoryError: it was changed, is missing, or the run was begun on another device.
    """
    path, event = preparation.run.calibration, preparation.history.calibration
    assert event is not None
    if not path.is_file() or sha256_of(path) != event["sha256"]:
        raise RunDirectoryError(
            f"{path} is missing or was changed since the search wrote it. Restore it, or begin a new run with --out."
        )
    try:
        return read_calibration(path, preparation.problem.host.device, preparation.problem.conditions)
    except InputError as error:
        raise RunDirectoryError(f"{error} Resume the run where it was begun, or begin a new one.") from error
