"""Every network of a small space once, in a random order."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mnas.controllers.fresh import Known
from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace

# Chosen here: a permutation of so many points is 4 MB; even at a second a network they would take twelve days.
MAX_POINTS = 1_000_000


class ExhaustiveController:
    """Every network once; the order is a uniform permutation of the points, so that any part of it is a fair sample.

    Args:
        space: of at most `MAX_POINTS` points, those that build the same network counted apart.
        seed: of the order.

    Raises:
        InputError: a larger space.
    """

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        if space.size > MAX_POINTS:
            raise InputError(
                f"space {space.name!r} has {space.size:,} points; the controller exhaustive takes at most "
                f"{MAX_POINTS:,}. Use a controller that samples (reinforce or evolution), or a smaller space."
            )
        self._space = space
        self._known = Known(space)
        order = np.random.default_rng(seed).permutation(np.arange(space.size, dtype=np.int32))
        self._points = self._new_points(order)

    def ask(self, n: int = 1) -> list[Architecture]:
        """The next `n` networks; fewer, then none, once every network is known."""
        return list(islice(self._points, n))

    def tell(self, observations: Sequence[Observation]) -> None:
        """There is nothing to learn, but what was told of is not asked for.

        Raises:
            InputError: an architecture outside the space.
        """
        for point in [self._space.architecture(o.architecture) for o in observations]:
            self._known.add(point)

    def _new_points(self, order: NDArray[np.int32]) -> Iterator[Architecture]:
        points = (self._space.architecture(self._genes(int(number))) for number in order)
        return (point for point in points if self._known.add(point))

    def _genes(self, number: int) -> list[int]:
        """The point of a number in the lexicographic order: its digits, with the options of each choice as base."""
        genes = []
        for choice in reversed(self._space.choices):
            number, gene = divmod(number, len(choice.options))
            genes.append(gene)
        return genes[::-1]
