"""The state of a run, read from its events."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mnas.errors import RunDirectoryError
from mnas.search.halving import Rungs
from mnas.store import Event

TrialStatus = Literal["waiting", "done", "failed", "infeasible"]


@dataclass(slots=True)
class Trial:
    """One asked architecture.

    `metrics` holds `madds`, `params` and, where known, `accuracy`, `accuracy_std`, `latency_ms`,
    `latency_low_ms`, `latency_high_ms`; `fidelity` where its training was stopped early. `reward` is None unless the
    trial is done; `source` says what the accuracy is.
    """

    number: int
    key: str
    status: TrialStatus = "waiting"
    metrics: Mapping[str, float] = field(default_factory=dict)
    reward: float | None = None
    error: str | None = None
    source: str | None = None


@dataclass(slots=True)
class Batch:
    """Trials told together: how many each ask wanted, which came, and whether the controller was told."""

    requested: list[int]
    trials: list[Trial]
    told: bool = False


@dataclass(slots=True)
class History:
    """Everything that the events of a run say; `trained` is what became of finalists, by trial."""

    batches: list[Batch] = field(default_factory=list)
    rungs: Rungs = field(default_factory=Rungs)
    trained: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    calibration: Mapping[str, Any] | None = None
    references: list[Mapping[str, Any]] = field(default_factory=list)
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
                wanted = payload["requested"]
                batch = Batch(
                    wanted if isinstance(wanted, list) else [wanted],  # a number is a single ask
                    [Trial(t["trial"], t["key"]) for t in payload["trials"]],
                )
                trials.update((trial.number, trial) for trial in batch.trials)
                self.batches.append(batch)
            case "rung":
                self.rungs.record(payload)
            case "result":
                apply_result(trials[payload["trial"]], payload)
            case "told":
                self.batches[payload["batch"]].told = True
                self.seconds = payload["seconds"]
            case "predictor":
                self.calibration = payload
            case "reference":
                self.references.append(payload)
            case "trained":
                self.trained[payload["trial"]] = payload
            case "finished":
                self.result = payload
            case "finalists":
                pass  # kept as evidence; finalists are measured together, so a resume measures them again

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order asked."""
        return [trial for batch in self.batches for trial in batch.trials]

    def best(self) -> Trial | None:
        """The done trial of greatest reward, the earliest of equals."""
        done = [trial for trial in self.trials if trial.reward is not None]
        return max(done, key=lambda trial: (trial.reward, -trial.number)) if done else None

    def spent(self, *, expensive: bool) -> int:
        """Trials that count against the budget: all, or where each is expensive those that were not refused before."""
        return sum(not (expensive and trial.status == "infeasible") for trial in self.trials)

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
