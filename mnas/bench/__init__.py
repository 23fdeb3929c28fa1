"""Controllers against each other on benchmarks where the accuracy and cost of every network are known."""

from mnas.bench.controllers import Wanted, bench_controllers
from mnas.bench.page import write_page
from mnas.bench.words import bench_text

__all__ = ["Wanted", "bench_controllers", "bench_text", "write_page"]
