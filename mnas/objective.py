"""The reward: one number from accuracy and cost; and which of the latencies that a network may have is its cost.

With one exponent on both sides of the target (`soft`), the target only scales every reward by the same factor,
so the best network is the same for every target. `hard` (the default) and `absolute` move with the target.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError

RewardKind = Literal["hard", "soft", "absolute", "training-aware"]
# Those that are functions of accuracy and cost alone.
PLAIN: tuple[RewardKind, ...] = ("hard", "soft", "absolute")

# MnasNet (arXiv 1807.11626), eq. 2 and 3: (alpha, beta) within and beyond the target.
HARD = (0.0, -1.0)
SOFT = (-0.07, -0.07)
# TuNAS (arXiv 2008.06120), released code, mobile_architecture_search.py: default exponent of the `abs` reward.
ABSOLUTE_WEIGHT = -0.10
# EfficientNetV2 (arXiv 2104.00298), sec. 3.3: accuracy x S^w x P^v, S the normalised time of a training step, P the
# parameters. The paper has no target beside it; here one stays, as a hard one.
STEP_WEIGHT, PARAMS_WEIGHT = -0.07, -0.05
# The upper ends of intervals as quantiles: a prediction's interval holds 90 %, a measurement's 95 % (LatencyEstimate).
_PREDICTED_END, _MEASURED_END = 0.95, 0.975
_z = NormalDist().inv_cdf


Floats = NDArray[np.float64]
Formula = Callable[[Floats, Floats], Floats]


def _power(alpha: float, beta: float) -> Formula:
    return lambda accuracy, ratio: accuracy * ratio ** np.where(ratio <= 1.0, alpha, beta)


_FORMULAS: dict[str, Formula] = {
    "hard": _power(*HARD),
    "soft": _power(*SOFT),
    "absolute": lambda accuracy, ratio: accuracy + ABSOLUTE_WEIGHT * np.abs(ratio - 1.0),
    "training-aware": _power(*HARD),
}


@dataclass(frozen=True, slots=True)
class Reward:
    """accuracy x (cost / target)^w, or TuNAS's accuracy - 0.1 x |cost / target - 1|.

    Args:
        kind: `hard` (w = 0 within the target, -1 beyond), `soft` (-0.07 on both sides), `absolute`; `training-aware`
            is `hard` of another worth than the accuracy, see `worth`.
        target: in the unit of the costs: ms, or multiply-adds.
        quantile: of a latency known with an interval, by which it is judged; see `latency_quantile`.

    Raises:
        InputError: an unknown kind, a target that is not positive, or a quantile that is none.

    Reference: MnasNet (arXiv 1807.11626), eq. 2 and 3; TuNAS (arXiv 2008.06120), `abs` reward of its code.

    >>> Reward("hard", 80.0).score([0.7, 0.7], [40.0, 160.0]).tolist()
    [0.7, 0.35]
    """

    kind: RewardKind
    target: float
    quantile: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in _FORMULAS:
            raise InputError(f"reward must be one of {', '.join(_FORMULAS)}; got {self.kind!r}.")
        if not (np.isfinite(self.target) and self.target > 0):
            raise InputError(f"a reward's target must be positive and finite, got {self.target!r}.")
        if not 0 < self.quantile < 1:
            raise InputError(f"a reward's quantile must lie between 0 and 1, got {self.quantile!r}.")

    @property
    def refuses(self) -> bool:
        """Whether a network above the target can never be the best, so that nothing need be spent on it."""
        return self.kind in ("hard", "training-aware")

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        """Rewards of accuracies (fractions; their `worth`) and costs (positive, the target's unit), one by one."""
        ratio = np.asarray(cost, dtype=np.float64) / self.target
        return np.asarray(
            _FORMULAS[self.kind](np.asarray(accuracy, dtype=np.float64), ratio), dtype=np.float64
        )


def training_factor(step: float, params: float) -> float:
    """What a training-aware reward multiplies accuracy by.

    Args:
        step: time of a training step, as a multiple of that of the space's fastest.
        params: parameters, as a multiple of the fewest in the space.

    Reference: EfficientNetV2 (arXiv 2104.00298), sec. 3.3. What both are multiples of changes no order of networks.

    >>> round(training_factor(2.0, 1.0), 4), round(training_factor(1.0, 2.0), 4)  # 2^-0.07 and 2^-0.05
    (0.9526, 0.9659)
    """
    return float(step**STEP_WEIGHT * params**PARAMS_WEIGHT)


def worth(known: Mapping[str, float]) -> float:
    """What the reward multiplies: a network's accuracy; by its `training_factor` where the search is training-aware."""
    return float(known["accuracy"] * known.get("training_factor", 1.0))


def latency_quantile(known: Mapping[str, float], quantile: float) -> float:
    """A quantile of a latency that is known with an interval, ms: on the logarithm a half of a normal on each side.

    Args:
        known: `latency_ms`, `latency_low_ms` and `latency_high_ms`, the ends of its 90 % interval; of its 95 % interval
            where there is a `latency_raw_ms` too: then it was measured.
        quantile: above 0 and below 1; 0.5 is `latency_ms` itself.

    >>> known = {"latency_ms": 10.0, "latency_low_ms": 9.5, "latency_high_ms": 12.1}
    >>> [round(latency_quantile(known, q), 2) for q in (0.05, 0.5, 0.8, 0.95)]  # z(.8) / z(.95) = 0.5117
    [9.5, 10.0, 11.02, 12.1]
    """
    ms = known["latency_ms"]
    end_ms = known["latency_high_ms" if quantile >= 0.5 else "latency_low_ms"]
    end = _MEASURED_END if "latency_raw_ms" in known else _PREDICTED_END
    return float(ms * (end_ms / ms) ** (abs(_z(quantile)) / _z(end)))
