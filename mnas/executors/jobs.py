"""What an executor is given and what it answers; and one trial, the same wherever it is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from mnas.accuracy.checked import check_accuracies
from mnas.protocols import AccuracyEstimate, AccuracyModel, StagedAccuracyModel
from mnas.search_space import NetworkSpec


@dataclass(frozen=True, slots=True)
class Job:
    """A network whose accuracy is wanted: the number of its trial, itself, and the seed of what is random in it."""

    number: int
    spec: NetworkSpec
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"job": self.number, "spec": self.spec.to_dict(), "seed": self.seed}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Of `to_dict`."""
        return cls(data["job"], NetworkSpec.from_dict(data["spec"]), data["seed"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: an estimate, or why there is none."""

    estimate: AccuracyEstimate | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        found = self.estimate
        if found is None:
            return {"error": self.error}
        return {"value": found.value, "std": found.std, "source": found.source, "fidelity": found.fidelity}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Of `to_dict`."""
        if "value" not in data:
            return cls(error=data["error"])
        return cls(AccuracyEstimate(data["value"], data["std"], data["source"], data["fidelity"]))


class Listener(Protocol):
    """Told of jobs as they go, one call at a time; it decides, and no executor does."""

    def rung(self, number: int, epoch: int, accuracy: float) -> bool:
        """A job is at a rung of successive halving: whether it goes on."""
        ...

    def finished(self, number: int, outcome: Outcome) -> None:
        """A job has ended; told once of each."""
        ...


class Executor(Protocol):
    """Runs jobs, up to `workers` at once.

    Nothing of it trains before `run` or after it has returned, so that latency can be measured there.
    """

    workers: int

    def run(self, jobs: Sequence[Job], listener: Listener) -> None:
        """Runs all to their ends, which come in any order.

        Raises:
            SearchError: workers cannot be had; what was told before stands.
        """
        ...

    def close(self) -> None:
        """Ends whatever was started, at once; further calls do nothing."""
        ...


def run_trial(
    model: AccuracyModel, name: str, job: Job, go_on: Callable[[int, float], bool] | None
) -> Outcome:
    """Asks an accuracy model about one network; what it raises, or answers wrongly, is a failed trial.

    Args:
        model: asked.
        name: as the user wrote it, for messages.
        job: the network.
        go_on: told epoch and accuracy at each rung, where the model has any; says whether to go on.
    """
    try:
        if isinstance(model, StagedAccuracyModel) and model.rungs and model.eta:
            answer: object = [model.evaluate_staged(job.spec, seed=job.seed, go_on=go_on)]
        else:
            answer = model.evaluate([job.spec], seed=job.seed)
        (found,) = check_accuracies(answer, 1, name)
    except (Exception, SystemExit) as error:
        return Outcome(error=f"{type(error).__name__}: {error}")
    source, fidelity = str(getattr(found, "source", "")), float(getattr(found, "fidelity", 1.0))
    return Outcome(AccuracyEstimate(float(found.value), float(found.std), source, fidelity))
