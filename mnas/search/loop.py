"""ask -> cost -> accuracy -> reward -> store -> tell, until the budget of trials or time ends."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mnas.errors import MnasError, SearchError
from mnas.objective import Reward
from mnas.protocols import AccuracyEstimate, AccuracyModel, Controller, LatencyEstimate, Observation
from mnas.search.history import Batch, History, Trial, apply_result
from mnas.search.reporting import Reporter
from mnas.search_space import Cost, NetworkSpec, SearchSpace, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_count

# A result that took long is made durable at once; cheap ones wait for the end of their batch.
_COMMIT_EVERY_S = 1.0
# Failed trials, none done, after which the search gives up (chosen here: two batches of trained candidates).
_HOPELESS = 10


@dataclass(frozen=True, slots=True)
class Limits:
    """When to stop, and what is infeasible."""

    trials: int
    ask_batch: int
    max_seconds: float | None = None
    max_params: int | None = None
    max_madds: int | None = None

    def refusal(self, cost: Cost) -> str | None:
        """Why a network of this cost is infeasible, or None."""
        if self.max_params is not None and cost.params > self.max_params:
            return f"{cost.params} parameters are more than the limit of {self.max_params}"
        if self.max_madds is not None and cost.madds > self.max_madds:
            return f"{cost.madds} multiply-adds are more than the limit of {self.max_madds}"
        return None


@dataclass(slots=True)
class Loop:
    """The parts of one search, and its two halves: `replay` what was, then `run` on.

    `latencies` is None where the cost is multiply-adds: then nothing is timed in the loop.
    """

    space: SearchSpace
    controller: Controller
    reward: Reward
    latencies: Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]] | None
    accuracy: AccuracyModel
    accuracy_name: str
    limits: Limits
    seed: int
    store: EventStore
    history: History
    reporter: Reporter

    def replay(self) -> None:
        """Asks and tells the controller again, with the stored rewards; nothing is evaluated."""
        changed = 0
        for batch in self.history.batches:
            asked = self.controller.ask(batch.requested)
            changed += [a.key for a in asked] != [t.key for t in batch.trials]
            if batch.told:
                self._tell(batch)
        if changed:
            self.reporter.warn(
                f"{changed} stored batches differ from what the controller proposes now (another version or "
                f"machine?); the stored ones stand."
            )

    def run(self) -> None:
        """Goes on until the budget ends or the space is exhausted."""
        started = time.monotonic() - self.history.seconds
        total = self.limits.trials
        batches = self.history.batches
        asked = sum(len(batch.trials) for batch in batches)
        while True:
            if not (batches and not batches[-1].told):
                elapsed = time.monotonic() - started
                if asked >= total or (self.limits.max_seconds and elapsed >= self.limits.max_seconds):
                    return
                batch = self._ask(min(self.limits.ask_batch, total - asked))
                if not batch.trials:
                    self.reporter.note(f"every network of the space has been tried ({asked}).")
                    return
                asked += len(batch.trials)
            self._evaluate(batches[-1], started)
            self._finish(len(batches) - 1, time.monotonic() - started)
            self._show(asked, total)
            self._check_progress()

    def _check_progress(self) -> None:
        """Stops a search in which nothing can be evaluated.

        Raises:
            SearchError: so many trials failed, and none is done.
        """
        counts = self.history.counts()
        if counts["failed"] >= _HOPELESS and not counts["done"]:
            last = next(t for t in reversed(self.history.trials) if t.status == "failed")
            raise SearchError(
                f"all of the first {counts['failed']} trials failed; the last with {last.error}"
            )

    def _ask(self, count: int) -> Batch:
        first = sum(len(batch.trials) for batch in self.history.batches)
        trials = [Trial(first + i, a.key) for i, a in enumerate(self.controller.ask(count))]
        batch = Batch(count, trials)
        if trials:
            payload = {"requested": count, "trials": [{"trial": t.number, "key": t.key} for t in trials]}
            self.store.append("asked", [payload])
            self.history.batches.append(batch)
        return batch

    def _evaluate(self, batch: Batch, started: float) -> None:
        """Costs the whole batch, then accuracy: all at once, or one by one where each is expensive."""
        waiting = [trial for trial in batch.trials if trial.status == "waiting"]
        specs = {t.number: self.space.decode(self.space.from_key(t.key)) for t in waiting}
        metrics = self._costs(waiting, specs)
        feasible = [trial for trial in waiting if trial.status == "waiting"]
        if not getattr(self.accuracy, "expensive", False):
            self._score(feasible, specs, metrics)
            return
        self.store.commit()
        for trial in feasible:
            self._score([trial], specs, metrics)
            if time.monotonic() - self.store.last_commit > _COMMIT_EVERY_S:
                self.store.commit()
            self._show(trial.number + 1, self.limits.trials)

    def _costs(self, trials: list[Trial], specs: dict[int, NetworkSpec]) -> dict[int, dict[str, float]]:
        metrics: dict[int, dict[str, float]] = {}
        feasible: list[Trial] = []
        for trial in trials:
            cost = network_cost(specs[trial.number])
            metrics[trial.number] = {"params": cost.params, "madds": cost.madds}
            refusal = self.limits.refusal(cost)
            if refusal is None:
                feasible.append(trial)
            else:
                self._record(trial, "infeasible", metrics[trial.number], error=refusal)
        if self.latencies is not None and feasible:
            estimates = self.latencies([specs[trial.number] for trial in feasible])
            for trial, estimate in zip(feasible, estimates, strict=True):
                metrics[trial.number] |= {
                    "latency_ms": estimate.ms,
                    "latency_low_ms": estimate.low_ms,
                    "latency_high_ms": estimate.high_ms,
                }
        return metrics

    def _score(
        self, trials: list[Trial], specs: dict[int, NetworkSpec], metrics: dict[int, dict[str, float]]
    ) -> None:
        if not trials:
            return
        seed = derive_seed(self.seed, "trial", trials[0].number)
        wanted = [specs[trial.number] for trial in trials]
        try:
            estimates = check_accuracies(
                self.accuracy.evaluate(wanted, seed=seed), len(wanted), self.accuracy_name
            )
        except Exception as error:
            if not getattr(self.accuracy, "expensive", False):
                if isinstance(error, MnasError):
                    raise
                raise SearchError(
                    f"the accuracy model {self.accuracy_name!r} raised {type(error).__name__}: {error}."
                ) from error
            reason = f"{type(error).__name__}: {error}"
            self._record(trials[0], "failed", metrics[trials[0].number], error=reason)
            return
        cost_name = "madds" if self.latencies is None else "latency_ms"
        costs = [metrics[trial.number][cost_name] for trial in trials]
        rewards = self.reward.score([e.value for e in estimates], costs).tolist()
        for trial, estimate, reward in zip(trials, estimates, rewards, strict=True):
            known = metrics[trial.number] | {"accuracy": estimate.value, "accuracy_std": estimate.std}
            self._record(trial, "done", known, reward=reward, source=estimate.source)

    def _record(
        self,
        trial: Trial,
        status: str,
        metrics: dict[str, float],
        *,
        reward: float | None = None,
        error: str | None = None,
        source: str | None = None,
    ) -> None:
        payload: dict[str, Any] = {
            "trial": trial.number,
            "status": status,
            "metrics": metrics,
            "reward": reward,
            "error": error,
            "source": source,
        }
        self.store.append("result", [payload])
        apply_result(trial, payload)

    def _finish(self, number: int, seconds: float) -> None:
        batch = self.history.batches[number]
        self._tell(batch)
        self.store.append("told", [{"batch": number, "seconds": seconds}])
        self.store.commit()
        batch.told = True
        self.history.seconds = seconds

    def _tell(self, batch: Batch) -> None:
        self.controller.tell(
            [
                Observation(self.space.from_key(t.key), t.status, t.reward, t.metrics)
                for t in batch.trials
                if t.status != "waiting"
            ]
        )

    def _show(self, done: int, total: int) -> None:
        best = self.history.best()
        if best is None:
            text = "no result yet"
        else:
            ms = best.metrics.get("latency_ms")
            cost = f"{format_count(best.metrics['madds'])} MAdds" if ms is None else f"{ms:.2f} ms"
            text = f"best reward {best.reward:.4f} (accuracy {best.metrics['accuracy']:.1%}, {cost})"
        self.reporter.progress(done, total, text)


def check_accuracies(estimates: object, count: int, name: str) -> list[AccuracyEstimate]:
    """What an accuracy model returned, checked.

    Raises:
        SearchError: not a list of `count` estimates with a finite value in 0..1 and a finite `std`.
    """
    listed = list(estimates) if isinstance(estimates, Sequence) else None
    if listed is None or len(listed) != count:
        got = type(estimates).__name__ if listed is None else f"{len(listed)} of them"
        raise SearchError(f"the accuracy model {name!r} must return a list of {count} estimates, got {got}.")
    for index, item in enumerate(listed):
        value, std = (getattr(item, name, None) for name in ("value", "std"))
        numbers = isinstance(value, float | int) and isinstance(std, float | int)
        if not numbers or not (0 <= float(value) <= 1) or not 0 <= float(std) < math.inf:  # type: ignore[arg-type]
            raise SearchError(
                f"the accuracy model {name!r} must return accuracies from 0 to 1 with their standard error; "
                f"number {index + 1} of {count} is {item!r}."
            )
    return listed
