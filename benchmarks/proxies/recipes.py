"""How shared weights should be trained: how well recipes rank NAS-Bench-Macro's networks, alone and with NASWOT.

    python benchmarks/proxies/recipes.py --data cifar10_jpeg.tar.xz --table DIR --device cuda
    python benchmarks/proxies/recipes.py --data cifar10_jpeg.tar.xz --table DIR --recipes sandwich:6 single:25

A recipe is a kind and its epochs at --resolution: `sandwich` (the largest, the smallest and two random networks a
step, the others learning what the largest says), `labels` (the same four, all learning the labels), `single` (one
random network a step, arXiv 1904.00420) or `two` (two random ones). Truth is the table's mean accuracy of 200 random
networks (seed 0); `with_naswot` ranks by the mean of the two ranks. Costs are those of training in passes of one
network over the training split, so that they compare across machines; what a pass takes on a CPU is for `rank.py` to
say.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from mnas.bench.named import load
from mnas.bench.proxy_plan import draw
from mnas.data import load_data
from mnas.latency.scores import kendall, mean_ranks
from mnas.seeds import derive_seed
from mnas.supernet import Recipe, SupernetAccuracy
from mnas.zerocost import zero_cost_score

KINDS = {
    "sandwich": {"members": 4, "sandwich": True, "distil": True},
    "labels": {"members": 4, "sandwich": True, "distil": False},
    "single": {"members": 1, "sandwich": False, "distil": False},
    "two": {"members": 2, "sandwich": False, "distil": False},
}
RECIPES = ("sandwich:3", "sandwich:6", "labels:6", "single:12", "single:25", "two:12")


def recipe(text: str, seed: int) -> Recipe:
    """Of `sandwich:6`."""
    kind, _, epochs = text.partition(":")
    return Recipe(int(epochs), seed, **KINDS[kind])  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", required=True, help="images of CIFAR-10: a folder or tar, or cifar10:DIR")
    parser.add_argument("--table", default=os.environ.get("MNAS_BENCH_DATA"), help="folder of the table")
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--resolution", type=int, default=16)
    parser.add_argument("--networks", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    table, data = load("nas-bench-macro", options.table), load_data(options.data)
    points = draw(table.space, options.networks, derive_seed(0, "networks"))
    specs = [table.space.decode(point) for point in points]
    truth = [table.accuracy(point) for point in points]
    naswot = [zero_cost_score("naswot", spec, data, seed=0, threads=options.threads) for spec in specs]
    print(json.dumps({"recipe": "naswot", "tau": round(kendall(truth, naswot), 3)}), flush=True)
    for text in options.recipes:
        for seed in options.seeds:
            started = time.perf_counter()
            plan = recipe(text, seed)
            model = SupernetAccuracy(
                table.space,
                data,
                proxy_resolution=options.resolution,
                device=options.device,
                threads=options.threads,
                recipe=plan,
            )
            with tempfile.TemporaryDirectory() as folder:
                model.prepare(Path(folder), lambda line: None)
            trained = time.perf_counter()
            found = [estimate.value for estimate in model.evaluate(specs, seed=0)]
            both = (mean_ranks(found) + mean_ranks(naswot)).tolist()
            row = {
                "recipe": text,
                "seed": seed,
                "passes": plan.epochs * plan.members,
                "tau": round(kendall(truth, found), 3),
                "with_naswot": round(kendall(truth, both), 3),
                "training_s": round(trained - started, 1),
                "scoring_s": round(time.perf_counter() - trained, 1),
                "device": options.device,
            }
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
