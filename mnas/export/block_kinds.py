"""What two blocks have in common, and the numbers in which they differ: the ground for one function for both."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
    Block,
    Conv,
    Dropout,
    DropPath,
    GlobalPool,
    Linear,
    MatchChannels,
    MaxPool,
    Operation,
    Shuffle,
)


@dataclass(frozen=True, slots=True)
class Slot:
    """A number that a block is built with: only numbers of one kind are ever the same parameter."""

    kind: str
    hint: str
    value: Any


def is_symmetric(conv: Conv) -> bool:
    """Whether the padding is the same on opposite sides."""
    return conv.pads[:2] == conv.pads[2:]


def split_drop_path(block: Block) -> tuple[tuple[tuple[str, Operation | Block], ...], float | None]:
    """The steps without the drop path before a skip, and its rate."""
    last = block.steps[-1][1] if block.steps else None
    if block.combine == "add" and isinstance(last, DropPath):
        return block.steps[:-1], last.rate
    return block.steps, None


def is_sequence(block: Block) -> bool:
    """Whether the steps are numbered: a stage, or all stages."""
    names = [name for name, _ in block.steps]
    return block.combine is None and names == [str(number) for number in range(len(names))]


def step_slots(step: Operation | Block) -> list[Slot]:
    """The numbers of one step, in a fixed order."""
    match step:
        case Block():
            return call_slots(step)
        case Conv(in_shape=(channels, _, _), out_channels=out, kernel=kernel, stride=stride, groups=groups):
            found = [Slot("channels", "inner", channels), Slot("channels", "inner", out)]
            found += [Slot("kernel", "kernel", kernel), Slot("stride", "stride", stride)]
            found += [Slot("channels", "groups", groups)] if groups > 1 else []
            top, left, bottom, right = step.pads
            return found + ([] if is_symmetric(step) else [Slot("pad", "pad", (left, right, top, bottom))])
        case BatchNorm(in_shape=(channels, _, _)):
            return [Slot("channels", "inner", channels)]
        case MatchChannels(in_shape=(channels, _, _), out_channels=out):
            return [Slot("channels", "inner", channels), Slot("channels", "inner", out)]
        case AvgPool(kernel=kernel, stride=stride) | MaxPool(kernel=kernel, stride=stride):
            return [Slot("kernel", "kernel", kernel), Slot("stride", "stride", stride)]
        case Linear(in_shape=in_shape, out_features=out):
            return [Slot("channels", "inner", prod(in_shape)), Slot("channels", "inner", out)]
        case DropPath(rate=rate) | Dropout(rate=rate):
            return [Slot("rate", "rate", rate)]
        case Shuffle(groups=groups):
            return [Slot("channels", "groups", groups)]
        case Activate() | GlobalPool():
            return []


def body_slots(block: Block) -> list[Slot]:
    """Channels in and out, then the numbers of each step but the drop path before a skip."""
    found = [Slot("channels", "channels", block.in_shape[0]), Slot("channels", "out", block.out_shape[0])]
    for name, step in split_drop_path(block)[0]:
        for slot in step_slots(step):
            if isinstance(step, Block):
                slot = replace(slot, hint=f"{name}_{slot.kind}")
            found.append(slot)
    return found


def call_slots(block: Block) -> list[Slot]:
    """The numbers of the body, of the shortcut, and the rate of the drop path."""
    rate = split_drop_path(block)[1]
    return [
        *body_slots(block),
        *([] if block.shortcut is None else call_slots(block.shortcut)),
        *([] if rate is None else [Slot("drop_path", "drop_path", rate)]),
    ]


def kind_of(block: Block) -> tuple[Any, ...]:
    """Equal for blocks whose layers one function can make."""
    return (block.label, *((name, _step_kind(step)) for name, step in split_drop_path(block)[0]))


def _step_kind(step: Operation | Block) -> tuple[Any, ...]:
    name = type(step).__name__
    match step:
        case Block():
            shortcut = step.shortcut and _step_kind(step.shortcut)
            dropped = split_drop_path(step)[1] is not None
            return (name, step.combine, shortcut, dropped, step.after and step.after.kind, kind_of(step))
        case Conv(groups=groups, bias=bias):
            return (name, groups > 1, bias, is_symmetric(step))
        case AvgPool(kernel=kernel):
            return (name, kernel % 2)
        case BatchNorm(eps=eps, momentum=momentum):
            return (name, eps, momentum)
        case Activate(kind=kind):
            return (name, kind)
        case _:
            return (name,)
