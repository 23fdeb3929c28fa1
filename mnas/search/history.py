"""The state of a run, read from its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mnas.errors import RunDirectoryError
from mnas.search.drift import Drift, drift_of
from mnas.search.halving import Rungs
from mnas.search.refits import Refit, positive
from mnas.store import Event

TrialStatus = Literal["waiting", "done", "failed", "infeasible"]


@dataclass(slots=True)
class Trial:
    """One asked architecture.

    `metrics` holds `madds`, `params` and, where known, `accuracy`, `accuracy_std`, `latency_ms`, `latency_low_ms`,
    `latency_high_ms`; `latency_raw_ms` where that was measured and not predicted; `fidelity` where its training was
    stopped early; `step_ms` and `training_factor` in a training-aware search. `reward` is None unless the trial is
    done; `source` says what the accuracy is; `lane` is the number of the lane that asked.
    """

    number: int
    key: str
    status: TrialStatus = "waiting"
    metrics: Mapping[str, float] = field(default_factory=dict)
    reward: float | None = None
    error: str | None = None
    source: str | None = None
    lane: int = 0

    def counts(self, *, expensive: bool) -> bool:
        """Whether it is one of the budget's: where evaluations are expensive, not if it was refused before one."""
        return not (expensive and self.status == "infeasible")


@dataclass(slots=True)
class Batch:
    """Trials of one lane told together: how many each ask wanted, which came, and whether they were told."""

    requested: list[int]
    trials: list[Trial]
    told: bool = False
    lane: int = 0


@dataclass(slots=True)
class History:
    """Everything that the events of a run say.

    `rungs` are those of each lane; `trained` is what became of finalists, by trial; `ranks` are networks compared
    before the first trial (`rank_check.py`); `references` are the reference network's milliseconds in the order timed,
    each `{"ms", "when"}`; `steps` is what is known of training steps.
    """

    batches: list[Batch] = field(default_factory=list)
    rungs: dict[int, Rungs] = field(default_factory=dict)
    trained: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    ranks: list[Mapping[str, Any]] = field(default_factory=list)
    calibration: Mapping[str, Any] | None = None
    steps: Mapping[str, Any] | None = None
    references: list[Mapping[str, Any]] = field(default_factory=list)
    refits: list[Refit] = field(default_factory=list)
    result: Mapping[str, Any] | None = None
    seconds: float = 0.0

    @classmethod
    def read(cls, events: Iterable[Event]) -> "History":
        """Replays the events. Of two results of one trial the first counts; the late one stays in the store.

        Raises:
            RunDirectoryError: an event that refers to a trial never asked, or that lacks a field.
        """
        history = cls()
        trials: dict[int, Trial] = {}
        for event in events:
            try:
                history._apply(event, trials)
            except (KeyError, TypeError, ValueError) as error:
                raise RunDirectoryError(
                    f"event {event.number} ({event.kind}) of the store does not fit the others: {error!r}. "
                    f"Restore the run from a copy, or begin a new one with --out."
                ) from error
        return history

    def _apply(self, event: Event, trials: dict[int, Trial]) -> None:
        payload = event.payload
        match event.kind:
            case "asked":
                wanted, lane = payload["requested"], payload.get("lane", 0)
                batch = Batch(
                    wanted if isinstance(wanted, list) else [wanted],  # a number is a single ask
                    [
                        Trial(t["trial"], t["key"], metrics=dict(t.get("metrics", {})), lane=lane)
                        for t in payload["trials"]
                    ],
                    lane=lane,
                )
                trials.update((trial.number, trial) for trial in batch.trials)
                self.batches.append(batch)
            case "rung":
                self.record_rung(trials[payload["trial"]].lane, payload)
            case "result":
                apply_result(trials[payload["trial"]], payload)
            case "told":
                self.batches[payload["batch"]].told = True
                self.seconds = payload["seconds"]
            case "predictor":
                self.calibration = payload
            case "steps":
                self.steps = payload
            case "reference":
                self.references.append(
                    {**payload, "ms": positive(payload["ms"]), "when": str(payload["when"])}
                )
            case "refit":
                self.add_refit(Refit.from_dict(payload))
            case "trained":
                self.trained[payload["trial"]] = payload
            case "rank":
                self.ranks.append(payload)
            case "finished":
                self.result = payload
            case "finalists":
                pass  # kept as evidence; finalists are measured together, so a resume measures them again

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order asked."""
        return [trial for batch in self.batches for trial in batch.trials]

    def record_rung(self, lane: int, payload: Mapping[str, float]) -> Rungs:
        """Takes in the reward of a trial at a rung; the rungs of its lane."""
        rungs = self.rungs.setdefault(lane, Rungs())
        rungs.record(payload)
        return rungs

    def add_refit(self, refit: Refit) -> None:
        """From now on predictions are multiplied by its factor."""
        self.refits.append(refit)
        self.references.append({"ms": refit.reference_ms, "when": "refit"})

    def factor_at(self, number: int) -> float:
        """What predictions were, or are, multiplied by when the trial of this number was asked; 1 before any refit."""
        return next((refit.factor for refit in reversed(self.refits) if refit.after <= number), 1.0)

    @property
    def factor(self) -> float:
        """What predictions are multiplied by now."""
        return self.refits[-1].factor if self.refits else 1.0

    @property
    def drift(self) -> Drift | None:
        """Of the reference since the start; None where it was not timed twice."""
        return drift_of(self.references)

    def known_now(self) -> list[Trial]:
        """All trials, with predicted latencies as they would be predicted now; what they were told as rewards stays."""
        if not self.refits:
            return self.trials
        return [replace(trial, metrics=self._predicted_now(trial)) for trial in self.trials]

    def _predicted_now(self, trial: Trial) -> Mapping[str, float]:
        metrics = trial.metrics
        if "latency_ms" not in metrics or "latency_raw_ms" in metrics:
            return metrics
        change = self.factor / self.factor_at(trial.number)
        names = ("latency_ms", "latency_low_ms", "latency_high_ms")
        return {**metrics, **{name: metrics[name] * change for name in names}}

    def spent(self, *, expensive: bool) -> int:
        """How many trials count against the budget."""
        return sum(self.spent_by_lane(expensive=expensive).values())

    def spent_by_lane(self, *, expensive: bool) -> dict[int, int]:
        """Of each lane that has asked, its trials that count against the budget."""
        spent: dict[int, int] = {}
        for trial in self.trials:
            spent[trial.lane] = spent.get(trial.lane, 0) + trial.counts(expensive=expensive)
        return spent

    def counts(self) -> dict[str, int]:
        """Trials by status."""
        counts: dict[str, int] = {"done": 0, "failed": 0, "infeasible": 0, "waiting": 0}
        for trial in self.trials:
            counts[trial.status] += 1
        return counts


def apply_result(trial: Trial, payload: Mapping[str, Any]) -> None:
    """Writes a result into its trial unless the trial has one."""
    if trial.status == "waiting":
        trial.status = payload["status"]
        trial.metrics = payload["metrics"]
        trial.reward = payload["reward"]
        trial.error = payload["error"]
        trial.source = payload["source"]
