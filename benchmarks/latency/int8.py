"""The int8 graph that is timed, beside what ONNX Runtime's quantize_static makes, and fp32; prints one JSON object.

    python benchmarks/latency/int8.py [--rounds 60] [--processes 3]

For each network four graphs are timed interleaved on one thread, in random order, each run after one that is not
counted, by the time on the core: fp32, `build_graph(precision="int8")`, and quantize_static's with the same types
(uint8 activations, int8 weights with one scale a channel), with one scale a tensor, and with its defaults (int8
activations). Ratios are medians over fresh processes of the median of paired ratios.
"""

import argparse
import json
import logging
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

from mnas.graph import build_graph
from mnas.search_space import NetworkSpec
from mnas.zoo import published

NETWORKS = ("efficientnet_b0", "mnasnet_a1", "mobilenetv2")
CALIBRATION_IMAGES = 32
THEIRS = {
    "static": {"activation_type": QuantType.QUInt8, "per_channel": True},
    "static_per_tensor": {"activation_type": QuantType.QUInt8, "per_channel": False},
    "static_defaults": {},
}


class Noise(CalibrationDataReader):
    def __init__(self, spec: NetworkSpec) -> None:
        shape = (1, spec.in_channels, spec.resolution, spec.resolution)
        rng = np.random.default_rng(0)
        self.left: Iterator[dict[str, np.ndarray]] = iter(
            {"image": rng.standard_normal(shape, dtype=np.float32)} for _ in range(CALIBRATION_IMAGES)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def seconds(action: Callable[[], object]) -> float:
    """Processor time of a call."""
    start = time.process_time()
    action()
    return time.process_time() - start


def write(spec: NetworkSpec, folder: Path) -> dict[str, float]:
    """The graphs as files; processor seconds to make each."""
    build_graph(spec)  # random weights are drawn once for all networks
    took = {}
    for name, precision in (("fp32", "fp32"), ("int8", "int8")):

        def build(name: str = name, precision: str = precision) -> None:
            (folder / f"{name}.onnx").write_bytes(build_graph(spec, precision=precision).SerializeToString())

        took[name] = seconds(build)
    for name, options in THEIRS.items():
        took[name] = seconds(
            lambda name=name, options=options: quantize_static(
                folder / "fp32.onnx", folder / f"{name}.onnx", Noise(spec), **options
            )
        )
    return took


def session(file: Path, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def executed(file: Path) -> dict[str, int]:
    """How many nodes of each kind ONNX Runtime runs."""
    optimized = file.with_suffix(".optimized")
    session(file, optimized)
    kinds = [node.op_type for node in onnx.load(optimized).graph.node]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def sample(folder: Path, rounds: int, seed: int) -> None:
    """One process: prints the samples of each graph in ms."""
    sessions = {file.stem: session(file) for file in sorted(folder.glob("*.onnx"))}
    entry = next(iter(sessions.values())).get_inputs()[0]
    feed = {entry.name: np.random.default_rng(seed).standard_normal(entry.shape, dtype=np.float32)}
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    order, rng = list(sessions), random.Random(seed)
    for number in range(-5, rounds):
        rng.shuffle(order)
        for name in order:
            sessions[name].run(None, feed)
            start = time.process_time_ns()
            sessions[name].run(None, feed)
            if number >= 0:
                samples[name].append((time.process_time_ns() - start) / 1e6)
    print(json.dumps(samples))


def compare(name: str, rounds: int, processes: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        took = write(published(name), folder)
        kinds = {file.stem: executed(file) for file in sorted(folder.glob("*.onnx"))}
        found = []
        for seed in range(processes):
            command = [
                sys.executable,
                __file__,
                "--sample",
                text,
                "--rounds",
                str(rounds),
                "--seed",
                str(seed),
            ]
            found.append(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))

    def ratio(candidate: str, reference: str) -> dict[str, object]:
        each = [
            statistics.median(a / b for a, b in zip(samples[candidate], samples[reference], strict=True))
            for samples in found
        ]
        return {"median": round(statistics.median(each), 4), "processes": [round(value, 4) for value in each]}

    return {
        "fp32_ms": round(statistics.median(statistics.median(samples["fp32"]) for samples in found), 3),
        "int8_over_static": ratio("int8", "static"),
        "int8_over_fp32": ratio("int8", "fp32"),
        "static_per_tensor_over_static": ratio("static_per_tensor", "static"),
        "static_defaults_over_fp32": ratio("static_defaults", "fp32"),
        "seconds_to_make": {kind: round(value, 3) for kind, value in took.items()},
        "executed_nodes_equal": kinds["int8"] == kinds["static"],
        "executed_nodes": kinds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--sample", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample is not None:
        sample(options.sample, options.rounds, options.seed)
        return
    logging.disable(logging.WARNING)
    load = os.getloadavg()[0]
    networks = {name: compare(name, options.rounds, options.processes) for name in options.networks}
    report = {
        "command": " ".join(["python", *sys.argv]),
        "rounds": options.rounds,
        "processes": options.processes,
        "calibration_images": CALIBRATION_IMAGES,
        "networks": networks,
        "versions": {name: version(name) for name in ("onnx", "onnxruntime", "numpy")},
        "machine": f"{platform.machine()}, {os.cpu_count()} logical CPUs",
        "load": [round(load, 2), round(os.getloadavg()[0], 2)],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
