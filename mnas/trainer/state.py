"""What is trained and how far it is: a task that never changes, and the state that a checkpoint holds."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from mnas.data import ImageData
from mnas.errors import InputError
from mnas.inputs import InputTransform, input_transform
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.trainer.optim import Ema, make_optimizer
from mnas.trainer.recipe import Recipe
from mnas.training import start_branches_at_zero as start_branches_at_zero


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A training as it was asked for.

    Args:
        spec: the network; its own dropout and drop path give way to the recipe's.
        recipe: how.
        data: images; `test` is not read here.
        inputs: what turns images into the network's input.
        seed: of the initial weights, the order of images, and everything random in a step.
        device: as torch names it.
        amp: whether bf16 autocast may be used where it is measured to be faster.
    """

    spec: NetworkSpec
    recipe: Recipe
    data: ImageData
    inputs: InputTransform
    seed: int
    device: str = "cpu"
    amp: bool = False

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch; batches are equal to within one image."""
        return -(-len(self.data.train) // self.recipe.batch_size)


@dataclass(slots=True)
class Progress:
    """Where a training is, as plain JSON.

    Args:
        step: optimizer steps done, in all epochs.
        epoch: epochs done, scored and in `history`.
        loss_sum: loss x images of the epoch under way.
        seconds: wall clock, interruptions not counted.
        best_epoch: whose weights are kept; 0 is none yet.
        best_accuracy: of that epoch on the validation split.
        accumulate: parts of a batch; more than the recipe's after memory ran out.
        autocast: whether bf16 autocast was measured to be faster; None before that.
        history: one object for each epoch done.
    """

    step: int = 0
    epoch: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    best_epoch: int = 0
    best_accuracy: float = 0.0
    accumulate: int = 1
    autocast: bool | None = None
    history: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: not an object with exactly these fields.
        """
        if not isinstance(data, dict) or set(data) != {item.name for item in fields(cls)}:
            raise InputError("it does not hold the progress of a training of this version")
        return cls(**data)


@dataclass(slots=True, eq=False)
class State:
    """Everything that changes while a network is trained.

    Args:
        module: the network, on the task's device.
        optimizer: of its parameters.
        ema: the moving average, where the recipe has one.
        best: state dict on the CPU of the best epoch's scored network; empty before the first.
        progress: where it is.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    best: dict[str, Tensor]
    progress: Progress

    @property
    def scored(self) -> nn.Module:
        """The network that is scored and kept: the average where there is one."""
        return self.module if self.ema is None else self.ema.module


def make_task(
    spec: NetworkSpec,
    recipe: Recipe,
    data: ImageData,
    *,
    seed: int,
    device: str = "cpu",
    amp: bool = False,
    processes: int = 1,
) -> Task:
    """A task whose parts fit each other; arguments as of `Task`, and the number of processes that share a batch.

    Raises:
        InputError: a network that does not fit the data, or parts of a batch that are too small for a batch norm.
    """
    task = Task(spec, recipe, data, input_transform(spec, data), seed, device, amp)
    parts = recipe.accumulate * processes
    smallest = len(data.train) // task.steps_per_epoch // parts
    if smallest < 2:
        raise InputError(
            f"batches of {recipe.batch_size} images in {parts} parts, from {len(data.train)} images, "
            f"leave a part of {smallest}; a batch norm needs 2. Use another --batch-size."
        )
    return task


def new_state(task: Task, initial: dict[str, Tensor] | None = None) -> State:
    """The state before the first step.

    Residual branches begin at zero and the classifier near it. As published, a classifier of 10 classes begins with
    logits that cost the first epochs: MnasNet-small had 16 % after 3 epochs of 12,000 images of CIFAR-10, so 34 %.

    Args:
        task: what is trained.
        initial: entries of the state dict that replace the seed's initial weights; None is none.
    """
    recipe = task.recipe
    # Dropout is built where any stage has some; the loop sets each stage's rate.
    spec = replace(task.spec, dropout=max(recipe.dropout), drop_path=recipe.drop_path)
    module = build_module(spec, seed=derive_seed(task.seed, "weights"))
    _start_small(module, task.seed)
    if initial is not None:
        module.load_state_dict({**module.state_dict(), **initial})
    module.to(task.device)
    ema = Ema(module, recipe.ema_decay) if recipe.ema_decay else None
    return State(module, make_optimizer(module, recipe), ema, {}, Progress(accumulate=recipe.accumulate))


def _start_small(module: nn.Module, seed: int) -> None:
    """Reference: arXiv 1706.02677, section 5.1: last norm of a branch zero, linear layers of deviation 0.01."""
    start_branches_at_zero(module)
    generator = torch.Generator().manual_seed(derive_seed(seed, "classifier"))
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01, generator=generator)
