"""Uniform sampling without replacement: the baseline that every other controller has to beat."""

import random
from collections.abc import Sequence

from mnas.controllers.fresh import Known
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace


class RandomController:
    """Each option of each choice equally likely; no network twice.

    Args:
        space: what to sample from.
        seed: of its own generator.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._known = Known(space)

    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures that are new; fewer once every network is known."""
        return self._known.fresh(n, lambda _, count: [self._space.sample(self._rng) for _ in range(count)])

    def tell(self, observations: Sequence[Observation]) -> None:
        """There is nothing to learn, but what was told of is not asked for.

        Raises:
            InputError: an architecture outside the space.
        """
        for point in [self._space.architecture(o.architecture) for o in observations]:
            self._known.add(point)
