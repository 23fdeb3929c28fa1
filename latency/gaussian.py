"""Exact Gaussian-process regression on given Gram matrices, amplitudes by maximum marginal likelihood.

The model: targets = f + noise, f ~ N(0, sum of amplitude x component), noise ~ N(0, variance of each point). A caller
brings the components (Gram matrices between the points), and may so use any kernel of any input. The mean is zero: a
component of ones gives a constant of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError

Array = NDArray[np.float64]

# Points that amplitudes are chosen on where there are more (chosen here: their cost grows with the cube of the number
# and is paid some hundred times; the marginal likelihood of 600 points already pins a dozen amplitudes).
SUBSET = 600
ITERATIONS = 300
# Gain of log marginal likelihood per point below which the search for amplitudes ends (chosen here).
TOLERANCE = 1e-7
# Rows below which a triangle is inverted outright rather than by halves (chosen here: LAPACK is quick there).
_BLOCK = 64


@dataclass(frozen=True, slots=True)
class Posterior:
    """A Gaussian process after n targets.

    Args:
        targets: `(n,)`.
        noise: variance of each target's noise, `(n,)`.
        inverse: of Gram matrix + noise, `(n, n)`.
        weights: inverse x targets, `(n,)`; the mean elsewhere is cross-Gram @ weights.
        log_marginal: natural logarithm of the marginal likelihood of the targets.
    """

    targets: Array
    noise: Array
    inverse: Array
    weights: Array
    log_marginal: float

    def fitted(self) -> tuple[Array, Array]:
        """Mean and variance of f at the points themselves, `(n,)` each."""
        shrink = self.noise * self.noise * self.inverse.diagonal()
        return self.targets - self.noise * self.weights, np.maximum(self.noise - shrink, 0.0)

    def left_out(self) -> tuple[Array, Array]:
        """Mean and variance of f at each point from all the others, `(n,)` each.

        Reference: Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, equation 5.12.
        """
        own = self.inverse.diagonal()
        return self.targets - self.weights / own, np.maximum(1 / own - self.noise, 0.0)

    def predict(self, cross: Array, prior: Array) -> tuple[Array, Array]:
        """Mean and variance of f, without noise, `(m,)` each.

        Args:
            cross: Gram matrix between m new points and the n, `(m, n)`.
            prior: variance of f at the new points before any target, `(m,)`.
        """
        known = np.einsum("mn,mn->m", cross @ self.inverse, cross)
        return cross @ self.weights, np.maximum(prior - known, 0.0)


def condition(gram: Array, targets: Array, noise: Array) -> Posterior:
    """The exact posterior, by Cholesky.

    Args:
        gram: `(n, n)`, symmetric and positive semi-definite.
        targets: `(n,)`.
        noise: variance of each target's noise, `(n,)`, above 0.

    Raises:
        InputError: Gram matrix + noise is not positive definite.
    """
    total = gram + np.diag(noise)
    try:
        lower = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
    except np.linalg.LinAlgError as error:
        raise InputError(
            f"a Gram matrix of {targets.size} points with noise from {noise.min():.3g} is not positive definite. "
            "Raise the noise, or check that each component is a kernel."
        ) from error
    half = _inverse_of_lower(lower)
    inverse = half.T @ half
    weights = inverse @ targets
    # One step of iterative refinement: where noise is nearly none, the inverse alone loses half of the digits.
    weights = weights + inverse @ (targets - total @ weights)
    log_marginal = (
        -0.5 * float(targets @ weights)
        - float(np.log(lower.diagonal()).sum())
        - 0.5 * targets.size * float(np.log(2 * np.pi))
    )
    return Posterior(targets, noise, inverse, weights, log_marginal)


def _inverse_of_lower(lower: Array) -> Array:
    """Of a lower triangle, by halves, so that nearly all of the work is matrix products."""
    size = len(lower)
    if size <= _BLOCK:
        return np.tril(np.linalg.inv(lower))
    cut = size // 2
    first, last = _inverse_of_lower(lower[:cut, :cut]), _inverse_of_lower(lower[cut:, cut:])
    result = np.zeros_like(lower)
    result[:cut, :cut], result[cut:, cut:] = first, last
    result[cut:, :cut] = -last @ (lower[cut:, :cut] @ first)
    return result


def growth(posterior: Posterior, component: Array) -> float:
    """What one step multiplies the amplitude of a component `(n, n)` by; the likelihood never falls by it.

    All amplitudes, the noise's with its own (diagonal) component among them, may take their step at once.

    Reference: Zhou, Hu, Qiao, Cho and Zhou (2019), MM algorithms for variance components models, equation 5.
    """
    up = float(posterior.weights @ component @ posterior.weights)
    return _step(up, float(np.vdot(posterior.inverse, component)))


def _step(up: float, down: float) -> float:
    return float(np.sqrt(max(up, 0.0) / down)) if down > 0 else 1.0


def combine(amplitudes: Sequence[float] | Array, components: Sequence[Array]) -> Array:
    """The sum of amplitude x component; what has amplitude 0 costs nothing."""
    total = np.zeros_like(components[0], dtype=np.float64)
    for amplitude, component in zip(amplitudes, components, strict=True):
        if amplitude:
            total += amplitude * component
    return total


def squared_exponential(first: Array, second: Array) -> Array:
    """exp(-|x - y|^2 / 2) of points in length scales, `(n, d)` and `(m, d)` to `(n, m)`."""
    square = (first**2).sum(axis=1)[:, None] + (second**2).sum(axis=1)[None] - 2 * first @ second.T
    return np.asarray(np.exp(-0.5 * np.maximum(square, 0.0)), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """A process whose amplitudes were chosen by maximum marginal likelihood; make one with `fit`.

    Args:
        amplitudes: of the components, at least 0.
        noise: variance of a target whose noise weight is 1.
        posterior: given all targets.
    """

    amplitudes: tuple[float, ...]
    noise: float
    posterior: Posterior

    @classmethod
    def fit(
        cls,
        components: Sequence[ArrayLike],
        targets: ArrayLike,
        *,
        noise_weights: ArrayLike | None = None,
        subset: int = SUBSET,
        seed: int = 0,
    ) -> Self:
        """Amplitudes and noise on at most `subset` points, then one posterior of all.

        Args:
            components: Gram matrices between the points, each `(n, n)`, symmetric, positive semi-definite.
            targets: `(n,)`, finite.
            noise_weights: relative noise variance of each target, `(n,)`, above 0; None: equal.
            subset: most points to choose amplitudes on.
            seed: of the subset.

        Raises:
            InputError: shapes that do not agree, values that are not finite, a weight that is not positive.
        """
        y = np.asarray(targets, dtype=np.float64)
        grams = [np.asarray(component, dtype=np.float64) for component in components]
        weights = np.ones(y.size) if noise_weights is None else np.asarray(noise_weights, dtype=np.float64)
        shapes = {gram.shape for gram in grams}
        if y.ndim != 1 or y.size < 2 or weights.shape != y.shape or shapes != {(y.size, y.size)}:
            raise InputError(
                f"a Gaussian process needs at least 2 targets (n,), as many noise weights, and components (n, n); "
                f"got {y.shape}, {weights.shape} and {sorted(shapes)}."
            )
        if not (np.isfinite(y).all() and all(np.isfinite(gram).all() for gram in grams)):
            raise InputError("targets and components of a Gaussian process must be finite.")
        if not (np.isfinite(weights).all() and (weights > 0).all()):
            raise InputError("noise weights of a Gaussian process must be positive and finite.")
        chosen = np.sort(np.random.default_rng(seed).permutation(y.size)[:subset])
        block = np.ix_(chosen, chosen)
        amplitudes, noise = _maximise([gram[block] for gram in grams], y[chosen], weights[chosen])
        return cls(
            tuple(float(value) for value in amplitudes),
            noise,
            condition(combine(amplitudes, grams), y, noise * weights),
        )

    def predict(self, cross: Sequence[Array], prior: Sequence[Array]) -> tuple[Array, Array]:
        """Mean and variance of f, without noise, at m new points, `(m,)` each.

        Args:
            cross: of each component between the new points and the fitted ones, `(m, n)`.
            prior: of each component, its value between a new point and itself, `(m,)`.
        """
        return self.posterior.predict(combine(self.amplitudes, cross), combine(self.amplitudes, prior))


def _maximise(grams: list[Array], targets: Array, weights: Array) -> tuple[Array, float]:
    """Amplitudes and noise from equal shares of the targets' mean square on, by multiplicative steps."""
    square = float(np.mean(targets**2)) or 1.0
    shares = [float(gram.trace()) / targets.size or 1.0 for gram in grams]
    amplitudes = np.array([square / (len(grams) + 1) / share for share in shares])
    noise, before = square / (len(grams) + 1) / float(weights.mean()), -np.inf
    # A floor keeps the matrix positive definite where the targets carry no noise at all.
    floor = 1e-10 * square / float(weights.mean())
    for _ in range(ITERATIONS):
        posterior = condition(combine(amplitudes, grams), targets, noise * weights)
        if posterior.log_marginal - before < TOLERANCE * targets.size:
            break
        before = posterior.log_marginal
        amplitudes = amplitudes * [growth(posterior, gram) for gram in grams]
        up, down = posterior.weights**2 @ weights, posterior.inverse.diagonal() @ weights
        noise = max(noise * _step(float(up), float(down)), floor)
    return amplitudes, noise
