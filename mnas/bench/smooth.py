"""An evaluator's scores with their noise taken out by a smooth model of them, fitted to nothing else.

The model is the Gaussian process that `guided` practises on (`mnas.controllers.surrogate`): options, factors, all
choices together and the logarithm of the multiply-adds. Its hyperparameters are the most probable ones given the
scores; no true accuracy is seen.
"""

from collections.abc import Sequence

import numpy as np

from mnas.controllers.surrogate import AccuracySurrogate, Floats, spread, unlink
from mnas.search_space import Architecture, SearchSpace, network_cost

# The process sees accuracies through a link; scores of any scale are brought to where the link does not clip them:
# standardised, at most so many standard deviations from the mean, around the middle of the link's range.
MIDDLE, WIDEST = 4.5, 4.0


def smoothed(
    space: SearchSpace, networks: Sequence[Architecture], scores: Sequence[float], known: int
) -> list[float]:
    """A score for each network, from those of the first `known`; for these, their own with noise taken out.

    Args:
        space: whose points.
        networks: `(n,)`, different.
        scores: `(known,)`; those not finite are taken as the least of the others.
        known: at least 1.
    """
    values = np.asarray(scores[:known], dtype=np.float64)
    finite = np.isfinite(values)
    if not finite.any() or np.ptp(values[finite]) == 0:
        return [0.0] * len(networks)
    values = np.where(finite, values, values[finite].min())
    standard = np.clip((values - values.mean()) / spread(values), -WIDEST, WIDEST)
    model = AccuracySurrogate(space)
    points = model.points(networks, _log_cost(space, networks))
    model.fit(points[:known], unlink(standard + MIDDLE))
    rest = model.predict(points[known:])[0] if known < len(networks) else np.empty(0)
    return [*model.fitted().tolist(), *rest.tolist()]


def _log_cost(space: SearchSpace, networks: Sequence[Architecture]) -> Floats:
    """Standardised logarithm of the multiply-adds, `(n,)`."""
    costs = np.log([network_cost(space.decode(network)).madds for network in networks])
    return np.asarray((costs - costs.mean()) / spread(costs))
