"""What measurements near the target say of the predictor: records, and the factor that corrects it. Pure functions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Self

# By how much predictions near a target are off all alike (standard deviation of the logarithm), before anything is
# measured there. Chosen here: the finalists of the README's search for 15 ms lay 3 % off together, as measured.
PRIOR = 0.05
# By how much networks measured together are off all alike beside the reference: 1.7 % in one process, by three sessions
# of the reference (`latency.measure`); chosen here for two processes and another kind of network.
TOGETHER = 0.02
# By how much a network is off for itself: the predictor's own error, and a little of the measurement's (chosen here).
ALONE = 0.03
# Of a drift of the reference since the start that is expected to last to the end: half, which is the best guess where a
# device is fast and slow from minute to minute, and halfway to it where it warms up (chosen here).
LASTING = 0.5


@dataclass(frozen=True, slots=True)
class Remeasured:
    """A trial's network, measured during the search.

    Args:
        trial: its number; `key` its architecture.
        predicted_ms: by the predictor as it was at the start, without any refit.
        measured_ms: with its 95 % interval, `low_ms` to `high_ms`, and `raw_ms` by the wall clock.
        status: of the measurement; a noisy one decides nothing.
    """

    trial: int
    key: str
    predicted_ms: float
    measured_ms: float
    low_ms: float
    high_ms: float
    raw_ms: float
    status: str

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `dataclasses.asdict` gave; raises KeyError, TypeError or ValueError for what is none."""
        return cls(
            trial=_whole(data["trial"]),
            key=str(data["key"]),
            predicted_ms=positive(data["predicted_ms"]),
            measured_ms=positive(data["measured_ms"]),
            low_ms=positive(data["low_ms"]),
            high_ms=positive(data["high_ms"]),
            raw_ms=positive(data["raw_ms"]),
            status=str(data["status"]),
        )

    @property
    def usable(self) -> bool:
        """Whether it was measured steadily."""
        return self.status != "noisy"

    @property
    def latency(self) -> dict[str, float]:
        """As a trial's metrics."""
        return {
            "latency_ms": self.measured_ms,
            "latency_low_ms": self.low_ms,
            "latency_high_ms": self.high_ms,
            "latency_raw_ms": self.raw_ms,
        }

    @property
    def off(self) -> float:
        """Logarithm of measured / predicted."""
        return math.log(self.measured_ms / self.predicted_ms)


@dataclass(frozen=True, slots=True)
class Refit:
    """Networks measured together during the search, and what the predictor is multiplied by from then on.

    Args:
        after: trials asked before; the trial of this number is the first that is predicted so.
        factor: of the predictions as they were at the start; from all that was measured up to now.
        reference_ms: of the reference network beside them.
        seconds: that it took.
        networks: those measured.
    """

    after: int
    factor: float
    reference_ms: float
    seconds: float
    networks: tuple[Remeasured, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {**asdict(self), "networks": [asdict(network) for network in self.networks]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; raises KeyError, TypeError or ValueError for what is none."""
        networks = tuple(Remeasured.from_dict(network) for network in data["networks"])
        factor, reference_ms = positive(data["factor"]), positive(data["reference_ms"])
        return cls(_whole(data["after"]), factor, reference_ms, float(data["seconds"]), networks)


def describe_refits(refits: Sequence[Refit]) -> str:
    """A sentence about what was measured during a search, and what came of it; empty without refits."""
    if not refits:
        return ""
    used = [network for refit in refits for network in refit.networks if network.usable]
    if not used:
        return "Networks near the target were timed during the search, too noisily to correct predictions by them."
    last = refits[-1]
    correction = describe_correction(used, last.factor)
    return (
        f"{len(used)} networks near the target were timed during the search and {correction} "
        f"from trial {last.after:,} on."
    )


def describe_correction(used: Sequence[Remeasured], factor: float) -> str:
    """A clause: how far off networks lay, at least one, and what predictions are multiplied by for it."""
    off = [math.expm1(network.off) for network in used]
    return (
        f"lay {min(off):+.1%} to {max(off):+.1%} off their predictions, which are multiplied by {factor:.3f}"
    )


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.60} is no whole number")
    return value


def positive(value: Any) -> float:
    """A stored number that has to be positive and finite; raises TypeError or ValueError where it is not."""
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{value!r:.60} is not positive and finite")
    return number


def common_factor(groups: Sequence[tuple[float, Sequence[float]]]) -> float:
    """What predictions are multiplied by: how far off some were beside the reference, and half of its drift.

    The first part is shrunk towards none. It is normal around 0 with `PRIOR` on the logarithm; a network's is normal
    around it, with an error of its own (`ALONE`) and one that those measured together share (`TOGETHER`).

    Args:
        groups: in the order measured, what the reference took by what it took at the start, and of each network beside
            it the logarithm of measured / predicted. The last drift counts.

    >>> round(common_factor([(1.0, [0.05] * 8)]), 4)  # 0.05 x 25 / (25 + 4 + 9/8) = 0.05 x 0.8299
    1.0424
    >>> common_factor([(1.3, [])])
    1.0
    """
    used = [(math.log(moved), off) for moved, off in groups if off]
    if not used:
        return 1.0
    beside = [value - drift for drift, off in used for value in off]
    weight = PRIOR**2 / (PRIOR**2 + TOGETHER**2 / len(used) + ALONE**2 / len(beside))
    return math.exp(weight * fmean(beside) + LASTING * used[-1][0])
