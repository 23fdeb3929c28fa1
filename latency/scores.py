"""How good a prediction is: relative error, shares within it, rank correlation, coverage, and the noise's ceiling."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError

# Half-width of a normal 95 % interval in standard deviations.
_Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class PredictionError:
    """Of predictions for networks that the fit did not see.

    Args:
        n: networks.
        mape: mean absolute error over the measured value, a fraction.
        rmspe: root of the mean square of that, a fraction.
        within_5: share of predictions within 5 % of the measured value, 0 to 1.
        within_10: likewise, 10 %.
        spearman: rank correlation, -1 to 1; 0 where either side is constant.
        kendall: Kendall's tau-b, likewise.
    """

    n: int
    mape: float
    rmspe: float
    within_5: float
    within_10: float
    spearman: float
    kendall: float

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
        rmspe=float(np.sqrt((relative**2).mean())),
        within_5=float((relative <= 0.05).mean()),
        within_10=float((relative <= 0.10).mean()),
        spearman=spearman(truth.tolist(), guess.tolist()),
        kendall=kendall(truth.tolist(), guess.tolist()),
    )


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Rank correlation; ties share their mean rank; 0 where either side is constant.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    a, b = mean_ranks(first), mean_ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b: concordant less discordant pairs, over those without ties; 0 where one side is constant.

    Reference: Kendall (1945), The treatment of ties in ranking problems.

    >>> round(kendall([1.0, 2.0, 3.0], [10.0, 30.0, 20.0]), 3)
    0.333
    """
    a, b = (np.asarray(values, dtype=np.float64) for values in (first, second))
    total = tied_a = tied_b = 0
    for index in range(a.size - 1):
        up, right = np.sign(a[index + 1 :] - a[index]), np.sign(b[index + 1 :] - b[index])
        total += int(up @ right)
        tied_a += int(np.count_nonzero(up))
        tied_b += int(np.count_nonzero(right))
    return total / math.sqrt(tied_a * tied_b) if tied_a and tied_b else 0.0


def coverage(measured: ArrayLike, low: ArrayLike, high: ArrayLike) -> float:
    """Share of measured values inside their predicted intervals, all `(n,)`; 0 to 1."""
    truth = np.asarray(measured, dtype=np.float64)
    inside = (np.asarray(low, dtype=np.float64) <= truth) & (truth <= np.asarray(high, dtype=np.float64))
    return float(inside.mean())


def noise_ceiling(half_widths: Sequence[float], within: float) -> float:
    """What a perfect predictor would score: the share within a relative error, given the noise of the truth.

    Args:
        half_widths: of the measured values' 95 % intervals, relative; `(n,)`, taken as normal.
        within: the relative error, 0.05 for example.

    >>> round(noise_ceiling([1.96 * 0.03], 0.05), 2)
    0.9
    """
    sds = [half / _Z95 for half in half_widths]
    return float(np.mean([math.erf(within / sd / math.sqrt(2)) if sd > 0 else 1.0 for sd in sds]))


def mean_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """`(n,)` places from 1, the greatest last; equal values share the mean of theirs.

    >>> mean_ranks([0.3, 0.1, 0.3]).tolist()
    [2.5, 1.0, 2.5]
    """
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = last - (counts - 1) / 2
    return mean_rank[inverse]
