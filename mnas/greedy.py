"""The scaling rule `latency`: at each step the one dimension grows that brings most accuracy for a millisecond."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mnas.errors import SearchError
from mnas.search_space import Coefficients, NetworkSpec
from mnas.search_space.rules import Rule, efficientnets

# A step multiplies the multiply-adds by 2 to this power, roughly; where rounding leaves the network as it is, by ever
# more, up to LONGEST of it (chosen here).
STEP, LONGEST = 0.25, 4
DIMENSIONS = ("depth", "width", "resolution")

# Networks -> the accuracy (a fraction) and the milliseconds of each, in order.
Judge = Callable[[Sequence[NetworkSpec]], Sequence[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class GreedyStep:
    """A network on the way.

    Args:
        phis: of depth, width and resolution: the multiply-adds that each was given are 2 to that power.
        grown: the dimension that this step grew; empty for the base.
        spec: the network.
        accuracy: a fraction, as judged.
        ms: as judged.
    """

    phis: tuple[float, float, float]
    grown: str
    spec: NetworkSpec
    accuracy: float
    ms: float

    @property
    def rule(self) -> Rule:
        """What grows the base to this network with a phi of 1."""
        return _rule(self.phis)


def _rule(phis: tuple[float, float, float]) -> Rule:
    depth, width, resolution = phis
    return Rule(
        "latency",
        Coefficients(2.0**depth, 2.0 ** (width / 2), 2.0 ** (resolution / 2)),
        training=efficientnets,
    )


def grow_greedily(base: NetworkSpec, target_ms: float, judge: Judge) -> list[GreedyStep]:
    """The base, and the network of each step, while one of the three next ones is within the target.

    Of those within it the one is taken that has most accuracy for each millisecond over the network before; a network
    that is no slower counts as one that costs nothing. It ends where none of them is more accurate.

    Args:
        base: what is grown.
        target_ms: that no network may exceed as judged.
        judge: asked about three networks at a time.

    Raises:
        SearchError: no step is within the target, or none is more accurate than the base.
    """
    ((accuracy, ms),) = judge([base])
    path = [GreedyStep((0.0, 0.0, 0.0), "", base, accuracy, ms)]
    reason = f"a step in any dimension takes more than {target_ms:g} ms"
    while True:
        last = path[-1]
        options = [option for option in (_next(base, last, number) for number in range(3)) if option]
        judged = judge([_rule(phis).grow(base, 1.0) for _, phis in options]) if options else []
        steps = [
            GreedyStep(phis, name, _rule(phis).grow(base, 1.0), accuracy, ms)
            for (name, phis), (accuracy, ms) in zip(options, judged, strict=True)
        ]
        within = [step for step in steps if step.ms <= target_ms]
        better = [step for step in within if step.accuracy > last.accuracy]
        if within and not better:
            reason = "no step within the target is more accurate than the network before it"
        if not better:
            break
        path.append(max(better, key=lambda step: _worth(last, step)))
    if len(path) == 1:
        raise SearchError(f"the rule 'latency' does not grow this network: {reason}.")
    return path


def _worth(before: GreedyStep, step: GreedyStep) -> float:
    more_ms = step.ms - before.ms
    return float("inf") if more_ms <= 0 else (step.accuracy - before.accuracy) / more_ms


def _next(base: NetworkSpec, last: GreedyStep, number: int) -> tuple[str, tuple[float, float, float]] | None:
    """The dimension and the phis of the shortest step in it that changes the network; None where none does."""
    for length in range(1, LONGEST + 1):
        phis = list(last.phis)
        phis[number] += length * STEP
        depth, width, resolution = phis
        if _rule((depth, width, resolution)).grow(base, 1.0) != last.spec:
            return DIMENSIONS[number], (depth, width, resolution)
    return None
