"""Whether one network is slower than another: both in the same processes, paired with each other."""

import time
from dataclasses import dataclass
from typing import Literal

from mnas.errors import InputError
from mnas.latency.conditions import Conditions
from mnas.latency.host import LOCAL, Host, check_conditions
from mnas.latency.measure import LIGHT
from mnas.latency.measurement import MeasurementStatus, judge
from mnas.latency.session import Progress, Session, Timeable

# Fresh processes. They differ by more than rounds in one do, so many short ones tell a small difference better than few
# long ones: the ratio of two networks spreads by 1.3 % between them, its median over nine by 0.5 %.
PROCESSES = 9
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
    """Times two networks interleaved with each other, neither with a reference.

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
    start, name = time.perf_counter(), "second"
    session = Session(
        {name: second},
        first,
        conditions,
        LIGHT,
        budget_s=max(0.1, budget_s / processes - START_S) / 2,
        seed=seed,
        host=host,
        on_progress=on_progress,
    )
    with host.open(session.say) as place:
        session.run([[name]], processes, place)
    status, ratio = judge(session.samples[name], processes, seed=seed)
    verdict: Verdict = "undecided"
    if status == "noisy":
        verdict = "noisy"
    elif ratio.low > 1 or ratio.high < 1:
        verdict = "slower" if ratio.low > 1 else "faster"
    return Comparison(ratio.value, ratio.low, ratio.high, verdict, status, time.perf_counter() - start)
