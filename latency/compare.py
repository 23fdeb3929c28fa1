"""Whether one network is slower than another: both in the same processes, paired with each other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Literal

from mnas.errors import InputError
from mnas.latency.conditions import Conditions
from mnas.latency.host import LOCAL, Host, check_conditions
from mnas.latency.measure import LIGHT
from mnas.latency.measurement import MeasurementStatus, ProcessSamples, gate, judge
from mnas.latency.session import Progress, Session, Timeable

# Sessions of each network in a process, and fresh processes. Where a session's memory lies moves its latency for as
# long as it lives: by 1 % (standard deviation), and one in fifteen by 8 to 10 %, up or down (70 sessions of one network
# in 14 processes). The median of three is not moved by one that is far off: drawn from those sessions, the ratio of a
# network to itself has a standard deviation of 0.25 % over eight processes, with one session each 0.54 %.
SESSIONS, PROCESSES = 3, 8
# Seconds that a process takes before its first sample: Python, ONNX Runtime, the choice of a core, the first warm-up
# (as seen on a shared two-core x86 machine).
START_S = 0.9
Verdict = Literal["faster", "slower", "undecided", "noisy"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What was found of a second network beside a first.

    Args:
        ratio: latency of the second over that of the first; `low` to `high` is its 95 % interval.
        verdict: of the second: `faster` or `slower` where the interval leaves out 1, `undecided` where it does not;
            `noisy` where the device was too noisy to say.
        status: of the measurement.
        seconds: that it took.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict
    status: MeasurementStatus
    seconds: float


def compare(
    first: Timeable,
    second: Timeable,
    *,
    conditions: Conditions,
    budget_s: float = 20.0,
    processes: int = PROCESSES,
    seed: int,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> Comparison:
    """Times two networks interleaved with each other, three sessions of each in a process, neither with a reference.

    Args:
        first: what the second is compared with.
        second: the other.
        conditions: threads, batch, precision, provider.
        budget_s: seconds for all processes and both networks, starting the processes included.
        processes: fresh ones.
        seed: of order, inputs and bootstrap.
        host: where.
        on_progress: told what is being done.

    Raises:
        InputError: a number outside its domain, or conditions that the host does not offer.
        MeasurementError: a worker failed, another measurement holds the device, or it cannot be reached.
    """
    if processes < 1 or not budget_s > 0:
        raise InputError(
            f"compare: expected processes >= 1 and budget_s > 0, got {processes} and {budget_s}."
        )
    check_conditions(conditions, host)
    start = time.perf_counter()
    # The first session of the first network is what the worker calls the reference.
    firsts = {f"first network, session {number}": first for number in range(2, SESSIONS + 1)}
    seconds = {f"second network, session {number}": second for number in range(1, SESSIONS + 1)}
    session = Session(
        {**firsts, **seconds},
        first,
        conditions,
        LIGHT,
        budget_s=max(0.1, budget_s / processes - START_S) / (2 * SESSIONS),
        seed=seed,
        host=host,
        on_progress=on_progress,
    )
    with host.open(session.say) as place:
        session.run([list(session.networks)], processes, place)
    status, ratio = judge(_paired(session, list(firsts), list(seconds)), processes, seed=seed)
    verdict: Verdict = "undecided"
    if status == "noisy":
        verdict = "noisy"
    elif ratio.low > 1 or ratio.high < 1:
        verdict = "slower" if ratio.low > 1 else "faster"
    return Comparison(ratio.value, ratio.low, ratio.high, verdict, status, time.perf_counter() - start)


def _paired(session: Session, firsts: Sequence[str], seconds: Sequence[str]) -> tuple[ProcessSamples, ...]:
    """For each process the two networks' samples: of each round the median over the sessions of a network."""
    columns = zip(*(session.samples[name] for name in (*firsts, *seconds)), strict=True)
    return gate([_medians(items[: len(firsts)], items[len(firsts) :]) for items in columns])


def _medians(firsts: Sequence[ProcessSamples], seconds: Sequence[ProcessSamples]) -> ProcessSamples:
    def over(*sessions: Sequence[float]) -> tuple[float, ...]:
        return tuple(map(median, zip(*sessions, strict=True)))

    one = seconds[0]
    return replace(
        one,
        candidate_ms=over(*(item.candidate_ms for item in seconds)),
        candidate_wall_ms=over(*(item.candidate_wall_ms for item in seconds)),
        reference_ms=over(one.reference_ms, *(item.candidate_ms for item in firsts)),
        reference_wall_ms=over(one.reference_wall_ms, *(item.candidate_wall_ms for item in firsts)),
    )
