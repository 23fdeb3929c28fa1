"""IGCV3 against MobileNetV2: do groups save milliseconds here?

    python benchmarks/headlines/igcv3.py

IGCV3 (arXiv 1806.00178) has 72.2 % top-1 where MobileNetV2 has 72.0 % with as many multiply-adds: its 1x1 convolutions
have two groups, and the multiply-adds that these save make it twice as deep. The paper counts, it does not time. Two
questions: IGCV3-D against MobileNetV2 at each width that both were published at; and IGCV3-D with one, two and four
groups, which are networks of the same layers.
"""

import argparse
import time

from headline import ms_per_madd, pair, pair_seconds, print_headline, say_seconds

from mnas.console import ConsoleReporter
from mnas.search_space import NetworkSpec, network_cost
from mnas.search_space.igcv3 import igcv3_network
from mnas.zoo import published

WIDTHS = {1.0: "", 0.75: "_075", 0.5: "_050"}
GROUPS = (2, 4)  # beside one

Pair = tuple[tuple[str, str], tuple[NetworkSpec, NetworkSpec]]


def pairs() -> list[Pair]:
    """What is timed in the same processes: first the two families by width, then groups against none."""
    found: list[Pair] = []
    for ending in WIDTHS.values():
        names = (f"mobilenetv2{ending}", f"igcv3{ending}")
        found.append((names, (published(names[0]), published(names[1]))))
    for groups in GROUPS:
        names = ("igcv3, 1 group", f"igcv3, {groups} groups")
        found.append((names, (igcv3_network(groups=1), igcv3_network(groups=groups))))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    results, sentences = [], []
    with ConsoleReporter() as reporter:
        rate = ms_per_madd(options.seed)
        say_seconds(sum(pair_seconds(specs, rate) for _, specs in pairs()))
        for names, specs in pairs():
            found = pair(names, specs, reporter=reporter, seed=options.seed)
            madds = network_cost(specs[1]).madds / network_cost(specs[0]).madds
            low, high = found["latency_ratio_95"]
            verdict = "faster" if high < 1 else "slower" if low > 1 else "no different that can be told"
            sentences.append(
                f"{names[1]} has {madds:.2f} times the multiply-adds of {names[0]} and takes "
                f"{found['latency_ratio']} times as long ({low} to {high}): {verdict}"
            )
            results.append({**found, "madds_ratio": round(madds, 3)})
    print_headline(
        "IGCV3-D 72.2 %, MobileNetV2 72.0 %, with like multiply-adds (arXiv 1806.00178; its authors' README)",
        sentences,
        {"pairs": results},
        started,
    )


if __name__ == "__main__":
    main()
