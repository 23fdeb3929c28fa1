"""Memory that ONNX Runtime takes to load and run a file, as one JSON object; `resnet_rs.py` starts it. Linux only.

    python benchmarks/headlines/inference_memory.py FILE.onnx

MiB beyond what the process had before it loaded the file: `held_mib` after three runs, `peak_mib` the most at any time.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

MIB = 2**20


def memory(field: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at the most since it began to run this program.

    `getrusage` will not do: what it says of the most begins with that of the process which started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    before = memory("VmRSS")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    image = np.zeros(given.shape, np.float32)
    for _ in range(3):
        session.run(None, {given.name: image})
    print(
        json.dumps(
            {"held_mib": (memory("VmRSS") - before) / MIB, "peak_mib": (memory("VmHWM") - before) / MIB}
        )
    )


if __name__ == "__main__":
    main()
