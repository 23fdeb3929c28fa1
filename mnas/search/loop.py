"""ask -> cost -> accuracy -> reward -> store -> tell, until the budget of trials or time ends."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from mnas.errors import SearchError
from mnas.executors import Executor
from mnas.executors.inline import Inline
from mnas.objective import Reward
from mnas.protocols import AccuracyModel, is_expensive
from mnas.search.costing import Costing, Limits, show_cost
from mnas.search.evaluation import Evaluation
from mnas.search.history import Batch, History, Trial
from mnas.search.lanes import Lane, best_trial_for, observations, whose_turn
from mnas.search.objective import SearchCosts
from mnas.search.refits import Refit
from mnas.search.remeasure import SHARE, Remeasurer
from mnas.search.reporting import Reporter
from mnas.search_space import Architecture, NetworkSpec
from mnas.store import EventStore

# Failed trials, none done, after which the search gives up (chosen here: two batches of trained candidates); and
# batches of nothing but refused ones.
_HOPELESS = 10


@dataclass(slots=True)
class Loop:
    """The parts of one search, and its two halves: `replay` what was, then `run` on.

    `lanes` ask in turn. `proposals` is how many networks are asked for, at most, for each one that is evaluated where
    that is expensive: those above a hard target are refused by their cost alone, and do not count as trials.
    `remeasure` is there where latency is predicted for a device at hand: then some networks near the target are
    measured, and what is predicted later is corrected by them. `costs` are those that controllers plan with; None where
    they plan with none.
    """

    lanes: Sequence[Lane]
    costing: Costing
    accuracy: AccuracyModel
    accuracy_name: str
    seed: int
    store: EventStore
    history: History
    reporter: Reporter
    proposals: int = 1
    remeasure: Remeasurer | None = None
    costs: SearchCosts | None = None
    executor: Executor | None = None
    _ended: set[int] = field(default_factory=set)  # lanes that have nothing more to propose
    _evaluation: Evaluation = field(init=False)

    def __post_init__(self) -> None:
        self._evaluation = Evaluation(
            lanes=self.lanes,
            costing=self.costing,
            accuracy=self.accuracy,
            accuracy_name=self.accuracy_name,
            seed=self.seed,
            store=self.store,
            history=self.history,
            executor=self.executor or Inline(self.accuracy, self.accuracy_name),
            show=lambda: self._show(self.history.spent(expensive=True) - self.history.counts()["waiting"]),
        )

    @property
    def limits(self) -> Limits:
        """When to stop, and what is infeasible."""
        return self.costing.limits

    @property
    def _expensive(self) -> bool:
        return is_expensive(self.accuracy)

    @property
    def _screens(self) -> bool:
        """Whether networks are refused by their cost before they are evaluated."""
        return self._expensive and self.proposals > 1

    @property
    def _timed(self) -> bool:
        return self.costing.latencies is not None

    def replay(self) -> None:
        """Asks and tells the controllers again, with the stored rewards; nothing is evaluated."""
        changed = number = 0
        for batch in self.history.batches:
            asked: list[Architecture] = []
            for wanted in batch.requested:
                asked += self._propose(batch.lane, wanted, number + len(asked))
            number += len(batch.trials)
            changed += [a.key for a in asked] != [t.key for t in batch.trials]
            if batch.told:
                self._tell(batch)
        if changed:
            self.reporter.warn(
                f"{changed} stored batches differ from what the controller proposes now (another version or "
                f"machine?); the stored ones stand."
            )

    def _propose(self, lane: int, count: int, first: int) -> list[Architecture]:
        """A controller's next architectures, of which the first becomes the trial of this number."""
        if self.costs is not None:
            self.costs.at(first)
        return self.lanes[lane].controller.ask(count)

    def typical(self, count: int, rng: random.Random) -> list[NetworkSpec]:
        """Random members such as this search evaluates; those nearest to a target where none is within."""
        number = 0
        specs: list[NetworkSpec] = []
        for place, lane in enumerate(self.lanes):
            wanted = count * (place + 1) // len(self.lanes) - len(specs)
            trials = []
            for _ in range(wanted * self.proposals):
                number -= 1
                trials.append(Trial(number, self.costing.space.sample(rng).key))
            self.costing.take(trials)
            refusals = self.costing.refused(trials, lane.reward) if self._screens else {}
            kept = [trial.number for trial in trials if trial.number not in refusals][:wanted]
            kept += sorted(self.costing.nearest(refusals, wanted - len(kept)), reverse=True)
            specs += [self.costing.specs[number] for number in kept]
        self.costing.forget()
        return specs

    def run(self) -> None:
        """Goes on until the budget ends or every lane is exhausted."""
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
                lane = whose_turn(
                    self.lanes, self.history.spent_by_lane(expensive=self._expensive), self._ended
                )
                if lane is None:
                    self.reporter.note(f"every network of the space has been tried ({asked}).")
                    return
                batch = self._ask(lane, min(self.limits.ask_batch, total - asked))
                if not batch.trials:
                    self._ended.add(lane)
                    continue
                asked = self.history.spent(expensive=self._expensive)
            self._evaluation.evaluate(batches[-1])
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

    def _ask(self, lane: int, count: int) -> Batch:
        """The next batch of a lane, of `count` or fewer where the space is exhausted, stored as asked."""
        assert not self._evaluation.training, "latency would be measured on cores that train"
        costing, reward = self.costing, self.lanes[lane].reward
        first = len(self.history.trials)
        batch = Batch([], [], lane=lane)
        refusals: dict[int, str] = {}
        refits: list[Refit] = []
        limit = self.proposals * count if self._screens else count
        while (left := count - len(batch.trials) + len(refusals)) > 0 and len(batch.trials) < limit:
            asked = self._propose(lane, left, first + len(batch.trials))
            trials = [Trial(first + len(batch.trials) + i, a.key, lane=lane) for i, a in enumerate(asked)]
            batch.requested.append(left)
            batch.trials += trials
            if self._screens:
                refusals |= costing.refused(trials, reward)
                inside = [trial for trial in trials if trial.number not in refusals]
                refits += self._measure_uncertain(inside, reward, first + len(batch.trials))
                refusals |= costing.refused(inside, reward)
            if len(asked) < left:
                break
        if not batch.trials:
            return batch
        kept = costing.nearest(refusals, count - len(batch.trials) + len(refusals))
        refused = {number: text for number, text in refusals.items() if number not in kept}
        left_in = [trial for trial in batch.trials if trial.number not in refused]
        if self._screens:
            refits += self._measure_uncertain(left_in, reward, first + len(batch.trials))
            for trial in left_in:
                trial.metrics = costing.known[trial.number]
        self.store.append("refit", [refit.to_dict() for refit in refits])
        self.store.append("asked", [self._asked(batch)])
        self.history.batches.append(batch)
        for trial in batch.trials:
            if trial.number in refused:
                self._evaluation.record(
                    trial, "infeasible", costing.known[trial.number], error=refused[trial.number]
                )
        return batch

    def _asked(self, batch: Batch) -> dict[str, Any]:
        """A batch as its event; the first lane goes without saying."""
        keys = [
            {"trial": t.number, "key": t.key, **({"metrics": t.metrics} if t.metrics else {})}
            for t in batch.trials
        ]
        return {
            "requested": batch.requested,
            "trials": keys,
            **({"lane": batch.lane} if batch.lane else {}),
        }

    def _measure_uncertain(self, trials: list[Trial], reward: Reward, after: int) -> list[Refit]:
        """Measures those that may be on either side of the target before they are evaluated; no refit for none."""
        if self.remeasure is None:
            return []
        known, history, target = self.costing.known, self.history, reward.target
        near = [trial for trial in trials if self.remeasure.uncertain(known[trial.number], target)]
        if not near:
            return []
        base = {t.number: known[t.number]["latency_ms"] / history.factor_at(t.number) for t in near}
        refit = self.remeasure.measure({t.number: (t.key, base[t.number]) for t in near}, after)
        for network in refit.networks:
            said = f"{network.measured_ms:.2f} ms, {known[network.trial]['latency_ms']:.2f} predicted"
            self.reporter.note(f"trial {network.trial} timed before it is trained: {said}")
            known[network.trial] |= network.latency if network.usable else {}
        return [refit]

    def _finish(self, number: int, seconds: float) -> None:
        batch = self.history.batches[number]
        self._tell(batch)
        self.store.append("told", [{"batch": number, "seconds": seconds}])
        self.store.commit()
        batch.told = True
        self.history.seconds = seconds

    def _tell(self, batch: Batch) -> None:
        for number, lane in enumerate(self.lanes):
            told = observations(batch, number, self.lanes, self.costing.space, self.limits, timed=self._timed)
            if told or number == batch.lane:
                lane.controller.tell(told)

    def _show(self, done: int) -> None:
        found = []
        for lane in self.lanes:
            best = best_trial_for(self.history.trials, lane.reward, timed=self._timed)
            if best is not None and not lane.baseline:
                trial, reward = best
                about = f"accuracy {trial.metrics['accuracy']:.1%}, {show_cost(trial.metrics)}"
                found.append(f"{lane.label and f'for {lane.label}: '}best reward {reward:.4f} ({about})")
        self.reporter.progress(done, self.limits.trials, "; ".join(found) or "no result yet")
