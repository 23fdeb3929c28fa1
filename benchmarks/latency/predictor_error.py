"""How well this device's calibration predicts networks that it never saw; prints one JSON object.

    python benchmarks/latency/predictor_error.py [--space mbconv] [--test 100]

Calibrates as `mnas search` does, then measures random members of a space by the full protocol (fresh processes, full
warm-up, interleaved) in groups and scores the predictions, brought to the reference's present speed as a search does.
The measured values carry noise too: `test_interval` is the typical half-width of their 95 % intervals, and no
predictor can score much better than that. `madds_spearman` is what ranking by multiply-adds gives.
"""

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mnas.files import read_json
from mnas.latency import Calibration, Conditions, calibrate, default_reference, measure, score, this_device
from mnas.search.device_timing import drift_since
from mnas.search.reporting import Quiet
from mnas.search_space import SearchSpace, mbconv_space, mnasnet_space, network_cost
from mnas.seeds import derive_seed

SPACES = {"mbconv": mbconv_space, "mnasnet": mnasnet_space}


def members(space: SearchSpace, count: int, seed: int) -> list[str]:
    """Keys of random members, all different."""
    rng = random.Random(derive_seed(seed, "unseen"))
    chosen: dict[str, None] = {}
    while len(chosen) < count:
        chosen[space.sample(rng).key] = None
    return list(chosen)


def show(done: int, total: int, what: str) -> None:
    print(f"\r{done}/{total} {what}", end="", file=sys.stderr)


def seconds_for(predictor: Any, space: SearchSpace, count: int) -> float:
    """Of predicting `count` random members, decoded beforehand."""
    rng = random.Random(0)
    specs = [space.decode(space.sample(rng)) for _ in range(count)]
    start = time.perf_counter()
    predictor.predict(specs)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=SPACES, default="mbconv")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--test", type=int, default=100)
    parser.add_argument("--group", type=int, default=10, help="networks interleaved in one measurement")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--calibration", type=Path, help="an earlier one of this device, instead of a new one"
    )
    options = parser.parse_args()
    start, conditions, device = time.perf_counter(), Conditions(), this_device()
    space = SPACES[options.space](resolution=options.resolution)
    if options.calibration is None:
        calibration = calibrate(conditions, on_progress=show)
    else:
        calibration = Calibration.from_dict(read_json(options.calibration))
    reference = default_reference(space)
    specs = {key: space.decode(space.from_key(key)) for key in members(space, options.test, options.seed)}
    keys, reference_ms, found, factors = list(specs), None, [], []
    for first in range(0, len(keys), options.group):
        group = {key: specs[key] for key in keys[first : first + options.group]}
        result = measure(
            group,
            reference=reference,
            conditions=conditions,
            processes=options.processes,
            reference_ms=reference_ms,
            budget_s=4.0 * len(group),
            seed=derive_seed(options.seed, "group", first),
        )
        if reference_ms is None:
            reference_ms = result.reference_ms
            factors.append(drift_since(calibration, reference, reference_ms, options.seed, Quiet()))
        found += [item for item in result.measurements if item.status != "noisy"]
        show(len(found), len(keys), "unseen networks measured")
    predictor = calibration.predictor.scaled(factors[0])
    estimates = predictor.predict([specs[item.name] for item in found])
    measured = [item.latency_ms for item in found]
    inside = [e.low_ms <= value <= e.high_ms for e, value in zip(estimates, measured, strict=True)]
    madds = [float(network_cost(specs[item.name]).madds) for item in found]
    report = {
        "command": f"python benchmarks/latency/predictor_error.py {' '.join(sys.argv[1:])}".strip(),
        "space": space.name,
        "resolution": options.resolution,
        "calibration": {
            "networks": len(calibration.points),
            "seconds": round(calibration.seconds, 1),
            "held_out": calibration.error.to_dict(),
        },
        "unseen": score(measured, [e.ms for e in estimates]).to_dict(),
        "bias": float(np.median([e.ms / ms for e, ms in zip(estimates, measured, strict=True)])) - 1,
        "madds_spearman": score(measured, madds).spearman,
        "inside_90_interval": sum(inside) / len(inside),
        "test_interval": statistics.median((i.ratio_high - i.ratio_low) / 2 / i.ratio for i in found),
        "noisy": len(keys) - len(found),
        "drift": factors[0],
        "measured_ms": [min(measured), max(measured)],
        "seconds_for_10000_predictions": round(
            seconds_for(calibration.predictor.scaled(1.0), space, 10_000), 3
        ),
        "seconds": round(time.perf_counter() - start, 1),
        "load": os.getloadavg(),
        "device": device.to_dict(),
        "conditions": conditions.describe(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
