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
    """Median, least and greatest wall time of n calls, after one that is not counted."""
    action()
    taken = []
    for _ in range(n):
        start = time.perf_counter()
        action()
        taken.append(1e3 * (time.perf_counter() - start))
    rounded = (round(value, 2) for value in (statistics.median(taken), min(taken), max(taken)))
    return {"n": n, **dict(zip(("median_ms", "min_ms", "max_ms"), rounded, strict=True))}


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
