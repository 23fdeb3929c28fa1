"""How long EfficientNet-B0 takes from spec to ONNX bytes, to a session, and through torch.onnx.export.

Prints one JSON object: medians in ms with the number of repetitions, versions and machine.

    python benchmarks/graph_build.py [--n 21]
"""

import argparse
import io
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version

import onnxruntime
import torch

from mnas.graph import build_graph
from mnas.model import build_module
from mnas.zoo import published

NETWORK = "efficientnet_b0"


def times_ms(action: Callable[[], object], n: int) -> dict[str, float]:
    """Wall time of n calls, after one that is not counted; processor time beside it, which load moves less."""
    action()
    walls, cpus = [], []
    for _ in range(n):
        wall, cpu = time.perf_counter(), time.process_time()
        action()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    return {
        "n": n,
        "median_ms": round(statistics.median(walls), 2),
        "min_ms": round(min(walls), 2),
        "max_ms": round(max(walls), 2),
        "cpu_median_ms": round(statistics.median(cpus), 2),
    }


def torch_export_ms() -> dict[str, float] | str:
    """torch.onnx.export of the same network, or why it could not run."""
    module, image = build_module(published(NETWORK)).eval(), (torch.zeros(1, 3, 224, 224),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return times_ms(lambda: torch.onnx.export(module, image, io.BytesIO(), verbose=False), 3)
        except ImportError as error:
            return f"not measured: {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=21, help="repetitions of each figure")
    n = parser.parse_args().n
    spec = published(NETWORK)
    weights = {name: tensor.numpy() for name, tensor in build_module(spec).state_dict().items()}
    data = build_graph(spec).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    result = {
        "command": " ".join(["python", *sys.argv]),
        "network": NETWORK,
        "bytes": len(data),
        "spec_to_bytes": times_ms(lambda: build_graph(spec).SerializeToString(), n),
        "spec_and_weights_to_bytes": times_ms(
            lambda: build_graph(spec, weights=weights).SerializeToString(), n
        ),
        "session": times_ms(lambda: onnxruntime.InferenceSession(data, options, providers=providers), n),
        "torch_onnx_export": torch_export_ms(),
        "versions": {name: version(name) for name in ("onnx", "onnxruntime", "torch", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} logical CPUs",
        "load_1min": round(os.getloadavg()[0], 2),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
