"""Which random networks a step trains: of the whole space alike, or ever more those that a policy finds promising.

Reference: TuNAS (arXiv 2008.06120) and its code (google-research/tunas): uniform for the first quarter of the steps,
then independent categorical distributions trained by REINFORCE against a moving average (weight 0.95), with Adam at a
rate that grows tenfold to the end.
"""

import math
import random
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mnas.controllers.policy import Policy
from mnas.protocols import Objective
from mnas.search_space import Architecture, SearchSpace
from mnas.seeds import derive_seed

WARM_UP = 0.25
BASELINE_DECAY = 0.95
# Its rate is 0.0003 for 256 images, and its batches have 4,096.
FIRST_RATE, RATE_GROWTH = 0.0048, 10.0


class Uniform:
    """Each option equally likely in every step.

    Args:
        space: what is sampled from.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space, self._seed = space, seed

    def draw(self, step: int, count: int) -> list[Architecture]:
        """The points of a step, which depend on seed and step alone."""
        rng = random.Random(derive_seed(self._seed, "members", step))
        return [self._space.sample(rng) for _ in range(count)]


class PolicySampler:
    """A policy that learns which networks are worth training.

    Args:
        space: what is sampled from.
        seed: of all draws.
        objective: what an accuracy is worth at a network's cost.
        steps: of the whole training.
    """

    def __init__(self, space: SearchSpace, seed: int, objective: Objective, steps: int) -> None:
        self._uniform = Uniform(space, seed)
        self._policy = Policy(space, learning_rate=FIRST_RATE)
        self._seed, self._objective, self._steps = seed, objective, steps
        self._mean = math.nan  # of the rewards; not a number before the first

    def learns(self, step: int) -> bool:
        """Whether the uniform beginning is over at a step, counted from 0."""
        return step >= WARM_UP * self._steps

    def draw(self, step: int, count: int) -> list[Architecture]:
        """The points of a step, which depend on the seed, the step and what the policy has learnt."""
        if not self.learns(step):
            return self._uniform.draw(step, count)
        return self._policy.draw(count, np.random.default_rng(derive_seed(self._seed, "policy", step)))

    def learn(self, step: int, points: Sequence[Architecture], accuracies: Sequence[float]) -> None:
        """One step of ascent on the rewards of accuracies (fractions); outside explicit limits nothing is learnt."""
        rewards = self._objective.score(np.array(accuracies), self._objective.cost(points))
        kept = [
            (point, reward) for point, reward in zip(points, rewards, strict=True) if math.isfinite(reward)
        ]
        if not kept:
            return
        found = np.array([reward for _, reward in kept])
        if math.isnan(self._mean):
            self._mean = float(found.mean())
        gradient = self._policy.gradient([point for point, _ in kept], found - self._mean, 0.0)
        done = (step / self._steps - WARM_UP) / (1 - WARM_UP)
        self._policy.ascend(gradient, FIRST_RATE * RATE_GROWTH**done)
        self._mean += (1 - BASELINE_DECAY) * (float(found.mean()) - self._mean)

    def probabilities(self) -> NDArray[np.float64]:
        """The policy: `(choices, most options)`, 0 where a choice has no such option."""
        return self._policy.probabilities()

    def state(self) -> dict[str, NDArray[np.float64]]:
        """What `restore` needs."""
        return {**self._policy.state(), "mean": np.array([self._mean])}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Goes on from there.

        Raises:
            KeyError: something is missing.
            ValueError: it is of another space.
        """
        self._policy.restore(state)
        self._mean = float(state["mean"][0])
