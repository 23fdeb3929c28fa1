"""A whole search for scaling coefficients at a stated budget; prints one JSON object.

    python benchmarks/scaling_grid.py --data fashion-mnist [--network mnasnet_small] [--images 5000] [--epochs 3]
        [--budget-ms 2x]

The base is the network at the images' size. What it will take is said first; `seconds_per_training` and `seconds` are
what it took, and `--out` is where it can be resumed (`mnas scale search --resume`).
"""

import argparse
import json
import os
import tempfile
from pathlib import Path

from mnas.console import ConsoleReporter
from mnas.latency import this_device
from mnas.scalesearch.plan import ScalePlan
from mnas.scalesearch.run import start_scale_search

KEPT = (
    "data",
    "trained",
    "budget",
    "best",
    "gain",
    "gain_std",
    "verdict",
    "seconds_per_training",
    "seconds",
    "warnings",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--network", default="mnasnet_small")
    parser.add_argument("--points", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget-ms", default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    plan = ScalePlan(
        options.network,
        options.data,
        points=options.points,
        seeds=options.seeds,
        images=options.images,
        epochs=options.epochs,
        threads=options.threads,
        budget_ms=options.budget_ms,
        phis=(1.0,),
    )
    with ConsoleReporter() as reporter, tempfile.TemporaryDirectory() as folder:
        result = start_scale_search(plan, options.out or Path(folder) / "grid", reporter)
    rows = [
        {
            **point["coefficients"],
            **{
                name: point.get(name)
                for name in ("phi", "resolution", "madds", "latency_ms", "in_fit", "accuracies")
            },
        }
        for point in result["points"]
    ]
    device = {"device": this_device().to_dict(), "load": os.getloadavg()}
    print(json.dumps({**{name: result[name] for name in KEPT}, "points": rows, **device}))


if __name__ == "__main__":
    main()
