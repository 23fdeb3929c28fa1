"""Memory that ONNX Runtime takes to load and run a file, as one JSON object; `resnet_rs.py` starts it. Linux only.

    python benchmarks/headlines/inference_memory.py FILE.onnx

MiB beyond what the process had before it loaded the file: `held_mib` after three runs, `peak_mib` the most at any time.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

PAGE = resource.getpagesize()
MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def main() -> None:
    before = resident()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    image = np.zeros(given.shape, np.float32)
    for _ in range(3):
        session.run(None, {given.name: image})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"held_mib": (resident() - before) / MIB, "peak_mib": (peak - before) / MIB}))


if __name__ == "__main__":
    main()
