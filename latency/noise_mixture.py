"""Noise of measured latencies as a mixture of normal distributions of log latency.

A machine has moods: most figures scatter closely, some were taken while it was slower by a tenth or a quarter. One
normal distribution would let those pull every coefficient; a mixture learns where they lie and what each is worth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mnas.latency.gaussian import Array

# Shares, shifts and standard deviations to begin with, the latter two over the standard deviation of the log latencies
# (chosen here: one start for a machine with a few speeds, one for rare, slow figures; cross-validation picks).
STARTS = (
    ((0.4, 0.4, 0.2), (-0.4, 0.4, 1.0), (0.5, 0.5, 0.8)),
    ((0.6, 0.3, 0.1), (0.0, 0.3, 2.0), (0.3, 0.5, 0.7)),
)
# Weight of the prior on shares and variances, in networks, and the variance that it holds to, over the mean square of
# the residuals (chosen here: enough that no component collapses onto one network).
_PRIOR_SHARE, _PRIOR_WEIGHT, _PRIOR_VARIANCE = 1.0, 2.0, 0.1
# Least standard deviation of a component, relative (chosen here: no clock is better, and the matrices stay regular).
_LEAST = 1e-5


@dataclass(frozen=True, slots=True)
class NoiseMixture:
    """Components of log noise: shares summing to 1, shifts and variances, `(k,)` each."""

    shares: Array
    shifts: Array
    variances: Array

    @classmethod
    def start(cls, number: int, deviation: float) -> Self:
        """One of `STARTS`, for log latencies of this standard deviation."""
        shares, shifts, deviations = map(np.array, STARTS[number])
        return cls(shares, shifts * deviation, (deviations * deviation) ** 2)

    def variance(self) -> float:
        """Of the whole mixture."""
        mean = self.shares @ self.shifts
        return float(self.shares @ (self.variances + (self.shifts - mean) ** 2))

    def share_of(self, residuals: Array, variances: Array) -> tuple[Array, Array]:
        """Which component each residual belongs to, `(n, k)`, and the log density of each, `(n,)`.

        Args:
            residuals: log latency - log of the mean predicted without it, `(n,)`.
            variances: of that prediction, `(n,)`.
        """
        spread = self.variances + variances[:, None]
        logs = np.log(self.shares) - 0.5 * (residuals[:, None] - self.shifts) ** 2 / spread
        logs -= 0.5 * np.log(2 * np.pi * spread)
        top = logs.max(axis=1, keepdims=True)
        weights = np.exp(logs - top)
        total = weights.sum(axis=1, keepdims=True)
        return weights / total, (top + np.log(total))[:, 0]

    def updated(self, shares: Array, residuals: Array, variances: Array) -> Self:
        """One step of expectation maximisation.

        Args:
            shares: of `share_of`, `(n, k)`.
            residuals: log latency - log of the mean fitted with it, `(n,)`.
            variances: of that mean, `(n,)`.
        """
        counts = shares.sum(axis=0) + 1e-9
        shifts = shares.T @ residuals / counts
        squares = (residuals[:, None] - shifts) ** 2 + variances[:, None]
        held = _PRIOR_WEIGHT * _PRIOR_VARIANCE * float(np.mean(residuals**2))
        spread = ((shares * squares).sum(axis=0) + held) / (counts + _PRIOR_WEIGHT)
        weights = counts + _PRIOR_SHARE
        # A shift of all is no noise: it belongs to the process.
        shifts = shifts - shifts[int(np.argmax(weights))]
        return type(self)(weights / weights.sum(), shifts, np.maximum(spread, _LEAST**2))

    def undisturbed(self, shares: Array) -> tuple[Array, Array]:
        """Shift of each figure and variance that is left of its noise, `(n,)` each, given `share_of`."""
        precision = (shares / self.variances).sum(axis=1)
        return (shares * self.shifts / self.variances).sum(axis=1) / precision, 1 / precision


def best_factor(log_ratios: Sequence[float] | Array) -> float:
    """The factor on all predictions that makes their mean relative error least.

    Args:
        log_ratios: log of measured / predicted, `(n,)`. The mean of |factor x predicted / measured - 1| is least at
            the median of measured / predicted, weighted with its inverse.
    """
    ratios = np.sort(np.exp(np.asarray(log_ratios, dtype=np.float64)))
    weights = np.cumsum(1 / ratios)
    return float(ratios[int(np.searchsorted(weights, weights[-1] / 2))])
