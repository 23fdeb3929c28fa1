"""How well this device's calibration predicts networks that it never saw; prints one JSON object.

    python benchmarks/latency/predictor_error.py [--mbconv 200] [--mnasnet 100] [--scaled 60] [--others 24]

Uses the kept calibration, or makes one; then `mnas latency validate` on each group: random members of the spaces, those
of `regnet`, `igcv3` and `ghost` among them, and members of `mbconv` scaled by a phi of 0.5 to 3. A group of 0 is left
out. The measured values carry noise too: `ceiling` is what a perfect predictor would score, `madds` what multiply-adds
alone do.
"""

import argparse
import random
import statistics
import time
from typing import Any

from report import print_report

from mnas.console import ConsoleReporter
from mnas.latency import Conditions
from mnas.search.device_timing import device_calibration
from mnas.search_space import mbconv_space
from mnas.validating import CALIBRATED, Unseen, validate

OTHERS = ("regnet", "igcv3", "ghost")


def seconds_for(predictor: Any, count: int) -> float:
    """Of predicting `count` random members of `mbconv`, decoded beforehand."""
    space, rng = mbconv_space(), random.Random(0)
    specs = [space.decode(space.sample(rng)) for _ in range(count)]
    start = time.perf_counter()
    predictor.predict(specs)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mbconv", type=int, default=200)
    parser.add_argument("--mnasnet", type=int, default=100)
    parser.add_argument("--scaled", type=int, default=60)
    parser.add_argument("--others", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start, conditions = time.perf_counter(), Conditions()
    counts = {"mbconv": options.mbconv, "mnasnet": options.mnasnet, **dict.fromkeys(OTHERS, options.others)}
    groups = {name: Unseen(name, count, seed=options.seed) for name, count in counts.items() if count}
    if options.scaled:
        groups["scaled"] = Unseen("mbconv", options.scaled, phi=(0.5, 3.0), seed=options.seed)
    found = {}
    with ConsoleReporter() as reporter:
        calibration = device_calibration(conditions, reporter)
        for name, unseen in groups.items():
            result = validate(CALIBRATED, unseen, conditions, reporter)
            ratios = [row["predicted_ms"] / row["measured_ms"] for row in result.pop("networks")]
            found[name] = {**result, "bias": statistics.median(ratios) - 1}
    figures = {
        "calibration": {
            "networks": len(calibration.points),
            "seconds": round(calibration.seconds, 1),
            "held_out": calibration.error.to_dict(),
        },
        "unseen": found,
        "seconds_for_10000_predictions": round(seconds_for(calibration.predictor.scaled(1.0), 10_000), 3),
        "conditions": conditions.describe(),
    }
    print_report(figures, start)


if __name__ == "__main__":
    main()
