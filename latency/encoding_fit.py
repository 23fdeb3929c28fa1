"""Fits a Gaussian process to encoded networks: effects, amplitudes, noise in turn; the design by cross-validation."""

from dataclasses import dataclass, replace
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mnas.latency.encoding_kernel import EncodingKernel, Points, place_shapes
from mnas.latency.gaussian import SUBSET, Array, Posterior, combine, condition, growth
from mnas.latency.noise_mixture import STARTS, NoiseMixture

# Rounds with the first effects, then with learned ones; fewer of each in cross-validation (chosen here: where the
# likelihood gains little more).
ROUNDS, QUICK_ROUNDS, WHOLE_ROUNDS = (15, 30), (12, 15), 3
# Rounds before the noise is learned: residuals of a first, poor fit are not noise.
_SETTLED = 4
# Folds, and most networks, that the design is chosen with.
FOLDS, CHOSEN_ON = 5, 200
# Share of the variance of log latency that each part is given at first, and least latency on the scale of the mean.
_SHARE, _LEAST = 0.25, 0.05
# Standard deviations beyond which a figure is clipped in the first rounds (chosen here).
_REACH = 4.0


@dataclass(frozen=True, slots=True)
class Scale:
    """What effects add up on: `ms`, latency over `centre_ms`, or `log`, 1 + log of that."""

    kind: Literal["ms", "log"]
    centre_ms: float

    def log_ms(self, latent: Array) -> Array:
        """Log of the latency, `(n,)`."""
        relative = np.log(np.maximum(latent, _LEAST)) if self.kind == "ms" else latent - 1
        return np.asarray(relative + np.log(self.centre_ms), dtype=np.float64)

    def latent(self, log_ms: Array) -> Array:
        """The inverse of `log_ms`."""
        relative = log_ms - np.log(self.centre_ms)
        return np.asarray(np.exp(relative) if self.kind == "ms" else relative + 1, dtype=np.float64)

    def slope(self, latent: Array) -> Array:
        """Change of the latent value by one of log latency, `(n,)`."""
        return np.maximum(latent, _LEAST) if self.kind == "ms" else np.ones_like(latent)


@dataclass(frozen=True, slots=True)
class Design:
    """What cross-validation decides: the scale, the noise to begin with, whether effects' covariances are learned."""

    scale: Literal["ms", "log"]
    start: int
    learned: bool


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted process; `log_ms` are the log latencies `(n,)` of `points`."""

    scale: Scale
    kernel: EncodingKernel
    noise: NoiseMixture
    points: Points
    posterior: Posterior
    log_ms: Array

    def left_out(self) -> tuple[Array, Array]:
        """Log of measured / predicted by all others, and the variance of the log of that prediction, `(n,)` each."""
        mean, variance = self.posterior.left_out()
        return self.log_ms - self.scale.log_ms(mean), variance / self.scale.slope(mean) ** 2

    def predict(self, points: Points) -> tuple[Array, Array]:
        """Log latency and its variance without noise, `(m,)` each."""
        cross = self.kernel.gram(points, self.points)
        mean, variance = self.posterior.predict(cross, self.kernel.variances(points))
        return self.scale.log_ms(mean), variance / self.scale.slope(mean) ** 2


def _spread(log_ms: Array) -> float:
    """Standard deviation by the median absolute deviation, or the plain one where half of the values are equal."""
    robust = 1.4826 * float(np.median(np.abs(log_ms - np.median(log_ms))))
    return max(robust or float(log_ms.std()), 1e-3)


class _State:
    """Noise and what the process is told, round after round."""

    def __init__(self, scale: Scale, noise: NoiseMixture, log_ms: Array, variance: float) -> None:
        self.scale, self.noise, self.log_ms = scale, noise, log_ms
        # A figure far outside is kept from swaying the first rounds, before there is a noise to put it down to.
        reach = _REACH * _spread(log_ms)
        first = np.clip(log_ms, np.median(log_ms) - reach, np.median(log_ms) + reach)
        self.targets, self.variances = scale.latent(first), np.full(log_ms.size, variance)

    def left_out(self, posterior: Posterior) -> tuple[Array, Array]:
        mean, variance = posterior.left_out()
        return self.log_ms - self.scale.log_ms(mean), variance / self.scale.slope(mean) ** 2

    def learn(self, posterior: Posterior, *, noise: bool) -> None:
        """Targets and variances for the next round, the noise itself learned or as it is."""
        shares, _ = self.noise.share_of(*self.left_out(posterior))
        mean, variance = posterior.fitted()
        slope = self.scale.slope(mean)
        if noise:
            residuals = self.log_ms - self.scale.log_ms(mean)
            self.noise = self.noise.updated(shares, residuals, variance / slope**2)
        shift, left = self.noise.undisturbed(shares)
        self.targets, self.variances = self.scale.latent(self.log_ms - shift), left * slope**2


def fit_design(
    points: Points, log_ms: Array, options: int, design: Design, rounds: tuple[int, int] = ROUNDS
) -> Fit:
    """One design, fitted on all of these networks.

    Args:
        points: n networks.
        log_ms: log latency, `(n,)`.
        options: how many there are.
        design: what to fit.
        rounds: with the first effects, and after that.
    """
    places, deviation = points.codes.shape[1], _spread(log_ms)
    share = _SHARE * deviation**2
    scale = Scale(design.scale, float(np.exp(np.median(log_ms))))
    state = _State(scale, NoiseMixture.start(design.start, deviation), log_ms, share)
    kernel = EncodingKernel.first(places, options, points.numeric.shape[1], share)
    shapes, sizes = place_shapes(places), np.full(len(place_shapes(places)), share / places)
    shaped = [replace(kernel, places=shape).main(points, points) for shape in shapes]
    fixed = kernel.components(points, points)
    prior = kernel
    for number in range(sum(rounds)):
        if number < rounds[0]:
            prior = kernel = replace(kernel, places=combine(sizes, shapes))
        grams = kernel.renewed(fixed, points)
        posterior = condition(combine(kernel.amplitudes, grams), state.targets, state.variances)
        stepped = kernel.stepped(posterior, grams)
        if number < rounds[0]:
            sizes = sizes * [growth(posterior, gram) for gram in shaped]
        elif design.learned:
            stepped = stepped.learned(posterior, points, prior)
        kernel = stepped
        state.learn(posterior, noise=number >= _SETTLED)
    return _finish(points, state, kernel)


def _finish(points: Points, state: _State, kernel: EncodingKernel) -> Fit:
    """The posterior, without the components that explain next to nothing even of the least noise."""
    used = kernel.amplitudes > 1e-3 * state.noise.variances.min()
    kernel = replace(kernel, amplitudes=np.where(used, kernel.amplitudes, 0.0))
    gram = kernel.gram(points, points)
    posterior = condition(gram, state.targets, state.variances)
    return Fit(state.scale, kernel, state.noise, points, posterior, state.log_ms)


def _extended(fit: Fit, points: Points, log_ms: Array) -> Fit:
    """The same kernel after more networks, the noise of each learned anew."""
    state = _State(fit.scale, fit.noise, log_ms, 0.0)
    gram, (mean, _) = fit.kernel.gram(points, points), fit.predict(points)
    shares, _ = fit.noise.share_of(log_ms - mean, np.zeros_like(mean))
    shift, left = fit.noise.undisturbed(shares)
    state.targets = fit.scale.latent(log_ms - shift)
    state.variances = left * fit.scale.slope(fit.scale.latent(mean)) ** 2
    for _ in range(WHOLE_ROUNDS - 1):
        state.learn(condition(gram, state.targets, state.variances), noise=True)
    posterior = condition(gram, state.targets, state.variances)
    return Fit(fit.scale, fit.kernel, state.noise, points, posterior, state.log_ms)


def choose_design(points: Points, log_ms: Array, options: int, seed: int) -> Design:
    """The design under which networks left out are most likely, in `FOLDS` folds of at most `CHOSEN_ON` networks."""
    rng = np.random.default_rng(seed)
    folds = np.array_split(rng.permutation(log_ms.size)[:CHOSEN_ON], FOLDS)
    scales: tuple[Literal["ms", "log"], ...] = ("ms", "log")
    designs = [Design(*parts) for parts in product(scales, range(len(STARTS)), (True, False))]
    return max(designs, key=lambda design: _density(points, log_ms, options, design, folds))


def _density(
    points: Points, log_ms: Array, options: int, design: Design, folds: list[NDArray[np.int64]]
) -> float:
    """Mean log density of networks that were left out."""
    densities = []
    for number, fold in enumerate(folds):
        rest = np.concatenate([other for index, other in enumerate(folds) if index != number])
        fit = fit_design(points.take(rest), log_ms[rest], options, design, QUICK_ROUNDS)
        mean, variance = fit.predict(points.take(fold))
        densities.append(fit.noise.share_of(log_ms[fold] - mean, variance)[1])
    # One network in a bad mood of its own must not decide.
    return float(np.maximum(np.concatenate(densities), -25.0).mean())


def fit_points(points: Points, log_ms: Array, options: int, seed: int) -> tuple[Fit, Array, Array]:
    """The chosen design on at most `SUBSET` networks, then its posterior given all; and how far it is off elsewhere.

    Args:
        points: n networks.
        log_ms: log latency, `(n,)`.
        options: how many there are.
        seed: of folds and subset.

    Returns:
        The fit; log of measured / predicted for networks that had no part in what predicted them, `(h,)`; the variance
        of the log of those predictions, without noise, `(h,)`.
    """
    design = choose_design(points, log_ms, options, seed)
    order = np.random.default_rng(seed).permutation(log_ms.size)
    chosen, others = np.sort(order[:SUBSET]), order[SUBSET:]
    fit = fit_design(points.take(chosen), log_ms[chosen], options, design)
    if not others.size:
        return (fit, *_held_out(points, log_ms, options, design, np.array_split(order, FOLDS)))
    # Effects and amplitudes never saw the others, and each is left out by the exact formula.
    whole = _extended(fit, points, log_ms)
    residuals, variances = whole.left_out()
    return whole, residuals[others], variances[others]


def _held_out(
    points: Points, log_ms: Array, options: int, design: Design, folds: list[NDArray[np.int64]]
) -> tuple[Array, Array]:
    """Residual and variance of each network, fold after fold, from a fit on the other folds."""
    residuals, variances = [], []
    for number, fold in enumerate(folds):
        rest = np.concatenate([other for index, other in enumerate(folds) if index != number])
        mean, variance = fit_design(points.take(rest), log_ms[rest], options, design).predict(
            points.take(fold)
        )
        residuals.append(log_ms[fold] - mean)
        variances.append(variance)
    return np.concatenate(residuals), np.concatenate(variances)
