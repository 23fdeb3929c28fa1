"""Proximal policy optimisation of an LSTM: the controller of NASNet and MnasNet.

The policy is NASNet's (arXiv 1707.07012, appendix A), which MnasNet took over (arXiv 1807.11626, sec. 5); the update is
PPO's clipped objective (arXiv 1707.06347, eq. 7), each decision an action and the reward of the network its return.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mnas.controllers.fresh import Known, uniform_share
from mnas.controllers.lstm import LstmPolicy
from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace
from mnas.threads import torch_threads

# NASNet (arXiv 1707.07012), appendix A.2 and A.3.
LEARNING_RATE = 0.00035
ENTROPY_WEIGHT = 0.00001
BASELINE_DECAY = 0.95
BATCH = 20
# PPO (arXiv 1707.06347): sec. 6.1, the best clipping of table 1; epochs of table 3. NASNet and MnasNet name neither.
CLIP = 0.2
EPOCHS = 10


def clipped_gain(ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """PPO's surrogate, element by element: the lesser of the gain and of the gain with its ratio clipped.

    Args:
        ratio: new probability over old.
        advantage: broadcasts with it.
        clip: how far from 1 a ratio still gains, above 0.

    Reference: arXiv 1707.06347, eq. 7.

    >>> clipped_gain(torch.tensor([1.5, 0.5]), torch.tensor([2.0, -2.0]), 0.2).tolist()
    [2.4000000953674316, -1.600000023841858]
    """
    return torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)


def advantages(rewards: Sequence[float], baseline: float | None) -> tuple[list[float], float]:
    """What each reward has over the baseline, and the baseline after them: an exponential moving average.

    Args:
        rewards: at least one.
        baseline: before them; None where they are the first: then it is their mean.

    >>> advantages([1.0, 0.0], None)
    ([0.5, -0.5], 0.5)
    """
    mean = sum(rewards) / len(rewards)
    before = mean if baseline is None else baseline
    return [reward - before for reward in rewards], mean + BASELINE_DECAY ** len(rewards) * (before - mean)


class PpoController:
    """Samples an LSTM and updates it by PPO whenever `batch` more networks are done.

    Failed and infeasible networks teach nothing and leave the baseline, a moving average of rewards, as it is. Ratios
    and entropies count active choices alone; the old policy is the one before the update, also for networks that came
    from its mixture with the uniform distribution or were told of without being asked for. No network is asked for
    twice: what is known is drawn again from the policy mixed with ever more of the uniform distribution.

    Torch runs on one thread meanwhile, and on as many as before afterwards: the numbers depend on the seed alone, and
    steps of this size gain nothing from a second one.

    `policy` is the `LstmPolicy` as it stands.

    Args:
        space: what to sample from.
        seed: of its own generator, for the weights, the samples and the order of the minibatches.
        learning_rate: of Adam.
        entropy_weight: of the entropy (nats, summed over the choices), in units of the reward.
        clip: see `clipped_gain`.
        epochs: passes over the networks of one update.
        batch: networks in a minibatch, and the least that an update waits for.

    Raises:
        InputError: a learning rate or clip that is not positive, a negative weight, less than one epoch or network.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        seed: int,
        learning_rate: float = LEARNING_RATE,
        entropy_weight: float = ENTROPY_WEIGHT,
        clip: float = CLIP,
        epochs: int = EPOCHS,
        batch: int = BATCH,
    ) -> None:
        if not (learning_rate > 0 and clip > 0 and entropy_weight >= 0 and epochs >= 1 and batch >= 1):
            raise InputError(
                f"learning_rate and clip must be positive, entropy_weight not negative, epochs and batch at least 1; "
                f"got {learning_rate!r}, {clip!r}, {entropy_weight!r}, {epochs!r} and {batch!r}."
            )
        self._space = space
        self._entropy_weight, self._clip = entropy_weight, clip
        self._epochs, self._batch = epochs, batch
        self._known = Known(space)
        self._generator = torch.Generator().manual_seed(seed)
        self.policy = LstmPolicy(space, self._generator)
        self._optimizer = torch.optim.Adam(self.policy.parameters(), lr=learning_rate)
        self._waiting: list[tuple[Architecture, float]] = []
        self._baseline: float | None = None

    @torch_threads(1)
    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures that are new; fewer once every network is known."""
        return self._known.fresh(n, self._draw)

    @torch_threads(1)
    def tell(self, observations: Sequence[Observation]) -> None:
        """Learns from those that are done, once enough of them have come.

        Raises:
            InputError: an architecture outside the space; nothing is learned then.
        """
        points = [self._space.architecture(o.architecture) for o in observations]
        for point, observation in zip(points, observations, strict=True):
            self._known.add(point)
            if observation.reward is not None:
                self._waiting.append((point, observation.reward))
        if len(self._waiting) >= self._batch:
            self._update()

    def _draw(self, number: int, n: int) -> list[Architecture]:
        genes = self.policy.sample(n, uniform_share(number), self._generator)
        return [self._space.architecture(row) for row in genes.tolist()]

    def _update(self) -> None:
        """Some epochs over the networks that waited, in minibatches of about equal size."""
        genes = torch.tensor([point for point, _ in self._waiting])
        rewards = [reward for _, reward in self._waiting]
        gains, self._baseline = advantages(rewards, self._baseline)
        above = torch.tensor(gains)
        self._waiting = []
        with torch.no_grad():
            before = _taken(self.policy(genes), genes)
        for _ in range(self._epochs):
            order = torch.randperm(len(genes), generator=self._generator)
            for part in order.tensor_split(len(genes) // self._batch):
                self._step(genes[part], before[part], above[part])

    def _step(self, genes: Tensor, before: Tensor, above: Tensor) -> None:
        """One step of Adam up the mean over networks of their clipped gains and entropies.

        Args:
            genes: `(n, choices)` int64.
            before: `(n, choices)`, the log-probabilities of the old policy.
            above: `(n,)`, the advantages.
        """
        policy = self.policy(genes)
        ratio = (_taken(policy, genes) - before).exp()
        gain = clipped_gain(ratio, above[:, None], self._clip)
        entropy = -(policy.exp() * policy).sum(dim=2)
        objective = (gain + self._entropy_weight * entropy) * self.policy.active(genes)
        self._optimizer.zero_grad()
        (-objective.sum(dim=1).mean()).backward()
        self._optimizer.step()


def _taken(policy: Tensor, genes: Tensor) -> Tensor:
    """`(n, choices)`: the log-probability of the option taken."""
    return policy.gather(2, genes[:, :, None])[:, :, 0]
