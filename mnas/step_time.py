"""The time of a training step on this machine: networks in turns, each beside a reference.

A step is that of `mnas.training`: forward, loss, backward, an update by SGD with momentum; images are random and lie in
memory. What else a device does moves all steps alike, so a network's time is its ratio to the reference's next to it.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from mnas.errors import InputError
from mnas.latency import Progress
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.threads import torch_threads
from mnas.training import LABEL_SMOOTHING, repeatable, sgd

# Networks between two steps of the reference, which take their ratio to the one before them (chosen here).
BESIDE = 4
# Rounds that count, after one that does not: memory, kernels and caches settle in the first (chosen here).
ROUNDS = 3


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Training steps of some networks.

    Args:
        reference_ms: of the reference, median over all its steps.
        ratios: by network, in the order of the rounds: its step's time over that of the reference's before it.
        conditions: device, threads and batch, in words.
        seconds: that measuring took.
    """

    reference_ms: float
    ratios: Mapping[str, tuple[float, ...]]
    conditions: str
    seconds: float

    def ratio(self, name: str) -> float:
        """Of a network: the median over rounds."""
        return median(self.ratios[name])

    @property
    def spread(self) -> float:
        """By how much a network's ratio differs between rounds, greatest over least - 1: the median over networks."""
        return median(max(ratios) / min(ratios) - 1 for ratios in self.ratios.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "reference_ms": self.reference_ms,
            "ratios": {name: list(ratios) for name, ratios in self.ratios.items()},
            "conditions": self.conditions,
            "seconds": self.seconds,
        }


def time_steps(
    networks: Mapping[str, NetworkSpec],
    *,
    reference: NetworkSpec,
    batch: int,
    device: str = "cpu",
    threads: int = 1,
    rounds: int = ROUNDS,
    seed: int,
    on_progress: Progress | None = None,
) -> StepTimes:
    """Times a training step of each network, in a new order each round.

    Args:
        networks: by name, at least one.
        reference: what each is compared with.
        batch: images of a step, at least 2.
        device: as torch names it.
        threads: of torch; with one, on a CPU, time on the core counts and other work does not.
        rounds: that count, at least 1.
        seed: of weights, images and order.
        on_progress: called with steps done, their total, and what is being done.

    Raises:
        InputError: no networks, or a number outside its domain.
    """
    if not networks or batch < 2 or rounds < 1:
        raise InputError(
            f"training steps are timed of at least one network, 2 images and 1 round; got {len(networks)}, {batch} "
            f"and {rounds}."
        )
    started = time.perf_counter()
    ratios: dict[str, list[float]] = {name: [] for name in networks}
    reference_s: list[float] = []
    rng, names = random.Random(derive_seed(seed, "order")), list(networks)
    clock = time.process_time if device == "cpu" and threads == 1 else time.perf_counter
    done, total = 0, (rounds + 1) * len(networks)
    with torch_threads(threads), repeatable(device):
        own = _step(reference, batch, device, seed)
        steps = {name: _step(spec, batch, device, seed) for name, spec in networks.items()}
        for number in range(rounds + 1):
            rng.shuffle(names)
            left = iter(names)
            while company := list(islice(left, BESIDE)):
                beside_s = _seconds(own, clock)
                for name in company:
                    seconds = _seconds(steps[name], clock)
                    if number:
                        ratios[name].append(seconds / beside_s)
                    done += 1
                    if on_progress is not None:
                        on_progress(done, total, "timing training steps")
                if number:
                    reference_s.append(beside_s)
    return StepTimes(
        1000 * median(reference_s),
        {name: tuple(found) for name, found in ratios.items()},
        f"batch {batch}, fp32, {_where(device, threads)}, torch {torch.__version__}",
        round(time.perf_counter() - started, 3),
    )


def _step(spec: NetworkSpec, batch: int, device: str, seed: int) -> Callable[[], None]:
    """A training step of a network on random images, which ends when the device has ended it."""
    module = build_module(spec, seed=derive_seed(seed, "weights")).to(device).train()
    optimizer = sgd(module)
    generator = torch.Generator().manual_seed(derive_seed(seed, "images"))
    shape = (batch, spec.in_channels, spec.resolution, spec.resolution)
    images = torch.randn(shape, generator=generator).to(device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(spec.num_classes, (batch,), generator=generator).to(device)

    def step() -> None:
        loss = functional.cross_entropy(module(images), labels, label_smoothing=LABEL_SMOOTHING)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    return step


def _seconds(step: Callable[[], None], clock: Callable[[], float]) -> float:
    """Of one step; never 0."""
    start = clock()
    step()
    return max(clock() - start, 1e-9)


def _where(device: str, threads: int) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{device}, {threads} thread{'s' if threads > 1 else ''}"
