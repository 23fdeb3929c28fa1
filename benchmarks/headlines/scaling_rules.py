"""Depth, width, resolution or all of them: a small EfficientNet grown by four rules to equal multiply-adds, trained.

    python benchmarks/headlines/scaling_rules.py --data cifar10_jpeg.tar.xz
    python benchmarks/headlines/scaling_rules.py --data cifar10_jpeg.tar.xz --device cuda --images 45000 --epochs 30

EfficientNet (arXiv 1905.11946), Table 7, B0 grown to 1.8B on ImageNet: depth 79.0 %, width 78.9, resolution 79.1,
compound 81.1. Here: EfficientNet-B0 at a quarter of its width and 16 pixels, with a total stride of 8, on CIFAR-10 (a
folder or tar of its images). Images are shrunk for resolutions below their own, so that more pixels show more. Each
rule is taken where its multiply-adds are nearest to the common target, within 5 %. Trained by the short recipe of
`mnas.training` on a part of the training split, scored once on the test split at its end; the seeds are paired.

ResNet-RS (arXiv 2103.07579, sec. 6) warns that short trainings favour width: this is one, and says nothing of long
ones.
"""

import argparse
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from headline import counts, print_headline, rounded, say_seconds
from torch.nn import functional

from mnas.data import SPLIT_SEED, ImageData, Split, load_data, stratified
from mnas.search_space import NetworkSpec, compound_scale, network_cost, scale
from mnas.seeds import derive_seed
from mnas.trainer.machine import usable_device
from mnas.training import estimate_seconds, evaluate, train
from mnas.zoo import published

RULES = ("depth", "width", "resolution", "compound")
PAPER = {"base": 0.773, "depth": 0.790, "width": 0.789, "resolution": 0.791, "compound": 0.811}
# Of the stages: B0's but for two that are dropped, as 32 in all leave nothing of 16 pixels. Chosen here: of those tried
# with which all four rules come within 5 % of each other at four times the base's multiply-adds, the cheapest.
STRIDES = (1, 2, 1, 1, 1, 2, 1)
WITHIN = 0.05  # of the common multiply-adds
SHRUNK_AT_ONCE = 4096  # images; chosen here
SMALLEST_WAY = 0.8  # of the growth asked for, and its inverse: where the common target may lie


@dataclass(frozen=True)
class Grown:
    """A network and the coefficients it was grown by."""

    rule: str
    coefficients: tuple[float, ...]
    spec: NetworkSpec

    @property
    def madds(self) -> int:
        """Of one image."""
        return network_cost(self.spec).madds


def base_network(width: float, resolution: int, classes: int) -> NetworkSpec:
    """EfficientNet-B0 narrowed, for small images."""
    b0 = published("efficientnet_b0")
    stages = tuple(replace(stage, stride=stride) for stage, stride in zip(b0.stages, STRIDES, strict=True))
    small = replace(b0, stages=stages, num_classes=classes, dropout=0.0, drop_path=0.0)
    return scale(small, depth=1, width=width, resolution=resolution)


def variants(base: NetworkSpec, largest: int) -> dict[str, list[Grown]]:
    """What each rule makes of the base, in small steps; no resolution above `largest` pixels."""
    r = base.resolution
    found = {
        "depth": [((d / 20,), scale(base, depth=d / 20, width=1, resolution=r)) for d in range(21, 201)],
        "width": [((w / 50,), scale(base, depth=1, width=w / 50, resolution=r)) for w in range(51, 251)],
        "resolution": [((p / r,), replace(base, resolution=p)) for p in range(r + 1, largest + 1)],
        "compound": [((phi / 50,), compound_scale(base, phi / 50)) for phi in range(1, 301)],
    }
    return {
        rule: [Grown(rule, coefficients, spec) for coefficients, spec in grown if spec.resolution <= largest]
        for rule, grown in found.items()
    }


def equal_madds(base: NetworkSpec, growth: float, largest: int) -> dict[str, Grown]:
    """Of each rule the network nearest to common multiply-adds, about `growth` times the base's.

    The target is where the rule that comes least near to it comes nearest. Ends the command where that is not within
    5 %.
    """
    wanted = growth * network_cost(base).madds
    rules = variants(base, largest)
    near = [
        grown.madds
        for every in rules.values()
        for grown in every
        if SMALLEST_WAY <= grown.madds / wanted <= 1 / SMALLEST_WAY
    ]
    best: tuple[float, dict[str, Grown]] | None = None
    for target in near:
        chosen = {
            rule: min(every, key=lambda grown: abs(grown.madds - target))
            for rule, every in rules.items()
            if every
        }
        off = max((abs(grown.madds / target - 1) for grown in chosen.values()), default=1.0)
        if len(chosen) == len(RULES) and (best is None or off < best[0]):
            best = off, chosen
    if best is None or best[0] > WITHIN:
        sys.exit(
            f"no multiply-adds about {growth} times the base's are reached within 5 % by all of {', '.join(RULES)} up "
            f"to {largest} pixels; try another --growth, --width or --resolution."
        )
    return best[1]


def shrunk(data: ImageData, resolution: int) -> ImageData:
    """The images at fewer pixels, antialiased; the same where the resolution is theirs or more."""
    if resolution >= data.native_size:
        return data

    def split(part: Any) -> Split:
        whole = part.take(np.arange(len(part)))
        parts = torch.split(torch.from_numpy(whole.images), SHRUNK_AT_ONCE)
        size = (resolution, resolution)
        small = [functional.interpolate(p, size=size, mode="bilinear", antialias=True) for p in parts]
        return Split(torch.cat(small).numpy(), whole.labels)

    found = [split(part) for part in (data.train, data.val, data.test)]
    return replace(data, native_size=resolution, train=found[0], val=found[1], test=found[2])


_given: dict[str, Any] = {}  # of a training process


def begin_worker(data: str, images: int, device: str, threads: int) -> None:
    """Reads the images once, and ends this process when the one that started it is gone."""

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    whole = load_data(data)
    if images < len(whole.train):
        chosen = stratified(whole.train.labels, images, SPLIT_SEED, "scaling rules")
        whole = replace(whole, train=whole.train.take(np.flatnonzero(chosen)))
    _given.update(data=whole, device=device)


@cache
def images_at(resolution: int) -> ImageData:
    """The images of this process."""
    return shrunk(_given["data"], resolution)


def about_data() -> dict[str, Any]:
    """What a worker read."""
    data: ImageData = _given["data"]
    return {
        "classes": len(data.classes),
        "native_size": data.native_size,
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
    }


def seconds(spec: NetworkSpec, epochs: int) -> float:
    """That a training is going to take, the test split's scoring included."""
    data = images_at(spec.resolution)
    # The test split is scored once; the estimate knows of the validation split.
    scorings = 1 + round(len(data.test) / len(data.val))
    return estimate_seconds(spec, data, epochs=epochs, device=_given["device"], scorings=scorings)


def accuracy(spec: NetworkSpec, epochs: int, seed: int) -> dict[str, float]:
    """Of one training: on the validation split, and once on the test split."""
    data, device = images_at(spec.resolution), _given["device"]
    trained = train(spec, data, epochs=epochs, seed=derive_seed(seed, "scaling rules"), device=device)
    test = evaluate(trained.module.to(device), data.test, trained.inputs)
    return {"val": trained.accuracy, "test": test, "seconds": trained.seconds}


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Mean, standard deviation (None of one value), and the values."""
    std = round(stdev(values), 4) if len(values) > 1 else None
    return {"mean": round(fmean(values), 4), "std": std, "values": rounded(values, 4)}


def compared(test: Mapping[str, Sequence[float]]) -> list[str]:
    """What came out, in words: compound against each other rule, paired by seed, in points."""
    found = []
    for rule in RULES[:-1]:
        apart = [100 * (a - b) for a, b in zip(test["compound"], test[rule], strict=True)]
        error = stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else None
        paper = 100 * (PAPER["compound"] - PAPER[rule])
        sure = error is not None and abs(fmean(apart)) > 2 * error
        verdict = ("better" if fmean(apart) > 0 else "worse") if sure else "not distinguishable"
        said = "one seed" if error is None else f"+- {error:.2f}"
        found.append(f"compound - {rule}: {fmean(apart):+.2f} points ({said}; paper {paper:+.1f}): {verdict}")
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 as a folder or tar of images")
    parser.add_argument("--images", type=int, default=10_000, help="of training")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=float, default=0.25, help="of the base, of EfficientNet-B0's")
    parser.add_argument("--resolution", type=int, default=16, help="of the base, in pixels")
    parser.add_argument(
        "--growth", type=float, default=4.0, help="multiply-adds of the grown networks, of the base's"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side")
    parser.add_argument("--threads", type=int, help="of each [default: the cores, shared out]")
    options = parser.parse_args()
    if options.data is None or not Path(options.data).exists():
        print(f"skipped: needs CIFAR-10 as a folder or tar of images; --data is {options.data}.")
        sys.exit(0)
    options.device = usable_device(options.device)
    return options


def train_all(
    pool: ProcessPoolExecutor, specs: Mapping[str, NetworkSpec], options: argparse.Namespace
) -> dict[tuple[str, int], dict[str, float]]:
    """Every network with every seed, by name and seed; says what it will take, and each result as it comes."""
    each = list(pool.map(seconds, specs.values(), [options.epochs] * len(specs)))
    said = f"{len(specs)} networks, {options.seeds} seeds"
    say_seconds(options.seeds * sum(each) / options.workers, said)
    jobs = {
        (name, seed): pool.submit(accuracy, spec, options.epochs, seed)
        for seed in range(options.seeds)
        for name, spec in specs.items()
    }
    results = {}
    for (name, seed), future in jobs.items():
        results[name, seed] = future.result()
        print(f"  {name}, seed {seed}: test {results[name, seed]['test']:.4f}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    options = arguments()
    started = time.perf_counter()
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.workers)
    given = (options.data, options.images, options.device, threads)
    pool = ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn"), begin_worker, given)
    try:
        about = pool.submit(about_data).result()
        base = base_network(options.width, options.resolution, about["classes"])
        grown = equal_madds(base, options.growth, about["native_size"])
        specs = {"base": base, **{rule: grown[rule].spec for rule in RULES}}
        results = train_all(pool, specs, options)
    finally:
        pool.shutdown(cancel_futures=True)
    seeds = range(options.seeds)
    test = {name: [results[name, seed]["test"] for seed in seeds] for name in specs}
    rows = {
        name: {
            **counts(spec),
            "repeats": [stage.repeats for stage in spec.stages],
            "channels": [stage.out_channels for stage in spec.stages],
            "coefficients": list(grown[name].coefficients) if name in grown else None,
            "test": spread(test[name]),
            "val": spread([results[name, seed]["val"] for seed in seeds]),
            "seconds": rounded([results[name, seed]["seconds"] for seed in seeds], 1),
            "paper": PAPER[name],
        }
        for name, spec in specs.items()
    }
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else "cpu"
    settings = {
        "epochs": options.epochs,
        "trained_on": f"{where}, torch {torch.__version__}",
        "workers": options.workers,
        "threads": threads,
    }
    print_headline(
        "compound 81.1 %, resolution 79.1, depth 79.0, width 78.9 at 1.8B (arXiv 1905.11946, Table 7)",
        compared(test),
        {"data": about, **settings, "networks": rows},
        started,
    )


if __name__ == "__main__":
    main()
