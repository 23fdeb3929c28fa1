"""EfficientNet-B0 to B7 against ResNet-18 to 152: parameters, multiply-adds, activations, measured latency.

    python benchmarks/headlines/families.py
    python benchmarks/headlines/families.py --largest efficientnet_b4

EfficientNet (arXiv 1905.11946): B4 has 82.9 % top-1 where ResNet-50 has 76.0 % at like multiply-adds (sec. 1), and B1
has 7.6 times fewer parameters and 16 times fewer multiply-adds than ResNet-152 at like accuracy (Table 2). Each ResNet
stands against the smallest EfficientNet of at least its published accuracy. Every network is timed at its evaluation
size in three fresh processes, interleaved with B0 (`mnas zoo measure`); B4 and ResNet-50 also in eight together.
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headline import RUNS, START_S, ms_per_madd, pair, pair_seconds, print_headline, rounded, say_seconds

from mnas.console import ConsoleReporter
from mnas.search_space import network_cost
from mnas.zoo import member, published
from mnas.zoobench import Wanted, grouped, measure_zoo

EFFICIENTNETS = tuple(f"efficientnet_b{number}" for number in range(8))
RESNETS = tuple(f"resnet_{depth}" for depth in (18, 34, 50, 101, 152))
LIKE_MADDS = ("resnet_50", "efficientnet_b4")
ZOO_PROCESSES, REFERENCES = 3, 3  # of `mnas zoo measure`
COUNTS = ("params", "madds", "activations")


def matched(resnets: Sequence[str] = RESNETS, efficientnets: Sequence[str] = EFFICIENTNETS) -> dict[str, str]:
    """For each ResNet the first EfficientNet whose published top-1 is at least as high; none where none is."""
    found = {}
    for name in resnets:
        enough = [other for other in efficientnets if (member(other).top1 or 0) >= (member(name).top1 or 1)]
        if enough:
            found[name] = enough[0]
    return found


def ratios(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Of a ResNet's row to an EfficientNet's; the latencies' intervals are independent, each of its own processes."""
    found: dict[str, Any] = {name: round(first[name] / second[name], 2) for name in COUNTS}
    if first["latency_ms"] is None or second["latency_ms"] is None:
        return {**found, "latency": None}
    ratio = first["latency_ms"] / second["latency_ms"]
    half = math.hypot(*(math.log(row["latency_high_ms"] / row["latency_ms"]) for row in (first, second)))
    return {
        **found,
        "latency": round(ratio, 2),
        "latency_95": rounded([ratio * math.exp(-half), ratio * math.exp(half)], 2),
    }


def seconds(names: Sequence[str], each_ms_per_madd: float) -> float:
    """Of measuring these and the pair, where the device is quiet."""
    specs = {name: published(name) for name in names}
    b0 = network_cost(published("efficientnet_b0")).madds
    total = pair_seconds([published(name) for name in LIKE_MADDS], each_ms_per_madd)
    for group in grouped(specs):
        madds = REFERENCES * b0 + sum(network_cost(specs[name]).madds for name in group)
        total += ZOO_PROCESSES * (START_S + RUNS * madds * each_ms_per_madd / 1000)
    return total


def came_out(rows: Mapping[str, Mapping[str, Any]], like: Mapping[str, Any]) -> list[str]:
    """What the figures say, whichever way."""
    low, high = like["latency_ratio_95"]
    first, second = (member(name) for name in LIKE_MADDS)
    madds = like["networks"][LIKE_MADDS[1]]["madds"] / like["networks"][LIKE_MADDS[0]]["madds"]
    found = [
        f"{second.title} takes {like['latency_ratio']} times as long as {first.title} ({low} to {high}) with "
        f"{madds:.2f} times its multiply-adds; published top-1 {second.top1:.1%} and {first.top1:.1%}"
    ]
    for name, other in matched(efficientnets=[e for e in EFFICIENTNETS if e in rows]).items():
        of = ratios(rows[name], rows[other])
        interval = f" ({of['latency_95'][0]} to {of['latency_95'][1]})" if of["latency"] else ""
        found.append(
            f"{member(name).title} ({member(name).top1:.1%}) has {of['params']} times the parameters, {of['madds']} "
            f"the multiply-adds, {of['activations']} the activations and {of['latency']}{interval} the latency of "
            f"{member(other).title} ({member(other).top1:.1%})"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--largest", choices=EFFICIENTNETS, default=EFFICIENTNETS[-1], help="EfficientNet")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    names = [*EFFICIENTNETS[: EFFICIENTNETS.index(options.largest) + 1], *RESNETS]
    with ConsoleReporter() as reporter:
        say_seconds(seconds(names, ms_per_madd(options.seed)))
        like = pair(
            LIKE_MADDS,
            (published(LIKE_MADDS[0]), published(LIKE_MADDS[1])),
            reporter=reporter,
            seed=options.seed,
        )
        measured = measure_zoo(names, None, Wanted(seed=options.seed), reporter)
    rows = {row["name"]: row for row in measured["networks"]}
    kept = ("resolution", *COUNTS, "top1", "status", "latency_ms", "latency_low_ms", "latency_high_ms")
    print_headline(
        "B4 82.9 % at ResNet-50's multiply-adds, 76.0 %; B1 7.6 times fewer parameters and 16 times fewer "
        "multiply-adds than ResNet-152 (arXiv 1905.11946, sec. 1 and Table 2)",
        came_out(rows, like),
        {
            "like_madds": like,
            "networks": {name: {key: rows[name].get(key) for key in kept} for name in names},
            "resnet_over_efficientnet": {
                f"{name} / {other}": ratios(rows[name], rows[other])
                for name, other in matched(efficientnets=names[: -len(RESNETS)]).items()
            },
            "processes": ZOO_PROCESSES,
        },
        started,
    )


if __name__ == "__main__":
    main()
