"""How well twenty networks calibrate other conditions, given this device's calibration; prints one JSON object.

    python benchmarks/latency/transfer.py [--networks 20] [--mbconv 40] [--mnasnet 40]

Uses the kept calibration for one thread, batch 1, fp32, or makes one. For each other condition it measures as many
networks as `mnas latency calibrate --like` does, and holds the result against fresh measurements of unseen members of
both spaces. Nothing that it makes takes the place of a calibration of yours.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from report import print_report

from mnas.console import ConsoleReporter
from mnas.latency import Conditions, calibrate, calibration_path, few_networks, keep_calibration, this_device
from mnas.search.device_timing import device_calibration
from mnas.validating import CALIBRATED, Unseen, validate

OTHERS = {
    "fp32 again": Conditions(),
    "int8": Conditions(precision="int8"),
    "2 threads": Conditions(threads=2),
    "batch 4": Conditions(batch=4),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--mbconv", type=int, default=40)
    parser.add_argument("--mnasnet", type=int, default=40)
    parser.add_argument("--conditions", nargs="+", choices=OTHERS, default=list(OTHERS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    start, found = time.perf_counter(), {}
    with ConsoleReporter() as reporter, tempfile.TemporaryDirectory() as cache:
        base = device_calibration(Conditions(), reporter)
        os.environ["XDG_CACHE_HOME"] = cache
        for name in options.conditions:
            conditions = OTHERS[name]
            calibration = calibrate(
                conditions,
                networks=few_networks(options.seed, options.networks),
                like=base,
                seed=options.seed,
                on_progress=reporter.progress,
            )
            path = keep_calibration(calibration)
            assert path == calibration_path(this_device(), conditions)
            assert Path(cache) in path.parents
            groups = {
                space: validate(CALIBRATED, Unseen(space, count, seed=options.seed), conditions, reporter)
                for space, count in (("mbconv", options.mbconv), ("mnasnet", options.mnasnet))
            }
            found[name] = {
                "calibrated_in_s": round(calibration.seconds, 1),
                "held_out": calibration.error.to_dict(),
                **{
                    space: {
                        key: value for key, value in result.items() if key in ("scores", "ceiling", "madds")
                    }
                    for space, result in groups.items()
                },
            }
    figures = {
        "networks": options.networks,
        "conditions": found,
    }
    print_report(figures, start)


if __name__ == "__main__":
    main()
