"""EfficientNet-B0 to B7 against ResNet-18 to 152: parameters, multiply-adds, activations, measured latency.

    python benchmarks/headlines/families.py
    python benchmarks/headlines/families.py --largest efficientnet_b4

EfficientNet (arXiv 1905.11946): B4 has 82.9 % top-1 where ResNet-50 has 76.0 % at like multiply-adds (sec. 1), and B1
has 7.6 times fewer parameters and 16 times fewer multiply-adds than ResNet-152 at like accuracy (Table 2). Each ResNet
stands against the smallest EfficientNet of at least its published accuracy, both in the same eight fresh processes, as
are B4 and ResNet-50. Milliseconds of all are of three processes beside B0 (`mnas zoo measure`) at the evaluation size;
their ratios are less sure, since B0 itself takes longer between large networks.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

from headline import RUNS, START_S, counts, ms_per_madd, pair, pair_seconds, print_headline, say_seconds

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


def count_ratios(name: str, other: str) -> dict[str, float]:
    """How many times the parameters, multiply-adds and activations of another network a network has."""
    first, second = (counts(published(each)) for each in (name, other))
    return {what: round(first[what] / second[what], 2) for what in COUNTS}


def seconds(names: Sequence[str], pairs: Sequence[tuple[str, str]], each_ms_per_madd: float) -> float:
    """Of measuring these networks and pairs, where the device is quiet."""
    specs = {name: published(name) for name in names}
    b0 = network_cost(published("efficientnet_b0")).madds
    total = sum(pair_seconds([published(name) for name in two], each_ms_per_madd) for two in pairs)
    for group in grouped(specs):
        madds = REFERENCES * b0 + sum(network_cost(specs[name]).madds for name in group)
        total += ZOO_PROCESSES * (START_S + RUNS * madds * each_ms_per_madd / 1000)
    return total


def came_out(pairs: Mapping[tuple[str, str], Mapping[str, Any]]) -> list[str]:
    """What the figures of the pairs say, whichever way."""
    found = []
    for (other, name), measured in pairs.items():
        low, high = measured["latency_ratio_95"]
        of = count_ratios(name, other)
        first, second = member(name), member(other)
        found.append(
            f"{first.title} ({first.top1:.1%}) has {of['params']} times the parameters, {of['madds']} the "
            f"multiply-adds, {of['activations']} the activations and {measured['latency_ratio']} ({low} to {high}) "
            f"the latency of {second.title} ({second.top1:.1%})"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--largest", choices=EFFICIENTNETS, default=EFFICIENTNETS[-1], help="EfficientNet")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    names = [*EFFICIENTNETS[: EFFICIENTNETS.index(options.largest) + 1], *RESNETS]
    pairs = [LIKE_MADDS, *((other, name) for name, other in matched().items())]
    with ConsoleReporter() as reporter:
        say_seconds(seconds(names, pairs, ms_per_madd(options.seed)))
        measured = {
            (first, second): pair(
                (first, second),
                (published(first), published(second)),
                reporter=reporter,
                seed=options.seed,
            )
            for first, second in pairs
        }
        zoo = measure_zoo(names, None, Wanted(seed=options.seed), reporter)
    rows = {row["name"]: row for row in zoo["networks"]}
    kept = ("resolution", *COUNTS, "top1", "status", "latency_ms", "latency_low_ms", "latency_high_ms")
    print_headline(
        "B4 82.9 % at ResNet-50's multiply-adds, 76.0 %; B1 7.6 times fewer parameters and 16 times fewer "
        "multiply-adds than ResNet-152 (arXiv 1905.11946, sec. 1 and Table 2)",
        came_out(measured),
        {
            "pairs": list(measured.values()),
            "networks": {name: {key: rows[name].get(key) for key in kept} for name in names},
            "processes": ZOO_PROCESSES,
        },
        started,
    )


if __name__ == "__main__":
    main()
