"""REINFORCE over independent categorical choices, in numpy.

One vector of logits per choice, all zero at first, so that the first batch is a uniform sample. This is the
controller of TuNAS (arXiv 2008.06120), which found no need of a recurrent one; the estimator is Williams (1992).
Two things are added: no network is proposed twice, and the best networks so far are imitated (self-imitation,
arXiv 1806.05635). Without them the policy settles beside the optimum: docs/decisions/0003-reinforce.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace

Floats = NDArray[np.float64]

# NASNet (arXiv 1707.07012), appendix A: exponential moving average of past rewards, weight 0.95.
BASELINE_DECAY = 0.95
# Chosen here, on synthetic separable problems with random interactions: docs/decisions/0003-reinforce.md.
LEARNING_RATE = 0.1
ENTROPY_WEIGHT = 0.05
IMITATION_WEIGHT = 1.0
ELITE = 16
# A draw seen before is drawn again with each choice uniform at this rate, times the growth for each further try.
FIRST_MIX, MIX_GROWTH, TRIES = 0.01, 1.3, 40
ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # Adam (arXiv 1412.6980), its defaults


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
        entropy_weight: of the entropy bonus, in units of the reward's standard deviation.
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
        self._learning_rate = learning_rate
        self._entropy_weight, self._imitation_weight = entropy_weight, imitation_weight
        self._asked: set[Architecture] = set()
        self._elite: dict[Architecture, float] = {}
        counts = np.array([len(choice.options) for choice in space.choices])
        self._exists = np.arange(counts.max()) < counts[:, None]  # (choices, most options)
        self._logits = np.zeros(self._exists.shape)
        self._first = np.zeros_like(self._logits)
        self._second = np.zeros_like(self._logits)
        self._steps = 0
        self._rewards = _Moments()
        self._always_active = not any(choice.active_if for choice in space.choices)

    def probabilities(self) -> Floats:
        """The policy: `(choices, most options)`, 0 where a choice has no such option."""
        masked = np.where(self._exists, self._logits, -np.inf)
        weights = np.exp(masked - masked.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def ask(self, n: int = 1) -> list[Architecture]:
        """`n` samples of the policy never asked before; fewer once every network has been asked.

        What the policy draws a second time is drawn again from it mixed with ever more of the uniform
        distribution, so that a converged policy goes on to search around its mode.
        """
        policy = self.probabilities()
        uniform = self._exists / self._exists.sum(axis=1, keepdims=True)
        fresh: list[Architecture] = []
        mix = 0.0
        for _ in range(TRIES):
            for point in self._draw((1 - mix) * policy + mix * uniform, n - len(fresh)):
                if point not in self._asked:
                    self._asked.add(point)
                    fresh.append(point)
            if len(fresh) == n:
                return fresh
            mix = min(1.0, max(FIRST_MIX, mix * MIX_GROWTH))
        rest = (point for point in self._space.enumerate() if point not in self._asked)
        fresh += islice(rest, n - len(fresh))
        self._asked.update(fresh)
        return fresh

    def _draw(self, distribution: Floats, n: int) -> list[Architecture]:
        draws = self._rng.random((n, len(distribution), 1))
        genes = (draws >= distribution.cumsum(axis=1)).sum(axis=2)
        genes = np.minimum(genes, self._exists.sum(axis=1) - 1)  # a cumulative sum may end below 1
        return [self._space.architecture(row) for row in genes.tolist()]

    def tell(self, observations: Sequence[Observation]) -> None:
        """One step of ascent on the rewards of the batch.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
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
        gradient = self._score([point for point, _ in told], advantages, self._entropy_weight)
        if self._imitation_weight:
            weights = np.full(len(best), self._imitation_weight)
            gradient = gradient + self._score(list(self._elite), weights, 0.0)
        self._ascend(gradient)

    def _advantages(self, rewards: Floats) -> Floats:
        assert self._rewards.mean is not None
        spread = max(self._rewards.variance, float(rewards.var())) ** 0.5
        return np.asarray((rewards - self._rewards.mean) / spread) if spread > 0 else np.zeros_like(rewards)

    def _score(self, points: list[Architecture], weights: Floats, entropy_weight: float) -> Floats:
        """Gradient of mean(weight x log-probability) + entropy_weight x mean(entropy) by the logits."""
        policy = self.probabilities()
        genes = np.array(points)
        active = np.ones(genes.shape, dtype=bool)
        if not self._always_active:
            active = np.array([self._space.active(point) for point in points])
        taken = np.arange(policy.shape[1]) == genes[:, :, None]  # (n, choices, options)
        score = np.where(active[:, :, None], taken - policy, 0.0)
        log_policy = np.log(np.where(policy > 0, policy, 1.0))
        entropy = -(policy * log_policy).sum(axis=1, keepdims=True)
        entropy_gradient = -policy * (log_policy + entropy) * active.mean(axis=0)[:, None]
        return np.asarray((weights[:, None, None] * score).mean(axis=0) + entropy_weight * entropy_gradient)

    def _ascend(self, gradient: Floats) -> None:
        """One Adam step."""
        self._steps += 1
        first_decay, second_decay = ADAM_BETAS
        self._first += (1 - first_decay) * (gradient - self._first)
        self._second += (1 - second_decay) * (gradient**2 - self._second)
        mean = self._first / (1 - first_decay**self._steps)
        scale = np.sqrt(self._second / (1 - second_decay**self._steps)) + ADAM_EPS
        self._logits += self._learning_rate * mean / scale
