"""One step of training, and what it takes: the images of a batch, and how they are changed in a stage."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnas.seeds import derive_seed
from mnas.trainer.augment import Augmentation
from mnas.trainer.parallel import Group
from mnas.trainer.schedule import learning_rate, ramped, stage_of, stage_resolution
from mnas.trainer.state import State, Task


def train_step(
    task: Task,
    state: State,
    trained: nn.Module,
    change: Augmentation,
    parts: Iterator[tuple[Tensor, Tensor]],
    count: int,
    group: Group,
) -> float:
    """One optimizer step on a batch, computed in parts; the mean loss of this process's share.

    Args:
        task: what is trained.
        state: changed in place.
        trained: the module, wrapped where processes share a batch.
        change: makes inputs of images.
        parts: images (k, c, h, w) uint8 and labels (k,) int64 on the device; as many are taken as are this process's
            of the batch (`own_parts`).
        count: images of the batch, of all processes.
        group: the processes that share the batch.
    """
    recipe, progress = task.recipe, state.progress
    progress.step += 1
    for settings in state.optimizer.param_groups:
        settings["lr"] = learning_rate(recipe, progress.step, task.steps_per_epoch)
    own = range(group.rank * progress.accumulate, (group.rank + 1) * progress.accumulate)
    total = torch.zeros((), device=task.device)
    for number, (images, labels) in zip(own, parts, strict=False):
        torch.manual_seed(derive_seed(task.seed, "part", progress.step, number))
        x, target = change(images, labels)
        last = number == own[-1]
        with (
            contextlib.nullcontext() if last else group.without_sync(trained),
            torch.autocast(x.device.type, torch.bfloat16, enabled=bool(progress.autocast)),
        ):
            loss = functional.cross_entropy(trained(x), target, label_smoothing=recipe.label_smoothing)
            loss = loss * (len(labels) * group.size / count)  # processes are averaged
            loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema is not None:
        state.ema.update(state.module, progress.step)
    return float(total)


def own_parts(batch: Tensor, accumulate: int, group: Group) -> tuple[Tensor, ...]:
    """Of the numbers (n,) of a batch's images those that this process computes, in the parts that it does at once."""
    first = group.rank * accumulate
    return batch.tensor_split(accumulate * group.size)[first : first + accumulate]


def batches_of(task: Task, epoch: int) -> tuple[Tensor, ...]:
    """The numbers of the training images, in the order of an epoch."""
    generator = torch.Generator().manual_seed(derive_seed(task.seed, "order", epoch))
    order = torch.randperm(len(task.data.train), generator=generator)
    return order.tensor_split(task.steps_per_epoch)


def enter_stage(task: Task, state: State, epoch: int) -> Augmentation:
    """Sets the dropout of an epoch's stage in the module; what makes inputs of images at its resolution."""
    recipe = task.recipe
    stage = stage_of(recipe, epoch)
    for layer in state.module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = ramped(recipe.dropout, recipe, stage)
    resolution = stage_resolution(recipe, stage, task.spec.resolution)
    return Augmentation(recipe, replace(task.inputs, resolution=resolution), len(task.data.classes), stage)
