"""How far a device's speed moved during a search, told by the reference network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnas.latency.intervals import DRIFT_REJECTS

# When the reference was timed, in words.
WHEN = {
    "start": "when the search began",
    "refit": "when predictions were checked",
    "finalists": "beside the finalists",
}


@dataclass(frozen=True, slots=True)
class Drift:
    """The reference at the start, and where it was furthest from that.

    Args:
        start_ms: milliseconds at the start.
        ms: later, where the ratio to the start was furthest from 1.
        when: that was, a key of `WHEN`.
    """

    start_ms: float
    ms: float
    when: str

    @property
    def fraction(self) -> float:
        """Of the start; positive where the device became slower."""
        return self.ms / self.start_ms - 1

    def describe(self) -> str:
        """A clause: what the reference took, and when."""
        return (
            f"the reference network took {self.start_ms:.2f} ms {WHEN['start']} and {self.ms:.2f} ms "
            f"{WHEN.get(self.when, 'later')} ({self.fraction:+.1%})"
        )

    @property
    def warning(self) -> str | None:
        """What a person must know of a drift that no figure is believed across."""
        if abs(self.fraction) <= DRIFT_REJECTS:
            return None
        return (
            f"{self.describe()}: what was predicted and what was measured are not of one device. End other work on it, "
            f"let it cool down, and search again."
        )


def drift_of(references: Sequence[Mapping[str, Any]]) -> Drift | None:
    """The drift over `{"ms", "when"}` in the order timed; None where the start is not there, or nothing later is.

    >>> times = [("start", 10.0), ("refit", 10.5), ("finalists", 9.0)]
    >>> round(drift_of([{"when": when, "ms": ms} for when, ms in times]).fraction, 3)
    -0.1
    """
    start = next((timed["ms"] for timed in references if timed["when"] == "start"), None)
    later = [timed for timed in references if timed["when"] != "start"]
    if start is None or not later:
        return None
    furthest = max(later, key=lambda timed: abs(timed["ms"] / start - 1))
    return Drift(start, furthest["ms"], furthest["when"])
