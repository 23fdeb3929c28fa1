"""Speed and memory of what a person waits for, and how near a search comes to the exact optimum.

    python benchmarks/speed.py [--trials 8000] [--calibration RUN/calibration.json]

Prints one JSON object. Without --calibration, this device is calibrated first (about a minute).
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from mnas.accuracy.surrogate import imagenet_surrogate, imagenet_surrogate_additive
from mnas.controllers import ReinforceController
from mnas.controllers.exact import separable_front
from mnas.graph import build_graph
from mnas.latency import Calibration, Conditions, StructuralPredictor, calibrate
from mnas.objective import Reward
from mnas.search.costing import Costing, Limits
from mnas.search.history import History
from mnas.search.lanes import Lane, best_trial_for
from mnas.search.loop import Loop
from mnas.search.reporting import Quiet
from mnas.search_space import extremes, mbconv_space, network_cost, segments
from mnas.store import EventStore
from mnas.zoo import published


def median_ms(action: Callable[[], object], n: int) -> dict[str, float]:
    action()
    times = []
    for _ in range(n):
        start = time.perf_counter()
        action()
        times.append(1e3 * (time.perf_counter() - start))
    return {"n": n, "median_ms": round(statistics.median(times), 1), "min_ms": round(min(times), 1)}


def start_up() -> dict[str, Any]:
    def show_help() -> None:
        subprocess.run([sys.executable, "-m", "mnas", "--help"], check=True, stdout=subprocess.DEVNULL)

    heavy = ("torch", "pydantic", "numpy", "onnx", "onnxruntime", "rich")
    code = f"import mnas.cli, sys; print(*[m for m in {heavy} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    return {**median_ms(show_help, 11), "heavy_modules_loaded": loaded}


def search(predictor: StructuralPredictor, accuracy: Any, target: float, trials: int) -> tuple[float, float]:
    """Seconds and best reward of one search, store included."""
    space = mbconv_space()
    with tempfile.TemporaryDirectory() as folder, EventStore.create(Path(folder) / "trials.db") as store:
        reward = Reward("hard", target)
        loop = Loop(
            lanes=[Lane(ReinforceController(space, seed=0), reward)],
            costing=Costing(space, predictor.predict, Limits(trials, ask_batch=64), reward.quantile),
            accuracy=accuracy,
            accuracy_name="surrogate",
            seed=0,
            store=store,
            history=History(),
            reporter=Quiet(),
        )
        start = time.perf_counter()
        loop.run()
        seconds = time.perf_counter() - start
        best = best_trial_for(loop.history.trials, reward, timed=True)
        assert best is not None
        return seconds, best[1]


def exact_optimum(predictor: StructuralPredictor, target: float) -> float:
    """The best hard reward over all 104,485,552,128 networks, by dynamic programming over stages."""
    space, surrogate = mbconv_space(), imagenet_surrogate_additive()
    small = space.decode(space.first)
    stem, *_, head = segments(small)
    scores, costs = [], []
    for number in range(7):
        stages = {}
        sizes = [len(choice.options) for choice in space.choices[4 * number : 4 * number + 4]]
        for genes in np.ndindex(*sizes):
            point = [0] * len(space.choices)
            point[4 * number : 4 * number + 4] = genes
            spec = space.decode(point)
            stages[spec.stages[number]] = predictor.segment_ms(segments(spec)[number + 1])
        scores.append(np.array([surrogate.score(number + 1, stage) for stage in stages]))
        costs.append(np.array(list(stages.values())))
    front_score, front_ms = separable_front(scores, costs)
    fixed = predictor.segment_ms(stem) + predictor.segment_ms(head)
    accuracy = np.array([surrogate.link(surrogate.intercept + score) for score in front_score])
    return float(Reward("hard", target).score(accuracy, front_ms + fixed).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=8000)
    parser.add_argument("--calibration", type=Path)
    options = parser.parse_args()
    space = mbconv_space()
    if options.calibration is not None:
        calibration = Calibration.from_dict(json.loads(options.calibration.read_text()))
    else:
        calibration = calibrate(Conditions())
    predictor = calibration.predictor
    low, high = (
        predictor.predict([space.decode(point)])[0].ms
        for point in extremes(space, lambda spec: float(network_cost(spec).madds))
    )
    seconds, _ = search(predictor, imagenet_surrogate(), low + 0.5 * (high - low), options.trials)
    gaps = {}
    for share in (0.1, 0.3, 0.6):
        target = low + share * (high - low)
        _, best = search(predictor, imagenet_surrogate_additive(), target, options.trials)
        gaps[f"{target:.2f} ms"] = round(best / exact_optimum(predictor, target), 5)
    b0 = published("efficientnet_b0")
    report = {
        "help": start_up(),
        "spec_to_onnx_bytes_b0": median_ms(lambda: build_graph(b0).SerializeToString(), 21),
        "search": {"trials": options.trials, "seconds": round(seconds, 2)},
        "best_reward_over_exact_optimum": gaps,
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load": os.getloadavg(),
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "versions": {name: version(name) for name in ("numpy", "onnx", "onnxruntime")}
        | {"python": platform.python_version()},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
