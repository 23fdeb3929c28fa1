"""Controllers side by side: the same benchmark, targets, seeds and number of evaluations for each."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mnas.bench.benchmark import Benchmark, Judge
from mnas.bench.drive import Run, Task, make_controller
from mnas.bench.figures import summarise
from mnas.bench.named import load
from mnas.bench.pool import run_all
from mnas.config import DEFAULT_CONTROLLER
from mnas.env import BRIDGED, PACKAGES, environment, package_versions, usable_cores
from mnas.errors import InputError, UnknownNameError
from mnas.latency.agent import describe_device
from mnas.objective import PLAIN, RewardKind
from mnas.registry import check_name
from mnas.search.reporting import Reporter

# In every bench, named or not: what learning is worth, and what the model of accuracy is worth beside a policy alone.
ALWAYS = ("random", "reinforce")
CONTROLLERS = (DEFAULT_CONTROLLER, "reinforce", "evolution", "random")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is compared, and how.

    Args:
        benchmark: its name.
        controllers: names, or `module:factory`; `random` and `reinforce` are added.
        targets: with units, `60M` or `8ms`, `none` for accuracy only; empty is the benchmark's own.
        seeds: runs of each controller at each target, with the seeds from 0 on.
        trials: different networks that each run evaluates.
        batch: networks wanted in each ask.
        reward: `hard`, `soft` or `absolute`.
        noisy: one training of each network is told; scored is what a controller would hand over, by its true reward.
        data_dir: the folder of third-party data; None is what MNAS_BENCH_DATA says.
        processes: at once; None is as many as there are cores.

    Raises:
        InputError: a number below 1, an unknown reward, or a controller twice.
        UnknownNameError: a controller that nothing answers to.
    """

    benchmark: str
    controllers: tuple[str, ...] = CONTROLLERS
    targets: tuple[str, ...] = ()
    seeds: int = 30
    trials: int = 500
    batch: int = 1
    reward: RewardKind = "hard"
    noisy: bool = False
    data_dir: str | None = None
    processes: int | None = None

    def __post_init__(self) -> None:
        for flag in ("seeds", "trials", "batch", "processes"):
            value = getattr(self, flag)
            if value is not None and value < 1:
                raise InputError(f"--{flag} must be at least 1, got {value}.")
        if self.reward not in PLAIN:
            raise UnknownNameError("reward", self.reward, PLAIN)
        for name in self.controllers:
            check_name("controller", name)

    @property
    def added(self) -> tuple[str, ...]:
        """Controllers that are always there and were not named."""
        return tuple(name for name in ALWAYS if name not in self.controllers)


def bench_controllers(wanted: Wanted, reporter: Reporter) -> dict[str, Any]:
    """Runs each controller with each seed at each target.

    Returns:
        What `mnas bench controllers --json` prints.

    Raises:
        InputError: data that is missing, a target of another unit, a controller that does not take the space or whose
            library is missing; found before anything runs.
        SearchError: a controller failed.
    """
    began = time.monotonic()
    benchmark = load(wanted.benchmark, wanted.data_dir)
    if wanted.noisy and benchmark.trainings is None:
        raise InputError(
            f"--noisy needs several trainings of each network, and {wanted.benchmark} has a model of accuracy instead. "
            "Use --benchmark nas-bench-macro."
        )
    targets = benchmark.targets
    if wanted.targets:
        targets = tuple(dict.fromkeys(benchmark.parse_target(text) for text in wanted.targets))
    controllers = tuple(dict.fromkeys((*wanted.controllers, *wanted.added)))
    for name in controllers:
        make_controller(name, benchmark, Judge.of(benchmark, wanted.reward, targets[0]), 0)
    tasks = [
        Task(
            benchmark=wanted.benchmark,
            data_dir=wanted.data_dir,
            controller=name,
            reward=wanted.reward,
            target=target,
            seed=seed,
            trials=wanted.trials,
            batch=wanted.batch,
            noisy=wanted.noisy,
        )
        for name in controllers
        for target in targets
        for seed in range(wanted.seeds)
    ]
    processes = wanted.processes or usable_cores()
    reporter.stage(f"{len(tasks)} runs of {wanted.trials} evaluations on {wanted.benchmark}")
    if wanted.added:
        reporter.note(f"{' and '.join(wanted.added)} are always compared, and were added.")

    def done(count: int, task: Task) -> None:
        reporter.progress(count, len(tasks), f"{task.controller}, {benchmark.describe(task.target)}")

    runs = dict(zip(tasks, run_all(tasks, processes, done), strict=True))
    optima = _optima(benchmark, wanted.reward, targets, runs)
    results = _results(runs, optima, reporter, benchmark)
    return {
        "status": "done",
        "benchmark": wanted.benchmark,
        "about": benchmark.about,
        "cost": benchmark.cost_kind,
        "reward": wanted.reward,
        "noisy": wanted.noisy,
        "seeds": wanted.seeds,
        "trials": wanted.trials,
        "batch": wanted.batch,
        "default": DEFAULT_CONTROLLER,
        "controllers": list(controllers),
        "added": list(wanted.added),
        "targets": optima,
        "optimum_is": "exact" if all(o["optimum_is"] == "exact" for o in optima) else "best seen",
        "results": results,
        "processes": processes,
        "seconds": round(time.monotonic() - began, 1),
        "environment": {
            **environment(),
            "cpu": describe_device()["cpu"],
            "packages": package_versions((*PACKAGES, *BRIDGED)),
        },
    }


def _optima(
    benchmark: Benchmark, kind: RewardKind, targets: Sequence[float | None], runs: Mapping[Task, Run]
) -> list[dict[str, Any]]:
    """Of each target: the greatest reward in the space, or where that is not known the greatest that any run saw."""
    found = []
    for target in targets:
        judge = Judge.of(benchmark, kind, target)
        known = benchmark.optimum(judge)
        seen = max(run.greatest for task, run in runs.items() if task.target == target)
        found.append(
            {
                "target": target,
                "label": benchmark.describe(target),
                "optimum": seen if known is None else known,
                "optimum_is": "best seen" if known is None else "exact",
                "bound": benchmark.bound(judge) if known is None else known,
            }
        )
    return found


def _results(
    runs: Mapping[Task, Run], optima: Sequence[Mapping[str, Any]], reporter: Reporter, benchmark: Benchmark
) -> list[dict[str, Any]]:
    """One object for each controller and target."""
    results = []
    groups: dict[tuple[str, float | None], list[Run]] = {}
    for task, run in runs.items():
        groups.setdefault((task.controller, task.target), []).append(run)
    optimum_of = {optimum["target"]: optimum["optimum"] for optimum in optima}
    for (controller, target), group in groups.items():
        stopped = sorted({run.stopped for run in group if run.stopped is not None})
        if stopped:
            early = sum(run.stopped is not None for run in group)
            reporter.warn(
                f"{controller} at {benchmark.describe(target)}: {early} of {len(group)} runs ended early "
                f"({'; '.join(stopped)}); their curves go on flat."
            )
        results.append(
            {
                "controller": controller,
                "target": target,
                "trials": len(group[0].best),
                "seeds": len(group),
                **summarise(group, optimum_of[target]),
                "stopped": stopped,
            }
        )
    return results
