"""Non-negative ridge regression on relative error, its strength chosen by cross-validation.

Coefficients are prices (milliseconds per unit), so none is negative: a network with more of everything is
never predicted to be faster, also outside the networks that were fitted.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Ridge strengths to choose from, relative to columns scaled to mean 1 (chosen here: from nearly none to one that
# halves the coefficients of a typical calibration).
STRENGTHS = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
# Inner folds choose the strength, outer ones give held-out predictions (chosen here: five and ten are customary).
INNER_FOLDS, OUTER_FOLDS = 5, 10


def nonnegative_minimum(gram: Array, moment: Array) -> Array:
    """The x >= 0 that minimises x'Gx / 2 - m'x, for a positive definite G `(p, p)` and m `(p,)`.

    Reference: Lawson and Hanson (1974), Solving Least Squares Problems, chapter 23, on the normal equations.
    """
    size = moment.size
    x, free = np.zeros(size), np.zeros(size, dtype=bool)
    tolerance = 1e-12 * max(1.0, float(np.abs(moment).max(initial=0.0)))
    for _ in range(
        3 * size + 10
    ):  # Lawson and Hanson's bound in practice; the last x is feasible in any case
        slope = moment - gram @ x
        slope[free] = -np.inf
        best = int(np.argmax(slope))
        if slope[best] <= tolerance:
            break
        free[best] = True
        while True:
            trial = np.zeros(size)
            trial[free] = np.linalg.solve(gram[np.ix_(free, free)], moment[free])
            if (trial[free] > 0).all():
                break
            crossing = free & (trial <= 0)
            step = float(np.min(x[crossing] / (x[crossing] - trial[crossing])))
            x = x + step * (trial - x)
            free &= x > tolerance * 1e-3
            x[~free] = 0.0
            if not free.any():
                trial = x
                break
        x = trial
    return x


def fit(features: Array, targets: Array, strength: float) -> Array:
    """Coefficients w >= 0 `(p,)` that minimise mean((Xw / y - 1)^2) + strength x |scaled w|^2.

    Args:
        features: `(n, p)`, non-negative; a column of zeros gets 0.
        targets: `(n,)`, positive.
        strength: of the ridge, above 0; columns are scaled to mean 1 over the networks before it counts.
    """
    scale = (features / targets[:, None]).mean(axis=0)
    used = scale > 0
    scaled = features[:, used] / targets[:, None] / scale[used]
    gram = scaled.T @ scaled / targets.size + strength * np.eye(int(used.sum()))
    coefficients = np.zeros(features.shape[1])
    coefficients[used] = nonnegative_minimum(gram, scaled.mean(axis=0)) / scale[used]
    return coefficients


def _folds(count: int, folds: int, rng: np.random.Generator) -> list[Array]:
    return np.array_split(rng.permutation(count), min(folds, count))


def held_out(features: Array, targets: Array, strength: float, rng: np.random.Generator) -> Array:
    """A prediction for each network from a fit that did not see it, `(n,)`, at one strength."""
    predictions = np.empty(targets.size)
    for fold in _folds(targets.size, INNER_FOLDS, rng):
        rest = np.setdiff1d(np.arange(targets.size), fold)
        predictions[fold] = features[fold] @ fit(features[rest], targets[rest], strength)
    return predictions


def choose_strength(features: Array, targets: Array, seed: int) -> float:
    """The strength of the least held-out squared relative error; the same folds for each."""
    errors = [
        float(np.mean((held_out(features, targets, s, np.random.default_rng(seed)) / targets - 1) ** 2))
        for s in STRENGTHS
    ]
    return STRENGTHS[int(np.argmin(errors))]


def fit_best(features: Array, targets: Array, seed: int) -> Array:
    """Coefficients `(p,)` at the strength that cross-validation chooses."""
    return fit(features, targets, choose_strength(features, targets, seed))


def nested_held_out(features: Array, targets: Array, seed: int) -> Array:
    """A prediction for each network `(n,)` from fits that never saw it, the choice of strength included."""
    predictions = np.empty(targets.size)
    for fold in _folds(targets.size, OUTER_FOLDS, np.random.default_rng(seed)):
        rest = np.setdiff1d(np.arange(targets.size), fold)
        predictions[fold] = features[fold] @ fit_best(features[rest], targets[rest], seed)
    return predictions
