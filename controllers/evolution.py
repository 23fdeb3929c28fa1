"""Regularised (aging) evolution: tournaments among the most recent networks, one choice changed at a time."""

import math
import random
from collections import deque
from collections.abc import Sequence

from mnas.controllers.fresh import TRIES, Known
from mnas.errors import InputError
from mnas.protocols import Objective, Observation
from mnas.search_space import Architecture, SearchSpace

# Chosen here: nearer to the optimum of made-up separable problems within 500 networks than the 100 and 25 of the
# paper's large experiments, and as near within 2,000.
POPULATION, SAMPLE = 50, 25
# Chosen here: a child is drawn so many times before one more choice is changed.
PATIENCE = 10
# Chosen here: in the last quarter of the tries, networks that the objective refuses are taken rather than none.
FILTERED_TRIES = TRIES - PATIENCE


class EvolutionController:
    """Aging evolution: the best of a random sample of the population leaves a child, and the oldest member dies.

    The first `population` networks are random; those told of without being asked for count among them. Whatever is told
    `done` joins the population, and then the oldest member leaves one that is too large. Failed and infeasible networks
    never join, so that they are no parents and nobody dies for them: age is counted in networks done.

    A child differs from its parent in one active choice; choices that this makes active take random options. No network
    is asked for twice: a child that is known is drawn again from another tournament, after every ten tries with one
    more choice changed; in the end the rest of the space is read in order, so that a small space is exhausted.

    Args:
        space: what to search.
        seed: of its own generator.
        population: networks that are alive, at least 1.
        sample: size of a tournament, drawn with replacement as in the paper, at least 1.
        objective: candidates of infinite cost are drawn again, 30 times at most; None knows no costs.

    Raises:
        InputError: a population or a sample below 1.

    Reference: Real et al., Regularized Evolution for Image Classifier Architecture Search (arXiv 1802.01548), alg. 1.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        population: int = POPULATION,
        sample: int = SAMPLE,
        objective: Objective | None = None,
    ) -> None:
        if population < 1 or sample < 1:
            raise InputError(f"population and sample must be at least 1, got {population!r} and {sample!r}.")
        self._space = space
        self._rng = random.Random(seed)
        self._first, self._sample = population, sample
        self._objective = objective
        self._known = Known(space)
        self._population: deque[tuple[float, Architecture]] = deque(maxlen=population)

    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures that are new; fewer once every network is known."""
        return self._known.fresh(n, self._draw)

    def tell(self, observations: Sequence[Observation]) -> None:
        """Those that are done join the population, in the order told.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
        for point, observation in zip(points, observations, strict=True):
            self._known.add(point)
            if observation.reward is not None:
                self._population.append((observation.reward, point))

    def _draw(self, number: int, n: int) -> list[Architecture]:
        at_random = n if not self._population else self._first - len(self._known)
        candidates = [
            self._space.sample(self._rng) if i < at_random else self._child(1 + number // PATIENCE)
            for i in range(n)
        ]
        if self._objective is None or number >= FILTERED_TRIES:
            return candidates
        new = [point for point in candidates if point not in self._known]
        costs = self._objective.cost(new) if new else ()
        return [point for point, cost in zip(new, costs, strict=True) if math.isfinite(cost)]

    def _child(self, changes: int) -> Architecture:
        """The winner of a tournament with so many active choices changed, fewer where it has no more."""
        tournament = self._rng.choices(self._population, k=self._sample)
        _, parent = max(tournament, key=lambda member: member[0])
        genes, places = [], []
        for place, (choice, gene, active) in enumerate(
            zip(self._space.choices, parent, self._space.active(parent), strict=True)
        ):
            genes.append(gene if active else self._rng.randrange(len(choice.options)))
            if active and len(choice.options) > 1:
                places.append(place)
        for place in self._rng.sample(places, min(changes, len(places))):
            options = len(self._space.choices[place].options)
            genes[place] = (genes[place] + self._rng.randrange(1, options)) % options
        return self._space.architecture(genes)
