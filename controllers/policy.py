"""A factorised policy: one softmax over the options of each choice, trained by policy gradients in numpy.

It is the policy of TuNAS (arXiv 2008.06120), which found no need of a recurrent one; the estimator is Williams (1992).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mnas.search_space import Architecture, SearchSpace

Floats = NDArray[np.float64]

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-8  # Adam (arXiv 1412.6980), its defaults


class Policy:
    """Independent categorical distributions, uniform at first.

    Args:
        space: what is sampled from.
        learning_rate: of Adam, for logits.
    """

    def __init__(self, space: SearchSpace, *, learning_rate: float) -> None:
        self._space = space
        self._learning_rate = learning_rate
        counts = np.array([len(choice.options) for choice in space.choices])
        self._last = counts - 1
        self._exists = np.arange(counts.max()) < counts[:, None]  # (choices, most options)
        self._uniform = self._exists / counts[:, None]
        self._logits = np.zeros(self._exists.shape)
        self._first, self._second = np.zeros_like(self._logits), np.zeros_like(self._logits)
        self._steps = 0
        self._always_active = not any(choice.active_if for choice in space.choices)

    def probabilities(self) -> Floats:
        """`(choices, most options)`, 0 where a choice has no such option."""
        masked = np.where(self._exists, self._logits, -np.inf)
        weights = np.exp(masked - masked.max(axis=1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=1, keepdims=True))

    def draw(self, n: int, rng: np.random.Generator, uniform_share: float = 0.0) -> list[Architecture]:
        """`n` samples, of it mixed with that share of the uniform distribution."""
        return [self._space.architecture(row) for row in self._genes(n, rng, uniform_share).tolist()]

    def redraw(
        self, points: Sequence[Architecture], choices: Floats, rng: np.random.Generator, uniform_share: float
    ) -> list[Architecture]:
        """Each point with some of its choices drawn anew.

        Args:
            points: at least one.
            choices: `(n,)`, how many of a point's, on the average.
            rng: of the draws.
            uniform_share: as in `draw`.
        """
        old = np.array(points)
        again = rng.random(old.shape) < (choices / old.shape[1])[:, None]
        genes = np.where(again, self._genes(len(old), rng, uniform_share), old)
        return [self._space.architecture(row) for row in genes.tolist()]

    def relax(self, share: float) -> None:
        """Takes the logits that much nearer to zero, and so the policy to the uniform one."""
        self._logits *= 1 - share

    def _genes(self, n: int, rng: np.random.Generator, uniform_share: float) -> NDArray[np.intp]:
        mixed = (1 - uniform_share) * self.probabilities() + uniform_share * self._uniform
        draws = rng.random((n, len(mixed), 1))
        genes = (draws >= mixed.cumsum(axis=1)).sum(axis=2)
        return np.asarray(np.minimum(genes, self._last))  # a cumulative sum may end below 1

    def gradient(self, points: Sequence[Architecture], weights: Floats, entropy_weight: float) -> Floats:
        """Of mean(weight x log-probability) + entropy_weight x mean(entropy), by the logits.

        Log-probability and entropy count the active choices of an architecture alone.
        """
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

    def ascend(self, gradient: Floats, learning_rate: float | None = None) -> None:
        """One Adam step, at another rate than the policy's where one is given."""
        self._steps += 1
        first_decay, second_decay = ADAM_BETAS
        self._first += (1 - first_decay) * (gradient - self._first)
        self._second += (1 - second_decay) * (gradient**2 - self._second)
        mean = self._first / (1 - first_decay**self._steps)
        scale = np.sqrt(self._second / (1 - second_decay**self._steps)) + ADAM_EPS
        self._logits += (self._learning_rate if learning_rate is None else learning_rate) * mean / scale

    def state(self) -> dict[str, Floats]:
        """Everything that `ascend` changes, copied."""
        arrays = {"logits": self._logits, "first": self._first, "second": self._second}
        return {name: array.copy() for name, array in arrays.items()} | {
            "steps": np.array([float(self._steps)])
        }

    def restore(self, state: Mapping[str, Floats]) -> None:
        """Brings the policy to where `state` was.

        Raises:
            KeyError: an array is missing.
            ValueError: it is of a policy of another shape.
        """
        for name in ("logits", "first", "second"):
            if state[name].shape != self._logits.shape:
                raise ValueError(
                    f"the policy's {name} has the shape {state[name].shape}, not {self._logits.shape}"
                )
        self._logits, self._first, self._second = (
            state[name].copy() for name in ("logits", "first", "second")
        )
        self._steps = int(state["steps"][0])
