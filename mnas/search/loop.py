"""ask -> cost -> accuracy -> reward -> store -> tell, until the budget of trials or time ends."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnas.config import DEFAULT_QUANTILE
from mnas.errors import MnasError, SearchError
from mnas.objective import Reward, latency_quantile
from mnas.protocols import (
    AccuracyModel,
    Controller,
    LatencyEstimate,
    Observation,
    StagedAccuracyModel,
    is_expensive,
)
from mnas.search.accuracies import check_accuracies
from mnas.search.history import Batch, History, Trial, apply_result
from mnas.search.objective import SearchCosts, latency_metrics
from mnas.search.refits import Refit
from mnas.search.remeasure import SHARE, Remeasurer
from mnas.search.reporting import Reporter
from mnas.search_space import Architecture, NetworkSpec, SearchSpace, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_count

# A result that took long is made durable at once; cheap ones wait for the end of their batch.
_COMMIT_EVERY_S = 1.0
# Failed trials, none done, after which the search gives up (chosen here: two batches of trained candidates); and
# batches of nothing but refused ones.
_HOPELESS = 10


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


@dataclass(slots=True)
class Loop:
    """The parts of one search, and its two halves: `replay` what was, then `run` on.

    `latencies` is None where the cost is multiply-adds: then nothing is timed in the loop. `proposals` is how many
    networks are asked for, at most, for each one that is evaluated where that is expensive: those above a hard target
    are refused by their cost alone, and do not count as trials. `remeasure` is there where latency is predicted for a
    device at hand: then some networks near the target are measured, and what is predicted later is corrected by them.
    `costs` are those that the controller plans with; None where it plans with none.
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
    proposals: int = 1
    remeasure: Remeasurer | None = None
    costs: SearchCosts | None = None
    _specs: dict[int, NetworkSpec] = field(default_factory=dict)  # the batch under way, and its costs
    _known: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def _expensive(self) -> bool:
        return is_expensive(self.accuracy)

    @property
    def _screens(self) -> bool:
        """Whether networks are refused by their cost before they are evaluated."""
        return self._expensive and self.proposals > 1

    def replay(self) -> None:
        """Asks and tells the controller again, with the stored rewards; nothing is evaluated."""
        changed = number = 0
        for batch in self.history.batches:
            asked: list[Architecture] = []
            for wanted in batch.requested:
                asked += self._propose(wanted, number + len(asked))
            number += len(batch.trials)
            changed += [a.key for a in asked] != [t.key for t in batch.trials]
            if batch.told:
                self._tell(batch)
        if changed:
            self.reporter.warn(
                f"{changed} stored batches differ from what the controller proposes now (another version or "
                f"machine?); the stored ones stand."
            )

    def _propose(self, count: int, first: int) -> list[Architecture]:
        """The controller's next architectures, of which the first becomes the trial of this number."""
        if self.costs is not None:
            self.costs.at(first)
        return self.controller.ask(count)

    def typical(self, count: int, rng: random.Random) -> list[NetworkSpec]:
        """Random members such as this search evaluates; those nearest to the target where none is within."""
        trials = [Trial(-n, self.space.sample(rng).key) for n in range(1, count * self.proposals + 1)]
        self._decode(trials)
        refusals = self._not_worth_it(trials) if self._screens else {}
        kept = [trial.number for trial in trials if trial.number not in refusals][:count]
        kept += sorted(self._nearest(refusals, count - len(kept)), reverse=True)
        specs = [self._specs[number] for number in kept]
        self._forget()
        return specs

    def run(self) -> None:
        """Goes on until the budget ends or the space is exhausted."""
        started = time.monotonic() - self.history.seconds
        total = self.limits.trials
        batches = self.history.batches
        asked = self.history.spent(expensive=self._expensive)
        while True:
            if not (batches and not batches[-1].told):
                elapsed = time.monotonic() - started
                if asked >= total or (self.limits.max_seconds and elapsed >= self.limits.max_seconds):
                    return
                if self._fruitless():
                    return
                time_spent = elapsed / self.limits.max_seconds if self.limits.max_seconds else 0.0
                self._refit_once(max(asked / total, time_spent))
                batch = self._ask(min(self.limits.ask_batch, total - asked))
                if not batch.trials:
                    self.reporter.note(f"every network of the space has been tried ({asked}).")
                    return
                asked = self.history.spent(expensive=self._expensive)
            self._evaluate(batches[-1], started)
            self._finish(len(batches) - 1, time.monotonic() - started)
            self._show(asked)
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

    def _fruitless(self) -> bool:
        """Whether the last batches held nothing that could be evaluated; then there is nothing left to find.

        Raises:
            SearchError: so it has been from the beginning.
        """
        last = self.history.batches[-_HOPELESS:]
        refused = [trial for batch in last for trial in batch.trials]
        if not self._expensive or len(last) < _HOPELESS or any(t.status != "infeasible" for t in refused):
            return False
        text = f"none of the last {len(refused)} networks proposed is within the limits; the last: {refused[-1].error}."
        if not self.history.spent(expensive=True):
            raise SearchError(f"{text} Raise --max-params or --max-madds.")
        self.reporter.note(f"{text} The search ends here.")
        return True

    def _refit_once(self, spent: float) -> None:
        """After a share of a search without training, corrects the predictor by the best networks near the target."""
        if self.remeasure is None or self._expensive or self.history.refits or spent < SHARE:
            return
        refit = self.remeasure.best_so_far(len(self.history.trials))
        if refit is not None:
            self.store.append("refit", [refit.to_dict()])
            self.store.commit()
            self.reporter.stage("searching on")

    def _ask(self, count: int) -> Batch:
        """The next batch of `count`, or fewer where the space is exhausted, stored as asked."""
        first = len(self.history.trials)
        batch = Batch([], [])
        refusals: dict[int, str] = {}
        refits: list[Refit] = []
        limit = self.proposals * count if self._screens else count
        while (left := count - len(batch.trials) + len(refusals)) > 0 and len(batch.trials) < limit:
            asked = self._propose(left, first + len(batch.trials))
            trials = [Trial(first + len(batch.trials) + i, a.key) for i, a in enumerate(asked)]
            batch.requested.append(left)
            batch.trials += trials
            self._decode(trials)
            if self._screens:
                refusals |= self._not_worth_it(trials)
                inside = [trial for trial in trials if trial.number not in refusals]
                refits += self._measure_uncertain(inside, first + len(batch.trials))
                refusals |= self._not_worth_it(inside)
            if len(asked) < left:
                break
        if not batch.trials:
            return batch
        kept = self._nearest(refusals, count - len(batch.trials) + len(refusals))
        refused = {number: text for number, text in refusals.items() if number not in kept}
        left_in = [trial for trial in batch.trials if trial.number not in refused]
        if self._screens:
            refits += self._measure_uncertain(left_in, first + len(batch.trials))
            for trial in left_in:
                trial.metrics = self._known[trial.number]
        keys = [
            {"trial": t.number, "key": t.key, **({"metrics": t.metrics} if t.metrics else {})}
            for t in batch.trials
        ]
        self.store.append("refit", [refit.to_dict() for refit in refits])
        self.store.append("asked", [{"requested": batch.requested, "trials": keys}])
        self.history.batches.append(batch)
        for trial in batch.trials:
            if trial.number in refused:
                self._record(trial, "infeasible", self._known[trial.number], error=refused[trial.number])
        return batch

    def _measure_uncertain(self, trials: list[Trial], after: int) -> list[Refit]:
        """Measures those that may be on either side of the target before they are evaluated; no refit for none."""
        if self.remeasure is None:
            return []
        near = [trial for trial in trials if self.remeasure.uncertain(self._known[trial.number])]
        if not near:
            return []
        known, history = self._known, self.history
        base = {t.number: known[t.number]["latency_ms"] / history.factor_at(t.number) for t in near}
        refit = self.remeasure.measure({t.number: (t.key, base[t.number]) for t in near}, after)
        for network in refit.networks:
            said = f"{network.measured_ms:.2f} ms, {known[network.trial]['latency_ms']:.2f} predicted"
            self.reporter.note(f"trial {network.trial} timed before it is trained: {said}")
            known[network.trial] |= network.latency if network.usable else {}
        return [refit]

    def _not_worth_it(self, trials: list[Trial]) -> dict[int, str]:
        """Why trials are not evaluated, by their number: outside a limit, or above a hard target as it is known."""
        self._cost([trial for trial in trials if trial.number not in self._known])
        refusals = {}
        for trial in trials:
            metrics = self._known[trial.number]
            refusal = self.limits.refusal(metrics)
            if refusal is None and self.reward.kind == "hard" and self._judged(metrics) > self.reward.target:
                cost = _show_cost(metrics)
                if self.latencies is not None and self.reward.quantile != DEFAULT_QUANTILE:
                    at = f"the {self.reward.quantile:.0%} quantile of {cost},"
                    cost = f"{self._judged(metrics):.2f} ms, {at}"
                refusal = f"{cost} is above the target: not evaluated"
            if refusal is not None:
                refusals[trial.number] = refusal
        return refusals

    def _nearest(self, refusals: dict[int, str], places: int) -> set[int]:
        """Of refused trials within all limits, those of least cost: where a target is hard to meet, they lead to it."""
        inside = [number for number in refusals if self.limits.refusal(self._known[number]) is None]
        return set(sorted(inside, key=lambda n: (self._judged(self._known[n]), n))[: max(places, 0)])

    def _judged(self, known: Mapping[str, float]) -> float:
        """The cost that decides: multiply-adds, or latency at the reward's quantile."""
        return known["madds"] if self.latencies is None else latency_quantile(known, self.reward.quantile)

    def _evaluate(self, batch: Batch, started: float) -> None:
        """Costs the whole batch, then accuracy: all at once, or one by one where each is expensive."""
        waiting = [trial for trial in batch.trials if trial.status == "waiting"]
        self._known |= {trial.number: dict(trial.metrics) for trial in waiting if trial.metrics}
        self._decode([trial for trial in waiting if trial.number not in self._specs])
        self._cost([trial for trial in waiting if trial.number not in self._known])
        for trial in waiting:
            refusal = self.limits.refusal(self._known[trial.number])
            if refusal is not None:
                self._record(trial, "infeasible", self._known[trial.number], error=refusal)
        feasible = [trial for trial in waiting if trial.status == "waiting"]
        if self._expensive:
            self.store.commit()
            for trial in feasible:
                self._score([trial])
                if time.monotonic() - self.store.last_commit > _COMMIT_EVERY_S:
                    self.store.commit()
                self._show(self.history.spent(expensive=True) - self.history.counts()["waiting"])
        else:
            self._score(feasible)
        self._forget()

    def _decode(self, trials: list[Trial]) -> None:
        self._specs |= {trial.number: self.space.decode(self.space.from_key(trial.key)) for trial in trials}

    def _forget(self) -> None:
        self._specs.clear()
        self._known.clear()

    def _cost(self, trials: list[Trial]) -> None:
        """Finds out the costs of trials; latency of those within the limits alone."""
        specs = {trial.number: self._specs[trial.number] for trial in trials}
        for number, spec in specs.items():
            cost = network_cost(spec)
            self._known[number] = {"params": cost.params, "madds": cost.madds}
        within = {n: spec for n, spec in specs.items() if self.limits.refusal(self._known[n]) is None}
        if self.latencies is not None and within:
            for number, estimate in zip(within, self.latencies(list(within.values())), strict=True):
                self._known[number] |= latency_metrics(estimate)

    def _score(self, trials: list[Trial]) -> None:
        if not trials:
            return
        seed = derive_seed(self.seed, "trial", trials[0].number)
        try:
            estimates = check_accuracies(self._accuracies(trials, seed), len(trials), self.accuracy_name)
        except Exception as error:
            if not self._expensive:
                if isinstance(error, MnasError):
                    raise
                raise SearchError(
                    f"the accuracy model {self.accuracy_name!r} raised {type(error).__name__}: {error}."
                ) from error
            reason = f"{type(error).__name__}: {error}"
            self._record(trials[0], "failed", self._known[trials[0].number], error=reason)
            return
        costs = [self._judged(self._known[trial.number]) for trial in trials]
        rewards = self.reward.score([e.value for e in estimates], costs).tolist()
        for trial, estimate, reward in zip(trials, estimates, rewards, strict=True):
            known = self._known[trial.number] | {"accuracy": estimate.value, "accuracy_std": estimate.std}
            fidelity = getattr(estimate, "fidelity", 1.0)
            if fidelity < 1:
                known["fidelity"] = fidelity
            self._record(trial, "done", known, reward=reward, source=estimate.source)

    def _accuracies(self, trials: list[Trial], seed: int) -> object:
        """What the accuracy model says; a single trial may be stopped early by successive halving."""
        model = self.accuracy
        if not (isinstance(model, StagedAccuracyModel) and model.rungs and model.eta):
            return model.evaluate([self._specs[trial.number] for trial in trials], seed=seed)
        eta, (trial,) = model.eta, trials
        cost = self._judged(self._known[trial.number])

        def go_on(epoch: int, accuracy: float) -> bool:
            reward = float(self.reward.score([accuracy], [cost])[0])
            payload = {"rung": epoch, "trial": trial.number, "reward": reward}
            self.store.append("rung", [payload])
            self.history.rungs.record(payload)
            return self.history.rungs.goes_on(epoch, trial.number, eta)

        return [model.evaluate_staged(self._specs[trial.number], seed=seed, go_on=go_on)]

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

    def _show(self, done: int) -> None:
        best = self.history.best()
        text = "no result yet"
        if best is not None:
            accuracy = f"accuracy {best.metrics['accuracy']:.1%}"
            text = f"best reward {best.reward:.4f} ({accuracy}, {_show_cost(best.metrics)})"
        self.reporter.progress(done, self.limits.trials, text)


def _show_cost(metrics: Mapping[str, float]) -> str:
    ms = metrics.get("latency_ms")
    return f"{format_count(metrics['madds'])} MAdds" if ms is None else f"{ms:.2f} ms"
