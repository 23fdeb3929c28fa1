"""What a latency model returned, checked before anything is decided by it."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from mnas.errors import SearchError
from mnas.protocols import LatencyEstimate

_ADVICE = (
    "A latency model's predict(specs) returns one LatencyEstimate(ms, low_ms, high_ms, source, device) for each "
    "network, in order, or a bare number of ms; correct the model, or choose another with --latency."
)


def check_estimates(estimates: Any, count: int, source: str) -> list[LatencyEstimate]:
    """The estimates as a list of `count`, each finite and positive with an ordered interval.

    A bare real number is an estimate without an interval: low = high = ms.

    Args:
        estimates: whatever the model returned.
        count: networks that it was given.
        source: the model's name, for messages and for bare numbers.

    Raises:
        SearchError: not a sequence, the wrong number, or an estimate that is no number, not finite, not
            positive, or outside its own interval; it says which, and what was expected.

    >>> check_estimates([12.5], 1, "mine")[0].high_ms
    12.5
    """
    if not isinstance(estimates, Sequence) and hasattr(estimates, "tolist"):
        estimates = estimates.tolist()  # a numpy array or a tensor
    if not isinstance(estimates, Sequence) or isinstance(estimates, str | bytes):
        raise SearchError(
            f"latency model {source!r} returned {type(estimates).__name__}, expected a list. {_ADVICE}"
        )
    if len(estimates) != count:
        raise SearchError(
            f"latency model {source!r} returned {len(estimates)} estimates for {count} networks. {_ADVICE}"
        )
    return [_one(index, estimate, source) for index, estimate in enumerate(estimates)]


def _one(index: int, estimate: Any, source: str) -> LatencyEstimate:
    where = f"latency model {source!r}, estimate {index}"
    if _is_number(estimate):
        ms = float(estimate)
        estimate = LatencyEstimate(ms, ms, ms, source, "not stated")
    missing = [
        name for name in ("ms", "low_ms", "high_ms", "source", "device") if not hasattr(estimate, name)
    ]
    if missing:
        raise SearchError(
            f"{where}: expected a LatencyEstimate or a number of ms, got {estimate!r} "
            f"without {', '.join(missing)}. {_ADVICE}"
        )
    values = (estimate.ms, estimate.low_ms, estimate.high_ms)
    for name, value in zip(("ms", "low_ms", "high_ms"), values, strict=True):
        if not _is_number(value) or not math.isfinite(value) or value <= 0:
            raise SearchError(f"{where}: {name} must be finite and positive, got {value!r}. {_ADVICE}")
    if not estimate.low_ms <= estimate.ms <= estimate.high_ms:
        raise SearchError(
            f"{where}: expected low_ms <= ms <= high_ms, got {estimate.low_ms!r}, {estimate.ms!r}, "
            f"{estimate.high_ms!r}. {_ADVICE}"
        )
    if isinstance(estimate, LatencyEstimate):
        return estimate
    ms, low_ms, high_ms = map(float, values)
    raw_ms = getattr(estimate, "raw_ms", None)
    return LatencyEstimate(ms, low_ms, high_ms, str(estimate.source), str(estimate.device), raw_ms)


def _is_number(value: Any) -> bool:
    """A real number (also numpy's), but no bool."""
    return isinstance(value, Real) and str(type(value).__name__) not in ("bool", "bool_")
