"""Measuring networks: paired with a reference, in fresh processes, one measurement at a time on a device.

Why paired: on a busy two-core machine the median of single timings varied by 11 % between repeats, the median
of ratios to an interleaved reference by under 1 %. Why fresh processes: they differ by more than runs in one do.
The stop rule bounds an interval instead of fixing a number of runs, as MLPerf LoadGen's does.
"""

import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from mnas.errors import InputError
from mnas.latency.conditions import Conditions
from mnas.latency.host import LOCAL, Host, check_conditions
from mnas.latency.intervals import DRIFT_WARNS
from mnas.latency.measurement import (
    RAW_DIFFERS,
    Measurement,
    MeasurementSet,
    ProcessSamples,
    judge,
    level,
    median_ms,
    plain_ratio,
)
from mnas.latency.operators import median_operators
from mnas.latency.session import Progress, Session, Timeable
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

TRIES = 3
# Seconds for a reference in one process, beside a second session of itself (chosen here: some forty rounds of 8 ms).
REFERENCE_S = 1.3
# Two processes whose ratios are further apart than this, on the logarithm, do not say which of them is right: one
# session in fifteen is 8 to 10 % off for as long as it lives (70 sessions of one network in 14 processes), the others
# are by 1 to 2 %. A third process then decides, through the median.
APART = 0.05
# Networks interleaved in one process where there are many (chosen here: twelve sessions of some 60 MB are open at
# once, and a process's start is shared by them all).
GROUP = 12
# Rounds: ten are the fewest whose bootstrap interval means something; with 400, noise of 10 % a run closes to 1 %.
# Three sessions of the reference are open at once: where the memory of a session lies moves its latency by about 1 %
# for as long as it lives, and the reference's share of that is in the ratio of every network beside it. With one the
# ratios in a process moved together by 2.5 % (standard deviation, 14 groups of ten), with three by 1.7 % (12 of 12).
PROTOCOL: dict[str, Any] = {
    "min_rounds": 10,
    "max_rounds": 400,
    "precision": 0.01,
    "warm_runs": 10,
    "warm_s": 0.3,
    "settle": True,
    "warm_cap_s": 5.0,
    "references": 3,
}
# Where the process is warm already, by its reference: a few runs settle what is a network's own (its memory and packed
# weights). Chosen here: the full warm-up of a dozen networks takes longer than timing them.
LIGHT: dict[str, Any] = {**PROTOCOL, "warm_runs": 3, "warm_s": 0.03, "settle": False, "references": 1}
# Several at once in fresh processes, which differ by more than rounds in one do: more processes, fewer rounds.
TOGETHER: dict[str, Any] = {**LIGHT, "min_rounds": 6, "references": 3}


def measure(
    networks: Mapping[str, Timeable],
    *,
    reference: NetworkSpec,
    conditions: Conditions,
    processes: int = 3,
    reference_ms: float | None = None,
    budget_s: float = 30.0,
    seed: int,
    pin: bool = True,
    protocol: Mapping[str, Any] = PROTOCOL,
    profile_runs: int = 0,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> MeasurementSet:
    """Times all networks together: interleaved with each other and the reference in each of the processes.

    For networks that are compared with each other, finalists for example. Three tries at most: a process whose
    reference drifted by more than 30 % is replaced, and where an interval is wider than +-10 %, further
    processes are added to those before. Ctrl-C ends the measuring process and is raised again.

    Args:
        networks: by name, at least one.
        reference: what each is paired with; it should use the same kernels (depthwise, dense, SE).
        conditions: threads, batch, precision, provider.
        processes: fresh ones; three, five for finalists.
        reference_ms: what a ratio of 1 is in milliseconds; None is this run's own median.
        budget_s: seconds for the first try, all processes together, warm-up included (starting them comes on
            top, about a second each); ten rounds are always done. Later tries get the share of what is left.
        seed: of order, inputs and bootstrap.
        pin: whether each process keeps to the cores that it finds least busy, where the system allows that.
        protocol: rounds, precision and warm-up; `PROTOCOL`, or a lighter one for networks that share a process.
        profile_runs: of each network in each process, after it was timed, for the times of its operators.
        host: where.
        on_progress: called with networks x processes done, their total, and what is being done.

    Raises:
        InputError: no networks, a number outside its domain, or conditions that the host does not offer.
        MeasurementError: a worker failed, another measurement holds the device, or it cannot be reached.
    """
    _check(networks, processes, reference_ms, budget_s)
    check_conditions(conditions, host)
    each_s = budget_s / processes / (len(networks) + 1)
    session = Session(
        networks,
        reference,
        conditions,
        protocol,
        budget_s=each_s,
        seed=seed,
        pin=pin,
        profile_runs=profile_runs,
        host=host,
        on_progress=on_progress,
    )
    return _run(session, [list(networks)], processes, reference_ms)


def measure_each(
    networks: Mapping[str, Timeable],
    *,
    reference: NetworkSpec,
    conditions: Conditions,
    processes: int = 3,
    reference_ms: float | None = None,
    budget_s: float = 0.8,
    seed: int,
    pin: bool = True,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> MeasurementSet:
    """Times each network on its own with the reference, many in one process, warmed up lightly.

    For a search that measures every candidate, or the range of a space. Arguments as in `measure`, but
    `budget_s` is for one network in one process, its session and warm-up included.

    Raises:
        InputError: no networks, a number outside its domain, or conditions that the host does not offer.
        MeasurementError: a worker failed, another measurement holds the device, or it cannot be reached.
    """
    _check(networks, processes, reference_ms, budget_s)
    check_conditions(conditions, host)
    session = Session(
        networks,
        reference,
        conditions,
        LIGHT,
        budget_s=budget_s / 2,
        seed=seed,
        pin=pin,
        host=host,
        on_progress=on_progress,
    )
    return _run(session, [[name] for name in networks], processes, reference_ms)


def measure_spread(
    networks: Mapping[str, Timeable],
    *,
    reference: NetworkSpec,
    conditions: Conditions,
    passes: int = 2,
    group: int = GROUP,
    budget_s: float = 0.25,
    seed: int,
    pin: bool = True,
    profile_runs: int = 0,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> MeasurementSet:
    """Times many networks, each in several processes in different company.

    In each pass the networks are dealt anew into groups; each is interleaved with the reference in a fresh process.
    What a process does to all its networks alike is then told from what they are, and taken out (`measurement.level`).
    Those that are noisy, or whose two processes disagree, then get another process, twice at the most.
    Arguments as in `measure`, but:

    Args:
        networks: by name, at least one.
        passes: processes for each network.
        group: networks in a process.
        budget_s: seconds for a network in one process, its session and warm-up included; six rounds are always done.
        profile_runs: of each network in its first process alone.

    Raises:
        InputError: no networks, a number outside its domain, or conditions that the host does not offer.
        MeasurementError: a worker failed, another measurement holds the device, or it cannot be reached.
    """
    _check(networks, passes, None, budget_s)
    check_conditions(conditions, host)
    start, rng = time.perf_counter(), random.Random(derive_seed(seed, "company"))
    session = Session(
        networks,
        reference,
        conditions,
        TOGETHER,
        budget_s=budget_s,
        seed=seed,
        pin=pin,
        profile_runs=profile_runs,
        host=host,
        on_progress=on_progress,
    )
    session.expect(passes * len(networks))
    names = list(networks)
    with host.open(session.say) as place:
        for _ in range(passes):
            rng.shuffle(names)
            for company in _deal(names, group):
                session.run([company], 1, place)
            session.profile_runs = 0
        for _ in range(TRIES - 1):
            doubtful = _disagreeing(session.samples)
            again = [name for name in names if name in doubtful or session.missing(name, passes)]
            for company in _deal(again, group):
                session.run([company], 1, place)
    session.samples = level(session.samples)
    return _result(session, passes, None, time.perf_counter() - start)


def _disagreeing(samples: Mapping[str, tuple[ProcessSamples, ...]]) -> set[str]:
    """Networks of two processes whose ratios are further apart than `APART`, what their processes share taken out."""
    found = set()
    for name, items in level(samples).items():
        kept = [item for item in items if not item.rejected]
        if len(kept) == 2:
            first, second = map(plain_ratio, kept)
            if abs(math.log(first / second)) > APART:
                found.add(name)
    return found


def _deal(names: Sequence[str], size: int) -> list[list[str]]:
    """As few groups of at most that size as there can be; their sizes differ by one at the most."""
    count = -(-len(names) // size)
    return [list(names[number::count]) for number in range(count)]


def reference_ms_of(
    reference: NetworkSpec,
    *,
    conditions: Conditions,
    processes: int = 3,
    seed: int,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> float:
    """The reference's milliseconds by the clock that decides: median over fresh processes of the median.

    It runs beside a second session of itself, as candidates run beside it.

    Raises:
        InputError: fewer than one process, or conditions that the host does not offer.
        MeasurementError: as `measure`.
    """
    result = measure(
        {"reference": reference},
        reference=reference,
        conditions=conditions,
        processes=processes,
        budget_s=REFERENCE_S * max(1, processes),
        seed=seed,
        protocol=LIGHT,
        host=host,
        on_progress=on_progress,
    )
    return result.reference_ms


def _run(
    session: Session, groups: Sequence[Sequence[str]], processes: int, reference_ms: float | None
) -> MeasurementSet:
    """Up to three tries under the device's lock, each for what is missing after the one before."""
    start = time.perf_counter()
    with session.host.open(session.say) as place:
        for _ in range(TRIES):
            missing = {name: session.missing(name, processes) for name in session.networks}
            pending = [wanted for group in groups if (wanted := [name for name in group if missing[name]])]
            if not pending:
                break
            session.run(pending, max(missing.values()), place)
    return _result(session, processes, reference_ms, time.perf_counter() - start)


def _result(session: Session, processes: int, reference_ms: float | None, seconds: float) -> MeasurementSet:
    own_ms = median(median_ms(samples, "reference_ms") for samples in session.samples.values())
    raw_ms = median(median_ms(samples, "reference_wall_ms") for samples in session.samples.values())
    scale = own_ms if reference_ms is None else reference_ms
    measurements = tuple(_measurement(session, name, processes, scale) for name in session.networks)
    assert isinstance(session.reference, NetworkSpec)
    return MeasurementSet(
        conditions=session.conditions,
        device=session.host.device,
        reference=session.reference,
        reference_ms=scale,
        reference_given=reference_ms is not None,
        reference_raw_ms=raw_ms,
        measurements=measurements,
        processes=tuple(session.records),
        warnings=tuple(_warnings(measurements, raw_ms / own_ms)),
        seed=session.seed,
        seconds=seconds,
    )


def _measurement(session: Session, name: str, processes: int, scale: float) -> Measurement:
    samples, file = session.samples[name], session.files[name]
    status, ratio = judge(samples, processes, seed=session.seed)
    return Measurement(
        name=name,
        status=status,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        latency_ms=ratio.value * scale,
        low_ms=ratio.low * scale,
        high_ms=ratio.high * scale,
        raw_ms=median_ms(samples, "candidate_wall_ms"),
        model_sha256=file.sha256,
        input_shape=file.input_shape,
        samples=samples,
        operators=median_operators(session.profiles[name]),
    )


def _warnings(measurements: Sequence[Measurement], stretch: float) -> Iterator[str]:
    """What a reader must know of these measurements, in words; `stretch` is the reference's wall over on-core."""
    if stretch > 1 + RAW_DIFFERS:
        yield (
            f"the core was shared with other work: by the wall clock the reference took {stretch:.2f} times as "
            "long as it was on the core. Milliseconds are on-core time; the plain ones stand beside them."
        )
    every = [item for measurement in measurements for item in measurement.samples]
    drifted = [item for item in every if item.drift > DRIFT_WARNS and not item.rejected]
    if drifted:
        yield (
            f"the reference drifted by up to {max(item.drift for item in drifted):.0%} in {len(drifted)} of "
            f"{len(every)} timings: other work on this device? Ratios lose most of it, milliseconds keep it."
        )
    rejected = sum(item.rejected for item in every)
    if rejected:
        yield f"{rejected} of {len(every)} timings were rejected: the reference drifted by more than 30 %."
    noisy = [measurement.name for measurement in measurements if measurement.status == "noisy"]
    if noisy:
        yield (
            f"the device was too noisy to measure {', '.join(noisy)} in {TRIES} tries: end other work on it "
            "and measure again; do not decide by these figures."
        )


def _check(
    networks: Mapping[str, Timeable], processes: int, reference_ms: float | None, budget_s: float
) -> None:
    problems = []
    if not networks:
        problems.append("at least one network is needed, got none")
    if processes < 1:
        problems.append(f"processes must be at least 1, got {processes}")
    if not budget_s > 0:
        problems.append(f"budget_s must be positive, got {budget_s}")
    if reference_ms is not None and not reference_ms > 0:
        problems.append(f"reference_ms must be positive, got {reference_ms}")
    if problems:
        raise InputError(f"measure: {'; '.join(problems)}.")
