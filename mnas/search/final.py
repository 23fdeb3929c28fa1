"""The finalists: measured together where the device is this one, then judged."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mnas.latency.intervals import DRIFT_REJECTS, DRIFT_WARNS
from mnas.latency.measurement import RAW_DIFFERS
from mnas.records import latency_fields
from mnas.search.finalists import Candidate, Measured, candidates, decide, select
from mnas.search.history import History
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
    rounds = select(pool, problem.reward.target)
    target, tie = problem.reward.target, getattr(problem.accuracy, "mae", None)
    judged: list[tuple[Measured, dict[str, Any]]] = []
    evidence: list[Mapping[str, Any]] = []
    warnings: list[str] = []
    winner: Measured | None = None
    for number, group in enumerate(rounds):
        if kind == "latency" and timing.measured:
            reporter.stage(f"measuring {len(group)} finalists in fresh processes")
            found, record = _measure(problem, timing, group, number, reporter)
            evidence.append(record)
            warnings += record["warnings"]
        else:
            found = [_by_estimate(candidate, timing) for candidate in group]
        judged += found
        winner = decide([measured for measured, _ in found], target, tie)
        if winner is not None:
            break
    rows = [_row(measured, latency, target) for measured, latency in judged]
    latency: Mapping[str, Any] = next((fields for measured, fields in judged if measured is winner), {})
    if winner is not None and kind == "madds":
        latency, record = _measure_winner(problem, timing, winner, reporter)
        evidence.append(record)
        warnings += record["warnings"]
    status: Literal["done", "noisy", "no_feasible"] = "done"
    if winner is None:
        status = "noisy" if any(measured.status == "noisy" for measured, _ in judged) else "no_feasible"
    for text in warnings:
        reporter.warn(text)
    return Final(status, winner, latency, rows, evidence, timing.calibration, warnings)


def _by_estimate(candidate: Candidate, timing: Timing) -> tuple[Measured, dict[str, Any]]:
    """Judged by what the search already knows: exact multiply-adds, or a plug-in's estimate for its device."""
    fields = latency_fields(candidate.cost, None, candidate.low, candidate.high, timing.source)
    return Measured(candidate, candidate.cost, candidate.high), fields


def _measure(
    problem: Problem, timing: Timing, group: Sequence[Candidate], number: int, reporter: Reporter
) -> tuple[list[tuple[Measured, dict[str, Any]]], dict[str, Any]]:
    """All finalists interleaved in five fresh processes.

    Milliseconds are ratios to the reference x its milliseconds, the mean of the search's start and now.
    """
    space = problem.space
    networks = {c.trial.key: space.decode(space.from_key(c.trial.key)) for c in group}
    seed = derive_seed(problem.config.seed, "finalists", number)
    result = timing.measure(networks, processes=5, budget_s=35.0, seed=seed, reporter=reporter)
    start_ms, end_ms = timing.reference_ms or result.reference_ms, result.reference_ms
    drift = abs(end_ms / start_ms - 1)
    warnings = list(result.warnings)
    if drift > DRIFT_WARNS:
        warnings.append(
            f"the reference network's latency moved by {drift:.0%} between start and end of the search."
        )
    scale = (start_ms + end_ms) / 2
    judged = []
    for candidate in group:
        m = result[candidate.trial.key]
        # A wall clock far beyond the time on the core is another process's doing: no verdict on the network.
        noisy = (
            m.status == "noisy" or drift > DRIFT_REJECTS or m.raw_ms > (1 + DRIFT_REJECTS) * m.ratio * scale
        )
        low, high = m.ratio_low * scale, m.ratio_high * scale
        if abs(m.raw_ms / (m.ratio * scale) - 1) > RAW_DIFFERS:
            warnings.append(
                f"{candidate.trial.key}: wall clock {m.raw_ms:.2f} ms and paired {m.ratio * scale:.2f} ms "
                f"differ by more than 10 %."
            )
        fields = latency_fields(m.ratio * scale, m.raw_ms, low, high, timing.source)
        upper = max(high, m.raw_ms) if math.isfinite(high) else math.inf
        judged.append((Measured(candidate, m.ratio * scale, upper, "noisy" if noisy else m.status), fields))
    return judged, {**result.to_dict(), "start_reference_ms": start_ms, "warnings": warnings}


def _measure_winner(
    problem: Problem, timing: Timing, winner: Measured, reporter: Reporter
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """The winner of a search by multiply-adds is timed too, though nothing hangs on it."""
    reporter.stage("measuring the winner")
    judged, record = _measure(problem, timing, [winner.candidate], 0, reporter)
    return judged[0][1], record


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
