"""Which GPU or which cores each worker has to itself."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker has to itself: cores that it stays on, None for any, and what its environment says."""

    cores: list[int] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def core_sets(
    allowed: Sequence[int], workers: int | None, threads: int, reserved: int
) -> tuple[list[list[int]], list[str]]:
    """A set of cores for each worker, and what a person should know of them.

    Args:
        allowed: cores that this process may use, at least one.
        workers: how many; None is as many as have cores of their own, at least one.
        threads: cores of each.
        reserved: cores to leave out, the first ones, on which latency is measured.

    >>> core_sets([0, 1, 2, 3, 4], None, 2, reserved=1)
    ([[1, 2], [3, 4]], [])
    >>> core_sets([0, 1], 2, 1, reserved=1)[0]
    [[1], [1]]
    """
    notes = []
    free = list(allowed[reserved:])
    if not free:
        free = list(allowed)
        cores = "core" if len(free) == 1 else "cores"
        notes.append(
            f"with {len(free)} {cores} none is left out for measuring, and nothing is measured during training."
        )
    sets = [free[start : start + threads] for start in range(0, len(free), threads)]
    whole = [cores for cores in sets if len(cores) == threads] or sets[:1]
    count = workers or len(whole)
    if count > len(whole):
        cores = "core" if len(free) == 1 else "cores"
        notes.append(
            f"{count} workers, {threads} at --train-threads, share {len(free)} {cores}: each takes longer."
        )
    return [whole[number % len(whole)] for number in range(count)], notes


def on_gpus(names: Sequence[str], workers: int | None) -> list[Place]:
    """A GPU for each worker, in turn; as many workers as GPUs where None.

    >>> [place.environment["CUDA_VISIBLE_DEVICES"] for place in on_gpus(["2", "5"], 3)]
    ['2', '5', '2']
    """
    count = workers or len(names)
    return [Place(None, {"CUDA_VISIBLE_DEVICES": names[n % len(names)]}) for n in range(count)]


def on_cores(workers: int | None, threads: int, reserved: int) -> tuple[list[Place], list[str]]:
    """A set of cores for each worker where the system can keep processes to them; see `core_sets`."""
    pins = hasattr(os, "sched_setaffinity")
    allowed = sorted(os.sched_getaffinity(0)) if pins else list(range(os.cpu_count() or 1))
    sets, notes = core_sets(allowed, workers, threads, reserved)
    environment = dict.fromkeys(THREADS, str(threads))
    return [Place(cores if pins else None, environment) for cores in sets], notes


# One of them is there where Linux knows a GPU: of NVIDIA, of NVIDIA under Windows, of AMD.
_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def visible_gpus() -> list[str]:
    """As `CUDA_VISIBLE_DEVICES` names them; empty where torch sees none."""
    if sys.platform == "linux" and not any(map(os.path.exists, _DEVICES)):
        return []  # without torch, which takes seconds to load
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",")[:count] if given else [str(number) for number in range(count)]
