"""How fast one's own images are decoded, and how much of a training step goes to data.

    python benchmarks/accuracy/data_pipeline.py [--data PATH] [--photos 600] [--steps 12]

Prints one JSON object. Without --data, a folder of JPEG photos of 640 x 480 pixels (smoothed noise, quality 90) is
made. `streamed_images_per_s` is of a folder decoded anew by one and by two worker processes, as one larger than the
memory is: batches of 128, the start of the processes included. A step is a batch of 128 images at 32 pixels, one
thread: gather, resize and normalise (the data's part), forward, backward, SGD. Medians over the steps; the first two
are not counted.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from mnas.data import ImageData, load_data
from mnas.data.folder import Folder
from mnas.data.stream import StreamedSplit
from mnas.env import usable_cores
from mnas.inputs import input_transform
from mnas.model import build_module
from mnas.search_space import NetworkSpec, extremes, mbconv_space, network_cost
from mnas.zoo import published

PHOTO, CLASSES, BATCH, STEP_SIZE, NOT_COUNTED, PASSES = (640, 480), 4, 128, 32, 2, 4


def make_photos(folder: Path, count: int) -> None:
    noise = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(noise.integers(0, 256, (30, 40, 3), np.uint8))
        path = folder / f"class{number % CLASSES}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize(PHOTO, Image.Resampling.BICUBIC).save(path, quality=90)


def reading(data: str, resolution: int | None) -> dict[str, Any]:
    """Once without and once with the cache, which is one of its own."""
    rates: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        before = os.environ.get("XDG_CACHE_HOME")
        os.environ["XDG_CACHE_HOME"] = cache
        for kind in ("cold", "cached"):
            start = time.perf_counter()
            found = load_data(data, resolution=resolution)
            seconds = time.perf_counter() - start
            count = sum(len(split) for split in (found.train, found.val, found.test))
            rates |= {"n": count, "resolution": found.native_size}
            rates[f"{kind}_images_per_s"] = round(count / seconds)
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before
    return rates


def streaming(folder: str, resolution: int) -> dict[str, Any]:
    """Every image `PASSES` times, by 1 and by 2 workers."""
    names = Folder(Path(folder)).listing().images
    numbers = np.tile(np.arange(len(names)), PASSES)
    chosen = [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]
    rates = {}
    for workers in (1, 2):
        split = StreamedSplit(Path(folder), names, np.zeros(len(names), np.int64), resolution, workers)
        start = time.perf_counter()
        count = sum(len(images) for images in split.batches(chosen))
        rates[str(workers)] = round(count / (time.perf_counter() - start))
    return {"n": len(numbers), "streamed_images_per_s": rates}


def step_share(spec: NetworkSpec, data: ImageData, steps: int) -> dict[str, Any]:
    inputs, module = input_transform(spec, data), build_module(spec, seed=0).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    train = data.train.take(np.arange(len(data.train)))
    images, labels = torch.tensor(train.images), torch.tensor(train.labels)
    generator = torch.Generator().manual_seed(0)
    data_s, step_s = [], []
    for _ in range(steps + NOT_COUNTED):
        chosen = torch.randint(len(labels), (BATCH,), generator=generator)
        start = time.perf_counter()
        batch = inputs(images[chosen])
        ready = time.perf_counter()
        optimizer.zero_grad()
        loss = functional.cross_entropy(module(batch), labels[chosen])
        loss.backward()
        optimizer.step()
        data_s.append(ready - start)
        step_s.append(time.perf_counter() - start)
    data_ms, step_ms = (1e3 * statistics.median(times[NOT_COUNTED:]) for times in (data_s, step_s))
    return {
        "n_steps": steps,
        "data_ms": round(data_ms, 2),
        "step_ms": round(step_ms, 1),
        "share": round(data_ms / step_ms, 4),
    }


def networks(classes: int) -> dict[str, NetworkSpec]:
    space = mbconv_space(resolution=STEP_SIZE, num_classes=classes)
    smallest = space.decode(extremes(space, lambda spec: network_cost(spec).madds)[0])
    shape = {"resolution": STEP_SIZE, "num_classes": classes}
    named = {name: replace(published(name), **shape) for name in ("mnasnet_a1", "efficientnet_b0")}
    return {"mbconv_smallest": smallest, **named}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="a folder or tar of images instead of made ones")
    parser.add_argument("--photos", type=int, default=600)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if arguments.data is None:
            make_photos(Path(made), arguments.photos)
        source = arguments.data or made
        read = [reading(source, size) for size in (None, STEP_SIZE)]
        if Path(source).is_dir():
            read = [found | {"streamed": streaming(source, found["resolution"])} for found in read]
        data = load_data(source, resolution=STEP_SIZE)
    torch.set_num_threads(1)
    report = {
        "machine": platform.machine(),
        "cores": usable_cores(),
        "versions": {name: version(name) for name in ("torch", "pillow", "numpy")},
        "data": arguments.data or f"{arguments.photos} JPEG photos of {PHOTO[0]} x {PHOTO[1]} pixels",
        "reading": read,
        "step": {
            name: step_share(spec, data, arguments.steps)
            for name, spec in networks(len(data.classes)).items()
        },
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
