"""Successive halving, one candidate after the other: who goes on at a rung is decided by those who were there."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(slots=True)
class Rungs:
    """The rewards that candidates had at each rung.

    Args:
        rewards: by rung (an epoch), then by trial.

    Reference: successive halving, arXiv 1502.07943; that nobody waits for a rung to fill is ASHA's (arXiv 1810.05934,
    Algorithm 2). There a candidate is paused and may be promoted later; here it is stopped, so that each trial ends
    with one final reward.
    """

    rewards: dict[int, dict[int, float]] = field(default_factory=dict)

    def record(self, payload: Mapping[str, float]) -> None:
        """Takes in `{"rung", "trial", "reward"}`; of a candidate that was trained again, the last counts."""
        self.rewards.setdefault(int(payload["rung"]), {})[int(payload["trial"])] = payload["reward"]

    def goes_on(self, rung: int, trial: int, eta: int) -> bool:
        """Whether a recorded trial is among the best 1 / eta of its rung, rounded up; of equals the earlier.

        >>> rungs = Rungs({2: {0: 0.5, 1: 0.7, 2: 0.6, 3: 0.65}})
        >>> [rungs.goes_on(2, trial, eta=3) for trial in range(4)]  # two of four
        [False, True, False, True]
        """
        there = self.rewards[rung]
        ahead = sum((-reward, other) < (-there[trial], trial) for other, reward in there.items())
        return ahead < math.ceil(len(there) / eta)


def mean_epochs(epochs: int, rungs: Sequence[int], eta: int) -> float:
    """Of a candidate, where one in eta goes on at each rung.

    >>> round(mean_epochs(9, (1, 3), eta=3), 3)  # all 1, a third 2 more, a ninth 6 more
    2.333
    """
    ends = pairwise((0, *rungs, epochs))
    return sum((end - start) / float(eta) ** number for number, (start, end) in enumerate(ends))
