"""Several processes that share each batch, started by torchrun; one process where it was not."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import distributed, nn


@dataclass(frozen=True, slots=True)
class Group:
    """The processes of a training.

    Args:
        rank: of this one; 0 writes and speaks.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module whose gradients are the mean over all processes; the statistics of norms are rank 0's."""
        return module if self.size == 1 else nn.parallel.DistributedDataParallel(module)

    def without_sync(self, module: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Within it, gradients are added up and not yet averaged."""
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return module.no_sync()
        return contextlib.nullcontext()


@contextlib.contextmanager
def joined(device: str) -> Iterator[tuple[Group, str]]:
    """The group that torchrun started, and the device of this process; alone where there is no torchrun.

    Args:
        device: as torch names it; `cuda` becomes the process's own.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(), device
        return
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Group(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        distributed.destroy_process_group()
