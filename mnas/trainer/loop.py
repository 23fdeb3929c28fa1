"""The training loop: steps, epochs, checkpoints, and what happens when memory runs out.

Random numbers of a step depend on the seed and the step's number alone, so that a training that was killed goes on
exactly as if it had not been.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import torch

from mnas.data.feed import Feed, resident_feed
from mnas.seeds import derive_seed
from mnas.trainer.autocast import GAIN, time_autocast
from mnas.trainer.parallel import Group
from mnas.trainer.state import State, Task
from mnas.trainer.step import batches_of, enter_stage, own_parts, train_step
from mnas.training import TrainingError, evaluate, free_memory, out_of_memory, repeatable

CHECKPOINT_S = 300.0  # between checkpoints inside an epoch (chosen here: the most that a kill can cost)


class Listener(Protocol):
    """Is told how it goes."""

    def progress(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps; `text` is a short state."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...

    def warn(self, text: str) -> None:
        """Something that a person should worry about."""
        ...


def fit(
    task: Task,
    start: Callable[[], State],
    *,
    save: Callable[[State], None],
    listener: Listener,
    group: Group | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> State:
    """Trains to the end of the recipe.

    Args:
        task: what is trained.
        start: the state to go on from: a new one, or the last checkpoint's. Called again after memory ran out.
        save: keeps the state; called at the start, after each epoch, and every `checkpoint_s` seconds.
        listener: told of progress.
        group: the processes that share each batch; None is this one alone.
        checkpoint_s: see `save`.

    Returns:
        The state after the last epoch.

    Raises:
        TrainingError: the loss or the weights are not finite, or memory ran out twice. What was saved is whole.
    """
    group = group or Group()
    state = start()
    for retry in (True, False):
        try:
            with _seeded_steps(task.device), repeatable(task.device):
                _run(task, state, save, listener, group, checkpoint_s)
            return state
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if not retry or group.size > 1 or not _can_halve(task, state.progress.accumulate):
                raise TrainingError(
                    f"out of memory with {_part(task, state, group)} images at once ({error}). The last checkpoint is "
                    f"whole; train with a smaller --batch-size, a larger --accumulate or a smaller --resolution."
                ) from error
            accumulate = 2 * state.progress.accumulate
        del state  # before it is made again
        free_memory(task.device)
        state = start()
        state.progress.accumulate = accumulate
        listener.warn(
            f"out of memory: going on from the last checkpoint with batches of {task.recipe.batch_size} images in "
            f"{accumulate} parts."
        )
    raise AssertionError("unreachable")


def _can_halve(task: Task, accumulate: int) -> bool:
    return len(task.data.train) // task.steps_per_epoch // (2 * accumulate) >= 2


def _part(task: Task, state: State, group: Group) -> int:
    return -(-task.recipe.batch_size // (state.progress.accumulate * group.size))


@contextlib.contextmanager
def _seeded_steps(device: str) -> Iterator[None]:
    """Gives the global generators back as they were."""
    cuda = [torch.device(device)] if device.startswith("cuda") else []
    with torch.random.fork_rng(devices=cuda):
        yield


def _run(
    task: Task,
    state: State,
    save: Callable[[State], None],
    listener: Listener,
    group: Group,
    checkpoint_s: float,
) -> None:
    progress = state.progress
    trained = group.wrap(state.module)
    clock = saved = time.monotonic()
    earlier = progress.seconds
    feed = resident_feed(task.data.train, task.device)
    if task.amp and progress.autocast is None:
        progress.autocast = _autocast_gains(task, state, feed, listener, group)
    if progress.step == 0:
        save(state)
    for epoch in range(progress.epoch + 1, task.recipe.epochs + 1):
        change = enter_stage(task, state, epoch)
        state.module.train()
        batches = batches_of(task, epoch)
        done = progress.step - (epoch - 1) * len(batches)
        parts = [part for batch in batches[done:] for part in own_parts(batch, progress.accumulate, group)]
        with contextlib.closing(feed.batches(parts)) as loaded:
            for number, batch in enumerate(batches[done:], done + 1):
                value = train_step(task, state, trained, change, loaded, len(batch), group)
                _check_loss(task, value, epoch, number, progress.epoch)
                progress.loss_sum += value * len(batch)
                progress.seconds = earlier + time.monotonic() - clock
                listener.progress(
                    progress.step, task.recipe.epochs * len(batches), f"epoch {epoch}, loss {value:.3f}"
                )
                if time.monotonic() - saved >= checkpoint_s and number < len(batches):
                    _check_weights(state)
                    save(state)
                    saved = time.monotonic()
        _end_epoch(task, state, epoch, group)
        progress.seconds = earlier + time.monotonic() - clock
        save(state)
        saved = time.monotonic()


def _end_epoch(task: Task, state: State, epoch: int, group: Group) -> None:
    """Scores the epoch on the validation split and keeps its weights where they are the best so far."""
    _check_weights(state)
    progress = state.progress
    accuracy = evaluate(state.scored, task.data.val, task.inputs) if group.rank == 0 else 0.0
    if accuracy > progress.best_accuracy or progress.best_epoch == 0:
        progress.best_epoch, progress.best_accuracy = epoch, accuracy
        state.best = {name: value.detach().cpu().clone() for name, value in state.scored.state_dict().items()}
    progress.history.append(
        {
            "epoch": epoch,
            "step": progress.step,
            "lr": state.optimizer.param_groups[0]["lr"],
            "loss": progress.loss_sum / len(task.data.train),
            "val_accuracy": accuracy,
            "seconds": round(progress.seconds, 3),
        }
    )
    progress.epoch, progress.loss_sum = epoch, 0.0


def _check_loss(task: Task, value: float, epoch: int, step: int, whole: int) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"the loss is {value} in epoch {epoch} of {task.recipe.epochs}, step {step} of {task.steps_per_epoch}. "
            f"The checkpoint is the last good one, with {whole} epochs done. Train again with a smaller rate: "
            f"--lr {task.recipe.lr / 4:.3g}"
        )


def _check_weights(state: State) -> None:
    for name, value in state.module.state_dict().items():
        if not value.isfinite().all():
            raise TrainingError(
                f"{name} holds NaN or infinity after step {state.progress.step}. The last checkpoint is whole and "
                f"kept. Train again with a smaller rate: --lr"
            )


def _autocast_gains(task: Task, state: State, feed: Feed, listener: Listener, group: Group) -> bool:
    """Measures a few passes each way on the first batch, and says what it measured."""
    change = enter_stage(task, state, 1)
    part, *_ = batches_of(task, 1)[0].tensor_split(state.progress.accumulate * group.size)
    ((images, labels),) = feed.batches([part])
    torch.manual_seed(derive_seed(task.seed, "autocast"))
    x, target = change(images, labels)
    plain, autocast = time_autocast(state.module, x, target)
    gains = autocast < GAIN * plain
    listener.note(
        f"bf16 autocast takes {autocast * 1e3:.1f} ms for {len(x)} images, float32 {plain * 1e3:.1f} ms: "
        f"{'used' if gains else 'not used'}"
    )
    return gains
