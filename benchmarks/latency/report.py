"""What the benchmarks of latency print: their figures, and what these hold for."""

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

from mnas.latency import this_device


def print_report(figures: Mapping[str, Any], started: float) -> None:
    """One JSON object: the command as typed, the figures, then seconds, load and device, where the figures have none.

    Args:
        figures: as JSON.
        started: seconds of `time.perf_counter` when the benchmark began.
    """
    report = {
        "command": f"python benchmarks/latency/{os.path.basename(sys.argv[0])} {' '.join(sys.argv[1:])}".strip(),
        **figures,
        "seconds": round(time.perf_counter() - started, 1),
        "load": figures.get("load", os.getloadavg()),
        "device": this_device().to_dict(),
    }
    print(json.dumps(report, indent=2))
