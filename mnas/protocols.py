"""What plugs in: controllers, latency models, accuracy models. Structural: an implementer need not import this."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError
from mnas.search_space import Architecture, NetworkSpec

Status = Literal["done", "failed", "infeasible"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What a controller is told of one architecture.

    Args:
        architecture: a point of the controller's space, asked for or not.
        status: `done`; `failed` (could not be evaluated); `infeasible` (outside an explicit limit).
        reward: None unless done.
        metrics: what is known beside the reward: `accuracy`, `latency_ms`, `madds`, ...

    Raises:
        InputError: done without a finite reward, or a reward without being done.
    """

    architecture: Architecture
    status: Status
    reward: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        finite = self.reward is not None and math.isfinite(self.reward)
        if finite != (self.status == "done") or (self.reward is not None and not finite):
            raise InputError(f"a {self.status} observation cannot have the reward {self.reward!r}.")


@dataclass(frozen=True, slots=True)
class LatencyEstimate:
    """Milliseconds for one image batch on a device, with an interval and where it came from.

    Args:
        ms: the estimate.
        low_ms: lower end of its interval (90 % for a predictor, 95 % for a measurement).
        high_ms: upper end.
        source: `calibrated predictor`, `measured`, the name of a plug-in.
        device: what it holds for.
        raw_ms: the plain wall-clock median beside it, where it was measured.
    """

    ms: float
    low_ms: float
    high_ms: float
    source: str
    device: str
    raw_ms: float | None = None


@dataclass(frozen=True, slots=True)
class AccuracyEstimate:
    """Top-1 accuracy as a fraction.

    Args:
        value: 0 to 1.
        std: its standard error, as a fraction.
        source: what the figure is: trained how long on what, or predicted under whose training.
        fidelity: share of the training it was meant to have; below 1 where it was stopped early.
    """

    value: float
    std: float
    source: str
    fidelity: float = 1.0


class Objective(Protocol):
    """What a controller may know beforehand of how networks are judged: their costs, and the reward of an accuracy.

    A controller whose factory takes `objective` gets one; it need not know what a cost is or where it comes from.
    """

    def cost(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """`(n,)` positive, in the unit of the target: the cost that each would be judged by.

        Infinite where an explicit limit refuses the network.
        """
        ...

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        """Rewards of accuracies (fractions) and costs, element by element."""
        ...


@runtime_checkable
class Controller(Protocol):
    """Proposes architectures and is told what became of them.

    Made by `factory(space, *, seed, **options)`; one that plans with costs takes `objective`, an `Objective`, as well.
    Its state is a function of the seed and the order of asks and tells (and of what the objective answered), so that a
    resumed search can replay them. `tell` of a point outside the space raises; a point of the space that was never
    asked is accepted. One whose asks cannot be repeated exactly says `exact_replay = False`; `mnas search` refuses it.
    It may also offer `recommend() -> Architecture | None`: of the networks told `done` the one that
    it believes to be best, where a plain greatest reward would be fooled by noise.
    """

    def ask(self, n: int = 1) -> list[Architecture]:
        """At most `n` architectures; fewer, or none, where the space is exhausted."""
        ...

    def tell(self, observations: Sequence[Observation]) -> None:
        """What became of architectures, in the order of the asks."""
        ...


@runtime_checkable
class LatencyModel(Protocol):
    """Predicts or measures latency."""

    def predict(self, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order. A bare number is taken as one without an interval."""
        ...


@runtime_checkable
class AccuracyModel(Protocol):
    """Predicts or trains accuracy.

    A model that is costly sets `expensive = True`: it is then asked about one network at a time, and each answer
    is stored at once. With `--executor` each worker has a model of its own, made by the same factory; if that has a
    method `prepare(folder, say)`, it is called before the first network, with the run directory and with what passes a
    text on to the user. One that predicts may have `mae`, its mean absolute error (fraction): the width of a tie.
    """

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """One estimate for each network, in order; `seed` drives whatever is random in it."""
        ...


def is_expensive(model: AccuracyModel) -> bool:
    """Whether a model says of itself that it is costly."""
    return bool(getattr(model, "expensive", False))


@runtime_checkable
class TimedAccuracyModel(AccuracyModel, Protocol):
    """An accuracy model that knows beforehand what it will take."""

    def seconds(self, spec: NetworkSpec) -> float:
        """An estimate of what evaluating this network will take, to the end."""
        ...


@runtime_checkable
class PreparedAccuracyModel(AccuracyModel, Protocol):
    """An accuracy model that has something to do once before it is asked, and keeps it in a folder."""

    def preparation_seconds(self, folder: Path) -> float:
        """An estimate of what `prepare` will take; 0 where the folder holds all of it."""
        ...

    def prepare(self, folder: Path, say: Callable[[str], None]) -> None:
        """Does it, goes on where it was interrupted, or loads what is there; `say` is told how it goes.

        Called once before the first `evaluate`, in each process that evaluates; `folder` need not exist.
        """
        ...


@runtime_checkable
class StagedAccuracyModel(AccuracyModel, Protocol):
    """An accuracy model that can stop early, as successive halving asks for.

    `epochs` is its whole training, `rungs` the epochs after which a network may be stopped, none where it never is;
    one in `eta` goes on there.
    """

    epochs: int
    rungs: Sequence[int]
    eta: int | None

    def evaluate_staged(
        self, spec: NetworkSpec, *, seed: int, go_on: Callable[[int, float], bool] | None
    ) -> AccuracyEstimate:
        """As `evaluate`; at each rung `go_on` is told the epoch and the accuracy there, and says whether to go on."""
        ...
