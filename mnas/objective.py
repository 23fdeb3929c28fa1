"""The reward: one number from accuracy and cost.

With one exponent on both sides of the target (`soft`), the target only scales every reward by the same factor,
so the best network is the same for every target. `hard` (the default) and `absolute` move with the target.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError

RewardKind = Literal["hard", "soft", "absolute"]

# MnasNet (arXiv 1807.11626), eq. 2 and 3: (alpha, beta) within and beyond the target.
HARD = (0.0, -1.0)
SOFT = (-0.07, -0.07)
# TuNAS (arXiv 2008.06120), released code, mobile_architecture_search.py: default exponent of the `abs` reward.
ABSOLUTE_WEIGHT = -0.10


Floats = NDArray[np.float64]
Formula = Callable[[Floats, Floats], Floats]


def _power(alpha: float, beta: float) -> Formula:
    return lambda accuracy, ratio: accuracy * ratio ** np.where(ratio <= 1.0, alpha, beta)


_FORMULAS: dict[str, Formula] = {
    "hard": _power(*HARD),
    "soft": _power(*SOFT),
    "absolute": lambda accuracy, ratio: accuracy + ABSOLUTE_WEIGHT * np.abs(ratio - 1.0),
}


@dataclass(frozen=True, slots=True)
class Reward:
    """accuracy x (cost / target)^w, or TuNAS's accuracy - 0.1 x |cost / target - 1|.

    Args:
        kind: `hard` (w = 0 within the target, -1 beyond), `soft` (-0.07 on both sides), `absolute`.
        target: in the unit of the costs: ms, or multiply-adds.

    Raises:
        InputError: an unknown kind, or a target that is not positive.

    Reference: MnasNet (arXiv 1807.11626), eq. 2 and 3; TuNAS (arXiv 2008.06120), `abs` reward of its code.

    >>> Reward("hard", 80.0).score([0.7, 0.7], [40.0, 160.0]).tolist()
    [0.7, 0.35]
    """

    kind: RewardKind
    target: float

    def __post_init__(self) -> None:
        if self.kind not in _FORMULAS:
            raise InputError(f"reward must be one of {', '.join(_FORMULAS)}; got {self.kind!r}.")
        if not (np.isfinite(self.target) and self.target > 0):
            raise InputError(f"a reward's target must be positive and finite, got {self.target!r}.")

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        """Rewards of accuracies (fractions) and costs (positive, the target's unit), element by element."""
        ratio = np.asarray(cost, dtype=np.float64) / self.target
        return np.asarray(
            _FORMULAS[self.kind](np.asarray(accuracy, dtype=np.float64), ratio), dtype=np.float64
        )
