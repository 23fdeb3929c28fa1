"""One controller on one benchmark: asked and told until so many different networks were evaluated."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from mnas.bench.benchmark import Benchmark, Judge
from mnas.bench.named import load
from mnas.errors import SearchError
from mnas.objective import RewardKind
from mnas.protocols import Controller, Observation
from mnas.registry import make
from mnas.search_space import Architecture
from mnas.seeds import derive_seed

# Chosen here: asks in a row without a new network, after which a controller is taken to have nothing more to propose.
IDLE_ASKS = 200


@dataclass(frozen=True, slots=True)
class Task:
    """One run: plain values, so that another process can be sent them.

    Args:
        benchmark: its name.
        data_dir: of third-party data; None is what MNAS_BENCH_DATA says.
        controller: its name.
        reward: a kind.
        target: in the unit of the benchmark's costs; None is accuracy only.
        seed: of the controller and, apart from it, of the noise.
        trials: different networks to evaluate.
        batch: networks wanted in each ask.
        noisy: one training of each network is told, not the mean of all.
    """

    benchmark: str
    data_dir: str | None
    controller: str
    reward: RewardKind
    target: float | None
    seed: int
    trials: int
    batch: int
    noisy: bool


@dataclass(frozen=True, slots=True)
class Run:
    """What came of a task.

    Args:
        best: true reward of the network that the controller would hand over after each evaluation, `(trials,)`; flat
            where it stopped early.
        greatest: greatest true reward of the networks that were evaluated.
        evaluations: different networks that were evaluated.
        repeats: networks that were asked for again, and answered with what was known of them.
        seconds: in ask and tell, and with noise in recommend.
        stopped: why it ended before all trials; None where it did not.
    """

    best: tuple[float, ...]
    greatest: float
    evaluations: int
    repeats: int
    seconds: float
    stopped: str | None


def make_controller(name: str, benchmark: Benchmark, judge: Judge, seed: int) -> Controller:
    """As a search makes one.

    Raises:
        InputError: the controller does not take this space, or its library is missing.
    """
    offered = {"space": benchmark.space, "seed": seed, "objective": judge}
    controller: Controller = make("controller", name, offered, "ask")
    return controller


def run(task: Task) -> Run:
    """Makes the controller and drives it.

    Raises:
        SearchError: the controller raised, asked for more than was wanted or outside the space; says which and with
            what seed.
    """
    benchmark = load(task.benchmark, task.data_dir)
    judge = Judge.of(benchmark, task.reward, task.target)
    try:
        controller = make_controller(task.controller, benchmark, judge, task.seed)
        return drive(controller, judge, task)
    except Exception as error:
        raise SearchError(
            f"the controller {task.controller!r} failed on {task.benchmark} at {benchmark.describe(task.target)}, seed "
            f"{task.seed}: {type(error).__name__}: {error}"
        ) from error


def drive(controller: Controller, judge: Judge, task: Task) -> Run:
    """Asks and tells a controller.

    A network that is asked for again is told what was told of it before and does not count. Without noise, what a
    controller hands over is the best network so far; with noise it is what its `recommend` says after each batch, or
    where it has none the network of greatest reward as observed. Scored is its true reward.

    Args:
        controller: fresh.
        judge: of the benchmark and target.
        task: how long and how.

    Returns:
        The run.
    """
    book = _Book(judge, task)
    clock = _Clock()
    recommend = getattr(controller, "recommend", None) if task.noisy else None
    repeats = idle = 0
    stopped = None
    while len(book.best) < task.trials and stopped is None:
        wanted = min(task.batch, task.trials - len(book.best))
        asked = clock.time(controller.ask, wanted)
        points = [judge.benchmark.space.architecture(architecture) for architecture in asked]
        if len(points) > wanted:
            raise SearchError(f"asked for {wanted} networks, it gave {len(points)}.")
        before = len(book.best)
        for point in points:
            book.evaluate(point)
        new = len(book.best) - before
        repeats += len(points) - new
        idle = 0 if new else idle + 1
        told = [book.told[point] for point in points]
        clock.time(controller.tell, told)
        if new and recommend is not None:
            book.hand_over(clock.time(recommend))
        if not points:
            stopped = "asked for nothing more"
        elif idle == IDLE_ASKS:
            stopped = f"asked for nothing new {IDLE_ASKS} times in a row"
    if not book.best:
        raise SearchError("it asked for no network at all.")
    best = (*book.best, *[book.best[-1]] * (task.trials - len(book.best)))
    return Run(best, max(book.true.values()), len(book.best), repeats, clock.seconds, stopped)


@dataclass(slots=True)
class _Clock:
    seconds: float = 0.0

    def time(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """What an action returns; its time is added."""
        began = time.perf_counter()
        result = action(*arguments)
        self.seconds += time.perf_counter() - began
        return result


@dataclass(slots=True)
class _Book:
    """What was evaluated: what was told of it, its true reward, and what would be handed over when."""

    judge: Judge
    task: Task
    told: dict[Architecture, Observation] = field(default_factory=dict)
    true: dict[Architecture, float] = field(default_factory=dict)
    best: list[float] = field(default_factory=list)
    _greatest: float = -inf  # reward that was told, and of which network
    _greatest_at: Architecture | None = None
    _recommended: bool = False

    def evaluate(self, point: Architecture) -> None:
        """Once; a second time changes nothing."""
        if point in self.told:
            return
        benchmark = self.judge.benchmark
        accuracy, cost = benchmark.accuracy(point), benchmark.cost(point)
        self.true[point] = float(self.judge.score(accuracy, cost))
        observed = self._drawn(point) if self.task.noisy else accuracy
        reward = float(self.judge.score(observed, cost))
        metrics: Mapping[str, float] = {"accuracy": observed, benchmark.cost_kind: cost}
        self.told[point] = Observation(point, "done", reward, metrics)
        if reward > self._greatest or self._greatest_at is None:
            self._greatest, self._greatest_at = reward, point
        self.best.append(self.best[-1] if self._recommended else self.true[self._greatest_at])

    def hand_over(self, point: Architecture | None) -> None:
        """From now on the controller recommends this network; None leaves it as it was."""
        if point is None:
            return
        if point not in self.true:
            raise SearchError(f"it recommends {tuple(point)}, which was never evaluated.")
        self._recommended = True
        self.best[-1] = self.true[point]

    def _drawn(self, point: Architecture) -> float:
        """One training of the network: the same one for every controller with this seed."""
        assert self.judge.benchmark.trainings is not None
        accuracies = self.judge.benchmark.trainings(point)
        return accuracies[derive_seed(self.task.seed, "training", point.key) % len(accuracies)]
