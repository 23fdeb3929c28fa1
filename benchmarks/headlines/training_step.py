"""Training steps of ResNet-RS and EfficientNet at like accuracy: images a second, and memory.

    python benchmarks/headlines/training_step.py --device cuda --amp --batch 64

ResNet-RS (arXiv 2103.07579, Table 2) reports that its networks train 1.7 to 2.7 times as fast as EfficientNets of the
same accuracy on TPUs. A step is forward, loss, backward and SGD with momentum on random images at the network's
evaluation resolution. Both networks of a pair are in the process and take turns; a figure is the median over rounds.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional

from mnas.model import build_module
from mnas.zoo import member

# By published top-1: 78.8 and 79.1, 81.2 and 81.6, 83.0 and 82.9, 84.4 and 84.3 per cent.
PAIRS = (
    ("resnet_rs_50", "efficientnet_b1"),
    ("resnet_rs_101", "efficientnet_b3"),
    ("resnet_rs_152", "efficientnet_b4"),
    ("resnet_rs_420", "efficientnet_b7"),
)
WARM, STEPS = 3, 3  # steps before the first round that counts, and steps of a round


def trainer(name: str, device: str, batch: int, *, amp: bool) -> Callable[[], None]:
    """One training step of a network."""
    spec = replace(member(name).spec, drop_path=0.0)
    module = build_module(spec).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(module.parameters(), 0.01, momentum=0.9)
    images = torch.randn(batch, 3, spec.resolution, spec.resolution, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(1000, (batch,), device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=amp):
            loss = functional.cross_entropy(module(images), labels)
        loss.backward()
        optimizer.step()

    return step


def memory_gib(step: Callable[[], None], device: str) -> float | None:
    """What a step takes at most, on a GPU; None elsewhere."""
    if not device.startswith("cuda"):
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def seconds(step: Callable[[], None], device: str) -> float:
    """Of one step, over a round."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--amp", action="store_true")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many")
    options = parser.parse_args()
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    print(
        f"{where}, torch {torch.__version__}, batch {options.batch}, amp {options.amp}, n = {options.rounds} rounds"
    )
    for pair in PAIRS[: options.pairs]:
        steps = {name: trainer(name, options.device, options.batch, amp=options.amp) for name in pair}
        memory = {name: memory_gib(step, options.device) for name, step in steps.items()}
        for step in steps.values():
            for _ in range(WARM):
                step()
        rounds = [
            {name: seconds(step, options.device) for name, step in steps.items()}
            for _ in range(options.rounds)
        ]
        ratios = [row[pair[1]] / row[pair[0]] for row in rounds]
        for name in pair:
            median = statistics.median(row[name] for row in rounds)
            used = "" if memory[name] is None else f", {memory[name]:.2f} GiB"
            top1 = 100 * (member(name).top1 or 0)
            print(f"  {name:16} top-1 {top1:.1f}  {options.batch / median:8.1f} images/s{used}")
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"  {pair[0]} trains {statistics.median(ratios):.2f} times as fast ({spread})", flush=True)
        del steps
        if options.device.startswith("cuda"):
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
