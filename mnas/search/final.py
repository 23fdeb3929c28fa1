"""The finalists: measured together where the device is this one, then judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnas.records import latency_fields
from mnas.search.finalists import Candidate, Measured, candidates, decide, select
from mnas.search.history import History
from mnas.search.measured import DeviceLatencies
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search.timing import Timing
from mnas.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Final:
    """How the search ended.

    Args:
        status: `done` with a winner; `no_feasible` or `noisy` without.
        winner: the finalist chosen.
        latency: the winner's latency fields.
        rows: one object for each finalist, in the order judged.
        evidence: raw measurements as JSON, for the run directory.
        calibration: what is known of the predictor's error.
        warnings: what a person must know of the measurements.
    """

    status: Literal["done", "noisy", "no_feasible"]
    winner: Measured | None
    latency: Mapping[str, Any]
    rows: list[dict[str, Any]]
    evidence: list[Mapping[str, Any]]
    calibration: Mapping[str, Any] | None
    warnings: list[str]


def judge_finalists(problem: Problem, timing: Timing, history: History, reporter: Reporter) -> Final:
    """Measures at most two rounds of finalists and picks the winner; see `finalists` for the rules.

    Raises:
        MeasurementError: a measurement failed.
    """
    kind = problem.config.target_kind
    pool = candidates(history.trials, "latency_ms" if kind == "latency" else "madds")
    target, tie = problem.reward.target, getattr(problem.accuracy, "mae", None)
    rounds = select(pool, target)
    judged: list[tuple[Measured, dict[str, Any]]] = []
    evidence: list[Mapping[str, Any]] = []
    warnings: list[str] = []
    winner: Measured | None = None
    for number, group in enumerate(rounds):
        if kind == "latency" and timing.measured:
            reporter.stage(f"measuring {len(group)} finalists in fresh processes")
            found, latencies = _measure(problem, timing, group, number, reporter)
            evidence.append(latencies.record)
            warnings += latencies.warnings
        else:
            found = [_by_estimate(candidate, timing, kind) for candidate in group]
        judged += found
        winner = decide([measured for measured, _ in found], target, tie)
        if winner is not None:
            break
    rows = [_row(measured, latency, target) for measured, latency in judged]
    latency: Mapping[str, Any] = next((fields for measured, fields in judged if measured is winner), {})
    if winner is not None and kind == "madds":
        reporter.stage("measuring the winner, though nothing hangs on it")
        (again,), latencies = _measure(problem, timing, [winner.candidate], 0, reporter)
        latency = again[1]
        evidence.append(latencies.record)
        warnings += latencies.warnings
    status: Literal["done", "noisy", "no_feasible"] = "done"
    if winner is None:
        status = "noisy" if any(measured.status == "noisy" for measured, _ in judged) else "no_feasible"
    for text in warnings:
        reporter.warn(text)
    return Final(status, winner, latency, rows, evidence, timing.calibration, warnings)


def _by_estimate(candidate: Candidate, timing: Timing, kind: str) -> tuple[Measured, dict[str, Any]]:
    """Judged by what the search already knows: exact multiply-adds, or a plug-in's estimate for its device."""
    fields = {}
    if kind == "latency":
        fields = latency_fields(candidate.cost, None, candidate.low, candidate.high, timing.source)
    return Measured(candidate, candidate.cost, candidate.high), fields


def _measure(
    problem: Problem, timing: Timing, group: Sequence[Candidate], number: int, reporter: Reporter
) -> tuple[list[tuple[Measured, dict[str, Any]]], DeviceLatencies]:
    """All finalists interleaved in five fresh processes."""
    space = problem.space
    found = timing.measure(
        {c.trial.key: space.decode(space.from_key(c.trial.key)) for c in group},
        processes=5,
        budget_s=35.0,
        seed=derive_seed(problem.config.seed, "finalists", number),
        reporter=reporter,
    )
    judged = []
    for candidate in group:
        latency = found.by_name[candidate.trial.key]
        measured = Measured(candidate, latency.ms, latency.upper_ms, latency.status)
        judged.append((measured, latency.fields))
    return judged, found


def _row(measured: Measured, latency: Mapping[str, Any], target: float) -> dict[str, Any]:
    candidate = measured.candidate
    return {
        "trial": candidate.trial.number,
        "architecture": candidate.trial.key,
        "accuracy": candidate.accuracy,
        "predicted": candidate.cost,
        "status": measured.status,
        "within_target": measured.status != "noisy" and measured.upper <= target,
        **latency,
    }
