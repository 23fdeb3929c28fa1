"""EfficientNet-B1 against ResNet-152 on one core, batch 1: measured latency.

    python benchmarks/headlines/b1_resnet152.py

EfficientNet (arXiv 1905.11946), Table 4: ResNet-152 takes 0.554 s and B1 0.098 s on one core of a Xeon E5-2690, 5.7
times; mean of 20 runs. Here both are timed in the same eight fresh processes, one thread, fp32, at 240 and 224 pixels.
"""

import argparse
import time

from headline import ms_per_madd, pair, pair_seconds, print_headline, say_seconds

from mnas.console import ConsoleReporter
from mnas.zoo import member

NAMES = ("efficientnet_b1", "resnet_152")
PAPER = 5.7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    specs = (member(NAMES[0]).spec, member(NAMES[1]).spec)
    with ConsoleReporter() as reporter:
        say_seconds(pair_seconds(specs, ms_per_madd(options.seed)))
        found = pair(NAMES, specs, reporter=reporter, seed=options.seed)
    low, high = found["latency_ratio_95"]
    side = "less than" if high < PAPER else "more than" if low > PAPER else "as"
    sentence = f"B1 is {found['latency_ratio']} times as fast ({low} to {high}), {side} in the paper"
    print_headline(f"{PAPER} times (arXiv 1905.11946, Table 4)", [sentence], found, started)


if __name__ == "__main__":
    main()
