"""Uniform sampling without replacement: the baseline that every other controller has to beat."""

import random
from collections.abc import Sequence

from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace

# Draws before a crowded space is scanned instead; at half of a space seen, all fail once in 1e30.
_TRIES = 100


class RandomController:
    """Each option of each choice equally likely; no network twice.

    Args:
        space: what to sample from.
        seed: of its own generator.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._seen: set[Architecture] = set()
        self._exhausted = False

    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures never asked before; fewer once every network has been asked."""
        asked: list[Architecture] = []
        while len(asked) < n and not self._exhausted:
            architecture = self._draw()
            if architecture is None:
                self._exhausted = True
            else:
                self._seen.add(architecture)
                asked.append(architecture)
        return asked

    def tell(self, observations: Sequence[Observation]) -> None:
        """Checks that the architectures lie in the space; there is nothing to learn."""
        for observation in observations:
            self._space.architecture(observation.architecture)

    def _draw(self) -> Architecture | None:
        for _ in range(_TRIES):
            architecture = self._space.sample(self._rng)
            if architecture not in self._seen:
                return architecture
        return next((point for point in self._space.enumerate() if point not in self._seen), None)
