"""What a benchmark is: a space whose networks all have a known accuracy and cost, and how they are judged."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError
from mnas.objective import Reward, RewardKind
from mnas.search_space import Architecture, NetworkSpec, SearchSpace
from mnas.units import format_count, parse_count, parse_latency_ms

Floats = NDArray[np.float64]

# Words for a target that is none.
ACCURACY_ONLY = ("none", "accuracy")
# Chosen here: default targets of a space, as shares of the range of its costs.
SHARES = (0.1, 0.3, 0.6)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A space with the accuracy and cost of each of its networks.

    Args:
        name: on the command line.
        space: what is searched.
        cost_kind: what a cost is: multiply-adds, or milliseconds.
        accuracy: of a network, as a fraction; the truth that a controller is scored by.
        cost: of a network.
        cost_range: least and greatest cost in the space.
        targets: unless others are given; None is accuracy only.
        optimum: greatest reward in the whole space, by that judge; None where it is not known for such a reward.
        bound: a reward that no network exceeds, where `optimum` is not known; None where no such is known either.
        about: what the figures are and where they come from, in a sentence.
        trainings: accuracies of single trainings of a network, whose mean is `accuracy`; None where there are none.
    """

    name: str
    space: SearchSpace
    cost_kind: Literal["madds", "latency_ms"]
    accuracy: Callable[[Architecture], float]
    cost: Callable[[Architecture], float]
    cost_range: tuple[float, float]
    targets: tuple[float | None, ...]
    optimum: Callable[["Judge"], float | None]
    bound: Callable[["Judge"], float | None]
    about: str
    trainings: Callable[[Architecture], Sequence[float]] | None = None

    def parse_target(self, text: str) -> float | None:
        """A target as people write it: `60M` multiply-adds, `8ms`, or `none` for accuracy only.

        Raises:
            InputError: not a number with this benchmark's unit, or below the cost of every network.
        """
        if text.strip().lower() in ACCURACY_ONLY:
            return None
        unit = "multiply-adds" if self.cost_kind == "madds" else "milliseconds"
        what = f"--target of {self.name} ({unit}, or none for accuracy only):"
        parse = parse_count if self.cost_kind == "madds" else parse_latency_ms
        target = float(parse(text, what=what))
        least, greatest = self.cost_range
        if target < least:
            raise InputError(
                f"no network of {self.name} is within the target {text!r}: its networks cost "
                f"{self.describe(least)} to {self.describe(greatest)}."
            )
        return target

    def describe(self, target: float | None) -> str:
        """A target or cost for people: `60M MAdds`, `8 ms`, `accuracy only`."""
        if target is None:
            return "accuracy only"
        return f"{format_count(target)} MAdds" if self.cost_kind == "madds" else f"{target:.4g} ms"


@dataclass(frozen=True, slots=True)
class Judge:
    """The `Objective` of a benchmark and a target: costs are known beforehand, accuracies are not.

    Args:
        benchmark: whose networks.
        reward: None where the reward is the accuracy.
    """

    benchmark: Benchmark
    reward: Reward | None

    @classmethod
    def of(cls, benchmark: Benchmark, kind: RewardKind, target: float | None) -> "Judge":
        """By a kind of reward; a target of None is accuracy only, whatever the kind."""
        return cls(benchmark, None if target is None else Reward(kind, target))

    def cost(self, architectures: Sequence[Architecture]) -> Floats:
        """`(n,)`, in the unit of the target."""
        return np.array([self.benchmark.cost(a) for a in architectures], dtype=np.float64)

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> Floats:
        """Rewards of accuracies (fractions) and costs, element by element."""
        if self.reward is None:
            return np.asarray(accuracy, dtype=np.float64)
        return self.reward.score(accuracy, cost)


def shares_of(least: float, greatest: float) -> tuple[float, ...]:
    """The default targets of a range of costs, to three significant digits."""
    return tuple(float(f"{least + share * (greatest - least):.3g}") for share in SHARES)


def decoded(space: SearchSpace, read: Callable[[NetworkSpec], float]) -> Callable[[Architecture], float]:
    """A function of networks as one of architectures."""
    return lambda architecture: read(space.decode(architecture))
