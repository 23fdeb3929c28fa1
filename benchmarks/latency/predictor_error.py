"""How well a calibration predicts networks that it never saw; prints one JSON object.

    python benchmarks/latency/predictor_error.py --fit 48 --test 40

Measures the calibration's members and further random ones in one go, so that both hold for the same minutes; fits
on the first, scores on the second. The measured values carry noise too: `test_interval` is the typical
half-width of their 95 % intervals, and no predictor can score much better than that.
"""

import argparse
import json
import random
import statistics
import sys
import time

from mnas.latency import (
    Conditions,
    StructuralPredictor,
    default_reference,
    measure_each,
    score,
    this_device,
)
from mnas.search_space import SearchSpace, extremes, mbconv_space, mnasnet_space, network_cost
from mnas.seeds import derive_seed

SPACES = {"mbconv": mbconv_space, "mnasnet": mnasnet_space}


def keys(space: SearchSpace, fit: int, test: int, seed: int) -> tuple[list[str], list[str]]:
    """Keys of the members to fit, with the two extremes, and of those to score on; all different."""
    rng = random.Random(derive_seed(seed, "members"))
    chosen = dict.fromkeys(
        point.key for point in extremes(space, lambda spec: float(network_cost(spec).madds))
    )
    while len(chosen) < fit + test:
        chosen[space.sample(rng).key] = None
    every = list(chosen)
    return every[:fit], every[fit:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", choices=SPACES, default="mbconv")
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--fit", type=int, default=48)
    parser.add_argument("--test", type=int, default=40)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start, conditions, device = time.perf_counter(), Conditions(), this_device()
    space = SPACES[options.space](resolution=options.resolution)
    fit_keys, test_keys = keys(space, options.fit, options.test, options.seed)
    order = [*fit_keys, *test_keys]
    random.Random(derive_seed(options.seed, "order")).shuffle(order)
    specs = {key: space.decode(space.from_key(key)) for key in order}
    result = measure_each(
        specs,
        reference=default_reference(space),
        conditions=conditions,
        processes=options.processes,
        seed=options.seed,
        on_progress=lambda done, total, what: print(f"\r{done}/{total} {what}", end="", file=sys.stderr),
    )
    steady = {item.name: item for item in result.measurements if item.status != "noisy"}
    fit_on = [key for key in fit_keys if key in steady]
    predictor, held_out = StructuralPredictor.fit(
        [specs[key] for key in fit_on],
        [steady[key].latency_ms for key in fit_on],
        device=device.describe(),
        seed=options.seed,
    )
    score_on = [key for key in test_keys if key in steady]
    estimates = predictor.predict([specs[key] for key in score_on])
    measured = [steady[key].latency_ms for key in score_on]
    inside = [e.low_ms <= value <= e.high_ms for e, value in zip(estimates, measured, strict=True)]
    report = {
        "command": f"python benchmarks/latency/predictor_error.py {' '.join(sys.argv[1:])}".strip(),
        "space": space.name,
        "resolution": options.resolution,
        "fitted": len(fit_on),
        "unseen": score(measured, [e.ms for e in estimates]).to_dict(),
        "cross_validated": held_out.to_dict(),
        "inside_90_interval": sum(inside) / len(inside),
        "test_interval": statistics.median(
            (steady[key].ratio_high - steady[key].ratio_low) / 2 / steady[key].ratio for key in score_on
        ),
        "noisy": len(order) - len(steady),
        "reference_ms": result.reference_ms,
        "reference_raw_ms": result.reference_raw_ms,
        "measured_ms": [min(measured), max(measured)],
        "seconds": round(time.perf_counter() - start, 1),
        "load": [result.processes[0]["load_before"], result.processes[-1]["load_after"]],
        "device": device.to_dict(),
        "conditions": conditions.describe(),
        "warnings": result.warnings,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
