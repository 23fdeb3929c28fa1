"""Latency known from this device: by a predictor calibrated on it, or by timing every candidate."""

from mnas.errors import InputError, RunDirectoryError, SearchError
from mnas.files import read_json, sha256_of, write_json
from mnas.latency import (
    Calibration,
    MeasuringLatencyModel,
    calibrate,
    default_reference,
    reference_ms_of,
    this_device,
)
from mnas.latency.calibrate import FEWEST, NETWORKS
from mnas.search.measured import MEASURED
from mnas.search.timing import Preparation, Timing, checked, extreme_specs
from mnas.search_space import NetworkSpec, SearchSpace
from mnas.seeds import derive_seed

# Points up to which a space is counted by listing it (chosen here: a few milliseconds).
_SMALL_SPACE = 1000


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
        predict=checked(calibration.predictor, "calibrated"),
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
    predict = checked(model, "measure")
    fastest, slowest = (estimate.ms for estimate in predict(extreme_specs(problem)))
    reporter.note(f"{problem.space.name} takes {fastest:.3g} to {slowest:.3g} ms here")
    return Timing(predict, True, MEASURED, fastest, slowest, reference, reference_ms, None, problem)


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
