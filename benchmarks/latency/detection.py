"""Whether a small difference is found, and none where there is none; prints one JSON object.

    python benchmarks/latency/detection.py --repeats 20

Two kinds of pairs, in turn: a network against itself (a verdict of slower or faster is a false alarm), and against
itself with more 1 x 1 convolutions, whose cost is measured first, ten of them at once; so many are added as come
nearest to --planted of the latency.
"""

import argparse
import statistics
import sys
import time
from collections import Counter
from dataclasses import replace

from report import print_report

from mnas.latency import Conditions, compare, measure
from mnas.search_space import NetworkSpec, StageSpec
from mnas.seeds import derive_seed
from mnas.zoo import published


def with_layer(spec: NetworkSpec, repeats: int) -> NetworkSpec:
    """The network with that many 1 x 1 stride-1 residual convolution layers more behind its fourth stage."""
    channels = spec.stages[3].out_channels
    extra = StageSpec("conv", 1, 1, channels, repeats)
    return replace(spec, stages=(*spec.stages[:4], extra, *spec.stages[4:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mnasnet_a1")
    parser.add_argument("--repeats", type=int, default=20, help="pairs of each kind")
    parser.add_argument("--planted", type=float, default=0.03)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds for a pair")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    conditions, base = Conditions(), published(options.network)
    start = time.perf_counter()
    probe = measure(
        {"base": base, "more": with_layer(base, 10)},
        reference=base,
        conditions=conditions,
        processes=5,
        seed=options.seed,
    )
    each = (probe["more"].ratio / probe["base"].ratio - 1) / 10
    repeats = max(1, round(options.planted / each))
    other = with_layer(base, repeats)
    verdicts: dict[str, list[str]] = {"same": [], "planted": []}
    ratios: dict[str, list[float]] = {"same": [], "planted": []}
    seconds = []
    for repeat in range(options.repeats):
        for kind, second in (("same", base), ("planted", other)):
            found = compare(
                base,
                second,
                conditions=conditions,
                budget_s=options.budget,
                seed=derive_seed(options.seed, kind, repeat),
            )
            verdicts[kind].append(found.verdict)
            ratios[kind].append(found.ratio)
            seconds.append(found.seconds)
            print(f"\r{repeat + 1}/{options.repeats} {kind} {found.ratio:.4f}", end="", file=sys.stderr)
    figures = {
        "pairs_of_each_kind": options.repeats,
        "layers_planted": repeats,
        "planted_by_probe": each * repeats,
        "planted_median": statistics.median(ratios["planted"]) - 1,
        "found": sum(verdict == "slower" for verdict in verdicts["planted"]) / options.repeats,
        "false_alarms": sum(verdict in ("slower", "faster") for verdict in verdicts["same"])
        / options.repeats,
        "same_ratio_sd": statistics.stdev(ratios["same"]),
        "same_ratio_largest": max(abs(ratio - 1) for ratio in ratios["same"]),
        "verdicts": {kind: dict(Counter(values)) for kind, values in verdicts.items()},
        "seconds_a_model": statistics.median(seconds) / 2,
        "conditions": conditions.describe(),
    }
    print_report(figures, start)


if __name__ == "__main__":
    main()
