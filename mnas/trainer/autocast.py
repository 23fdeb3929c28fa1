"""Whether bf16 autocast is faster here, measured before it is used."""

import copy
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

STEPS = 5  # timed each way, in turn, after one of each that is not (chosen here)
GAIN = 0.95  # of the time in float32 that autocast may take to be used (chosen here: less is noise)


def time_autocast(module: nn.Module, x: Tensor, target: Tensor) -> tuple[float, float]:
    """Seconds of one forward and backward pass in float32 and under bf16 autocast: the least of `STEPS`.

    A copy of the module is trained, so that nothing of it changes; random numbers are drawn.

    Args:
        module: the network, on the device of `x`.
        x: (n, c, h, w) float32.
        target: (n,) int64, or (n, classes) float32.
    """
    trial = copy.deepcopy(module).train()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(STEPS + 1):
        for enabled, times in seconds.items():
            times.append(_pass(trial, x, target, enabled))
    plain, autocast = (min(times[1:]) for times in seconds.values())
    return plain, autocast


def _pass(module: nn.Module, x: Tensor, target: Tensor, enabled: bool) -> float:
    _wait(x)
    started = time.perf_counter()
    with torch.autocast(x.device.type, torch.bfloat16, enabled=enabled):
        loss = functional.cross_entropy(module(x), target)
    loss.backward()  # type: ignore[no-untyped-call]
    module.zero_grad()
    _wait(x)
    return time.perf_counter() - started


def _wait(x: Tensor) -> None:
    if x.device.type == "cuda":
        torch.cuda.synchronize(x.device)
