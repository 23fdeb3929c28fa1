"""What controllers cost: architectures a second, memory over many trials, time of an ask; prints one JSON object.

    OMP_NUM_THREADS=1 python benchmarks/controllers/throughput.py

Asks and tells in batches of 64 on `mnasnet`, with made-up rewards that rise with the options; the resident memory of
`reinforce` along 100,000 trials; single asks of `guided` around its 1,000th trial on
`imagenet-surrogate`, where those costs are multiply-adds.
"""

import argparse
import itertools
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from mnas.bench.benchmark import Judge
from mnas.bench.named import load
from mnas.env import environment
from mnas.latency.agent import describe_device
from mnas.protocols import Controller, Observation
from mnas.registry import make
from mnas.search_space import Architecture, SearchSpace, mnasnet_space
from mnas.testing import MadeUpObjective, reward_of

BATCH = 64
CONTROLLERS = ("random", "reinforce", "evolution", "guided", "ppo")


def observations(asked: list[Architecture]) -> list[Observation]:
    return [Observation(point, "done", reward_of(point)) for point in asked]


def made(name: str, space: SearchSpace, objective: Any) -> Controller:
    controller: Controller = make(
        "controller", name, {"space": space, "seed": 0, "objective": objective}, "ask"
    )
    return controller


class Clock:
    """Seconds that pass, and seconds on a core, which other work on the machine does not lengthen."""

    def __init__(self) -> None:
        self.wall, self.core = [0.0], [0.0]

    def time(self, action: Callable[..., Any], *arguments: Any) -> Any:
        """What an action returns; its time is added to the last."""
        wall, core = time.perf_counter(), time.process_time()
        result = action(*arguments)
        self.core[-1] += time.process_time() - core
        self.wall[-1] += time.perf_counter() - wall
        return result

    def begin(self) -> None:
        """What is timed from now on is added up anew."""
        self.wall.append(0.0)
        self.core.append(0.0)


def throughput(name: str, seconds: float) -> dict[str, Any]:
    """Architectures a second, in ask and tell alone, for a while."""
    controller, count, clock = made(name, mnasnet_space(), MadeUpObjective()), 0, Clock()
    while clock.core[0] < seconds:
        asked = clock.time(controller.ask, BATCH)
        clock.time(controller.tell, observations(asked))
        count += len(asked)
    return {
        "architectures": count,
        "per_second": count / clock.wall[0],
        "per_core_second": count / clock.core[0],
    }


def memory(name: str, trials: int) -> dict[str, Any]:
    """Resident megabytes after each tenth of so many trials, and bytes a trial over the second half."""
    controller, found, done = made(name, mnasnet_space(), MadeUpObjective()), {}, 0
    for tenth in range(1, 11):
        while done < tenth * trials / 10:
            asked = controller.ask(BATCH)
            controller.tell(observations(asked))
            done += len(asked)
        found[done] = resident()
    counts = sorted(found)
    grown = (found[counts[-1]] - found[counts[4]]) / (counts[-1] - counts[4])
    return {"megabytes": {n: found[n] / 1e6 for n in counts}, "bytes_a_trial": grown}


def resident() -> int:
    """Bytes of this process in memory (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def ask_ms(name: str, trials: int, asks: int) -> dict[str, Any]:
    """Ask and tell, one network each, once so many were told: milliseconds."""
    benchmark = load("imagenet-surrogate", None)
    judge = Judge.of(benchmark, "hard", benchmark.targets[1])
    controller, rng = made(name, benchmark.space, judge), random.Random(0)

    def observe(point: Architecture) -> Observation:
        accuracy, cost = benchmark.accuracy(point), benchmark.cost(point)
        return Observation(point, "done", float(judge.score(accuracy, cost)), {"accuracy": accuracy})

    points = (benchmark.space.sample(rng) for _ in itertools.count())
    for point in itertools.islice(points, trials - asks):
        controller.tell([observe(point)])
    controller.ask(1)
    clock = Clock()
    for _ in range(2 * asks):
        asked = clock.time(controller.ask, 1)
        clock.time(controller.tell, [observe(point) for point in asked])
        clock.begin()
    wall, core = clock.wall[:-1], clock.core[:-1]
    return {
        "median": 1e3 * median(wall),
        "worst": 1e3 * max(wall),
        "median_on_core": 1e3 * median(core),
        "asks": len(wall),
        "around_trial": trials,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of asking and telling, for each controller"
    )
    parser.add_argument("--trials", type=int, default=100_000, help="along which memory is looked at")
    parser.add_argument("--asks", type=int, default=50, help="before and after the 1,000th trial")
    options = parser.parse_args()
    result = {
        "batch": BATCH,
        "memory_of_reinforce": memory("reinforce", options.trials),  # first: ppo loads torch
        "throughput": {name: throughput(name, options.seconds) for name in CONTROLLERS},
        "guided_ask_ms": ask_ms("guided", 1000, options.asks),
        "environment": {**environment(), "cpu": describe_device()["cpu"]},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
