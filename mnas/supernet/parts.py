"""The parameters of layers, stems and heads as names and shapes, and which of them share a tensor."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from math import prod

from mnas.search_space.network import Segment, segment_program
from mnas.search_space.program import BatchNorm, Block, Conv, Linear, walk
from mnas.search_space.spec import StageSpec, Style

PIXELS = 32  # of the input that layers are written for: parameters do not depend on it

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter of a layer, stem or head.

    Args:
        name: inside it, as the module's.
        branch: which of the branches of the slot it belongs to.
        shape: (out,), (out, in), (out, in, k, k), or with groups (groups, out, in, k, k), where out and in are
            those of a group.
        ends: whether it is the scale of the norm that ends a residual branch.
    """

    name: str
    branch: str
    shape: Shape
    ends: bool


def key_of(slot: str, part: Part) -> str:
    """The name of the shared tensor that a part of a layer in a slot lies in."""
    return "/".join(filter(None, (slot, part.branch, part.name.replace(".", "/"))))


def layer_parts(stage: StageSpec, channels: int, style: Style, *, first: bool) -> tuple[Part, ...]:
    """The parameters of one layer of a stage after so many channels."""
    return _one_layer(replace(stage, repeats=1, stride=stage.stride if first else 1), channels, style)


@lru_cache(maxsize=65536)
def _one_layer(stage: StageSpec, channels: int, style: Style) -> tuple[Part, ...]:
    ((_, block),) = segment_program(Segment((channels, PIXELS, PIXELS), style, stage)).steps
    assert isinstance(block, Block)
    ending = frozenset(_ending(block, ""))
    return tuple(
        Part(
            part.name,
            "+".join(filter(None, (_branch(part, stage), part.branch))),
            part.shape,
            part.name in ending,
        )
        for part in _parts(block)
    )


def _branch(part: Part, stage: StageSpec) -> str:
    """The operation; what stands in for the identity has its own."""
    return f"{stage.op}+{stage.skip}" if part.name.startswith("shortcut.") else stage.op


def whole_parts(segment: Segment) -> tuple[Part, ...]:
    """The parameters of a stem or head."""
    return tuple(_parts(segment_program(segment)))


def _parts(block: Block) -> Iterator[Part]:
    """Every parameter of a block; the branch is that of groups, which are not sliced."""
    for name, step in walk(block):
        if isinstance(step, Conv):
            groups, k, out = step.groups, step.kernel, step.out_channels
            depthwise = groups == step.in_shape[0] == out
            if groups == 1 or depthwise:
                branch = "depthwise" if depthwise and groups > 1 else ""
                yield Part(f"{name}.weight", branch, (out, step.in_shape[0] // groups, k, k), False)
            else:
                each = (out // groups, step.in_shape[0] // groups)
                yield Part(f"{name}.weight", f"{groups}groups", (groups, *each, k, k), False)
            if step.bias:
                yield Part(f"{name}.bias", "", (out,), False)
        elif isinstance(step, BatchNorm):
            yield Part(f"{name}.weight", "", (step.in_shape[0],), False)
            yield Part(f"{name}.bias", "", (step.in_shape[0],), False)
        elif isinstance(step, Linear):
            yield Part(f"{name}.weight", "", (step.out_features, prod(step.in_shape)), False)
            yield Part(f"{name}.bias", "", (step.out_features,), False)


def _ending(block: Block, prefix: str) -> Iterator[str]:
    """Names of the scales of norms that end a residual branch."""
    for name, step in block.steps:
        if isinstance(step, Block):
            yield from _ending(step, f"{prefix}{name}.")
    if block.combine == "add" and block.steps:
        name, last = block.steps[-1]
        if isinstance(last, BatchNorm):
            yield f"{prefix}{name}.weight"
