"""What the headline commands share: a time beforehand, networks timed in the same processes, one JSON object."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from mnas.console import ConsoleReporter
from mnas.latency import (
    Conditions,
    MeasurementSet,
    measure,
    reference_ms_of,
    this_device,
)
from mnas.latency.measure import PROTOCOL
from mnas.search_space import NetworkSpec, network_cost
from mnas.units import format_duration
from mnas.zoo import published

PROCESSES = 8  # fresh ones for each pair; what a process does to a network is 1 to 3 % (docs/benchmarks.md)
START_S = 1.5  # seconds of a process before its first sample
# Runs of a session in a process at the least: the warm-up's, and for each round one that counts and one, after the
# switch from another network, that does not.
RUNS = PROTOCOL["warm_runs"] + 2 * PROTOCOL["min_rounds"]
HOUR_S = 3600.0


def say_seconds(seconds: float, note: str = "") -> None:
    """Says on stderr what a command is going to take, and whether that is more than an hour."""
    over = " More than an hour: see --help for what makes it shorter." if seconds > HOUR_S else ""
    print(f"estimate: {format_duration(seconds)}.{over} {note}".rstrip(), file=sys.stderr, flush=True)


def ms_per_madd(seed: int) -> float:
    """Of EfficientNet-B0 on this device: what a multiply-add of a depthwise network takes, of a dense one at most."""
    b0 = published("efficientnet_b0")
    return reference_ms_of(b0, conditions=Conditions(), processes=1, seed=seed) / network_cost(b0).madds


def pair_seconds(specs: Sequence[NetworkSpec], each_ms_per_madd: float, processes: int = PROCESSES) -> float:
    """What `pair` takes for these two, where the device is quiet; three times that where it is noisy at worst."""
    first, second = (network_cost(spec).madds * each_ms_per_madd / 1000 for spec in specs)
    return processes * (START_S + RUNS * (PROTOCOL["references"] * first + second))


def pair(
    names: tuple[str, str],
    specs: tuple[NetworkSpec, NetworkSpec],
    *,
    reporter: ConsoleReporter,
    seed: int,
    processes: int = PROCESSES,
) -> dict[str, Any]:
    """Two networks timed in the same fresh processes; how many times as long the second takes as the first.

    Args:
        names: of the networks.
        specs: the networks; of the first, three sessions are open at once.
        reporter: told of progress and of what the measurement warns of.
        seed: of order and intervals.
        processes: fresh ones.
    """
    reporter.stage(f"measuring {names[1]} beside {names[0]}")
    found = measure(
        {names[1]: specs[1]},
        reference=specs[0],
        conditions=Conditions(),
        processes=processes,
        budget_s=1.0,  # the fewest rounds are enough: what differs is the process
        seed=seed,
        on_progress=reporter.progress,
    )
    for text in found.warnings:
        reporter.warn(text)
    return paired(names, specs, found)


def paired(
    names: tuple[str, str], specs: tuple[NetworkSpec, NetworkSpec], found: MeasurementSet
) -> dict[str, Any]:
    """The measurement as JSON: costs of both networks, their milliseconds, and the ratio with its spread."""
    item = found[names[1]]
    kept = [samples for samples in item.samples if not samples.rejected]
    own = [
        [median(samples.reference_ms) for samples in kept],
        [median(samples.candidate_ms) for samples in kept],
    ]
    networks = {
        name: {**counts(spec), "latency_ms": round(median(ms), 2), "range_ms": rounded([min(ms), max(ms)])}
        for name, spec, ms in zip(names, specs, own, strict=True)
        if ms
    }
    return {
        "networks": networks,
        "ratio": f"{names[1]} / {names[0]}",
        "latency_ratio": round(item.ratio, 3),
        "latency_ratio_95": rounded([item.ratio_low, item.ratio_high]),
        "latency_ratio_by_process": rounded([second / first for first, second in zip(*own, strict=True)]),
        "status": item.status,
        "processes": len(kept),
        "conditions": found.conditions.describe(found.device),
    }


def counts(spec: NetworkSpec) -> dict[str, int]:
    """What a specification alone decides."""
    cost = network_cost(spec)
    return {
        "resolution": spec.resolution,
        "params": cost.params,
        "madds": cost.madds,
        "activations": cost.activations,
    }


def rounded(values: Sequence[float], digits: int = 3) -> list[float]:
    """For people to read."""
    return [round(value, digits) for value in values]


def print_headline(claim: str, came_out: Sequence[str], figures: Mapping[str, Any], started: float) -> None:
    """One JSON object on stdout: the paper's claim, what came out here, the figures and what these hold for.

    Args:
        claim: what the paper says, with its source.
        came_out: sentences, whichever way it came out.
        figures: as JSON.
        started: seconds of `time.perf_counter` when the command began.
    """
    report = {
        "command": f"python benchmarks/headlines/{os.path.basename(sys.argv[0])} {' '.join(sys.argv[1:])}".strip(),
        "paper": claim,
        "came_out": list(came_out),
        **figures,
        "seconds": round(time.perf_counter() - started, 1),
        "load": os.getloadavg(),
        "device": this_device().to_dict(),
    }
    print(json.dumps(report, indent=2))
