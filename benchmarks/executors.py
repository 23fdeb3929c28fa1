"""What executors cost: trials that only sleep, so that any number of workers finds room on any machine.

    python benchmarks/executors.py speed [--executors inline processes ray] [--trials 16] [--seconds 10] [--workers 2]
    python benchmarks/executors.py soak [--trials 10000] [--seconds 0.1] [--workers 32]

`speed` times a whole loop with its store, from an executor that has started nothing to its end; what executor and store
cost a trial is the mean time that a worker spends between two of them. `soak` counts trials lost or doubled, and the
search's memory on the way.
"""

import argparse
import json
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from mnas.accuracy.made import make_accuracy, make_space
from mnas.config import make_config
from mnas.controllers import RandomController
from mnas.executors import Executor
from mnas.executors.made import make_executor
from mnas.objective import Reward
from mnas.protocols import AccuracyEstimate
from mnas.search.costing import Costing, Limits
from mnas.search.history import History
from mnas.search.lanes import Lane
from mnas.search.loop import Loop
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, mbconv_space
from mnas.store import EventStore

SPACE = mbconv_space(resolution=32, num_classes=10)
TARGET = "10M"
SECONDS, LOG = "MNAS_BENCHMARK_SECONDS", "MNAS_BENCHMARK_LOG"


class Sleeps:
    """Sleeps in place of a training, and writes beside the run which seed it was asked about and when."""

    expensive = True

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        began = time.time()
        time.sleep(float(os.environ[SECONDS]))
        with open(Path(os.environ[LOG]) / str(os.getpid()), "a") as file:
            file.write(f"{seed} {began} {time.time()}\n")
        return [AccuracyEstimate(seed % 1000 / 1000, 0.01, "made up") for _ in specs]


class Watching(Quiet):
    """Keeps the memory of this process, in MB, by the number of trials that have ended."""

    def __init__(self) -> None:
        self.rss: dict[int, float] = {}

    def progress(self, done: int, total: int, text: str) -> None:
        status = Path("/proc/self/status").read_text()
        self.rss[done] = int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def run_loop(kind: str, options: argparse.Namespace, folder: Path, reporter: Quiet) -> dict[str, Any]:
    """One search without what follows it; `wall_s`, and what the trials' own log and the store say."""
    log = folder / "log"
    log.mkdir()
    os.environ |= {SECONDS: str(options.seconds), LOG: str(log)}
    values = {"target_madds": TARGET, "accuracy": "executors:Sleeps", "trials": options.trials}
    if kind != "inline":
        values |= {"executor": kind, "workers": options.workers}
    config = make_config(values).resolved()
    model = make_accuracy(config, make_space(config, None), None, "cpu")
    began = time.time()
    executor: Executor = make_executor(config, folder, model, print)
    with EventStore.create(folder / "trials.db") as store, closing(executor):
        loop = Loop(
            lanes=[Lane(RandomController(SPACE, seed=0), Reward("soft", 1e7))],
            costing=Costing(SPACE, None, Limits(options.trials, config.ask_batch or 1), 0.5),
            accuracy=model,
            accuracy_name="Sleeps",
            seed=0,
            store=store,
            history=History(),
            reporter=reporter,
            executor=executor,
        )
        loop.run()
    wall_s = time.time() - began
    with EventStore.open(folder / "trials.db") as store:
        results = Counter(event.payload["trial"] for event in store.events() if event.kind == "result")
    ran = [[line.split() for line in path.read_text().splitlines()] for path in log.iterdir()]
    first = min(float(trials[0][1]) for trials in ran)
    gaps = [float(after[1]) - float(before[2]) for trials in ran for before, after in pairwise(trials)]
    seeds = [seed for trials in ran for seed, _, _ in trials]
    return {
        "wall_s": round(wall_s, 2),
        "until_the_first_trial_s": round(first - began, 2),
        "between_trials_ms": round(1000 * fmean(gaps), 2),
        "between_trials_share": round(fmean(gaps) / options.seconds, 5),
        "trials": options.trials,
        "lost": options.trials - len(results),
        "with_two_results": sum(count > 1 for count in results.values()),
        "run_twice": len(seeds) - len(set(seeds)),
    }


def speed(options: argparse.Namespace) -> None:
    found = {}
    for kind in options.executors:
        with tempfile.TemporaryDirectory() as folder:
            found[kind] = run_loop(kind, options, Path(folder), Quiet())
        if kind != "inline" and "inline" in found:
            share = found[kind]["wall_s"] / (found["inline"]["wall_s"] / options.workers)
            found[kind]["of_the_ideal_share_of_inline"] = round(share, 3)
        print(json.dumps({"executor": kind, **found[kind]}), flush=True)


def soak(options: argparse.Namespace) -> None:
    watching = Watching()
    with tempfile.TemporaryDirectory() as folder:
        found = run_loop("processes", options, Path(folder), watching)
        size = (Path(folder) / "trials.db").stat().st_size
    shown = sorted(watching.rss)
    marks = [min(shown, key=lambda done: abs(done - share * options.trials)) for share in (0.1, 0.5, 1.0)]
    print(
        json.dumps(
            {
                "workers": options.workers,
                **found,
                "rss_mb": {done: round(watching.rss[done], 1) for done in marks},
                "store_bytes_a_trial": size // options.trials,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for run, trials, seconds, workers in ((speed, 16, 10.0, 2), (soak, 10_000, 0.1, 32)):
        part = parts.add_parser(run.__name__)
        part.add_argument("--trials", type=int, default=trials)
        part.add_argument("--seconds", type=float, default=seconds)
        part.add_argument("--workers", type=int, default=workers)
        part.set_defaults(run=run)
        if run is speed:
            part.add_argument("--executors", nargs="+", default=["inline", "processes", "ray"])
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
