"""How well compound scaling fills a budget, with costs that are multiply-adds plus made-up noise.

    python benchmarks/scaling.py [--seeds 8]

Prints one JSON object: for each target, in multiples of EfficientNet-B0's cost, the share of it that is filled and
how many quick and careful costs were asked for.
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np

from mnas.scaling import Verdict, fill_budget
from mnas.search_space import NetworkSpec, network_cost
from mnas.zoo import published

QUICK_NOISE, CAREFUL_NOISE, INTERVAL = 0.02, 0.005, 0.015
# An estimate that is wrong by 3 % more with each doubling of the cost.
ESTIMATE_BIAS = 0.03


def fill(target: float, seed: int) -> tuple[float, int, int]:
    """Share filled, quick costs, careful costs; costs in multiples of B0's."""
    rng = np.random.default_rng(seed)
    b0 = published("efficientnet_b0")
    unit = network_cost(b0).madds
    asked = {"quick": 0, "careful": 0}

    def estimate(spec: NetworkSpec) -> float:
        return (
            network_cost(spec).madds / unit * (1 + ESTIMATE_BIAS * np.log2(network_cost(spec).madds / unit))
        )

    def judge(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[None]]:
        asked["careful" if careful else "quick"] += len(specs)
        noise = CAREFUL_NOISE if careful else QUICK_NOISE
        costs = [network_cost(spec).madds / unit * rng.uniform(1 - noise, 1 + noise) for spec in specs]
        return [Verdict(cost, (1 + INTERVAL) * cost, None) for cost in costs]

    scaled = fill_budget(b0, target, base_cost=1.0, estimate=estimate, judge=judge)
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
