"""How good a prediction is: relative error, shares within it, rank correlation."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError


@dataclass(frozen=True, slots=True)
class PredictionError:
    """Of predictions for networks that the fit did not see.

    Args:
        n: networks.
        mape: mean absolute error over the measured value, a fraction.
        within_5: share of predictions within 5 % of the measured value, 0 to 1.
        within_10: likewise, 10 %.
        spearman: rank correlation, -1 to 1; 0 where either side is constant.
    """

    n: int
    mape: float
    within_5: float
    within_10: float
    spearman: float

    def describe(self) -> str:
        """One line: `mean error 3.1 %, 96 % within 10 %, Spearman 0.989 (48 networks held out)`."""
        return (
            f"mean error {self.mape:.1%}, {self.within_10:.0%} within 10 %, "
            f"Spearman {self.spearman:.3f} ({self.n} networks held out)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: fields that are missing or unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"prediction error: {error}.") from error


def score(measured: ArrayLike, predicted: ArrayLike) -> PredictionError:
    """The errors of `predicted` against `measured`, both `(n,)`, positive, in one unit.

    Raises:
        InputError: fewer than two values, or a different number of them.
    """
    truth, guess = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    if truth.shape != guess.shape or truth.ndim != 1 or truth.size < 2:
        raise InputError(f"scores need two equal rows of at least 2, got {truth.shape} and {guess.shape}.")
    relative = np.abs(guess / truth - 1)
    return PredictionError(
        n=truth.size,
        mape=float(relative.mean()),
        within_5=float((relative <= 0.05).mean()),
        within_10=float((relative <= 0.10).mean()),
        spearman=spearman(truth.tolist(), guess.tolist()),
    )


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; ties share their mean rank; 0 where either side is constant.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = last - (counts - 1) / 2
    return mean_rank[inverse]
