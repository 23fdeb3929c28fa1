"""The winner of a search against published networks and random ones of the same measured latency, trained alike.

    python benchmarks/accuracy/comparison.py --data cifar10_jpeg.tar.xz --out DIR

CIFAR-10 (a folder or tar of its images), 32 pixels, the budget that of EfficientNet-B0 narrowed to a quarter of its
multiply-adds. Phases: `search` (the budget is measured, then `mnas search`), `scale` (MobileNetV2, MnasNet-A1 and B0
narrowed to the winner's measured latency, five random members of the space at it; all timed together), `train` (each
network with each seed, the weights of the last epoch counting), `table`. Images: `--images` of the training split and
half as many for validation, the same for the search and for every training; the search is given a tar of these alone.
The test split is read once for each training, at its end. The best of the random networks is chosen by validation
accuracy on the first seed. What is finished lies in DIR and is not done again: the same command goes on.
"""

import argparse
import io
import multiprocessing
import os
import random
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from itertools import chain
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnas.accuracy.proxy import rungs_of
from mnas.console import ConsoleReporter
from mnas.data import SPLIT_SEED, ImageData, Split, load_data, stratified
from mnas.env import environment
from mnas.errors import MnasError
from mnas.files import make_folder, read_json, write_json
from mnas.latency import LOCAL, Conditions, MeasurementSet, default_reference, measure
from mnas.latency.measure import TOGETHER
from mnas.records import latency_fields, network_fields
from mnas.search.device_timing import device_calibration
from mnas.search.halving import mean_epochs
from mnas.search.measured import measured_on
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, mbconv_space, network_cost, scale
from mnas.seeds import derive_seed
from mnas.trainer import Task, fit, make_task, new_state, preset
from mnas.trainer.machine import usable_device
from mnas.training import NORM_IMAGES, estimate_seconds, evaluate
from mnas.units import format_count, format_duration, parse_latency_ms
from mnas.zoo import published

SPACE = mbconv_space(resolution=32, num_classes=10)
REFERENCE = default_reference(SPACE)  # EfficientNet-B0 at 32 pixels
RIVALS = ("mobilenetv2", "mnasnet_a1", "efficientnet_b0")
QUARTER = 0.25  # of EfficientNet-B0's multiply-adds
WIDTHS = [number / 200 for number in range(30, 301)]  # 0.15 to 1.5; neighbours often round to one network
LADDER = (0.2, 0.35, 0.5, 0.7, 1.0)  # timed in the first round
# Of the winner's latency: as measured, and as predicted for random networks that are to be measured.
WITHIN, DRAWN = 0.03, 0.02
RANDOMS, SPARE, POOL = 5, 7, 5_000  # wanted, timed beside them, and drawn to choose from
PROCESSES, BUDGET_S, ROUNDS = 5, 30.0, 6  # of timing; a round takes some seconds more to start processes
SAMPLE = 4  # random members whose training is timed for the estimate
TEST_IMAGES = 10_000
SCORED = 1 / 3  # of a trained image's seconds that a scored one takes, as in mnas.training
PHASES = ("search", "scale", "train", "table")
SEARCH = ("trials", "search_epochs", "proxy_images", "halving", "final_epochs", "finals")
SETTINGS = ("images", "epochs", "seed", "budget", "winner", *SEARCH)  # a folder of results holds for these


def comparison_data(path: str, images: int) -> tuple[ImageData, Split]:
    """CIFAR-10 with fewer images for training and validation; and as many as for validation that are in neither."""
    data = load_data(path, resolution=REFERENCE.resolution)
    enough = images // 2 <= min(len(data.val), len(data.train) - images)
    if len(data.classes) != REFERENCE.num_classes or not enough:
        sys.exit(
            f"expected CIFAR-10, 10 classes with images enough for --images {images} and half as many twice; {path} "
            f"has {len(data.classes)} classes, {len(data.train)} training and {len(data.val)} validation images."
        )
    chosen = stratified(data.train.labels, images, SPLIT_SEED, "comparison")
    train, rest = (data.train.take(np.flatnonzero(mask)) for mask in (chosen, ~chosen))
    val, unused = (
        split.take(np.flatnonzero(stratified(split.labels, count, SPLIT_SEED, "comparison")))
        for split, count in ((data.val, images // 2), (rest, images // 2))
    )
    return replace(data, train=train, val=val), unused


def write_search_images(path: Path, data: ImageData, unused: Split) -> None:
    """A tar of PNGs of what the search may see: training and validation; for its own test, images that nobody uses."""
    half = path.with_name(f".{path.name}")
    with tarfile.open(half, "w") as tar:
        for part, split in (("train", data.train), ("val", data.val), ("test", unused)):
            for number, label in enumerate(split.labels):
                file = io.BytesIO()
                Image.fromarray(split.images[number].transpose(1, 2, 0)).save(file, "png")
                entry = tarfile.TarInfo(f"{part}/{data.classes[label]}/{number:05}.png")
                entry.size = file.tell()
                file.seek(0)
                tar.addfile(entry, file)
    half.replace(path)


def narrowed(name: str, widths: Sequence[float]) -> dict[NetworkSpec, float]:
    """The network at each width, each different one once."""
    base = replace(published(name), resolution=REFERENCE.resolution, num_classes=REFERENCE.num_classes)
    found: dict[NetworkSpec, float] = {}
    for width in widths:
        found.setdefault(scale(base, depth=1, width=width, resolution=base.resolution), width)
    return found


def quarter(name: str) -> tuple[NetworkSpec, float]:
    """The network and width whose multiply-adds are nearest to a quarter of EfficientNet-B0's."""
    wanted = QUARTER * network_cost(REFERENCE).madds
    return min(narrowed(name, WIDTHS).items(), key=lambda item: abs(network_cost(item[0]).madds - wanted))


def timed(networks: Mapping[str, NetworkSpec], seed: int, reporter: ConsoleReporter) -> MeasurementSet:
    result = measure(
        networks,
        reference=REFERENCE,
        conditions=Conditions(),
        processes=PROCESSES,
        budget_s=BUDGET_S,
        seed=seed,
        protocol=TOGETHER,
        on_progress=reporter.progress,
    )
    for text in result.warnings:
        reporter.warn(text)
    if any(item.status == "noisy" for item in result.measurements):
        sys.exit("the device is too noisy to measure; end other work on it and give the same command again.")
    return result


def fields_of(result: MeasurementSet, name: str) -> dict[str, Any]:
    m = result[name]
    return {
        **latency_fields(m.latency_ms, m.raw_ms, m.low_ms, m.high_ms, measured_on(LOCAL)),
        "status": m.status,
    }


# -- search ----------------------------------------------------------------------------------------------------------


def budget(options: argparse.Namespace, reporter: ConsoleReporter) -> dict[str, Any]:
    if options.budget is not None:
        return {"latency_ms": parse_latency_ms(options.budget, what="--budget"), "network": None}
    spec, width = quarter("efficientnet_b0")
    share = network_cost(spec).madds / network_cost(REFERENCE).madds
    reporter.stage(f"budget: efficientnet_b0 at width {width} ({share:.1%} of its multiply-adds) is timed")
    latency = fields_of(timed({"budget": spec}, derive_seed(options.seed, "budget"), reporter), "budget")
    return {**latency, "network": "efficientnet_b0", "width": width, "madds_share": share}


def search(options: argparse.Namespace, reporter: ConsoleReporter) -> None:
    """Leaves the budget in `budget.json` and the winner's specification in `winner.json`."""
    found = kept(options.out / "budget.json", lambda: budget(options, reporter))
    reporter.note(f"budget: {found['latency_ms']:.4g} ms")
    kept(options.out / "winner.json", lambda: searched(options, found["latency_ms"], reporter))


def searched(options: argparse.Namespace, budget_ms: float, reporter: ConsoleReporter) -> dict[str, Any]:
    if options.winner is not None:
        spec = NetworkSpec.from_dict(read_json(Path(options.winner)))
        return replace(spec, resolution=REFERENCE.resolution, num_classes=REFERENCE.num_classes).to_dict()
    run, images = options.out / "search", options.out / "search-images.tar"
    if (run / "config.toml").is_file():
        command = ["resume", str(run)]
    else:
        if not images.is_file():
            write_search_images(images, *comparison_data(options.data, options.images))
        flags = {"data": images, "out": run, "target_latency": f"{budget_ms:.6g}ms", "space": SPACE.name}
        flags |= {"resolution": REFERENCE.resolution, "seed": options.seed, "train_device": options.device}
        flags |= {name.removeprefix("search_"): value for name in SEARCH if (value := getattr(options, name))}
        command = ["search"]
        for name, value in flags.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
    reporter.stage(f"mnas {' '.join(command)}")
    code = subprocess.run([sys.executable, "-m", "mnas", *command], check=False).returncode
    if code != 0:
        sys.exit(f"mnas {command[0]} ended with status {code}, see above; the same command goes on with it.")
    found: dict[str, Any] = read_json(run / "baseline.json")
    return found


# -- scale -----------------------------------------------------------------------------------------------------------


def scale_all(options: argparse.Namespace, reporter: ConsoleReporter) -> None:
    """Leaves the networks that are compared in `networks.json`."""
    kept(options.out / "networks.json", lambda: match(options, reporter))


def match(options: argparse.Namespace, reporter: ConsoleReporter) -> dict[str, Any]:
    """The networks at the winner's latency, all timed together, with the figures of the last round.

    Rounds go on until all are within `WITHIN` of the winner by the median of their shares over the rounds.
    """
    winner = NetworkSpec.from_dict(read_json(options.out / "winner.json"))
    predictor = device_calibration(Conditions(), reporter).predictor
    seen: dict[NetworkSpec, list[float]] = {}  # measured shares of the winner's latency

    @cache
    def predicted(spec: NetworkSpec) -> float:
        return predictor.predict([spec])[0].ms / predictor.predict([winner])[0].ms

    def apart(family: Sequence[NetworkSpec], spec: NetworkSpec) -> float:
        known = [(predicted(other), median(seen[other])) for other in family if other in seen]
        share = (
            median(seen[spec])
            if spec in seen
            else corrected(predicted(spec), known, along=family is not pool)
        )
        return abs(share - 1)

    rng = random.Random(derive_seed(options.seed, "random networks"))
    pool = [SPACE.decode(SPACE.sample(rng)) for _ in range(POOL)]
    pool = [spec for spec in dict.fromkeys(pool) if spec != winner]
    families = {name: narrowed(name, WIDTHS) for name in RIVALS}
    randoms: list[NetworkSpec] = []
    for number in range(1, ROUNDS + 1):
        rivals = {
            name: list(narrowed(name, LADDER))
            if number == 1
            else nearest(family, partial(apart, list(family)), 0, 2)
            for name, family in families.items()
        }
        randoms = [spec for spec in randoms if apart(pool, spec) <= WITHIN]
        unseen = [spec for spec in pool if spec not in seen]
        randoms += nearest(unseen, partial(apart, pool), DRAWN, RANDOMS + SPARE - len(randoms))
        specs = list(dict.fromkeys([winner, *chain(*rivals.values()), *randoms]))
        reporter.stage(f"round {number}: timing {len(specs)} networks in {PROCESSES} fresh processes")
        names = {spec: str(position) for position, spec in enumerate(specs)}
        seed = derive_seed(options.seed, "scale", number)
        result = timed({name: spec for spec, name in names.items()}, seed, reporter)
        share = {spec: result[name].ratio / result[names[winner]].ratio for spec, name in names.items()}
        for spec, value in share.items():
            seen.setdefault(spec, []).append(value)
        share = {spec: median(seen[spec]) for spec in specs}
        measured = {spec: abs(value - 1) for spec, value in share.items()}
        chosen = {name: min(group, key=measured.__getitem__) for name, group in rivals.items()}
        best = nearest(randoms, measured.__getitem__, WITHIN, RANDOMS)
        chosen |= {f"random_{position}": spec for position, spec in enumerate(best, 1)}
        text = ", ".join(f"{name} {share[spec]:.3f}" for name, spec in chosen.items())
        reporter.note(f"times the winner's {result[names[winner]].latency_ms:.4g} ms: {text}")
        if all(measured[spec] <= WITHIN for spec in chosen.values()):
            break
    else:
        reporter.warn(
            "not all are within 3 % of the winner's latency; without networks.json, all are timed again."
        )
    rows = []
    for name, spec in {"winner": winner, **chosen}.items():
        width = families[name][spec] if name in families else None
        row = {"name": name, "width": width, "network": spec.to_dict(), **network_fields(spec)}
        rows.append({**row, **fields_of(result, names[spec]), "share_of_winner": share[spec]})
    device = {"conditions": result.conditions.describe(), "device": result.device.describe()}
    return {**device, "rounds": number, "warnings": list(result.warnings), "networks": rows}


def corrected(predicted: float, known: Sequence[tuple[float, float]], *, along: bool) -> float:
    """A predicted share brought to what is measured.

    Args:
        predicted: of a network.
        known: (predicted, measured) of others of its kind.
        along: whether measured / predicted changes along the predicted; else its median counts.
    """
    if not known:
        return predicted
    known = sorted(known)
    factors = [measured / before for before, measured in known]
    return predicted * (
        np.interp(predicted, [before for before, _ in known], factors) if along else median(factors)
    )


def nearest(
    specs: Iterable[NetworkSpec], apart: Callable[[NetworkSpec], float], within: float, count: int
) -> list[NetworkSpec]:
    """The first `count` that are apart by at most `within`, filled up with those least apart."""
    return sorted(specs, key=lambda spec: max(apart(spec), within))[:count]


# -- train -----------------------------------------------------------------------------------------------------------

_given: dict[str, Any] = {}  # of a training process: its data and device


def begin_worker(options: argparse.Namespace) -> None:
    """Reads the images once, and ends this process when the one that started it is gone."""

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    if options.workers > 1:
        torch.set_num_threads(1)
    _given["data"], _ = comparison_data(options.data, options.images)


@contextmanager
def workers(options: argparse.Namespace) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(options.workers, context, begin_worker, (options,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def task_of(options: argparse.Namespace, network: dict[str, Any], seed: int) -> Task:
    data = _given["data"]
    recipe = replace(preset("cifar", epochs=options.epochs), flip=data.flip)
    return make_task(NetworkSpec.from_dict(network), recipe, data, seed=seed, device=options.device)


def train_one(options: argparse.Namespace, row: dict[str, Any], seed: int) -> dict[str, Any]:
    """The full trainer, then the weights of the last epoch on the test split, once; kept in a file."""
    task = task_of(options, row["network"], seed)
    state = fit(task, lambda: new_state(task), save=lambda state: None, listener=Quiet())
    data, history = task.data, state.progress.history
    result = {
        "name": row["name"],
        "seed": seed,
        "epochs": options.epochs,
        "images": {"train": len(data.train), "val": len(data.val), "test": len(data.test)},
        "val_accuracy": history[-1]["val_accuracy"],
        "test_accuracy": evaluate(state.scored, data.test, task.inputs),
        "history": history,
        "seconds": state.progress.seconds,
        "device": task.device,
        "threads": torch.get_num_threads(),
        "network": row["network"],
    }
    write_json(path_of(options, row, seed), result)
    return result


def seconds_per_image(options: argparse.Namespace, network: dict[str, Any]) -> float:
    """Of a training step."""
    data = _given["data"]
    seconds = estimate_seconds(NetworkSpec.from_dict(network), data, epochs=1, device=options.device)
    return seconds / (len(data.train) + SCORED * (min(len(data.train), NORM_IMAGES) + len(data.val)))


def path_of(options: argparse.Namespace, row: Mapping[str, Any], seed: int) -> Path:
    path: Path = options.out / "trained" / f"{row['name']}-{seed}.json"
    return path


def result_of(options: argparse.Namespace, row: Mapping[str, Any], seed: int) -> dict[str, Any] | None:
    """A finished training of this very network, None where there is none."""
    path = path_of(options, row, seed)
    found: dict[str, Any] = read_json(path) if path.is_file() else {"network": None}
    return found if found["network"] == row["network"] else None


def train(options: argparse.Namespace, reporter: ConsoleReporter) -> None:
    rows = read_json(options.out / "networks.json")["networks"]
    make_folder(options.out / "trained")
    every = [(row, seed) for seed in range(options.seeds) for row in rows]
    left = [(row, seed) for row, seed in every if result_of(options, row, seed) is None]
    reporter.stage(f"training: {len(rows)} networks x {options.seeds} seeds, {len(left)} left")
    started = time.monotonic()
    with workers(options) as pool:
        futures = [pool.submit(train_one, options, row, seed) for row, seed in left]
        for done, future in enumerate(as_completed(futures), 1):
            result = future.result()
            rest = format_duration((time.monotonic() - started) / done * (len(left) - done))
            accuracy = f"validation {result['val_accuracy']:.4f}, test {result['test_accuracy']:.4f}"
            text = f"{accuracy}, {result['seconds']:.0f} s; {done} of {len(left)}, about {rest} left"
            reporter.note(f"{result['name']}, seed {result['seed']}: {text}")


# -- table -----------------------------------------------------------------------------------------------------------


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, sample standard deviation (None of one value), least and greatest."""
    std = stdev(values) if len(values) > 1 else None
    return {"mean": fmean(values), "std": std, "min": min(values), "max": max(values)}


def difference(first: Sequence[float], second: Sequence[float]) -> dict[str, float | None]:
    """Mean of first - second, paired by seed, and its standard error (None with one seed)."""
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    error = stdev(pairs) / len(pairs) ** 0.5 if len(pairs) > 1 else None
    return {"mean": fmean(pairs), "standard_error": error}


def table(options: argparse.Namespace, reporter: ConsoleReporter) -> None:
    networks = read_json(options.out / "networks.json")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in networks["networks"]:
        results = [result_of(options, row, seed) for seed in range(options.seeds)]
        found[row["name"]] = [result for result in results if result is not None]
        if len(found[row["name"]]) < options.seeds:
            sys.exit(f"{row['name']} is not trained with all of {options.seeds} seeds yet.")
    test = {name: [result["test_accuracy"] for result in results] for name, results in found.items()}
    randoms = [name for name in found if name.startswith("random_")]
    best = max(randoms, key=lambda name: found[name][0]["val_accuracy"])
    rows = []
    for row in networks["networks"]:
        name = row["name"]
        accuracy = {
            "test": spread(test[name]),
            "val": spread([result["val_accuracy"] for result in found[name]]),
            "winner_minus_this": None if name == "winner" else difference(test["winner"], test[name]),
            "seconds": [result["seconds"] for result in found[name]],
        }
        rows.append({**row, **accuracy, "best_random": name == best})
    settings = read_json(options.out / "settings.json")
    result = {
        "settings": {**settings, "seeds": options.seeds},
        "images": found["winner"][0]["images"],
        "budget": read_json(options.out / "budget.json"),
        "best_random": best,
        **{name: value for name, value in networks.items() if name != "networks"},
        "environment": environment(),
        "networks": rows,
    }
    write_json(options.out / "table.json", result)
    print(markdown(result))


def markdown(result: Mapping[str, Any]) -> str:
    images, budget_ms = result["images"], result["budget"]["latency_ms"]
    lines = [
        f"{images['train']:,} training, {images['val']:,} validation, {images['test']:,} test images of 32 pixels; "
        f"{result['settings']['epochs']} epochs, preset cifar, last epoch's weights; seeds: "
        f"{result['settings']['seeds']}; budget {budget_ms:.4g} ms ({result['conditions']}; {result['device']})",
        "",
        "| network | params | MAdds | latency (95 %) | test: mean, std (min to max) | validation | winner - this |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in result["networks"]:
        name = row["name"] if row["width"] is None else f"{row['name']} x {row['width']:g}"
        name += f" (best of {RANDOMS} by validation on the first seed)" if row["best_random"] else ""
        latency = f"{row['latency_ms']:.4f} ms ({row['latency_low_ms']:.4f}-{row['latency_high_ms']:.4f})"
        test, apart = row["test"], row["winner_minus_this"]
        accuracy = f"{test['mean']:.4f}, {shown(test['std'])} ({test['min']:.4f} to {test['max']:.4f})"
        beside = "" if apart is None else f"{apart['mean']:+.4f} +- {shown(apart['standard_error'])}"
        counts = f"{format_count(row['params'])} | {format_count(row['madds'])}"
        lines.append(f"| {name} | {counts} | {latency} | {accuracy} | {row['val']['mean']:.4f} | {beside} |")
    return "\n".join([*lines, "", "+- is one standard error of the differences, paired by seed."])


def shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"


# -- all of it -------------------------------------------------------------------------------------------------------


def estimate(options: argparse.Namespace, wanted: Sequence[str], reporter: ConsoleReporter) -> None:
    """Says what is left of some phases, from training steps timed in as many processes as there will be."""
    known, rng = options.out / "networks.json", random.Random(derive_seed(options.seed, "estimate"))
    if known.is_file():
        rows = read_json(known)["networks"]
    else:  # stand-ins at a quarter of the multiply-adds
        rows = [{"name": name, "network": quarter(name)[0].to_dict()} for name in RIVALS]
    left = [sum(result_of(options, row, seed) is None for seed in range(options.seeds)) for row in rows]
    if not any(left):
        return
    reporter.stage("estimate: timing a few training steps of each network")
    members = [SPACE.decode(SPACE.sample(rng)).to_dict() for _ in range(SAMPLE)]
    with workers(options) as pool:
        networks = [*(row["network"] for row in rows), *members]
        times = list(pool.map(partial(seconds_per_image, options), networks))
    each, member = times[: len(rows)], fmean(times[len(rows) :])
    training = sum(time * count for time, count in zip(each, left, strict=True))
    if not known.is_file():  # random members stand for the winner as well
        training += options.seeds * (1 + RANDOMS) * member
    scored = SCORED * options.images / 2  # validation images, in trained ones
    some = min(options.proxy_images, options.images)
    rungs = rungs_of(options.search_epochs, options.halving) if options.halving else ()
    candidate = mean_epochs(options.search_epochs, rungs, options.halving) * some + scored
    candidate += SCORED * min(some, NORM_IMAGES)
    final = options.final_epochs * options.images + scored + SCORED * min(options.images, NORM_IMAGES)
    searched = options.winner is not None or (options.out / "winner.json").is_file()
    searching = 0.0 if searched else member * (options.trials * candidate + options.finals * final)
    phases = {
        "search": searching,
        "scale": 0.0 if known.is_file() else ROUNDS * (BUDGET_S + 2 * PROCESSES),
        "train": training
        * (options.epochs * (options.images + scored) + SCORED * TEST_IMAGES)
        / options.workers,
    }
    phases = {name: seconds for name, seconds in phases.items() if name in wanted}
    parts = ", ".join(f"{name} {format_duration(seconds)}" for name, seconds in phases.items())
    rates = ", ".join(f"{row['name']} {1 / time:.0f}" for row, time in zip(rows, each, strict=True))
    reporter.note(f"images a second, {options.workers} at once: {rates}, random members {1 / member:.0f}")
    reporter.note(f"estimate of what is left: about {format_duration(sum(phases.values()))} ({parts})")


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What the file holds, or what is made and kept there now."""
    if not path.is_file():
        write_json(path, make())
    return read_json(path)


def check_settings(options: argparse.Namespace) -> None:
    """Refuses to go on in a folder that was begun with other settings."""
    wanted = {name: getattr(options, name) for name in SETTINGS}
    before = kept(options.out / "settings.json", lambda: wanted)
    if other := [name for name in SETTINGS if before.get(name) != wanted[name]]:
        said = "; ".join(f"{name}: {before.get(name)!r} then, {wanted[name]!r} now" for name in other)
        sys.exit(f"{options.out} was begun with other settings ({said}). Give them again, or another --out.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="CIFAR-10 as a folder or tar of images")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", choices=PHASES, help="one phase [default: all]")
    parser.add_argument("--images", type=int, default=20_000, help="of training; validation: half as many")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="trainings side by side; on a GPU one")
    parser.add_argument("--device", default="cpu", help="of trainings; latency is that of the CPU")
    parser.add_argument("--seed", type=int, default=0, help="of the search, the random networks, the timing")
    parser.add_argument("--budget", help="with its unit: 0.4ms [default: EfficientNet-B0 narrowed, measured]")
    parser.add_argument("--winner", help="a network's JSON file instead of a search")
    parser.add_argument("--trials", type=int, default=40, help="this and the following: of the search")
    parser.add_argument("--search-epochs", type=int, default=3)
    parser.add_argument("--proxy-images", type=int, default=10_000)
    parser.add_argument("--halving", type=int, default=3, metavar="ETA", help="0 is none")
    parser.add_argument("--final-epochs", type=int, default=5)
    parser.add_argument("--finals", type=int, default=3)
    options = parser.parse_args()
    if options.data is None or not Path(options.data).exists():
        print(f"skipped: needs CIFAR-10 as a folder or tar of images; --data is {options.data}.")
        sys.exit(0)
    options.device = usable_device(options.device)
    if options.device != "cpu":
        options.workers = 1
    return options


def main() -> None:
    options = arguments()
    steps = {"search": search, "scale": scale_all, "train": train, "table": table}
    wanted = [name for name in PHASES if options.only in (None, name)]
    with ConsoleReporter() as reporter:
        try:
            make_folder(options.out)
            check_settings(options)
            for number, name in enumerate(wanted):
                if name in ("search", "train"):
                    estimate(options, wanted[number:], reporter)
                started = time.monotonic()
                steps[name](options, reporter)
                reporter.note(f"{name}: {format_duration(time.monotonic() - started)}")
        except MnasError as problem:
            sys.exit(str(problem))
        except KeyboardInterrupt:
            sys.exit("interrupted; the same command goes on.")


if __name__ == "__main__":
    main()
