"""What measuring many networks costs beside their runs, and torch.onnx.export of the same; prints one JSON object.

    python benchmarks/latency/overhead.py [--networks 24] [--exported 3]

Overhead is the wall clock of the whole call less the seconds that ONNX Runtime ran the networks and their reference,
counted, uncounted and warm-up runs: what is left are process starts, graphs, files, sessions, the choice of a core
and the statistics. Networks are random members of `mbconv`; by `measure_spread` (twelve in a process, each in two
processes, as a calibration measures) and by `measure_each` (each beside the reference in three processes, as a search
that measures does).
"""

import argparse
import io
import os
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from report import print_report

from mnas.latency import LOCAL, Conditions, MeasurementSet, measure_each, measure_spread
from mnas.latency.child import WORKER, run_worker
from mnas.latency.host import LocalHost
from mnas.search_space import NetworkSpec, mbconv_space
from mnas.zoo import published

TIMED = Path(__file__).with_name("timed_worker.py")


class Watched:
    """This machine as a `Host`, whose workers say how long their models ran: `run_s`, one for each process."""

    name, device, providers, state = LOCAL.name, LOCAL.device, LOCAL.providers, LOCAL.state

    def __init__(self) -> None:
        self.run_s: list[float] = []

    @contextmanager
    def open(self, say: Callable[[str], None]) -> Iterator["Watched"]:
        with LocalHost().open(say):
            yield self

    def place(self, files: list[Path]) -> list[str]:
        return [str(path) for path in files]

    def run(self, job: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
        events = run_worker(job, on_event=on_event, worker=TIMED)
        self.run_s.append(events[-1]["run_s"])
        return events


def overhead(name: str, action: Callable[[Watched], MeasurementSet]) -> dict[str, Any]:
    """Seconds of one call, and those for each network that were no runs."""
    print(name, file=sys.stderr)
    host, start = Watched(), time.perf_counter()
    result = action(host)
    seconds, count = time.perf_counter() - start, len(result.measurements)
    timings = sum(len(item.samples) for item in result.measurements)
    return {
        "networks": count,
        "processes": len(host.run_s),
        "processes_a_network": timings / count,
        "seconds": seconds,
        "seconds_of_runs": sum(host.run_s),
        "overhead_s_a_network": (seconds - sum(host.run_s)) / count,
        "overhead_s_a_network_in_one_process": (seconds - sum(host.run_s)) / timings,
        "statuses": {item.name: item.status for item in result.measurements if item.status != "ok"},
    }


def export_s(specs: list[NetworkSpec], dynamo: bool) -> float | str:
    """Median seconds of torch.onnx.export, of the module and the image alone, or why it could not run."""
    import torch

    from mnas.model import build_module

    seconds = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for spec in specs:
            module, image = (
                build_module(spec).eval(),
                torch.zeros(1, spec.in_channels, spec.resolution, spec.resolution),
            )
            start = time.perf_counter()
            try:
                torch.onnx.export(module, (image,), io.BytesIO(), dynamo=dynamo, verbose=False)
            except ImportError as error:
                return f"not measured: {error}"
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--exported", type=int, default=3, help="networks for torch.onnx.export")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.environ["MNAS_WORKER"] = str(WORKER)
    start, conditions, space = time.perf_counter(), Conditions(), mbconv_space()
    rng = random.Random(options.seed)
    specs = [space.decode(space.sample(rng)) for _ in range(options.networks)]
    networks = {str(number): spec for number, spec in enumerate(specs)}
    given: dict[str, Any] = {
        "reference": published("efficientnet_b0"),
        "conditions": conditions,
        "seed": options.seed,
    }
    figures = {
        "measure_spread": overhead("measure_spread", lambda h: measure_spread(networks, host=h, **given)),
        "measure_each": overhead("measure_each", lambda h: measure_each(networks, host=h, **given)),
        "torch_onnx_export_s": {
            "networks": options.exported,
            "torchscript": export_s(specs[: options.exported], dynamo=False),
            "dynamo": export_s(specs[: options.exported], dynamo=True),
        },
        "conditions": conditions.describe(),
    }
    print_report(figures, start)


if __name__ == "__main__":
    main()
