"""Which evaluator ranks NAS-Bench-Macro's networks best, and for how many core-minutes.

    python benchmarks/proxies/rank.py --data cifar10_jpeg.tar.xz --table DIR   # it holds nas-bench-macro_cifar10.json
    python benchmarks/proxies/rank.py --data cifar10_jpeg.tar.xz --table DIR --evaluators madds,naswot,synflow

Truth is the table's mean accuracy of 200 random networks (seed 0). Every evaluator may spend 120 core-minutes: counts,
zero-cost scores, shared weights, short trainings of growing length, and means and smoothed ones of them. Each
is one of `mnas bench proxy`, whose scores are kept beside --out, so that a run that was stopped goes on. Ends with the
evaluators that reach tau .80, if any.
"""

import argparse
import os
import sys
from pathlib import Path

from mnas.bench.proxies import bench_proxies
from mnas.bench.proxy_plan import ProxyWanted
from mnas.bench.proxy_words import proxy_text
from mnas.console import ConsoleReporter
from mnas.files import write_json

ZERO_COST = ("naswot", "synflow", "snip")
SHARED = ("supernet:2@16", "supernet:5@16")
TRAINED = ("proxy:1x1000@16", "proxy:1x2000@16", "proxy:2x2000@16", "proxy:1x5000@16")
EVALUATORS = (
    "madds",
    "params",
    *ZERO_COST,
    *SHARED,
    *(f"mean:naswot+{name}" for name in SHARED),
    *TRAINED,
    *(f"smooth:{name}" for name in TRAINED),
    *(f"smooth:mean:naswot+{name}" for name in TRAINED),
)
WANTED_TAU = 0.80


def main() -> None:
    """Runs the bench and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", help="images of CIFAR-10: a folder or tar, or cifar10:DIR; counts need none"
    )
    parser.add_argument("--table", default=os.environ.get("MNAS_BENCH_DATA"), help="folder of the table")
    parser.add_argument("--evaluators", default=",".join(EVALUATORS), help="separated by commas")
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--core-minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; scores of other numbers are made anew"
    )
    parser.add_argument("--out", type=Path, default=Path("proxies.json"))
    options = parser.parse_args()
    wanted = ProxyWanted(
        evaluators=tuple(options.evaluators.split(",")),
        benchmark="nas-bench-macro",
        data=options.data,
        networks=options.networks,
        core_minutes=options.core_minutes,
        seed=options.seed,
        threads=options.threads,
        data_dir=options.table,
    )
    with ConsoleReporter() as reporter:
        result = bench_proxies(wanted, options.out, reporter)
    if result["status"] != "done":
        sys.exit(130)
    write_json(options.out, result)
    print(proxy_text(result, str(options.out)))
    good = [row for row in result["evaluators"] if row["tau"] is not None and row["tau"] >= WANTED_TAU]
    print()
    for row in sorted(good, key=lambda row: row["core_minutes"]):
        print(
            f"tau {row['tau']:.3f} of {row['n']} networks in {row['core_minutes']:.1f} core-minutes: {row['name']}"
        )
    if not good:
        print(f"no evaluator reaches tau {WANTED_TAU:.2f}")


if __name__ == "__main__":
    main()
