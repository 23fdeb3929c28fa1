"""ResNet-RS against EfficientNet at like accuracy: inference latency and memory on a CPU.

    python benchmarks/headlines/resnet_rs.py --pairs 3

ResNet-RS (arXiv 2103.07579) trains 1.7 to 2.7 times as fast as EfficientNets of the same accuracy on TPUs, in less
memory; `training_step.py` measures that. This is about running the trained networks: both of a pair are timed in the
same fresh processes, one thread, batch 1, fp32. Memory is that of a fresh process that loads the ONNX file and runs it,
beyond what it had before it loaded it: what it holds afterwards, and the most it had. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from headline import ms_per_madd, pair, pair_seconds, print_headline, say_seconds
from training_step import PAIRS

from mnas.console import ConsoleReporter
from mnas.graph import build_graph
from mnas.zoo import member, published

MEMORY = Path(__file__).with_name("inference_memory.py")
MEMORY_S = 8.0  # seconds to build a network of these sizes and run it in a process, as seen
# Fewer than for other headlines: of the largest pair each takes a quarter of an hour of runs.
PROCESSES = 5


def memory(name: str, repeats: int) -> dict[str, Any]:
    """MiB that running the network takes, in each of some fresh processes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(build_graph(published(name)).SerializeToString())
        command = [sys.executable, str(MEMORY), str(path)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(repeats)
        ]
    return {key: [round(run[key], 1) for run in runs] for key in ("held_mib", "peak_mib")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many")
    parser.add_argument("--repeats", type=int, default=3, help="processes for memory")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    # The EfficientNet first: of the first, three sessions are open, and it has the fewer weights.
    pairs = [(efficient, rs) for rs, efficient in PAIRS[: options.pairs]]
    results, sentences = [], []
    with ConsoleReporter() as reporter:
        rate = ms_per_madd(options.seed)
        each = [pair_seconds([published(name) for name in names], rate, PROCESSES) for names in pairs]
        say_seconds(sum(each) + 2 * len(pairs) * options.repeats * MEMORY_S)
        for names in pairs:
            specs = (published(names[0]), published(names[1]))
            found = pair(names, specs, reporter=reporter, seed=options.seed, processes=PROCESSES)
            used = {name: memory(name, options.repeats) for name in names}
            held = [median(used[name]["held_mib"]) for name in names]
            low, high = found["latency_ratio_95"]
            first, second = (member(name) for name in names)
            sentences.append(
                f"{second.title} ({second.top1:.1%}) takes {found['latency_ratio']} times as long as {first.title} "
                f"({first.top1:.1%}) to run ({low} to {high}), and holds {held[1] / held[0]:.2f} times the memory"
            )
            results.append({**found, "memory": used})
    print_headline(
        "1.7 to 2.7 times as fast in training on TPUs (arXiv 2103.07579); nothing is said of a CPU",
        sentences,
        {"pairs": results},
        started,
    )


if __name__ == "__main__":
    main()
