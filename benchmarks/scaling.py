"""How well compound scaling fills a budget, with costs that are multiply-adds plus made-up noise.

    python benchmarks/scaling.py [--seeds 8]

Prints one JSON object: for each target, in multiples of EfficientNet-B0's cost, the share of it that is filled and
how many quick and careful costs were asked for.
"""

import argparse
import json

import numpy as np

from mnas.scaling import Verdict, fill_budget
from mnas.search_space import NetworkSpec, network_cost
from mnas.zoo import published

QUICK_NOISE, CAREFUL_NOISE, INTERVAL = 0.02, 0.005, 0.015


def fill(target: float, seed: int) -> tuple[float, int, int]:
    """Share filled, quick costs, careful costs; costs in multiples of B0's."""
    rng = np.random.default_rng(seed)
    b0 = published("efficientnet_b0")
    unit = network_cost(b0).madds
    asked = {"quick": 0, "careful": 0}

    def quick(spec: NetworkSpec) -> float:
        asked["quick"] += 1
        return network_cost(spec).madds / unit * rng.uniform(1 - QUICK_NOISE, 1 + QUICK_NOISE)

    def careful(spec: NetworkSpec) -> Verdict[None]:
        asked["careful"] += 1
        cost = network_cost(spec).madds / unit * rng.uniform(1 - CAREFUL_NOISE, 1 + CAREFUL_NOISE)
        return Verdict(cost, (1 + INTERVAL) * cost, None)

    scaled = fill_budget(b0, target, quick=quick, careful=careful)
    return network_cost(scaled.spec).madds / unit / target, asked["quick"], asked["careful"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=8)
    options = parser.parse_args()
    report = {}
    for target in (1.3, 2.0, 2.6, 4.0, 6.0, 10.0, 20.0, 50.0):
        runs = np.array([fill(target, seed) for seed in range(options.seeds)])
        report[f"{target:g} x"] = {
            "least_filled": round(float(runs[:, 0].min()), 3),
            "mean_filled": round(float(runs[:, 0].mean()), 3),
            "most_filled": round(float(runs[:, 0].max()), 3),
            "mean_quick": float(runs[:, 1].mean()),
            "mean_careful": float(runs[:, 2].mean()),
        }
    print(json.dumps({**vars(options), "targets": report}, indent=2))


if __name__ == "__main__":
    main()
