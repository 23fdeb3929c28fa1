"""What a report shows, as plain data; `reading` fills it from a run directory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnas.search.drift import Drift
from mnas.search.refits import Refit
from mnas.search_space import NetworkSpec

# What an accuracy is: predicted by the built-in surrogates, trained on data, or the word of a plug-in.
AccuracyKind = Literal["predicted", "trained", "plug-in"]


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds with their interval and origin; `raw_ms`, the plain wall clock, is None where nothing was timed."""

    ms: float
    low_ms: float
    high_ms: float
    raw_ms: float | None
    source: str

    @property
    def measured(self) -> bool:
        """Whether a clock gave it; else a model's estimate."""
        return self.raw_ms is not None

    @property
    def upper_ms(self) -> float:
        """What has to be within a target: the interval's upper end or the wall clock."""
        return max(self.high_ms, self.raw_ms or 0.0)


@dataclass(frozen=True, slots=True)
class Network:
    """A network with its counts; fractions for accuracies, None for what is not known.

    Args:
        name: for people.
        spec: None where only the counts are stored.
        phi: compound coefficient of a scaled network, with `depth` and `width`.
        status: of the latency's measurement; `noisy` decides nothing.
        accuracy_reason: why there is no accuracy.
        test_accuracy: on a split that the search never saw, where it was trained.
        val_accuracy: on the split that finalists are compared on, where it was trained.
    """

    name: str
    params: int
    madds: int
    resolution: int
    spec: NetworkSpec | None = None
    block_strings: tuple[str, ...] = ()
    latency: Latency | None = None
    status: str = "ok"
    accuracy: float | None = None
    accuracy_std: float | None = None
    accuracy_source: str | None = None
    accuracy_reason: str | None = None
    test_accuracy: float | None = None
    val_accuracy: float | None = None
    weights: str | None = None
    architecture: str | None = None
    phi: float | None = None
    depth: float | None = None
    width: float | None = None


@dataclass(frozen=True, slots=True)
class Finalist:
    """A trial judged at the end.

    `predicted` is its cost as the search knew it, in the unit of the target; `measured_before` tells that this was
    measured; `trained` is its accuracy once trained longer.
    """

    trial: int
    architecture: str
    accuracy: float
    predicted: float
    within: bool
    status: str
    latency: Latency | None
    trained: float | None = None
    measured_before: bool = False


@dataclass(frozen=True, slots=True)
class Tried:
    """A finished trial: accuracy as a fraction, cost in ms or multiply-adds with its interval, reward.

    `baseline` tells that a controller asked for it that is there to be beaten.
    """

    number: int
    architecture: str
    accuracy: float
    cost: float
    low: float
    high: float
    reward: float
    baseline: bool
    on_front: bool


@dataclass(frozen=True, slots=True)
class CalibrationPoint:
    """A network that the latency predictor was fitted to; `predicted_ms` is from a fit without it."""

    name: str
    group: str
    measured_ms: float
    low_ms: float
    high_ms: float
    predicted_ms: float | None


@dataclass(frozen=True, slots=True)
class PredictorError:
    """Of the latency predictor, for networks held out; fractions, `spearman` from -1 to 1."""

    n: int
    mape: float
    within_10: float
    spearman: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How the latency predictor was fitted on the device."""

    points: tuple[CalibrationPoint, ...]
    error: PredictorError
    device: tuple[tuple[str, str], ...]
    reference_ms: float
    seconds: float
    made: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Family:
    """The winner scaled by one rule; `coefficients` are alpha, beta, gamma, None for the released table."""

    rule: str
    coefficients: tuple[float, float, float] | None
    conditions: str
    members: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class RunData:
    """Everything that a report shows of one run and one of its targets.

    Args:
        label: of the target, as in the names of files; empty where the run has one.
        path: of the run directory, absolute; `place` is what a command calls it, quoted.
        status: `done`, `noisy`, `no_feasible`, or `unfinished`.
        target: ms where `kind` is `latency`, else multiply-adds; `budget` is what the search aimed at
            (less than the target where the winner was grown), None while it is not known.
        quantile: of a latency, by which the search judged; 0.5 is the estimate itself.
        accuracy_source: what the trials' accuracies are, in words; None before the first.
        counts: trials by status; `wanted` is how many were asked for.
        error: the latency predictor's, where there is one.
        range_ms: of the space's smallest and largest network, measured or predicted; None where it is not known.
        reference_ms: what the reference network took at the start of the search; None where it was not timed.
        refits: what was measured during the search, in order.
        drift: of the reference; None where it was not timed twice.
        optimum: how far the best reward is from the best of the whole space, in words; None where nothing is known.
        against: whether the controller earned its keep, in words; None where there is no baseline to compare it with.
        ranking: how well candidates are ranked, in words; None where that was not estimated.
        began: seconds since the epoch, None for an empty store.
        config: as stored, in order.
        plugin_flags: flags that resuming needs again.
        environment: versions and platform, in order.
    """

    path: Path
    place: str
    label: str
    status: Literal["done", "noisy", "no_feasible", "unfinished"]
    kind: Literal["latency", "madds"]
    target: float
    budget: float | None
    space: str
    controller: str
    reward: str
    quantile: float
    accuracy_kind: AccuracyKind
    accuracy_name: str
    accuracy_source: str | None
    latency_name: str
    conditions: str | None
    seconds: float
    wanted: int | None
    counts: dict[str, int]
    trials: tuple[Tried, ...]
    finalists: tuple[Finalist, ...]
    baseline: Network | None
    scaled: Network | None
    comparison: tuple[Network, ...]
    error: PredictorError | None
    range_ms: tuple[float, float] | None
    reference_ms: float | None
    refits: tuple[Refit, ...]
    drift: Drift | None
    optimum: str | None
    against: str | None
    ranking: str | None
    calibration: Calibration | None
    family: Family | None
    warnings: tuple[str, ...]
    began: float | None
    config: tuple[tuple[str, str], ...]
    plugin_flags: str
    environment: tuple[tuple[str, str], ...]

    @property
    def chosen(self) -> Network | None:
        """What the run hands over: the scaled network where there is one."""
        return self.scaled or self.baseline

    @property
    def tried(self) -> int:
        """Networks that were evaluated or refused; where each is trained, those refused by their cost do not count."""
        left_out = {"waiting", "infeasible"} if self.accuracy_kind == "trained" else {"waiting"}
        return sum(number for status, number in self.counts.items() if status not in left_out)

    @property
    def finalists_measured(self) -> bool:
        """Whether a clock judged the finalists; no for none."""
        return bool(self.finalists) and all(
            f.latency is not None and f.latency.measured for f in self.finalists
        )

    @property
    def best(self) -> Tried | None:
        """The trial of greatest reward, the earliest of equals."""
        return max(self.trials, key=lambda trial: (trial.reward, -trial.number), default=None)
