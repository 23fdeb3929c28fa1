"""A network's parts and programs: stem, stages and head, each by itself or as a whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from mnas.search_space.blocks import BLOCKS
from mnas.search_space.layer import Chain, Layer
from mnas.search_space.program import Block, Conv, Dropout, GlobalPool, Linear, MaxPool, Operation, Shape
from mnas.search_space.spec import Head, NetworkSpec, StageSpec, Stem, Style


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a network that can be costed by itself: the stem, one stage, or the head.

    `channels` are the stem's or head's (0 for a stage and a head without a convolution), `num_classes` the head's,
    `stride` the stem's first convolution's, `kind` that of the stem or head.
    """

    in_shape: Shape
    style: Style
    stage: StageSpec | None = None
    channels: int = 0
    num_classes: int = 0
    stride: int = 0
    kind: Stem | Head = "conv"


def segments(spec: NetworkSpec) -> list[Segment]:
    """Stem, stages and head of `spec` with the shape each is given, in order."""
    style, size = spec.style, spec.resolution
    stem = Segment(
        (spec.in_channels, size, size),
        style,
        channels=spec.stem_channels,
        stride=spec.stem_stride,
        kind=spec.stem,
    )
    size = -(-size // spec.stem_stride)
    if spec.stem != "conv":  # the others halve the image a second time
        size = -(-size // 2)
    stages, shape = stage_segments((spec.stem_channels, size, size), style, spec.stages)
    head = Segment(shape, style, None, spec.head_channels, spec.num_classes, kind=spec.head)
    return [stem, *stages, head]


def stage_segments(in_shape: Shape, style: Style, stages: Sequence[StageSpec]) -> tuple[list[Segment], Shape]:
    """Stages one after another from an input of this shape, and the shape that they end with."""
    parts = []
    channels, size, _ = in_shape
    for stage in stages:
        parts.append(Segment((channels, size, size), style, stage))
        channels, size = stage.out_channels, -(-size // stage.stride)
    return parts, (channels, size, size)


@lru_cache(maxsize=65536)
def segment_program(segment: Segment) -> Block:
    """The segment's program without drop path and dropout, which cost nothing; cached."""
    if segment.stage is not None:
        return _stage(segment.stage, segment.in_shape, segment.style, ())
    return _head(segment, 0.0) if segment.num_classes else _STEMS[segment.kind](segment)


def network_program(spec: NetworkSpec) -> Block:
    """The whole network as one program, with drop path and dropout.

    Reference: drop path rate x block index / number of blocks: timm's rule, EfficientNet's with i from 0.
    """
    parts = segments(spec)
    total = sum(stage.repeats for stage in spec.stages)
    stem = segment_program(parts[0])
    stages: list[tuple[str, Operation | Block]] = []
    done = 0
    for number, (stage, part) in enumerate(zip(spec.stages, parts[1:-1], strict=True)):
        rates = tuple(spec.drop_path * (done + index) / total for index in range(stage.repeats))
        if stage.drop_path_share is not None:
            rates = (spec.drop_path * stage.drop_path_share,) * stage.repeats
        stages.append((str(number), _stage(stage, part.in_shape, spec.style, rates)))
        done += stage.repeats
    head = _head(parts[-1], spec.dropout)
    blocks = Block("Stages", stem.out_shape, tuple(stages))
    return Block("ConvNet", stem.in_shape, (*stem.steps, ("blocks", blocks), *head.steps))


def _conv_stem(segment: Segment) -> Block:
    chain = Chain(segment.in_shape, segment.style).conv("conv_stem", segment.channels, 3, segment.stride)
    return chain.norm("bn1").activate("act1").finish("Stem")


def _max_pool_stem(segment: Segment) -> Block:
    """Reference: ResNet (arXiv 1512.03385), Table 1: conv1 and the max pool of conv2_x."""
    chain = Chain(segment.in_shape, segment.style).conv("conv_stem", segment.channels, 7, segment.stride)
    chain.norm("bn1").activate("act1")
    return chain.add("max_pool", MaxPool(chain.shape, 3, 2)).finish("Stem")


def _deep_stem(segment: Segment) -> Block:
    """Reference: ResNet-RS (arXiv 2103.07579), sec. 5, and its code: the max pool of ResNet-D is a convolution."""
    half, channels = segment.channels // 2, segment.channels
    chain = Chain(segment.in_shape, segment.style)
    layers = ((half, segment.stride), (half, 1), (channels, 1), (channels, 2))
    for number, (out_channels, stride) in enumerate(layers, 1):
        chain.conv_norm(number, out_channels, 3, stride).activate(f"act{number}")
    stem = chain.finish("DeepStem")
    return Block("Stem", segment.in_shape, (("stem", stem),))


_STEMS: dict[str, Callable[[Segment], Block]] = {
    "conv": _conv_stem,
    "max_pool": _max_pool_stem,
    "deep": _deep_stem,
}


def _stage(stage: StageSpec, in_shape: Shape, style: Style, drop_paths: tuple[float, ...]) -> Block:
    steps: list[tuple[str, Operation | Block]] = []
    shape = in_shape
    for index in range(stage.repeats):
        stride = stage.stride if index == 0 else 1
        rate = drop_paths[index] if drop_paths else 0.0
        block = BLOCKS[stage.op](Layer(stage, shape, stride, style, rate))
        steps.append((str(index), block))
        shape = block.out_shape
    return Block("Stage", in_shape, tuple(steps))


def _head(segment: Segment, dropout: float) -> Block:
    chain = Chain(segment.in_shape, segment.style)
    if segment.kind == "conv":
        chain.conv("conv_head", segment.channels).norm("bn2").activate("act2")
    chain.add("global_pool", GlobalPool(chain.shape))
    if segment.kind == "late":
        chain.add("conv_head", Conv(chain.shape, segment.channels, 1, bias=True)).activate("act2")
    if dropout:
        chain.add("dropout", Dropout(chain.shape, dropout))
    return chain.add("classifier", Linear(chain.shape, segment.num_classes)).finish("Head")
