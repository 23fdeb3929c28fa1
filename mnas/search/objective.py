"""What a controller may know of a search beforehand: the cost of any network, and the reward of any accuracy."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.objective import Reward, latency_quantile
from mnas.protocols import LatencyEstimate
from mnas.search.history import History
from mnas.search_space import Architecture, NetworkSpec, SearchSpace, network_cost

Latencies = Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]]

# Costs that are kept (chosen here: 35 MB for `mbconv`); when there are more, all are forgotten and worked out again.
KEPT = 100_000


@dataclass(frozen=True, slots=True)
class CostModel:
    """How networks are judged before they are evaluated.

    Args:
        space: of the architectures.
        refusal: why a network of these `params` and `madds` is outside an explicit limit, or None.
        latencies: estimates without the correction of any refit; None where the cost is multiply-adds.
        quantile: of a latency, by which it is judged.
        history: its refits correct the latencies.
    """

    space: SearchSpace
    refusal: Callable[[Mapping[str, float]], str | None]
    latencies: Latencies | None
    quantile: float
    history: History

    def plain(self, architectures: Sequence[Architecture]) -> list[float]:
        """Costs without the correction of any refit; infinite outside a limit."""
        specs = [self.space.decode(architecture) for architecture in architectures]
        costs = [self._madds(spec) for spec in specs]
        inside = [number for number, cost in enumerate(costs) if cost < float("inf")]
        if self.latencies is not None and inside:
            for number, estimate in zip(inside, self.latencies([specs[n] for n in inside]), strict=True):
                costs[number] = latency_quantile(latency_metrics(estimate), self.quantile)
        return costs

    def _madds(self, spec: NetworkSpec) -> float:
        cost = network_cost(spec)
        refused = self.refusal({"params": cost.params, "madds": cost.madds}) is not None
        return float("inf") if refused else float(cost.madds)


class SearchCosts:
    """The costs of a search; made before it knows latencies, and bound when it does.

    Predictions change with refits. What is answered holds from one ask to the next, and is what was answered then when
    a search is replayed: the loop says before each ask, by `at`, which trial comes next.
    """

    def __init__(self) -> None:
        self._model: CostModel | None = None
        self._trial = 0
        self._plain: dict[Architecture, float] = {}

    def bind(self, model: CostModel) -> None:
        """From now on it answers by this model."""
        self._model = model
        self._plain.clear()

    def at(self, trial: int) -> None:
        """The number of the next trial that is asked for."""
        self._trial = trial

    def __call__(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """`(n,)` milliseconds at the quantile, or multiply-adds; infinite outside an explicit limit."""
        model = self._model
        if model is None:
            raise RuntimeError("the objective was asked before the search knew its costs")
        new = [a for a in dict.fromkeys(architectures) if a not in self._plain]
        if len(self._plain) + len(new) > KEPT:
            self._plain.clear()
            new = list(dict.fromkeys(architectures))
        self._plain.update(zip(new, model.plain(new), strict=True))
        costs = np.array([self._plain[a] for a in architectures], dtype=np.float64)
        return costs if model.latencies is None else costs * model.history.factor_at(self._trial)


class SearchObjective:
    """An `Objective`: the costs of a search and one of its rewards, which is known when the target's budget is."""

    def __init__(self, costs: SearchCosts) -> None:
        self._costs = costs
        self._reward: Reward | None = None

    def aim(self, reward: Reward) -> None:
        """From now on accuracies are rewarded so."""
        self._reward = reward

    def cost(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """`(n,)` as `SearchCosts`."""
        return self._costs(architectures)

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        """Rewards of accuracies (fractions) and costs, element by element."""
        if self._reward is None:
            raise RuntimeError("the objective was asked before the search knew its target")
        return self._reward.score(accuracy, cost)


def latency_metrics(estimate: LatencyEstimate) -> dict[str, float]:
    """A latency as a trial's metrics."""
    known = {
        "latency_ms": estimate.ms,
        "latency_low_ms": estimate.low_ms,
        "latency_high_ms": estimate.high_ms,
    }
    return known if estimate.raw_ms is None else known | {"latency_raw_ms": estimate.raw_ms}
