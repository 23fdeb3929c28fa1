"""What the tests of the loop share: a small space, costs without a clock, and a loop over a store."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands import Said

from mnas.controllers.random import RandomController
from mnas.objective import Reward
from mnas.protocols import LatencyEstimate
from mnas.search.costing import Costing, Limits
from mnas.search.history import History
from mnas.search.lanes import Lane
from mnas.search.loop import Loop
from mnas.search_space import NetworkSpec, mbconv_space, network_cost
from mnas.store import EventStore

SPACE = mbconv_space(resolution=32, num_classes=10)


def madds(spec: NetworkSpec) -> float:
    return network_cost(spec).madds


def latency(specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
    """A nanosecond a multiply-add, known to 10 %."""
    return [
        LatencyEstimate(ms, 0.9 * ms, 1.1 * ms, "made up", "none")
        for ms in (madds(spec) / 1e6 for spec in specs)
    ]


def search(path: Path, accuracy: Any, target: float, **changes: Any) -> Loop:
    """A loop over what is stored at `path`, replayed."""
    store = EventStore.open(path) if path.exists() else EventStore.create(path)
    lane = Lane(
        changes.pop("controller", None) or RandomController(SPACE, seed=0),
        changes.pop("reward", None) or Reward("hard", target),
    )
    limits = changes.pop("limits", None) or Limits(trials=12, ask_batch=5)
    settings: dict[str, Any] = {
        "lanes": [lane],
        "costing": Costing(SPACE, changes.pop("latencies", latency), limits, lane.reward.quantile),
        "accuracy": accuracy,
        "accuracy_name": "made up",
        "seed": 0,
        "store": store,
        "history": History.read(store.events()),
        "reporter": Said(),
        "proposals": 64,
    }
    loop = Loop(**{**settings, **changes})
    loop.replay()
    return loop
