"""NASNet's policy: an LSTM that decides one choice a step, fed with the option that it took in the step before.

One layer, one softmax for each choice (arXiv 1707.07012, appendix A.2). Choices that are inactive after the options
taken so far are not decided: they stay at option 0 and count in no log-probability.
"""

import torch
from torch import Tensor

from mnas.search_space import SearchSpace

HIDDEN = 100  # NASNet (arXiv 1707.07012), appendix A.2
INIT = 0.1  # the same: uniform in [-0.1, 0.1]
EMBEDDING = 32  # afzalxo/Accel-NASBench, anb_eval/search_mo.py: its re-use of that controller; the paper tells no size
_MASKED = -1e9  # chosen here: a logit of probability 0 whose product with 0 is 0


class LstmPolicy(torch.nn.Module):
    """A distribution over the points of a space, by the product of its conditional softmaxes.

    Args:
        space: whose choices are decided, in its order.
        generator: of the weights at the start; torch's global one is not touched.
    """

    def __init__(self, space: SearchSpace, generator: torch.Generator) -> None:
        super().__init__()
        counts = torch.tensor([len(choice.options) for choice in space.choices])
        self._choices, self._options = len(counts), int(counts.max())
        self._exists = torch.arange(self._options) < counts[:, None]
        self._uniform = self._exists / counts[:, None]
        self._conditions = _conditions(space)
        # A layer made on `meta` draws no initial weights.
        self._tokens = torch.nn.Embedding(
            1 + self._choices * self._options, EMBEDDING, device="meta"
        ).to_empty(device="cpu")
        self._lstm = torch.nn.LSTM(EMBEDDING, HIDDEN, batch_first=True, device="meta").to_empty(device="cpu")
        self._heads = torch.nn.Parameter(torch.empty(self._choices, self._options, HIDDEN))
        self._biases = torch.nn.Parameter(torch.empty(self._choices, self._options))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.uniform_(-INIT, INIT, generator=generator)

    def forward(self, genes: Tensor) -> Tensor:
        """Log-probabilities of every option of every choice, given the genes before it.

        Args:
            genes: `(n, choices)` int64, points of the space.

        Returns:
            `(n, choices, most options)` float32; -1e9 where a choice has no such option.
        """
        first = torch.zeros(len(genes), 1, dtype=torch.int64)
        taken = torch.cat([first, self._token(slice(None), genes)[:, :-1]], dim=1)
        hidden, _ = self._lstm(self._tokens(taken))
        logits = torch.einsum("nch,coh->nco", hidden, self._heads) + self._biases
        return logits.masked_fill(~self._exists, _MASKED).log_softmax(dim=2)

    def active(self, genes: Tensor) -> Tensor:
        """`(n, choices)` bool: whether each choice matters in each point."""
        active = torch.ones(genes.shape, dtype=torch.bool)
        for choice in range(self._choices):
            self._switch(choice, genes, active)
        return active

    @torch.no_grad()
    def sample(self, n: int, uniform_share: float, generator: torch.Generator) -> Tensor:
        """`(n, choices)` int64, from the policy mixed with a share (0 to 1) of the uniform distribution.

        Points of which the space's `merge` knows another name come as drawn.
        """
        genes = torch.zeros(n, self._choices, dtype=torch.int64)
        active = torch.ones(genes.shape, dtype=torch.bool)
        token, state = torch.zeros(n, 1, dtype=torch.int64), None
        for choice in range(self._choices):
            hidden, state = self._lstm(self._tokens(token), state)
            logits = hidden[:, 0] @ self._heads[choice].T + self._biases[choice]
            policy = logits.masked_fill(~self._exists[choice], _MASKED).softmax(dim=1)
            mixed = (1 - uniform_share) * policy + uniform_share * self._uniform[choice]
            drawn = torch.multinomial(mixed, 1, generator=generator)[:, 0]
            self._switch(choice, genes, active)
            genes[:, choice] = drawn * active[:, choice]
            token = self._token(choice, genes[:, choice])[:, None]
        return genes

    def _token(self, choice: int | slice, genes: Tensor) -> Tensor:
        """The row of the embedding for options of a choice, or of all; row 0 opens a sequence."""
        return 1 + torch.arange(self._choices)[choice] * self._options + genes

    def _switch(self, choice: int, genes: Tensor, active: Tensor) -> None:
        """Says whether a choice is active, from what is known of the earlier ones."""
        for other, wanted in self._conditions[choice]:
            active[:, choice] &= active[:, other] & wanted[genes[:, other]]


def _conditions(space: SearchSpace) -> list[list[tuple[int, Tensor]]]:
    """For each choice the earlier ones that it depends on, each with `(options,)` bool: those that activate it."""
    places = {choice.name: place for place, choice in enumerate(space.choices)}
    return [
        [
            (places[name], torch.tensor([option in wanted for option in space.choices[places[name]].options]))
            for name, wanted in choice.active_if.items()
        ]
        for choice in space.choices
    ]
