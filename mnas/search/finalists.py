"""Which trials are measured at the end, and which of them wins. Pure functions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from mnas.search.history import Trial

FINALISTS = 8


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trial with the cost by which it is judged: predicted ms with its interval, or exact multiply-adds.

    `whole` is False where its training was stopped early; `factor` is what a training-aware search multiplies its
    accuracy by, else 1.
    """

    trial: Trial
    accuracy: float
    accuracy_std: float
    cost: float
    low: float
    high: float
    whole: bool = True
    factor: float = 1.0

    @property
    def worth(self) -> float:
        """What finalists are chosen by: the accuracy, times the factor."""
        return self.accuracy * self.factor


@dataclass(frozen=True, slots=True)
class Measured:
    """A finalist after measuring: `upper` is the greatest cost that it may have, `status` the measurement's."""

    candidate: Candidate
    cost: float
    upper: float
    status: Literal["ok", "unresolved", "noisy"] = "ok"

    def within(self, target: float) -> bool:
        """Whether it is surely within the target."""
        return self.status != "noisy" and math.isfinite(self.upper) and self.upper <= target


def candidates(trials: Sequence[Trial], cost: Literal["latency_ms", "madds"]) -> list[Candidate]:
    """The done trials, each network once."""
    unique = {trial.key: trial for trial in reversed(trials) if trial.status == "done"}
    found = []
    for trial in reversed(unique.values()):
        value = trial.metrics[cost]
        low, high = (
            (trial.metrics["latency_low_ms"], trial.metrics["latency_high_ms"])
            if cost == "latency_ms"
            else (value, value)
        )
        accuracy, std = trial.metrics["accuracy"], trial.metrics["accuracy_std"]
        whole = trial.metrics.get("fidelity", 1.0) >= 1.0
        factor = trial.metrics.get("training_factor", 1.0)
        found.append(Candidate(trial, accuracy, std, value, low, high, whole, factor))
    return found


def pareto_front(
    pool: Sequence[Candidate], value: Callable[[Candidate], float] = lambda c: c.accuracy
) -> list[Candidate]:
    """Those that no other beats in accuracy (or another `value`) at no more cost, the best of it first."""
    front: list[Candidate] = []
    for candidate in sorted(pool, key=lambda c: (-value(c), c.cost, c.trial.number)):
        if not front or candidate.cost < front[-1].cost:
            front.append(candidate)
    return front


def select(
    pool: Sequence[Candidate], target: float, count: int = FINALISTS, *, factor: float = 1.0
) -> list[Candidate]:
    """At most `count` finalists, the first of the front first; none where no network may be within.

    The front is that of accuracy and cost; of `Candidate.worth` where a search is training-aware.

    A prediction is uncertain, so they spread evenly over the Pareto front from the costliest network that may be
    within the target (lower end of its interval) down to the first that almost surely is (upper end). Places left
    over on a short front go to the most accurate of the others.

    Args:
        pool: to choose from.
        target: in the unit of the costs.
        count: at most so many.
        factor: what predictions are multiplied by first, see `correction`.
    """
    possible = [c for c in pool if factor * c.low <= target]
    front = pareto_front(possible, _worth)
    sure = next((i for i, c in enumerate(front) if factor * c.high <= target), len(front) - 1)
    return _fill(_spread(front[: sure + 1], count), front[sure + 1 :], possible, count)


def correction(judged: Sequence[Measured]) -> float:
    """How many times its prediction a network may take, by those measured that were not noisy; 1 without any."""
    return median([m.upper / m.candidate.cost for m in judged if m.status != "noisy"] or [1.0])


def _spread(front: list[Candidate], count: int) -> list[Candidate]:
    """At most `count` of a front, evenly spaced in cost, both ends among them."""
    if len(front) <= count:
        return list(front)
    top, bottom = front[0].cost, front[-1].cost
    chosen: list[Candidate] = []
    for step in range(count):
        wanted = top + (bottom - top) * step / (count - 1)
        left = [c for c in front if c not in chosen]
        chosen.append(min(left, key=lambda c: abs(c.cost - wanted)))
    return sorted(chosen, key=lambda c: -c.worth)


def _fill(
    chosen: list[Candidate], neighbours: list[Candidate], pool: list[Candidate], count: int
) -> list[Candidate]:
    """`chosen`, filled up to `count` from the front's neighbours, then the most accurate of the pool."""
    filled = list(chosen)
    taken = {c.trial.number for c in filled}
    for candidate in [*neighbours, *sorted(pool, key=lambda c: -c.worth)]:
        if len(filled) >= count:
            break
        if candidate.trial.number not in taken:
            taken.add(candidate.trial.number)
            filled.append(candidate)
    return filled


def decide(finalists: Sequence[Measured], target: float, tie: float | None) -> Measured | None:
    """The most accurate finalist within the target as measured; of ties the fastest. None if none is within.

    Where a search is training-aware, that of most worth.

    Args:
        finalists: those measured; a noisy measurement decides nothing.
        target: in the unit of the costs.
        tie: accuracies (fraction) closer than this are equal; None takes one standard error of the best.
    """
    within = [m for m in finalists if m.within(target)]
    if not within:
        return None
    best = max(within, key=lambda m: m.candidate.worth)
    width = best.candidate.factor * (best.candidate.accuracy_std if tie is None else tie)
    ties = [m for m in within if m.candidate.worth >= best.candidate.worth - width]
    return min(ties, key=lambda m: (m.cost, -m.candidate.worth, m.candidate.trial.number))


def _worth(candidate: Candidate) -> float:
    return candidate.worth
