"""A Gaussian process of accuracy over the points of a space, fitted to the trials so far.

Prior: accuracy through the link -log(1 - accuracy) is a constant plus five sums, each with an amplitude of its own: an
effect of each option of each choice; a slope in each choice whose options are numbers; an effect of the options of each
factor together; one of all choices together; a slope in the logarithm of the cost. Amplitudes, the two lengths and the
noise are the most probable ones under broad priors.

Reference: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, equations 2.25 to 2.30 and 5.12.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mnas.search_space import Architecture, SearchSpace

Floats = NDArray[np.float64]

CLIP = 1e-4  # accuracies are taken as at least this far from 0 and 1
# Chosen here: points that amplitudes are chosen on where there are more. Their cost grows with the cube of the number.
SUBSET = 200
# Of the pattern search in the logarithms of the hyperparameters: each is tried up and down by each step in turn.
STEPS = (1.0, 1.0, 1.0, 0.5, 0.25)
# Chosen here: the variance and length of a part of the factors' effect that no data can take away. Trials crowd around
# the best, and without it the most probable prior is too sure of what options do that were hardly ever tried.
UNSEEN, UNSEEN_LENGTH = 0.1, 1.0
JITTER = 1e-6
LEAST_VARIANCE = 1e-10


def link(accuracy: Floats) -> Floats:
    """-log(1 - accuracy): evens out what an option is worth at low and at high accuracy."""
    return np.asarray(-np.log1p(-np.clip(accuracy, CLIP, 1 - CLIP)))


def unlink(value: Floats) -> Floats:
    """The inverse of `link`."""
    return np.asarray(-np.expm1(-value))


def spread(values: Floats) -> float:
    """Standard deviation; 1 where all are equal up to rounding."""
    deviation = float(values.std())
    return deviation if deviation > 1e-9 * max(1.0, float(np.abs(values).max())) else 1.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Amplitudes are variances in units of the targets' own; lengths are numbers of choices.

    Defaults are medians of log-normal priors, `SPREAD` the standard deviations of the logarithms; chosen here.
    """

    options: float = 1.0
    numbers: float = 0.5
    factors: float = 0.3
    joint: float = 0.1
    cost: float = 0.5
    factor_length: float = 1.5
    joint_length: float = 3.0
    noise: float = 0.03


SPREAD = Prior(1.5, 1.5, 1.5, 1.5, 1.5, 0.7, 0.7, 3.0)


@dataclass(frozen=True, slots=True)
class Points:
    """Points as the kernels see them.

    Args:
        taken: `(n, options of all choices)`, 1 where an option is taken.
        numbers: `(n, choices)`, the standardised number of the option taken; 0 for a choice of names.
        cost: `(n,)`, standardised logarithm.
    """

    taken: Floats
    numbers: Floats
    cost: Floats

    def __len__(self) -> int:
        return len(self.cost)

    def __getitem__(self, rows: "slice | NDArray[np.intp]") -> "Points":
        return Points(self.taken[rows], self.numbers[rows], self.cost[rows])

    def followed_by(self, other: "Points") -> "Points":
        """Both, one after another."""
        return Points(
            np.concatenate([self.taken, other.taken]),
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.cost, other.cost]),
        )


@dataclass(frozen=True, slots=True)
class _Products:
    """What the kernels of two sets of points depend on, `(n, m)` each; `apart` counts differing choices by factor."""

    matches: Floats
    numbers: Floats
    cost: Floats
    apart: tuple[NDArray[np.intp], ...]


class AccuracySurrogate:
    """`fit` or `extend`, then `predict`.

    Args:
        space: whose points are taken.
    """

    def __init__(self, space: SearchSpace) -> None:
        counts = [len(choice.options) for choice in space.choices]
        self._choices = len(counts)
        ends = np.cumsum([0, *counts])
        self._first = ends[:-1]
        self._width = int(ends[-1])
        self._numbers = np.zeros((self._choices, max(counts)))
        for row, choice in enumerate(space.choices):
            if len(choice.options) > 1 and not any(isinstance(option, str) for option in choice.options):
                numbers = np.array(choice.options, dtype=np.float64)
                self._numbers[row, : len(numbers)] = (numbers - numbers.mean()) / numbers.std()
        sizes = [len(factor.choices) for factor in space.factors or ()]
        borders = np.cumsum([0, *sizes])
        self._factors = [slice(int(ends[a]), int(ends[b])) for a, b in pairwise(borders)]
        self._sizes = sizes
        self._prior = Prior()

    def points(self, architectures: Sequence[Architecture], cost: Floats) -> Points:
        """As the kernels see them; `cost` is `(n,)`, the logarithm, standardised."""
        genes = np.array(architectures, dtype=np.intp).reshape(len(architectures), self._choices)
        taken = np.zeros((len(genes), self._width))
        taken[np.arange(len(genes))[:, None], self._first + genes] = 1.0
        return Points(taken, self._numbers[np.arange(self._choices), genes], np.asarray(cost))

    def fit(self, points: Points, accuracy: Floats) -> None:
        """Chooses the hyperparameters and takes the trials in.

        Args:
            points: at least one.
            accuracy: fractions, `(n,)`.
        """
        targets = self._standardised(accuracy)
        chosen = np.unique(np.linspace(0, len(targets) - 1, min(len(targets), SUBSET)).astype(np.intp))
        self._prior = self._most_probable(points[chosen], targets[chosen])
        self._points = points
        gram = self._noisy(self._gram(self._products(points, points), self._prior))
        self._whiten = np.linalg.inv(np.linalg.cholesky(gram))
        self._weights = self._whiten.T @ (self._whiten @ targets)

    def extend(self, points: Points, accuracy: Floats) -> None:
        """Takes more trials in under the same hyperparameters.

        Args:
            points: the new ones.
            accuracy: fractions of all trials, those before included, `(n,)`.
        """
        below = self._whitened(points)
        own = self._noisy(self._gram(self._products(points, points), self._prior)) - below.T @ below
        corner = np.linalg.inv(np.linalg.cholesky(own))
        above = np.zeros((len(self._whiten), len(points)))
        self._whiten = np.block([[self._whiten, above], [-corner @ below.T @ self._whiten, corner]])
        self._points = self._points.followed_by(points)
        self._weights = self._whiten.T @ (self._whiten @ self._standardised(accuracy))

    def predict(self, points: Points) -> tuple[Floats, Floats]:
        """Mean and variance of the link of accuracy, `(n,)` each, noise left out."""
        cross = self._cross(points)
        variance = self._variance(points) - ((self._whiten @ cross.T) ** 2).sum(axis=0)
        return (
            self._mean + self._scale * (cross @ self._weights),
            self._scale**2 * np.maximum(variance, LEAST_VARIANCE),
        )

    def fitted(self) -> Floats:
        """Mean of the link of accuracy at the trials, `(n,)`: what they were told, with noise taken out."""
        own = self._targets - (self._prior.noise + JITTER) * self._weights
        return np.asarray(self._mean + self._scale * own)

    def covariance(self, a: Points, b: Points) -> Floats:
        """Of the links of accuracy at two sets of points, `(n, m)`."""
        prior = self._gram(self._products(a, b), self._prior)
        return np.asarray(self._scale**2 * (prior - self._whitened(a).T @ self._whitened(b)))

    @property
    def noise(self) -> float:
        """Variance of the noise of one trial, of the link of accuracy."""
        return self._scale**2 * (self._prior.noise + JITTER)

    def _standardised(self, accuracy: Floats) -> Floats:
        values = link(accuracy)
        self._mean = float(values.mean())
        self._scale = spread(values)
        self._targets = np.asarray((values - self._mean) / self._scale)
        return self._targets

    def _products(self, a: Points, b: Points) -> _Products:
        within = [a.taken[:, columns] @ b.taken[:, columns].T for columns in self._factors]
        matches = sum(within[1:], within[0]) if within else a.taken @ b.taken.T
        apart = tuple((size - w).astype(np.intp) for size, w in zip(self._sizes, within, strict=True))
        return _Products(np.asarray(matches), a.numbers @ b.numbers.T, np.outer(a.cost, b.cost), apart)

    def _gram(self, products: _Products, prior: Prior) -> Floats:
        gram = (prior.options / self._choices) * products.matches
        gram += (prior.numbers / self._choices) * products.numbers
        gram += prior.cost * products.cost
        gram += prior.joint * np.exp((products.matches - self._choices) / prior.joint_length)
        if products.apart:
            distance = np.arange(max(self._sizes) + 1)
            near = prior.factors * np.exp(-distance / prior.factor_length)
            near += UNSEEN * np.exp(-distance / UNSEEN_LENGTH)
            near /= len(products.apart)
            for apart in products.apart:
                gram += near.take(apart)
        return np.asarray(gram)

    def _noisy(self, gram: Floats) -> Floats:
        return gram + (self._prior.noise + JITTER) * np.eye(len(gram))

    def _cross(self, points: Points) -> Floats:
        return self._gram(self._products(points, self._points), self._prior)

    def _whitened(self, points: Points) -> Floats:
        """`(trials, n)`: covariances with the trials, in the coordinates in which these are independent."""
        return np.asarray(self._whiten @ self._cross(points).T)

    def _variance(self, points: Points) -> Floats:
        """Of the prior at each point."""
        prior = self._prior
        slopes = prior.numbers / self._choices * (points.numbers**2).sum(axis=1) + prior.cost * points.cost**2
        factors = prior.factors + UNSEEN if self._factors else 0.0
        return np.asarray(prior.options + prior.joint + factors + slopes)

    def _most_probable(self, points: Points, targets: Floats) -> Prior:
        """A pattern search from where the last one ended."""
        products = self._products(points, points)

        def loss(prior: Prior) -> float:
            gram = self._gram(products, prior) + (prior.noise + JITTER) * np.eye(len(targets))
            try:
                lower = np.linalg.cholesky(gram)
            except np.linalg.LinAlgError:
                return float("inf")
            fit = float(targets @ np.linalg.solve(gram, targets))
            unlikely = sum(
                (np.log(getattr(prior, name) / getattr(Prior(), name)) / getattr(SPREAD, name)) ** 2
                for name in Prior.__slots__
            )
            return 0.5 * (fit + float(unlikely)) + float(np.log(lower.diagonal()).sum())

        best = self._prior
        least = loss(best)
        for step in STEPS:
            for name in Prior.__slots__:
                for factor in (np.exp(step), np.exp(-step)):
                    candidate = replace(best, **{name: getattr(best, name) * factor})
                    value = loss(candidate)
                    if value < least:
                        best, least = candidate, value
                        break
        return best
