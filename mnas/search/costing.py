"""What networks cost, before anything is spent on them, and which are refused for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mnas.config import DEFAULT_QUANTILE
from mnas.objective import Reward, latency_quantile
from mnas.protocols import LatencyEstimate
from mnas.search.history import Trial
from mnas.search.objective import latency_metrics
from mnas.search.steps import Steps
from mnas.search_space import NetworkSpec, SearchSpace, network_cost
from mnas.units import format_count

Known = dict[str, float]


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, and what is infeasible."""

    trials: int
    ask_batch: int
    max_seconds: float | None = None
    max_params: int | None = None
    max_madds: int | None = None

    def refusal(self, metrics: Mapping[str, float]) -> str | None:
        """Why a network of these `params` and `madds` is infeasible, or None."""
        if self.max_params is not None and metrics["params"] > self.max_params:
            return f"{metrics['params']} parameters are more than the limit of {self.max_params}"
        if self.max_madds is not None and metrics["madds"] > self.max_madds:
            return f"{metrics['madds']} multiply-adds are more than the limit of {self.max_madds}"
        return None


@dataclass(frozen=True, slots=True)
class Costing:
    """Networks and costs of the trials under way, by number, until they are forgotten.

    Args:
        space: of the trials.
        latencies: estimates; None where the cost is multiply-adds.
        limits: outside which a network is infeasible.
        quantile: of a latency, by which it is judged.
        steps: what training steps take; None where the reward does not ask.
    """

    space: SearchSpace
    latencies: Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]] | None
    limits: Limits
    quantile: float
    steps: Steps | None = None
    specs: dict[int, NetworkSpec] = field(default_factory=dict)
    known: dict[int, Known] = field(default_factory=dict)

    def take(self, trials: Sequence[Trial]) -> None:
        """Decodes trials and finds out their costs, those not known yet; latency of those within the limits alone."""
        new = [trial for trial in trials if trial.number not in self.specs]
        self.specs.update((trial.number, self.space.decode(self.space.from_key(trial.key))) for trial in new)
        specs = {trial.number: self.specs[trial.number] for trial in trials if trial.number not in self.known}
        for number, spec in specs.items():
            cost = network_cost(spec)
            self.known[number] = {"params": cost.params, "madds": cost.madds}
        within = {n: spec for n, spec in specs.items() if self.outside(n) is None}
        if self.latencies is not None and within:
            for number, estimate in zip(within, self.latencies(list(within.values())), strict=True):
                self.known[number] |= latency_metrics(estimate)
        if self.steps is not None:
            for number, spec in within.items():
                self.known[number] |= self.steps.metrics(spec)

    def forget(self) -> None:
        """Of all trials."""
        self.specs.clear()
        self.known.clear()

    def outside(self, number: int) -> str | None:
        """Which explicit limit a trial exceeds, or None."""
        return self.limits.refusal(self.known[number])

    def judged(self, number: int) -> float:
        """The cost of a trial that decides."""
        return judged_cost(self.known[number], self.quantile, timed=self.latencies is not None)

    def refused(self, trials: Sequence[Trial], reward: Reward) -> dict[int, str]:
        """Why trials are not evaluated, by their number: outside a limit, or above a hard target as it is known."""
        self.take(trials)
        refusals = {}
        for trial in trials:
            refusal = self.outside(trial.number)
            if refusal is None and reward.refuses and self.judged(trial.number) > reward.target:
                refusal = f"{self._shown(trial.number)} is above the target: not evaluated"
            if refusal is not None:
                refusals[trial.number] = refusal
        return refusals

    def nearest(self, refusals: Mapping[int, str], places: int) -> set[int]:
        """Of refused trials within all limits, those of least cost: where a target is hard to meet, they lead to it."""
        inside = [number for number in refusals if self.outside(number) is None]
        return set(sorted(inside, key=lambda n: (self.judged(n), n))[: max(places, 0)])

    def _shown(self, number: int) -> str:
        cost = show_cost(self.known[number])
        if self.latencies is None or self.quantile == DEFAULT_QUANTILE:
            return cost
        return f"{self.judged(number):.2f} ms, the {self.quantile:.0%} quantile of {cost},"


def judged_cost(metrics: Mapping[str, float], quantile: float, *, timed: bool) -> float:
    """The cost that decides: latency at the quantile where networks are timed, else multiply-adds."""
    return latency_quantile(metrics, quantile) if timed else metrics["madds"]


def show_cost(metrics: Mapping[str, float]) -> str:
    """A trial's latency where it is known, else its multiply-adds."""
    ms = metrics.get("latency_ms")
    return f"{format_count(metrics['madds'])} MAdds" if ms is None else f"{ms:.2f} ms"
