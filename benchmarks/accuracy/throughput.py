"""Training throughput of our modules beside timm's own, in one process and in turn.

    python benchmarks/accuracy/throughput.py [--rounds 8] [--threads 2] [--device cpu]

A step is forward, loss, backward and an SGD step on 128 images of 32 x 32 pixels. Figures are images a second of the
fastest round: other work on the machine only ever slows a round down. The networks are the same on both sides, which
their parameters show. The share that the preparation of the images takes is beside it, for each preset.
"""

import argparse
import time
from dataclasses import replace

import timm
import torch
from torch import nn

from mnas.data import ImageData, Split
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.search_space.scaling import scale
from mnas.trainer import PRESETS
from mnas.trainer.augment import Augmentation
from mnas.trainer.optim import make_optimizer
from mnas.training import input_transform
from mnas.zoo import published

BATCH, RESOLUTION, CLASSES = 128, 32, 10
TARGETS = {"mnasnet_050": 3.5, "efficientnet_b0": 2.9}


def networks() -> dict[str, NetworkSpec]:
    """MnasNet-B1 at half width (timm does not scale its head) and EfficientNet-B0; no drop path on either side."""
    half = scale(published("mnasnet_b1"), depth=1, width=0.5, resolution=RESOLUTION)
    b0 = replace(published("efficientnet_b0"), resolution=RESOLUTION)
    specs = {"mnasnet_050": replace(half, head_channels=1280), "efficientnet_b0": b0}
    return {name: replace(spec, num_classes=CLASSES, drop_path=0.0) for name, spec in specs.items()}


class Side:
    """One network in training, fed with random images in its memory format."""

    def __init__(self, module: nn.Module, device: str, memory_format: torch.memory_format) -> None:
        self.module = module.to(device, memory_format=memory_format).train()
        self.optimizer = make_optimizer(self.module, PRESETS["cifar"])
        images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION, device=device)
        self.images = images.contiguous(memory_format=memory_format)
        self.labels = torch.arange(BATCH, device=device) % CLASSES

    def step_s(self) -> float:
        started = time.perf_counter()
        nn.functional.cross_entropy(self.module(self.images), self.labels).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        wait(self.images)
        return time.perf_counter() - started


def wait(x: torch.Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize()


def best_s(sides: dict[str, Side], rounds: int) -> dict[str, float]:
    """Seconds of the fastest step of each; one step of each is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            times[name].append(side.step_s())
    return {name: min(values[1:]) for name, values in times.items()}


def preparation_s(spec: NetworkSpec, preset: str, device: str, rounds: int) -> float:
    """Seconds of the preparation of a batch of colour images, taken from memory to the device; the fastest round."""
    images = torch.randint(0, 256, (BATCH, 3, RESOLUTION, RESOLUTION), dtype=torch.uint8).numpy()
    split = Split(images, (torch.arange(BATCH) % CLASSES).numpy())
    data = ImageData("random", tuple(map(str, range(CLASSES))), RESOLUTION, split, split, split)
    change = Augmentation(PRESETS[preset], input_transform(spec, data), CLASSES, PRESETS[preset].stages - 1)
    times = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        x, _ = change(torch.tensor(split.images).to(device), torch.tensor(split.labels).to(device))
        wait(x)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"torch {torch.__version__}, timm {timm.__version__}, {options.device}, {options.threads} threads, "
        f"{options.rounds} rounds of {BATCH} images, {RESOLUTION} x {RESOLUTION}"
    )
    for name, spec in networks().items():
        ours = build_module(spec)
        theirs = [timm.create_model(name, num_classes=CLASSES) for _ in range(2)]
        assert parameters(ours) == parameters(theirs[0]), (parameters(ours), parameters(theirs[0]))
        sides = {
            "mnas channels-last": Side(ours, options.device, torch.channels_last),
            "timm channels-last": Side(theirs[0], options.device, torch.channels_last),
            "timm NCHW": Side(theirs[1], options.device, torch.contiguous_format),
        }
        seconds = best_s(sides, options.rounds)
        own = seconds["mnas channels-last"]
        print(f"\n{name}: {parameters(ours):,} parameters")
        for side, value in seconds.items():
            print(f"  {side:20} {BATCH / value:8.1f} img/s   mnas / this {value / own:5.2f}")
        print(f"  targets: {TARGETS[name]} x timm NCHW, 0.98 x timm channels-last")
        for preset in PRESETS:
            share = preparation_s(spec, preset, options.device, options.rounds) / own
            print(f"  preparation of a batch, {preset:12} {share:6.1%} of a step (target: at most 5 %)")


if __name__ == "__main__":
    main()
