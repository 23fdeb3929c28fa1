"""What a network is run as: the kernels of ONNX Runtime, each with its shape, and their times in a profile.

A kernel is what is timed as one: a convolution with the activation and the addition that are fused with it, a gate of
squeeze-and-excitation as a whole, a swish, a pooling. Two of equal shape take equal time, in whichever network.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, Self, assert_never

from mnas.latency.features import BLOCK
from mnas.latency.operators import Operator
from mnas.search_space import Block, NetworkSpec, Segment, network_program, segment_program
from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
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

Kind = Literal[
    "pointwise",
    "dense",
    "grouped",
    "depthwise",
    "swish",
    "gate",
    "pool",
    "max_pool",
    "match",
    "shuffle",
    "concat",
    "add",
    "global_pool",
    "linear",
]
# ONNX Runtime names an operator that it made from others after the last of them, with these additions.
_ADDED_TO_NAMES = re.compile(r"(_token_\d+|_nchwc)*(/.*)?$")
# What it may put between two operators: a change of memory layout belongs to the one that wanted it.
_FUSED = ("relu", "relu6")  # with the convolution or addition before
_CONVOLUTIONS = ("pointwise", "dense", "grouped", "depthwise")
# Kinds that mobile networks lack. What stands between them is often run outside the blocked layout.
RARE: tuple[Kind, ...] = ("grouped", "shuffle", "concat", "max_pool")


class Kernel(NamedTuple):
    """A kernel and its shape; equal ones take equal time.

    Args:
        kind: what it does.
        inputs: channels that it reads, of the first of two; for `linear` features.
        outputs: channels that it writes; for `gate` those inside.
        height: of its output in pixels, as is `width`; for `gate` and `global_pool` of the input.
        size: of the window in pixels.
        stride: of the window.
        added: whether the block's input is added as it writes.
        groups: of a `grouped` convolution.
        clipped: whether a convolution ends with ReLU6, which costs another pass where ReLU costs nothing.
    """

    kind: Kind
    inputs: int
    outputs: int
    height: int
    width: int
    size: int = 1
    stride: int = 1
    added: bool = False
    groups: int = 1
    clipped: bool = False


@dataclass(frozen=True, slots=True)
class Named:
    """A kernel of one network; `names` are those that its operators may have in the graph."""

    kernel: Kernel
    names: tuple[str, ...]

    def also(self, name: str) -> Self:
        """The same kernel with one more name."""
        return replace(self, names=(*self.names, name))

    def ended(self, name: str, activation: str) -> Self:
        """The same kernel with an activation that is fused with it."""
        clipped = activation == "relu6" and self.kernel.kind in _CONVOLUTIONS
        return replace(self.also(name), kernel=self.kernel._replace(clipped=clipped))


@lru_cache(maxsize=65536)
def segment_kernels(segment: Segment) -> tuple[tuple[Kernel, int], ...]:
    """The kernels of a stem, a stage or a head, and how often each is run; cached."""
    return tuple(Counter(item.kernel for item in _named(segment_program(segment))).items())


@lru_cache(maxsize=65536)
def segment_counts(segment: Segment) -> tuple[int, int, int]:
    """Kernels of a segment; those that read channels that do not fill their blocks; those of `RARE` kinds; cached."""
    counts = segment_kernels(segment)
    unaligned = sum(n for kernel, n in counts if kernel.inputs % BLOCK)
    return sum(n for _, n in counts), unaligned, sum(n for kernel, n in counts if kernel.kind in RARE)


def named_kernels(spec: NetworkSpec) -> tuple[Named, ...]:
    """The kernels of a network in order of execution, with the names of their operators."""
    return tuple(_named(network_program(spec)))


def kernel_times(kernels: Sequence[Named], operators: Sequence[Operator]) -> tuple[list[float], float]:
    """Milliseconds of each kernel in a profile, `(kernels,)`, and the share of the profile found by name.

    Operators that no kernel's name is like are what ONNX Runtime added: changes of layout, mostly. They count for the
    nearest kernel that is no convolution, since convolutions hold the blocked layout and others need to leave it.

    Args:
        kernels: of the network.
        operators: its profile, in order of execution.
    """
    index = {name: number for number, item in enumerate(kernels) for name in item.names}
    owners = [_owner(operator.name, index) for operator in operators]
    times, named_ms = [0.0] * len(kernels), 0.0
    for number, (operator, owner) in enumerate(zip(operators, owners, strict=True)):
        if owner is None:
            after = next((other for other in owners[number + 1 :] if other is not None), None)
            before = next((other for other in reversed(owners[:number]) if other is not None), None)
            near = [after, before] if operator.kind == "ReorderOutput" else [before, after]
            found = [other for other in near if other is not None]
            plain = [other for other in found if kernels[other].kernel.kind not in (*_CONVOLUTIONS, "swish")]
            if not found:
                continue
            owner = (plain or found)[0]
        else:
            named_ms += operator.ms
        times[owner] += operator.ms
    total = sum(operator.ms for operator in operators)
    return times, named_ms / total if total else 0.0


def _owner(name: str, index: Mapping[str, int]) -> int | None:
    """The kernel that an operator belongs to: by its name, or that of a block around it."""
    name = _ADDED_TO_NAMES.sub("", name)
    while name:
        if name in index:
            return index[name]
        name = name.rpartition(".")[0]
    return None


def _named(block: Block, prefix: str = "") -> list[Named]:
    found: list[Named] = []
    for name, step in block.steps:
        full = prefix + name
        if isinstance(step, Block):
            found += [_gate(step, full)] if step.combine == "multiply" else _named(step, f"{full}.")
        elif isinstance(step, Activate) and step.kind in _FUSED:
            found[-1:] = [before.ended(full, step.kind) for before in found[-1:]]
        else:
            found += [Named(kernel, (full,)) for kernel in _kernel(step)]
    if block.combine == "concat":
        kernel = Kernel("concat", block.in_shape[0], *block.out_shape)
        found.append(Named(kernel, (f"{prefix}concat",)))
    elif block.combine == "add":
        sum_name = f"{prefix}add"
        last, channels = len(found) - 1, block.out_shape[0]
        if block.shortcut is not None:
            found += _named(block.shortcut, f"{prefix}shortcut.")
        adding = _adding(found, last)
        if adding is not None:
            last = adding
            found[last] = replace(found[last], kernel=found[last].kernel._replace(added=True)).also(sum_name)
        else:
            last = len(found)
            found.append(Named(Kernel("add", channels, channels, *block.out_shape[1:]), (sum_name,)))
        if block.after is not None and block.after.kind in _FUSED:
            found[last] = found[last].ended(f"{prefix}after", block.after.kind)
        elif block.after is not None:
            found += [Named(kernel, (f"{prefix}after",)) for kernel in _kernel(block.after)]
    return found


def _adding(found: Sequence[Named], last: int) -> int | None:
    """Which kernel adds as it writes: the convolution that ends a branch (at `last`), or the shortcut behind it.

    Either needs the other to be in the blocked layout, which cutting and padding channels leave, and a concatenation
    keeps where what it takes fills its blocks.
    """
    branch, shortcut = found[last], found[last + 1 :]
    if branch.kernel.kind in _CONVOLUTIONS and len(branch.names) == 1:
        return None if shortcut and shortcut[-1].kernel.kind == "match" else last
    blocked = branch.kernel.kind == "concat" and not any(n % BLOCK for n in branch.kernel[1:3])
    return len(found) - 1 if blocked and shortcut and shortcut[-1].kernel.kind in _CONVOLUTIONS else None


def _gate(block: Block, name: str) -> Named:
    channels, height, width = block.in_shape
    inside = next(step.out_channels for _, step in block.steps if isinstance(step, Conv))
    return Named(Kernel("gate", channels, inside, height, width), (name,))


def _kernel(operation: Operation) -> Iterator[Kernel]:
    """Its kernel; none where it costs nothing, or is folded into the convolution before."""
    match operation:
        case Conv(in_shape=(channels, _, _), out_channels=out, kernel=size, stride=stride, groups=groups):
            kind: Kind = "pointwise" if size == 1 else "dense"
            if groups > 1:
                kind = "depthwise" if operation.is_depthwise else "grouped"
            kernel = Kernel(kind, channels, out, *operation.out_shape[1:], size, stride)
            yield kernel._replace(groups=groups) if kind == "grouped" else kernel
        case Linear(in_shape=(channels, height, width), out_features=out):
            yield Kernel("linear", channels * height * width, out, 1, 1)
        case Activate(in_shape=(channels, height, width)):
            yield Kernel("swish", channels, channels, height, width)
        case AvgPool(kernel=size, stride=stride):
            channels, height, width = operation.out_shape
            yield Kernel("pool", channels, channels, height, width, size, stride)
        case MaxPool(kernel=size, stride=stride):
            channels, height, width = operation.out_shape
            yield Kernel("max_pool", channels, channels, height, width, size, stride)
        case MatchChannels(in_shape=(channels, height, width), out_channels=out):
            yield Kernel("match", channels, out, height, width)
        case Shuffle(in_shape=(channels, height, width)):
            yield Kernel("shuffle", channels, channels, height, width)
        case GlobalPool(in_shape=(channels, height, width)):
            yield Kernel("global_pool", channels, channels, height, width)
        case BatchNorm() | DropPath() | Dropout():
            return
        case _:
            assert_never(operation)
