"""The prior covariance of two encoded networks: of options at places, neighbours, numeric columns, time.

The effect of an option at a place is a number W[place, option] with covariance A[place, place'] x B[option, option'].
Both matrices are learned from the networks that are fitted: a dear option is then known to be dear at places where it
was never seen, and places that behave alike share what they know.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from mnas.latency.gaussian import Array, Posterior, combine, growth

Codes = NDArray[np.int64]

# Ways that the effect of an option may run over the places at first: equal everywhere, changing over about eight or two
# places, free. Their shares are chosen by marginal likelihood (lengths chosen here: a network and a stage).
PLACE_LENGTHS = (8.0, 2.0)
# Networks' worth of trust in the first A and B when they are learned (chosen here: about as many as there are places).
TRUST = 20.0
# How fast the last component forgets: a network that agrees at no place has e^-3 of the covariance (chosen here).
NEARNESS = 3.0
# How long the device's state lasts, in lengths of the whole series of measurements: its drift, and its spells of being
# slow or fast (chosen here: one that spans the series, and thirty of which fit in).
DRIFT, SPELL = 1.0, 0.03
ALWAYS = ("constant", "main", "neighbours", "neighbours at a place", "rest", "drift", "spells")
NUMERIC = ("linear", "smooth", "rough", "main x linear", "main x smooth")


@dataclass(frozen=True, slots=True)
class Points:
    """Networks as indices, and when they were measured.

    Args:
        codes: `(n, places)`; 0 where inactive, options from 1.
        numeric: `(n, q)`, mean 0 and standard deviation 1 over the fitted networks.
        when: `(n,)`; 0 for the first of a series of measurements, 1 for the last.
    """

    codes: Codes
    numeric: Array
    when: Array

    def take(self, rows: NDArray[np.int64]) -> "Points":
        """The networks of these rows."""
        return Points(self.codes[rows], self.numeric[rows], self.when[rows])


@dataclass(frozen=True, slots=True)
class EncodingKernel:
    """Prior covariance between networks.

    Args:
        places: A, `(places, places)`, positive definite.
        options: B, `(options + 1, options + 1)`, positive definite; index 0 is "inactive".
        amplitudes: of the components of `names`, at least 0; "main" has 1, its size is A's.
    """

    places: Array
    options: Array
    amplitudes: Array

    @classmethod
    def first(cls, places: int, options: int, numeric: int, share: float) -> Self:
        """Before any target: every component with a variance of `share`, the constant with 1."""
        names = ALWAYS + (NUMERIC if numeric else ())
        amplitudes = np.full(len(names), share)
        amplitudes[:2] = 1.0
        return cls(share * np.mean(place_shapes(places), axis=0) / places, np.eye(options + 1), amplitudes)

    def components(self, first: Points, second: Points) -> list[Array]:
        """Gram matrices `(n, m)` between two sets of networks; one of amplitude 0 is left as zeros."""
        main = self.main(first, second)
        size, count = len(self.options), len(self.places)
        pairs = [points.codes[:, :-1] * size + points.codes[:, 1:] for points in (first, second)]
        rows: list[Callable[[], Array]] = [
            lambda: np.ones_like(main),
            lambda: main,
            lambda: _counts(pairs[0], size**2) @ _counts(pairs[1], size**2).T / count,
            lambda: _matches(*pairs) / count,
            lambda: np.exp(NEARNESS * (_matches(first.codes, second.codes) / count - 1)),
        ]
        elapsed = np.abs(first.when[:, None] - second.when)
        rows += [lambda: np.exp(-elapsed / DRIFT), lambda: np.exp(-elapsed / SPELL)]
        if first.numeric.shape[1]:
            linear = first.numeric @ second.numeric.T
            apart = np.abs(first.numeric[:, None, :] - second.numeric[None, :, :])
            smooth = np.exp(-0.5 * apart**2).mean(axis=2)
            rows += [
                lambda: linear,
                lambda: smooth,
                lambda: np.exp(-apart).mean(axis=2),
                lambda: main * linear,
                lambda: main * smooth,
            ]
        nothing = np.zeros_like(main)
        return [row() if used else nothing for row, used in zip(rows, self.amplitudes > 0, strict=True)]

    def renewed(self, components: Sequence[Array], points: Points) -> list[Array]:
        """The components between `points`, from those of an earlier A and B; what rests on these is made anew."""
        fresh = list(components)
        fresh[1] = self.main(points, points)
        if points.numeric.shape[1]:
            linear, smooth = fresh[len(ALWAYS) : len(ALWAYS) + 2]
            fresh[-2:] = fresh[1] * linear, fresh[1] * smooth
        return fresh

    def variances(self, points: Points) -> Array:
        """Prior variance of each network, `(n,)`: what `gram` has between a network and itself."""
        codes, count = points.codes, len(self.places)
        main = (self.options[codes[:, :, None], codes[:, None, :]] * self.places).sum(axis=(1, 2))
        pairs = codes[:, :-1] * len(self.options) + codes[:, 1:]
        one = np.ones(len(codes))
        rows = [
            one,
            main,
            (_counts(pairs, len(self.options) ** 2) ** 2).sum(axis=1) / count,
            one * (count - 1) / count,
            one,
            one,
            one,
        ]
        if points.numeric.shape[1]:
            linear = (points.numeric**2).sum(axis=1)
            rows += [linear, one, one, main * linear, main]
        return np.asarray(self.amplitudes @ np.array(rows), dtype=np.float64)

    def main(self, first: Points, second: Points) -> Array:
        """The part of the options at their places, `(n, m)`: the sum over places p, q of A[p, q] B[code p, code q]."""
        size = len(self.options)
        left = np.einsum("npo,pq->nqo", one_hot(first.codes, size), self.places)
        right = one_hot(second.codes, size) @ self.options
        gram: Array = left.reshape(len(left), -1) @ right.reshape(len(right), -1).T
        return gram

    def gram(self, first: Points, second: Points) -> Array:
        """Prior covariance, `(n, m)`."""
        return combine(self.amplitudes, self.components(first, second))

    def stepped(self, posterior: Posterior, components: Sequence[Array]) -> Self:
        """Amplitudes one step nearer to the most likely; `main` keeps its own."""
        factors = [growth(posterior, component) for component in components]
        factors[1] = 1.0
        return replace(self, amplitudes=self.amplitudes * factors)

    def learned(self, posterior: Posterior, points: Points, prior: Self) -> Self:
        """A and B one step of expectation maximisation nearer to the most likely, each held towards the prior's.

        Reference: Dutilleul (1999), The MLE algorithm for the matrix normal distribution; expectations over the
        effects as in Dempster, Laird and Rubin (1977), inverse Wishart priors with `TRUST` degrees of freedom.
        """
        count, size = len(self.places), len(self.options)
        effects = one_hot(points.codes, size).reshape(len(points.codes), -1)
        covariance = np.kron(self.places, self.options)
        cross = effects @ covariance
        mean = (cross.T @ posterior.weights).reshape(count, size)
        left = (covariance - cross.T @ posterior.inverse @ cross).reshape(count, size, count, size)
        inverse = _inverse(self.options)
        spread = mean @ inverse @ mean.T + np.einsum("aobp,op->ab", left, inverse)
        places = (TRUST * prior.places + spread) / (TRUST + size)
        inverse = _inverse(places)
        spread = mean.T @ inverse @ mean + np.einsum("aobp,ab->op", left, inverse)
        options = (TRUST * prior.options + spread) / (TRUST + count)
        return replace(self, places=(places + places.T) / 2, options=(options + options.T) / 2)


def place_shapes(places: int) -> list[Array]:
    """Covariances over the places to begin with, each `(places, places)` with a diagonal of 1."""
    apart = np.abs(np.subtract.outer(np.arange(places), np.arange(places)))
    return [
        np.ones((places, places)),
        *(np.exp(-apart / length) for length in PLACE_LENGTHS),
        np.eye(places),
    ]


def one_hot(codes: Codes, size: int) -> Array:
    """`(n, places, size)` of 0 and 1."""
    return np.eye(size)[codes]


def _inverse(matrix: Array) -> Array:
    floor = 1e-9 * matrix.trace() * np.eye(len(matrix))
    return np.asarray(np.linalg.inv(matrix + floor), dtype=np.float64)


def _counts(codes: Codes, size: int) -> Array:
    """How often each code stands in a row, `(n, size)`."""
    rows = np.arange(len(codes))[:, None] * size
    return (
        np.bincount((rows + codes).ravel(), minlength=len(codes) * size).reshape(-1, size).astype(np.float64)
    )


def _matches(first: Codes, second: Codes) -> Array:
    """In how many columns two rows agree, `(n, m)`."""
    total = np.zeros((len(first), len(second)))
    for left, right in zip(first.T, second.T, strict=True):
        total += left[:, None] == right
    return total
