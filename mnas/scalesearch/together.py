"""One cost for all points of a grid: networks are measured together, in rounds, and each point takes the nearest."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from math import log
from typing import Any, Protocol

from mnas.errors import SearchError
from mnas.scaling import Staircases, Step
from mnas.search.ruler import madds_of
from mnas.search_space import NetworkSpec
from mnas.search_space.rules import Rule

# Rounds of measuring, and how near to the budget a network is good enough (chosen here: two processes tell the ratio of
# a latency within 2 to 3 %, for networks below a millisecond within 5 to 10 %).
ROUNDS, NEAR = 6, 0.03
NOISY = "the device was too noisy to measure it; --resume tries again."
NONE = "it grows to no network of its own within the images' size."

Fields = dict[str, Any]


class Gauge(Protocol):
    """How the costs of networks are known.

    `known` has the costs found so far, the base's among them: of a network that was measured more than once, from all
    of it.
    """

    known: dict[NetworkSpec, float]

    def estimate(self) -> Callable[[NetworkSpec], float]:
        """Costs as far as they can be told from what is known; a constant factor does not matter."""

    def measure(self, specs: Sequence[NetworkSpec], careful: bool) -> Mapping[NetworkSpec, Fields]:
        """Adds to what is known; returns the JSON fields of those networks whose cost could be told this time.

        Args:
            specs: different ones, known or not.
            careful: as those that are kept are measured.
        """


class MultiplyAdds:
    """The multiply-adds of networks, as a `Gauge`."""

    def __init__(self, base: NetworkSpec) -> None:
        self.known = {base: madds_of(base)}

    def estimate(self) -> Callable[[NetworkSpec], float]:
        """They are known without measuring."""
        return madds_of

    def measure(self, specs: Sequence[NetworkSpec], careful: bool) -> dict[NetworkSpec, Fields]:
        """Counts them."""
        self.known |= {spec: madds_of(spec) for spec in specs}
        return {spec: {} for spec in specs}


def grow_together(
    base: NetworkSpec,
    rules: Mapping[int, Rule],
    budget: float,
    gauge: Gauge,
    *,
    taken: Collection[NetworkSpec],
    memory: int | None,
) -> tuple[dict[int, Step], dict[int, str]]:
    """For each rule the network whose cost is nearest to the budget, on either side; no network for two of them.

    In each round every point that is not near enough tries one more network: the one estimated nearest to the budget
    among those that it has not tried and that are no other point's. For each point estimates are brought to what its
    own nearest network cost. The nearest networks of the other points are measured again beside the new ones, so that
    a lucky measurement does not decide.

    Args:
        base: what is grown; the gauge knows its cost.
        rules: by point.
        budget: to be filled.
        gauge: how costs are known.
        taken: networks that no point may have.
        memory: bytes that a network may take; None is no limit.

    Returns:
        The networks by point, and why there is none for the other points.
    """
    known = gauge.known
    tried: dict[int, dict[NetworkSpec, Step]] = {number: {} for number in rules}
    missed: dict[int, str] = {}
    times: Counter[NetworkSpec] = Counter()
    for _ in range(ROUNDS):
        estimate = lru_cache(maxsize=None)(gauge.estimate())
        nearest = {number: _nearest(every, known, budget) for number, every in tried.items()}
        kept = [spec for spec in nearest.values() if spec is not None]
        wanted: dict[NetworkSpec, None] = {}
        for number, rule in rules.items():
            anchor = nearest[number] or base
            if anchor is not base and _apart(known[anchor], budget) <= NEAR:
                continue
            own = {spec for spec in tried[number] if spec in known}
            aim = budget * estimate(anchor) / known[anchor]
            try:
                step = Staircases(base, rule, estimate, memory).near(aim, {*taken, *own, *kept, *wanted})
            except SearchError as error:
                missed[number] = str(error)
                continue
            if step is None:
                missed[number] = NONE
            else:
                tried[number][step.spec] = step
                wanted[step.spec] = None
        if not wanted and all(times[spec] > 1 for spec in kept):
            break
        measured = list(dict.fromkeys([*wanted, *kept]))
        gauge.measure(measured, False)
        times.update(measured)
    nearest = {number: _nearest(every, known, budget) for number, every in tried.items()}
    found = {number: tried[number][spec] for number, spec in nearest.items() if spec is not None}
    return found, {number: missed.get(number, NOISY) for number in rules if number not in found}


def _nearest(
    specs: Iterable[NetworkSpec], known: Mapping[NetworkSpec, float], budget: float
) -> NetworkSpec | None:
    """Of those whose cost is known; None where none is."""
    measured = (spec for spec in specs if spec in known)
    return min(measured, key=lambda spec: _apart(known[spec], budget), default=None)


def _apart(cost: float, budget: float) -> float:
    return abs(log(cost / budget))
