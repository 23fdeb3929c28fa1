"""No network twice: which networks of a space are known, and new ones from draws, to the last one."""

from collections.abc import Callable, Hashable, Iterable

from mnas.search_space import Architecture, SearchSpace

# Chosen here: a space of which half is known fails so many uniform draws once in 1e12, then it is read through.
TRIES = 40
# Chosen here: 1 % of uniform draws in the second try, all of them from the twentieth on.
FIRST_MIX, MIX_GROWTH = 0.01, 1.3

Draw = Callable[[int, int], Iterable[Architecture]]


class Known:
    """The networks that a controller has asked for or was told of.

    Args:
        space: whose points they are.
    """

    def __init__(self, space: SearchSpace) -> None:
        small = all(len(choice.options) <= 256 for choice in space.choices)
        self._key: Callable[[Architecture], Hashable] = (
            bytes if small else tuple
        )  # bytes take a fifth of the memory
        self._keys: set[Hashable] = set()
        self._rest = space.enumerate()
        self._exhausted = False

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, architecture: Architecture) -> bool:
        return self._key(architecture) in self._keys

    def add(self, architecture: Architecture) -> bool:
        """Whether it was new; it is known from now on."""
        before = len(self._keys)
        self._keys.add(self._key(architecture))
        return len(self._keys) > before

    def fresh(self, n: int, draw: Draw) -> list[Architecture]:
        """`n` new networks, known from now on; fewer once every network of the space is known.

        Args:
            n: how many.
            draw: gives at most so many points as its second argument says, known ones among them; its first is the
                number of the try, from 0, so that later draws can be wider. After `TRIES` the space is read in order.
        """
        found: list[Architecture] = []
        for number in range(TRIES):
            if len(found) == n or self._exhausted:
                return found
            found += [point for point in draw(number, n - len(found)) if self.add(point)]
        while len(found) < n and not self._exhausted:
            point = next(self._rest, None)
            if point is None:
                self._exhausted = True
            elif self.add(point):
                found.append(point)
        return found


def uniform_share(number: int) -> float:
    """How much of the uniform distribution a policy is mixed with in a try: nothing in the first, all in the last.

    So a policy that has converged goes on to search around its mode.
    """
    return 0.0 if number == 0 else min(1.0, FIRST_MIX * MIX_GROWTH ** (number - 1))
