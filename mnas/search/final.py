"""The finalists: measured together where the device is this one, then judged."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mnas.records import latency_fields
from mnas.search.comparison import compared_networks, comparison_rows
from mnas.search.finalists import Candidate, Measured, candidates, correction, decide, select
from mnas.search.history import History
from mnas.search.measured import DeviceLatencies, DeviceLatency
from mnas.search.problem import Goal, Problem
from mnas.search.reporting import Reporter
from mnas.search.step_timing import timed_steps
from mnas.search.timing import Timing
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

# Fresh processes, since they differ by more than runs inside one, and seconds for all of them (chosen here: some
# thirty rounds of a dozen networks of 7 ms in each).
PROCESSES, BUDGET_S = 5, 16.0
ROUNDS = 2

Choose = Callable[[Sequence[Measured], float], Measured]


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
        references: milliseconds of the reference, once for each time that networks were measured.
        comparison: published networks beside them, one object each; none where nothing was measured here.
        measured: latency fields of everything that was measured with the first finalists, by name or architecture.
    """

    status: Literal["done", "noisy", "no_feasible"]
    winner: Measured | None
    latency: Mapping[str, Any]
    rows: list[dict[str, Any]]
    evidence: list[Mapping[str, Any]]
    calibration: Mapping[str, Any] | None
    warnings: list[str]
    references: list[float]
    comparison: list[dict[str, Any]]
    measured: Mapping[str, Mapping[str, Any]]


def judge_finalists(
    problem: Problem,
    goal: Goal,
    timing: Timing,
    history: History,
    reporter: Reporter,
    choose: Choose | None,
    beside: Sequence[Candidate] = (),
) -> Final:
    """Measures at most two rounds of finalists and picks the winner; see `finalists` for the rules.

    The second round is for when none of the first holds; it is chosen knowing by how much predictions were off, and
    from candidates whose training was stopped early as well.

    Args:
        problem: what is searched.
        goal: the target, with the budget that they are judged by.
        timing: what knows latency.
        history: the trials.
        reporter: told of progress.
        choose: picks the winner of the finalists within the target, at least one; None goes by what is known.
        beside: candidates that are measured with the first finalists, and take no part otherwise.

    Raises:
        MeasurementError: a measurement failed.
        SearchError: as `choose`.
    """
    kind = problem.config.target_kind
    pool = candidates(history.known_now(), "latency_ms" if kind == "latency" else "madds")
    target, tie = goal.budget, getattr(problem.accuracy, "mae", None)
    judged: list[tuple[Measured, dict[str, Any]]] = []
    evidence: list[Mapping[str, Any]] = []
    warnings: list[str] = []
    references: list[float] = []
    comparison: list[dict[str, Any]] = []
    timed: dict[str, Mapping[str, Any]] = {}
    winner: Measured | None = None

    def measure(group: Sequence[Candidate], number: int) -> list[tuple[Measured, dict[str, Any]]]:
        """The group, with the published networks and the others beside it the first time."""
        others = {} if comparison else compared_networks(problem) | _specs(problem, beside)
        latencies = _measure(problem, timing, group, others, number, reporter)
        evidence.append(latencies.record)
        warnings.extend(latencies.warnings)
        references.append(latencies.reference_ms)
        found = latencies.by_name
        if not comparison:
            timed.update((name, latency.fields) for name, latency in found.items())
            rows = {name: {**found[name].fields, "status": found[name].status} for name in others}
            comparison.extend(comparison_rows(problem, rows))
        return [(_measured(c, found[c.trial.key]), found[c.trial.key].fields) for c in group]

    for number in range(ROUNDS):
        chosen = {measured.candidate.trial.number for measured, _ in judged}
        left = [c for c in pool if c.trial.number not in chosen and (c.whole or number > 0)]
        group = select(left, target, factor=correction([measured for measured, _ in judged]))
        if not group:
            break
        if kind == "latency" and timing.ruler.measures:
            reporter.stage(f"measuring {len(group)} finalists and published networks in fresh processes")
            found = measure(group, number)
        else:
            found = [_by_estimate(candidate, timing, kind) for candidate in group]
        found = _with_steps(problem, timing, found, number, evidence, reporter)
        judged += found
        winner = decide([measured for measured, _ in found], target, tie)
        if winner is not None:
            break
    if winner is not None and choose is not None:
        winner = choose([measured for measured, _ in judged if measured.within(target)], target)
    rows = [_row(measured, latency, target) for measured, latency in judged]
    latency: Mapping[str, Any] = next((fields for measured, fields in judged if measured is winner), {})
    if winner is not None and kind == "madds":
        reporter.stage("measuring the winner, though nothing hangs on it")
        ((_, timed_now),) = measure([winner.candidate], 0)
        latency = {**latency, **timed_now}
    status: Literal["done", "noisy", "no_feasible"] = "done"
    if winner is None:
        status = "noisy" if any(measured.status == "noisy" for measured, _ in judged) else "no_feasible"
    for text in warnings:
        reporter.warn(text)
    return Final(
        status,
        winner,
        latency,
        rows,
        evidence,
        timing.calibration,
        warnings,
        references,
        comparison,
        timed,
    )


def _with_steps(
    problem: Problem,
    timing: Timing,
    found: list[tuple[Measured, dict[str, Any]]],
    number: int,
    evidence: list[Mapping[str, Any]],
    reporter: Reporter,
) -> list[tuple[Measured, dict[str, Any]]]:
    """The same finalists with their training steps timed, where the reward asks; else as they are."""
    if timing.steps is None:
        return found
    specs = _specs(problem, [measured.candidate for measured, _ in found])
    metrics, record = timed_steps(problem, timing.steps, specs, number, reporter)
    evidence.append({"training_steps": record})
    timed = []
    for measured, fields in found:
        known = metrics[measured.candidate.trial.key]
        candidate = replace(measured.candidate, factor=known["training_factor"])
        timed.append((replace(measured, candidate=candidate), {**fields, **known}))
    return timed


def _by_estimate(candidate: Candidate, timing: Timing, kind: str) -> tuple[Measured, dict[str, Any]]:
    """Judged by what the search already knows: exact multiply-adds, or a plug-in's estimate for its device."""
    fields = {}
    if kind == "latency":
        fields = latency_fields(candidate.cost, None, candidate.low, candidate.high, timing.ruler.source)
    return Measured(candidate, candidate.cost, candidate.high), fields


def _measure(
    problem: Problem,
    timing: Timing,
    group: Sequence[Candidate],
    beside: Mapping[str, NetworkSpec],
    number: int,
    reporter: Reporter,
) -> DeviceLatencies:
    """Finalists and the networks beside them, all interleaved in five fresh processes."""
    return timing.ruler.measure(
        _specs(problem, group) | dict(beside),
        processes=PROCESSES,
        budget_s=BUDGET_S,
        seed=derive_seed(problem.config.seed, "finalists", number),
        reporter=reporter,
    )


def _specs(problem: Problem, group: Sequence[Candidate]) -> dict[str, NetworkSpec]:
    space = problem.space
    return {c.trial.key: space.decode(space.from_key(c.trial.key)) for c in group}


def _measured(candidate: Candidate, latency: DeviceLatency) -> Measured:
    return Measured(candidate, latency.ms, latency.upper_ms, latency.status)


def _row(measured: Measured, latency: Mapping[str, Any], target: float) -> dict[str, Any]:
    candidate = measured.candidate
    return {
        "trial": candidate.trial.number,
        "architecture": candidate.trial.key,
        "accuracy": candidate.accuracy,
        "predicted": candidate.cost,
        "measured_before": "latency_raw_ms" in candidate.trial.metrics,
        "status": measured.status,
        "within_target": measured.within(target),
        **latency,
    }
