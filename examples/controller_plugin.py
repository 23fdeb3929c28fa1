"""A controller of your own, here regularized evolution (arXiv 1802.01548, algorithm 1).

    cd examples && mnas search --target-latency 30ms --latency latency_plugin:Phone \\
        --controller controller_plugin:Evolution --trials 2000

    baseline 0-0-0-0-1-1-1-0-2-1-2-1-2-1-1-1-2-1-0-1-2-1-3-1-2-1-0-1: 4,824,384 parameters, 316,861,792 MAdds
      latency  27.11 ms (24.39 to 29.82), predicted by latency_plugin:Phone
      accuracy 65.88%: predicted top-1 under Accel-NASBench's short proxy training (held-out MAE 0.27 points)
"""

import random
from collections import deque
from collections.abc import Sequence

from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace

POPULATION, TOURNAMENT = 64, 16  # chosen here: better in batches of 64 than the paper's 100 and 25
TRIES, PATIENCE = 100, 10  # draws before the space is read through; draws before one more choice is changed


class Evolution:
    """Changes a choice of the best of a few recent networks; no network comes twice, failed ones leave no children."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        self._space = space
        self._rng = random.Random(seed)
        self._seen: set[Architecture] = set()
        self._all = space.enumerate()
        self._population: deque[tuple[float, Architecture]] = deque(maxlen=POPULATION)

    def ask(self, n: int = 1) -> list[Architecture]:
        """`n` new networks; fewer once all have been asked, which ends the search."""
        asked: list[Architecture] = []
        while len(asked) < n and (point := self._new()) is not None:
            self._seen.add(point)
            asked.append(point)
        return asked

    def tell(self, observations: Sequence[Observation]) -> None:
        """The youngest join the population, the oldest leave it; a point outside the space raises."""
        told = [(o.reward, self._space.architecture(o.architecture)) for o in observations]
        self._seen.update(point for _, point in told)
        self._population.extend((reward, point) for reward, point in told if reward is not None)

    def _new(self) -> Architecture | None:
        for tries in range(TRIES):
            point = self._child(1 + tries // PATIENCE)
            if point not in self._seen:
                return point
        return next((point for point in self._all if point not in self._seen), None)

    def _child(self, changes: int) -> Architecture:
        if len(self._population) < TOURNAMENT:
            return self._space.sample(self._rng)
        _, parent = max(self._rng.sample(self._population, TOURNAMENT))
        genes = list(parent)
        for place in self._rng.choices(range(len(genes)), k=changes):
            genes[place] = self._rng.randrange(len(self._space.choices[place].options))
        return self._space.architecture(genes)
