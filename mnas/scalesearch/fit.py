"""A quadratic surface fitted to the accuracies of the grid, and whether any of it beats the published coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.scalesearch.grid import PUBLISHED, lattice, shares_of
from mnas.search_space import Coefficients

Array = NDArray[np.float64]
Verdict = Literal["better", "not distinguishable"]

TERMS = 6
# A recommendation has to beat the published coefficients by so many standard errors of the difference.
STANDARD_ERRORS = 2.0
# Steps of a share in which the surface is looked at for its top (chosen here).
STEPS = 50
# Shares nearer than this are the same: rounding errors of logarithms.
NEARLY = 1e-6
# Searches without any difference that tell how often chance does as well (chosen here: a standard error of 1 %).
DRAWS = 2000


@dataclass(frozen=True, slots=True, eq=False)
class Surface:
    """accuracy = b0 + b1 d + b2 w + b3 d^2 + b4 d w + b5 w^2, d and w the shares of depth and width.

    The share of resolution is what is left of 1. Make one with `fit`.

    Args:
        coefficients: b0 to b5.
        covariance: of them, `(6, 6)`.
        residual: standard deviation of a point's mean accuracy about the surface.
    """

    coefficients: Array
    covariance: Array
    residual: float

    @classmethod
    def fit(cls, points: Sequence[Coefficients], accuracies: Sequence[float]) -> "Surface":
        """By least squares; the errors are those of `n - 6` degrees of freedom.

        Args:
            points: of the grid, more than six different ones.
            accuracies: the mean of each, a fraction.

        Raises:
            InputError: too few points.

        Reference: ordinary least squares, covariance s^2 (X'X)^-1: Seber and Lee (2003), Linear Regression Analysis,
        sec. 3.2 and 3.3.
        """
        design = np.array([_terms(*shares_of(point)[:2]) for point in points])
        values = np.asarray(accuracies, dtype=np.float64)
        if len(points) <= TERMS or np.linalg.matrix_rank(design) < TERMS:
            raise InputError(f"a surface needs more than {TERMS} different points, got {len(points)}.")
        found, *_ = np.linalg.lstsq(design, values, rcond=None)
        residual = values - design @ found
        variance = float(residual @ residual) / (len(points) - TERMS)
        return cls(found, variance * np.linalg.inv(design.T @ design), variance**0.5)

    def accuracy(self, coefficients: Coefficients) -> float:
        """What the surface says of coefficients, a fraction."""
        return float(_terms(*shares_of(coefficients)[:2]) @ self.coefficients)

    def gain(self, coefficients: Coefficients) -> tuple[float, float]:
        """What they have more than the published ones, and the standard error of that difference."""
        change = _terms(*shares_of(coefficients)[:2]) - _terms(*shares_of(PUBLISHED)[:2])
        variance = float(change @ self.covariance @ change)
        return float(change @ self.coefficients), sqrt(max(0.0, variance))

    def top(self, points: Sequence[Coefficients]) -> Coefficients:
        """The coefficients of greatest accuracy among those between the points, see `between`."""
        return max(between(points), key=self.accuracy)


@dataclass(frozen=True, slots=True)
class Judged:
    """What comes of a surface.

    Args:
        best: coefficients of its top.
        gain: over the published ones, a fraction, with its standard error `gain_std`.
        verdict: `better` where that is more than two standard errors.
        chance: share of searches in which all points are equally good whose top is as many standard errors above, or
            more; it is well above that of a single comparison, since the top is picked among many places.
    """

    best: Coefficients
    gain: float
    gain_std: float
    verdict: Verdict
    chance: float

    @property
    def recommended(self) -> Coefficients:
        """The best ones if they are better, else the published ones."""
        return self.best if self.verdict == "better" else PUBLISHED


def judge(surface: Surface, points: Sequence[Coefficients]) -> Judged:
    """Whether the top of a surface beats the published coefficients by more than two standard errors.

    Args:
        surface: fitted to the points.
        points: that it is fitted to; nothing is recommended beyond them.
    """
    best = surface.top(points)
    gain, std = surface.gain(best)
    better = gain > STANDARD_ERRORS * std and gain > 0
    chance = chance_of(gain / std, points) if std > 0 else float(gain <= 0)
    return Judged(best, gain, std, "better" if better else "not distinguishable", chance)


def chance_of(quotient: float, points: Sequence[Coefficients]) -> float:
    """Share of `DRAWS` searches without any difference, normal noise, whose top is so many standard errors above.

    Args:
        quotient: the gain over its standard error.
        points: that the surface is fitted to.
    """
    design = np.array([_terms(*shares_of(point)[:2]) for point in points])
    noise = np.random.default_rng(0).normal(size=(len(points), DRAWS))
    inverse = np.linalg.inv(design.T @ design)
    found = inverse @ design.T @ noise
    left = ((noise - design @ found) ** 2).sum(axis=0) / (len(points) - TERMS)
    changes = np.array([_terms(*shares_of(c)[:2]) for c in between(points)]) - _terms(
        *shares_of(PUBLISHED)[:2]
    )
    gains = changes @ found
    tops = gains.argmax(axis=0)
    spread = np.einsum("ij,jk,ik->i", changes, inverse, changes)[tops]
    quotients = gains.max(axis=0) / np.sqrt(np.maximum(spread * left, 1e-300))
    return float(np.mean(quotients >= quotient))


def between(points: Sequence[Coefficients]) -> list[Coefficients]:
    """The points, and every way to share the growth in steps of 1/50 that lies between them: in their convex hull.

    Beyond it a quadratic is a guess: where points could not be grown to the budget, their corner is not judged.
    """
    places = np.array([shares_of(point)[:2] for point in points])
    return [*points, *(c for c in _net() if is_between(shares_of(c)[:2], places))]


def is_between(place: Sequence[float], places: Array) -> bool:
    """Whether a place is in the convex hull of others `(n, 2)`.

    It is where they leave no gap of more than half a turn, as seen from there.

    >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> is_between((0.3, 0.3), corners), is_between((0.5, 0.5), corners), is_between((0.6, 0.5), corners)
    (True, True, False)
    """
    away = places - np.asarray(place)
    if (np.abs(away).max(axis=1) < NEARLY).any():
        return True
    angles = np.sort(np.arctan2(away[:, 1], away[:, 0]))
    return float(np.diff(angles, append=angles[0] + 2 * np.pi).max()) <= np.pi + NEARLY


@cache
def _net() -> tuple[Coefficients, ...]:
    """Every way to share the growth in steps of 1/50."""
    return tuple(lattice(STEPS))


def _terms(depth: float, width: float) -> Array:
    return np.array([1.0, depth, width, depth**2, depth * width, width**2])
