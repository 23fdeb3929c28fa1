"""The A/A test: the same network under two names, measured again and again; prints one JSON object.

    python benchmarks/latency/repeatability.py --repeats 10 [--loaded]

The two latencies should be equal: how far they differ is what the measuring itself gets wrong. A second network
is timed beside them, and how much its figure moves between repeats is given three ways: as the ratio to the
reference by the clock that decides, the same by the wall clock, and as plain milliseconds. With --loaded every core
meanwhile has another process on it that multiplies matrices.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from report import print_report

from mnas.latency import Conditions, Measurement, measure, this_device
from mnas.seeds import derive_seed
from mnas.zoo import published

# One thread that computes and goes through more memory than a cache holds: three matrices of 1024 x 1024 float32.
LOAD = "import numpy as np\na = b = np.ones((1024, 1024), np.float32)\nwhile True: b = (a @ b) / 1024"
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many other processes compute meanwhile."""
    others = [
        subprocess.Popen([sys.executable, "-c", LOAD], env=os.environ | ONE_THREAD) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def variation(values: Sequence[float]) -> float:
    """Standard deviation over mean, a fraction."""
    return statistics.stdev(values) / statistics.mean(values)


def wall_ratio(item: Measurement) -> float:
    """The paired ratio as it would be by the wall clock: median over processes of the median over rounds."""
    return statistics.median(
        statistics.median(
            a / b for a, b in zip(sample.candidate_wall_ms, sample.reference_wall_ms, strict=True)
        )
        for sample in item.samples
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--budget", type=float, default=9.0, help="seconds for a repeat")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--network", default="mnasnet_a1")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--loaded", action="store_true", help="with another busy process on each core")
    options = parser.parse_args()
    start, conditions = time.perf_counter(), Conditions()
    reference = replace(published("efficientnet_b0"), resolution=options.resolution)
    other = replace(published(options.network), resolution=options.resolution)
    results = []
    with busy(this_device().cores if options.loaded else 0):
        for repeat in range(options.repeats):
            print(f"\r{repeat}/{options.repeats}", end="", file=sys.stderr)
            results.append(
                measure(
                    {"a": reference, "a again": reference, "other": other},
                    reference=reference,
                    conditions=conditions,
                    processes=options.processes,
                    budget_s=options.budget,
                    seed=derive_seed(options.seed, "repeat", repeat),
                )
            )
    same = [result["a"].ratio / result["a again"].ratio - 1 for result in results]
    others = [result["other"] for result in results]
    centre = statistics.median(item.ratio for item in others)
    figures = {
        "repeats": options.repeats,
        "aa_difference_median": statistics.median(map(abs, same)),
        "aa_difference_sd": statistics.stdev(same),
        "aa_difference_largest": max(map(abs, same)),
        "aa_intervals_with_1": sum(
            r[name].ratio_low <= 1 <= r[name].ratio_high for r in results for name in ("a", "a again")
        )
        / (2 * len(results)),
        "other_ratio": centre,
        "other_ratio_variation": variation([item.ratio for item in others]),
        "other_wall_ratio_variation": variation([wall_ratio(item) for item in others]),
        "other_raw_ms_variation": variation([item.raw_ms for item in others]),
        "other_intervals_with_median": sum(i.ratio_low <= centre <= i.ratio_high for i in others)
        / len(others),
        "other_half_width": statistics.median((i.ratio_high - i.ratio_low) / 2 / i.ratio for i in others),
        "reference_ms": [result.reference_ms for result in results],
        "reference_raw_ms": [result.reference_raw_ms for result in results],
        "statuses": [item.status for result in results for item in result.measurements],
        "load": [results[0].processes[0]["load_before"], results[-1].processes[-1]["load_after"]],
        "conditions": conditions.describe(),
    }
    print_report(figures, start)


if __name__ == "__main__":
    main()
