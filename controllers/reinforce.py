"""REINFORCE over independent categorical choices, in numpy.

The controller of TuNAS (arXiv 2008.06120), which found no need of a recurrent one; the estimator is Williams (1992).
Two things are added: no network is proposed twice, and the best networks so far are imitated (self-imitation,
arXiv 1806.05635). Without them the policy settles beside the optimum: docs/decisions/0003-reinforce.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mnas.controllers.fresh import Known, uniform_share
from mnas.controllers.policy import Floats, Policy
from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace

# NASNet (arXiv 1707.07012), appendix A: exponential moving average of past rewards, weight 0.95.
BASELINE_DECAY = 0.95
# Chosen here, on synthetic separable problems with random interactions: docs/decisions/0003-reinforce.md.
LEARNING_RATE = 0.1
ENTROPY_WEIGHT, ENTROPY_SPAN = 0.2, 100  # the weight at first, and the networks after which it has halved
IMITATION_WEIGHT = 2.0
ELITE = 8


@dataclass(slots=True)
class _Moments:
    """Exponential moving mean and spread of rewards; None before the first."""

    mean: float | None = None
    variance: float = 0.0

    def update(self, rewards: Floats) -> None:
        """Folds in one batch, its mean standing for all of its rewards."""
        if self.mean is None:
            self.mean, self.variance = float(rewards.mean()), float(rewards.var())
            return
        weight = 1.0 - BASELINE_DECAY ** len(rewards)
        deviation = float(((rewards - self.mean) ** 2).mean())
        self.mean += weight * (float(rewards.mean()) - self.mean)
        self.variance += weight * (deviation - self.variance)


class ReinforceController:
    """Policy gradient with a moving-average baseline, normalised advantages, entropy bonus and self-imitation.

    Log-probability and entropy count the active choices of an architecture alone. Failed and infeasible
    architectures teach nothing and leave the baseline as it is.

    Args:
        space: what to sample from.
        seed: of its own generator.
        learning_rate: of Adam, for logits.
        entropy_weight: of the entropy bonus at first, in units of the reward's standard deviation; after n networks it
            is divided by 1 + n / 100.
        imitation_weight: of the log-likelihood of the best architectures so far, in the same units.

    Raises:
        InputError: a learning rate that is not positive, or a negative weight.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        learning_rate: float = LEARNING_RATE,
        entropy_weight: float = ENTROPY_WEIGHT,
        imitation_weight: float = IMITATION_WEIGHT,
    ) -> None:
        if not (learning_rate > 0 and entropy_weight >= 0 and imitation_weight >= 0):
            raise InputError(
                f"learning_rate must be positive, entropy_weight and imitation_weight not negative; "
                f"got {learning_rate!r}, {entropy_weight!r} and {imitation_weight!r}."
            )
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._entropy_weight, self._imitation_weight = entropy_weight, imitation_weight
        self._known = Known(space)
        self._policy = Policy(space, learning_rate=learning_rate)
        self._elite: dict[Architecture, float] = {}
        self._rewards = _Moments()

    def probabilities(self) -> Floats:
        """The policy: `(choices, most options)`, 0 where a choice has no such option."""
        return self._policy.probabilities()

    def ask(self, n: int = 1) -> list[Architecture]:
        """`n` networks never asked or told of; fewer once every network is known.

        What comes a second time is drawn again with ever more of the uniform distribution, so that a policy that has
        converged goes on to search around its mode.
        """
        return self._known.fresh(
            n, lambda number, count: self._policy.draw(count, self._rng, uniform_share(number))
        )

    def tell(self, observations: Sequence[Observation]) -> None:
        """One step of ascent on the rewards of the batch.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
        for point in points:
            self._known.add(point)
        told = [(p, o.reward) for p, o in zip(points, observations, strict=True) if o.reward is not None]
        if not told:
            return
        rewards = np.array([reward for _, reward in told])
        if self._rewards.mean is None:
            self._rewards.update(rewards)
        advantages = self._advantages(rewards)
        self._rewards.update(rewards)
        self._elite.update(told)
        best = sorted(self._elite.items(), key=lambda item: (-item[1], item[0]))[:ELITE]
        self._elite = dict(best)
        gradient = self._policy.gradient(
            [point for point, _ in told],
            advantages,
            self._entropy_weight / (1 + len(self._known) / ENTROPY_SPAN),
        )
        if self._imitation_weight:
            weights = np.full(len(best), self._imitation_weight)
            gradient = gradient + self._policy.gradient(list(self._elite), weights, 0.0)
        self._policy.ascend(gradient)

    def _advantages(self, rewards: Floats) -> Floats:
        assert self._rewards.mean is not None
        spread = max(self._rewards.variance, float(rewards.var())) ** 0.5
        return np.asarray((rewards - self._rewards.mean) / spread) if spread > 0 else np.zeros_like(rewards)
