"""What becomes of the trials of a batch: costs, accuracies through an executor, rewards; each result is stored."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnas.accuracy.checked import check_accuracies
from mnas.errors import MnasError, SearchError
from mnas.executors import Executor, Job, Outcome
from mnas.objective import worth
from mnas.protocols import AccuracyEstimate, AccuracyModel, StagedAccuracyModel, is_expensive
from mnas.search.costing import Costing
from mnas.search.history import Batch, History, Trial, apply_result
from mnas.search.lanes import Lane
from mnas.seeds import derive_seed
from mnas.store import EventStore

# A result that took long is made durable at once; cheap ones wait for the end of their batch.
_COMMIT_EVERY_S = 1.0
_SHOW_EVERY_S = 0.2


@dataclass(slots=True)
class Evaluation:
    """Evaluates batches, and is what an executor tells of them: it alone decides and writes the store.

    Args:
        lanes: whose rewards count.
        costing: knows costs and limits.
        accuracy: the model; asked here where it is cheap, else through the executor.
        accuracy_name: as the user wrote it.
        seed: of the search.
        store: takes the results.
        history: of the search.
        executor: trains.
        show: told that trials have ended.
    """

    lanes: Sequence[Lane]
    costing: Costing
    accuracy: AccuracyModel
    accuracy_name: str
    seed: int
    store: EventStore
    history: History
    executor: Executor
    show: Callable[[], None]
    training: bool = False  # whether the executor is at work now: then nothing may be timed
    _trials: dict[int, Trial] = field(default_factory=dict)  # those that the executor has, by number
    _shown: float = 0.0

    def evaluate(self, batch: Batch) -> None:
        """Costs the whole batch, then accuracy: all at once, or through the executor where each is expensive."""
        assert not self.training, "latency would be measured on cores that train"
        waiting = [trial for trial in batch.trials if trial.status == "waiting"]
        known = self.costing.known
        known |= {trial.number: dict(trial.metrics) for trial in waiting if trial.metrics}
        self.costing.take(waiting)
        for trial in waiting:
            refusal = self.costing.outside(trial.number)
            if refusal is not None:
                self.record(trial, "infeasible", known[trial.number], error=refusal)
        feasible = [trial for trial in waiting if trial.status == "waiting"]
        if is_expensive(self.accuracy):
            self.store.commit()
            while feasible := [trial for trial in feasible if not self._known_already(trial)]:
                first = {trial.key: trial for trial in reversed(feasible)} if len(self.lanes) > 1 else None
                chosen = feasible if first is None else [t for t in feasible if first[t.key] is t]
                self._train(chosen)
                feasible = [trial for trial in feasible if trial.status == "waiting"]
        else:
            self._predict(feasible)
        self.costing.forget()

    def record(
        self,
        trial: Trial,
        status: str,
        metrics: dict[str, float],
        *,
        reward: float | None = None,
        error: str | None = None,
        source: str | None = None,
    ) -> None:
        """Stores what became of a trial; of two results the first counts."""
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

    def rung(self, number: int, epoch: int, accuracy: float) -> bool:
        """Successive halving, decided by those that came to this rung before; the order of events replays it."""
        trial = self._trials[number]
        cost, lane = self.costing.judged(number), self.lanes[trial.lane]
        reward = float(lane.reward.score(worth({**self.costing.known[number], "accuracy": accuracy}), cost))
        payload = {"rung": epoch, "trial": number, "reward": reward}
        self.store.append("rung", [payload])
        assert isinstance(self.accuracy, StagedAccuracyModel)
        assert self.accuracy.eta is not None
        return self.history.record_rung(trial.lane, payload).goes_on(epoch, number, self.accuracy.eta)

    def finished(self, number: int, outcome: Outcome) -> None:
        """Stores the result of a trained trial."""
        trial = self._trials[number]
        if outcome.estimate is None:
            self.record(trial, "failed", self.costing.known[number], error=outcome.error)
        else:
            self._take(trial, outcome.estimate)
        if time.monotonic() - self.store.last_commit > _COMMIT_EVERY_S:
            self.store.commit()
        if time.monotonic() - self._shown > _SHOW_EVERY_S:
            self._shown = time.monotonic()
            self.show()

    def _train(self, trials: Sequence[Trial]) -> None:
        """Has trials trained; `rung` and `finished` are told of them."""
        self._trials = {trial.number: trial for trial in trials}
        jobs = [
            Job(number, self.costing.specs[number], derive_seed(self.seed, "trial", number))
            for number in self._trials
        ]
        self.training = True
        try:
            self.executor.run(jobs, self)
        finally:
            self.training = False
        self.show()

    def _known_already(self, trial: Trial) -> bool:
        """Whether a lane of the other side had the network evaluated; then that is this trial's result too."""
        if len(self.lanes) == 1:
            return False
        twin = next((t for t in self.history.trials if t.status == "done" and t.key == trial.key), None)
        if twin is None:
            return False
        names = ("accuracy", "accuracy_std", "fidelity")
        found = {name: twin.metrics[name] for name in names if name in twin.metrics}
        self._reward(trial, self.costing.known[trial.number] | found, twin.source)
        return True

    def _predict(self, trials: Sequence[Trial]) -> None:
        """Asks a cheap model about all at once.

        Raises:
            SearchError: it raised, or did not answer as it must.
        """
        if not trials:
            return
        specs = [self.costing.specs[trial.number] for trial in trials]
        seed = derive_seed(self.seed, "trial", trials[0].number)
        try:
            estimates = check_accuracies(
                self.accuracy.evaluate(specs, seed=seed), len(trials), self.accuracy_name
            )
        except MnasError:
            raise
        except Exception as error:
            raise SearchError(
                f"the accuracy model {self.accuracy_name!r} raised {type(error).__name__}: {error}."
            ) from error
        for trial, estimate in zip(trials, estimates, strict=True):
            self._take(trial, estimate)

    def _take(self, trial: Trial, estimate: AccuracyEstimate) -> None:
        known = self.costing.known[trial.number]
        known |= {"accuracy": estimate.value, "accuracy_std": estimate.std}
        fidelity = getattr(estimate, "fidelity", 1.0)
        if fidelity < 1:
            known["fidelity"] = fidelity
        self._reward(trial, known, estimate.source)

    def _reward(self, trial: Trial, known: dict[str, float], source: str | None) -> None:
        """Records a trial of known accuracy."""
        cost = self.costing.judged(trial.number)
        reward = float(self.lanes[trial.lane].reward.score(worth(known), cost))
        self.record(trial, "done", known, reward=reward, source=source)
