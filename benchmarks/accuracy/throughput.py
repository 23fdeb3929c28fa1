"""Training throughput of our modules beside timm's own, in one process and in turn.

    python benchmarks/accuracy/throughput.py [--device cuda] [--amp] [--compile] [--network efficientnet_b0]

A step is forward, loss, backward and an SGD step on 128 images of 32 x 32 pixels. Figures are images a second of the
fastest round: other work on the machine only ever slows a round down. A round is one step on the CPU; on a GPU it is
ten, which the clock brackets with a synchronisation. The networks are the same on both sides, which their parameters
show. With --compile our module also goes through torch.compile, which takes a minute or more: the first step shows it.
Beside it are the memory that a step takes on top of what is there before it (a GPU's only; of the CPU the whole
process's peak) and the share that the preparation of the images takes, for each preset.
"""

import argparse
import resource
import time
from dataclasses import dataclass, replace
from typing import cast

import timm
import torch
import torch.compiler.config
from torch import nn

from mnas.data import ImageData, Split
from mnas.inputs import input_transform
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.search_space.scaling import scale
from mnas.trainer import PRESETS
from mnas.trainer.augment import Augmentation
from mnas.trainer.optim import make_optimizer
from mnas.zoo import published

BATCH, RESOLUTION, CLASSES = 128, 32, 10
TARGETS = {"mnasnet_050": 3.5, "efficientnet_b0": 2.9}
OURS = "mnas channels-last"
GPU_STEPS = 10  # of a round: a step of some 10 ms is short beside what a synchronisation costs
UNCOUNTED = 2  # rounds before those that count: memory is found, and algorithms are chosen, in the first


def networks() -> dict[str, NetworkSpec]:
    """MnasNet-B1 at half width (timm does not scale its head) and EfficientNet-B0; no drop path on either side."""
    half = scale(published("mnasnet_b1"), depth=1, width=0.5, resolution=RESOLUTION)
    b0 = replace(published("efficientnet_b0"), resolution=RESOLUTION)
    specs = {"mnasnet_050": replace(half, head_channels=1280), "efficientnet_b0": b0}
    return {name: replace(spec, num_classes=CLASSES, drop_path=0.0) for name, spec in specs.items()}


class Side:
    """One network in training, fed with random images in its memory format, in float32 or under bf16 autocast."""

    def __init__(
        self, module: nn.Module, device: str, memory_format: torch.memory_format, *, amp: bool, compiled: bool
    ) -> None:
        self.module = module.to(device, memory_format=memory_format).train()
        self.optimizer = make_optimizer(self.module, PRESETS["cifar"])
        if compiled:
            self.module = cast(nn.Module, torch.compile(self.module, fullgraph=True))
        images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION, device=device)
        self.images = images.contiguous(memory_format=memory_format)
        self.labels = torch.arange(BATCH, device=device) % CLASSES
        self.amp = amp

    def step(self) -> None:
        with torch.autocast(self.images.device.type, torch.bfloat16, enabled=self.amp):
            loss = nn.functional.cross_entropy(self.module(self.images), self.labels)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def seconds(self, steps: int) -> float:
        """Of one step, the mean over `steps` without a synchronisation between them."""
        wait(self.images)
        started = time.perf_counter()
        for _ in range(steps):
            self.step()
        wait(self.images)
        return (time.perf_counter() - started) / steps

    def step_mib(self) -> float:
        """GPU memory that a step takes on top of what is allocated before it."""
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        self.step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20


def wait(x: torch.Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Figures:
    """Of one side: seconds of the first step and of a step in the fastest round; MiB of a step, None on the CPU."""

    first_s: float
    step_s: float
    step_mib: float | None


def measure(sides: dict[str, Side], rounds: int) -> dict[str, Figures]:
    """The sides take turns, round by round; the first rounds of each are not counted."""
    gpu = next(iter(sides.values())).images.device.type == "cuda"
    first = {name: side.seconds(1) for name, side in sides.items()}
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(UNCOUNTED + rounds):
        for name, side in sides.items():
            times[name].append(side.seconds(GPU_STEPS if gpu else 1))
    return {
        name: Figures(first[name], min(times[name][UNCOUNTED:]), side.step_mib() if gpu else None)
        for name, side in sides.items()
    }


def make_sides(name: str, spec: NetworkSpec, device: str, *, amp: bool, compiled: bool) -> dict[str, Side]:
    """Ours and timm's by what is printed; every one has weights of its own."""

    def side(module: nn.Module, layout: torch.memory_format, *, amp: bool, compiled: bool = False) -> Side:
        return Side(module, device, layout, amp=amp, compiled=compiled)

    last, first = torch.channels_last, torch.contiguous_format
    sides = {}
    for precision, autocast in (("", False), (", bf16", True))[: 1 + amp]:
        sides[OURS + precision] = side(build_module(spec), last, amp=autocast)
        if compiled:
            sides["mnas compiled" + precision] = side(build_module(spec), last, amp=autocast, compiled=True)
        theirs = [timm.create_model(name, num_classes=CLASSES) for _ in range(2)]
        sides["timm channels-last" + precision] = side(theirs[0], last, amp=autocast)
        sides["timm NCHW" + precision] = side(theirs[1], first, amp=autocast)
    counts = {name: parameters(side.module) for name, side in sides.items()}
    assert len(set(counts.values())) == 1, counts
    return sides


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


def report(name: str, spec: NetworkSpec, options: argparse.Namespace) -> None:
    sides = make_sides(name, spec, options.device, amp=options.amp, compiled=options.compile)
    figures = measure(sides, options.rounds)
    own = figures[OURS].step_s
    print(f"\n{name}: {parameters(sides[OURS].module):,} parameters")
    for side, found in figures.items():
        line = f"  {side:24} {BATCH / found.step_s:9.1f} img/s   mnas / this {found.step_s / own:5.2f}"
        if found.step_mib is not None:
            line += f"   a step takes {found.step_mib:6.1f} MiB"
        if "compiled" in side:
            line += f"   first step {found.first_s:.1f} s"
        print(line)
    print(f"  targets on the CPU: {TARGETS[name]} x timm NCHW, 0.98 x timm channels-last")
    shares = {preset: preparation_s(spec, preset, options.device, options.rounds) / own for preset in PRESETS}
    parts = ", ".join(f"{preset} {share:.1%}" for preset, share in shares.items())
    print(f"  preparation of a batch in steps (target: at most 5 %): {parts}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--network", choices=TARGETS, help="only this one")
    parser.add_argument("--amp", action="store_true", help="bf16 autocast beside float32")
    parser.add_argument("--compile", action="store_true", help="our module compiled too")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    torch.compiler.config.force_disable_caches = True  # or an earlier run makes compiling look quick
    gpu = torch.device(options.device).type == "cuda"
    where = torch.cuda.get_device_name(options.device) if gpu else f"{options.threads} threads"
    print(
        f"torch {torch.__version__}, timm {timm.__version__}, {options.device}, {where}, "
        f"{options.rounds} rounds of {GPU_STEPS if gpu else 1} steps, {BATCH} images, {RESOLUTION} x {RESOLUTION}"
    )
    for name, spec in networks().items():
        if options.network in (None, name):
            report(name, spec, options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process {peak:.1f} GiB")


if __name__ == "__main__":
    main()
