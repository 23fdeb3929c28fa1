"""Each block, written once as a program; its names are timm's, so that state dicts travel both ways.

A new block is one function from `Layer` to `Block` and one row of `BLOCKS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, Self

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
    Operation,
    Shape,
)
from mnas.search_space.spec import NetworkSpec, StageSpec, Style


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stage: what a block function is given."""

    stage: StageSpec
    in_shape: Shape
    stride: int
    style: Style
    drop_path: float = 0.0

    @property
    def se_channels(self) -> int:
        """Channels inside squeeze-and-excitation, from the block's input; 0 is none.

        Reference: mnasnet_model.py and efficientnet_model.py: max(1, int(input filters x ratio)).
        """
        ratio = self.stage.se_ratio
        return max(1, int(self.in_shape[0] * ratio)) if ratio else 0


class _Chain:
    """Appends named steps and keeps track of the shape."""

    def __init__(self, in_shape: Shape, style: Style) -> None:
        self.in_shape = self.shape = in_shape
        self.style = style
        self.steps: list[tuple[str, Operation | Block]] = []

    def add(self, name: str, step: Operation | Block) -> Self:
        self.steps.append((name, step))
        self.shape = step.out_shape
        return self

    def conv(
        self, name: str, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
    ) -> Self:
        padding = self.style.padding
        return self.add(name, Conv(self.shape, out_channels, kernel, stride, groups, padding=padding))

    def norm(self, name: str) -> Self:
        return self.add(name, BatchNorm(self.shape, self.style.norm_eps, self.style.norm_momentum))

    def activate(self, name: str) -> Self:
        return self.add(name, Activate(self.shape, self.style.activation))

    def squeeze_excite(self, reduced: int) -> Self:
        """Reference: SENet (arXiv 1709.01507); 1x1 convolutions with bias, sigmoid gate."""
        if not reduced:
            return self
        pooled: Shape = (self.shape[0], 1, 1)
        inner: Shape = (reduced, 1, 1)
        steps: tuple[tuple[str, Operation], ...] = (
            ("pool", GlobalPool(self.shape)),
            ("conv_reduce", Conv(pooled, reduced, 1, bias=True)),
            ("act1", Activate(inner, self.style.activation)),
            ("conv_expand", Conv(inner, self.shape[0], 1, bias=True)),
            ("gate", Activate(pooled, "sigmoid")),
        )
        return self.add("se", Block("SqueezeExcite", self.shape, steps, combine="multiply"))

    def finish(self, label: str) -> Block:
        return Block(label, self.in_shape, tuple(self.steps))

    def finish_with_skip(self, label: str, layer: Layer) -> Block:
        """Adds the stage's skip, with drop path on the branch that is not the skip."""
        combine: Literal["add"] | None = None
        shortcut: Block | None = None
        if layer.stage.skip == "identity" and layer.stride == 1 and self.in_shape == self.shape:
            combine = "add"
        elif layer.stage.skip == "pool":
            combine = "add"
            shortcut = _pool_shortcut(self.in_shape, layer.stride, self.shape[0])
        if combine and layer.drop_path:
            self.add("drop_path", DropPath(self.shape, layer.drop_path))
        return Block(label, self.in_shape, tuple(self.steps), combine, shortcut)


def _pool_shortcut(in_shape: Shape, stride: int, out_channels: int) -> Block:
    """MnasNet's pooling skip: 3x3 average pool with the block's stride; channels cut or zero-padded."""
    pool = AvgPool(in_shape, 3, stride)
    steps: list[tuple[str, Operation | Block]] = [("pool", pool)]
    if in_shape[0] != out_channels:
        steps.append(("channels", MatchChannels(pool.out_shape, out_channels)))
    return Block("PoolShortcut", in_shape, tuple(steps))


def conv(layer: Layer) -> Block:
    """k x k convolution, norm, activation, squeeze-and-excitation (timm's ConvBnAct, with SE)."""
    stage = layer.stage
    chain = _Chain(layer.in_shape, layer.style)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1").activate("act1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("ConvBnAct", layer)


def sepconv(layer: Layer) -> Block:
    """Depthwise k x k, SE, linear 1x1 (timm's DepthwiseSeparableConv; MBConv with expansion 1)."""
    stage, channels = layer.stage, layer.in_shape[0]
    chain = _Chain(layer.in_shape, layer.style)
    chain.conv("conv_dw", channels, stage.kernel, layer.stride, groups=channels).norm("bn1").activate("act1")
    chain.squeeze_excite(layer.se_channels).conv("conv_pw", stage.out_channels).norm("bn2")
    return chain.finish_with_skip("SepConv", layer)


def mbconv(layer: Layer) -> Block:
    """1x1 expansion, depthwise k x k, SE, linear 1x1 projection.

    Reference: MobileNetV2 (arXiv 1801.04381), with SE as in MnasNet (arXiv 1807.11626), sec. 4.1.
    """
    stage, inner = layer.stage, layer.in_shape[0] * layer.stage.expansion
    chain = _Chain(layer.in_shape, layer.style)
    chain.conv("conv_pw", inner).norm("bn1").activate("act1")
    chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn2").activate("act2")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", stage.out_channels).norm("bn3")
    return chain.finish_with_skip("MBConv", layer)


def projection(layer: Layer) -> Block:
    """k x k convolution, norm, squeeze-and-excitation, without an activation: it only matches shapes.

    Reference: ResNet (arXiv 1512.03385), sec. 3.3, option B: the projection shortcut.
    """
    stage = layer.stage
    chain = _Chain(layer.in_shape, layer.style)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("Projection", layer)


BLOCKS: dict[str, Callable[[Layer], Block]] = {
    "conv": conv,
    "sepconv": sepconv,
    "mbconv": mbconv,
    "projection": projection,
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a network that can be costed by itself: the stem, one stage, or the head.

    `channels` are the stem's or head's (0 for a stage), `num_classes` the head's, `stride` the stem's.
    """

    in_shape: Shape
    style: Style
    stage: StageSpec | None = None
    channels: int = 0
    num_classes: int = 0
    stride: int = 0


def segments(spec: NetworkSpec) -> list[Segment]:
    """Stem, stages and head of `spec` with the shape each is given, in order."""
    style, size = spec.style, spec.resolution
    stem = Segment(
        (spec.in_channels, size, size), style, channels=spec.stem_channels, stride=spec.stem_stride
    )
    size = -(-size // spec.stem_stride)
    stages, shape = stage_segments((spec.stem_channels, size, size), style, spec.stages)
    return [stem, *stages, Segment(shape, style, None, spec.head_channels, spec.num_classes)]


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
    if segment.num_classes:
        return _head(segment.in_shape, segment.channels, segment.num_classes, 0.0, segment.style)
    return _stem(segment.in_shape, segment.channels, segment.stride, segment.style)


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
        stages.append((str(number), _stage(stage, part.in_shape, spec.style, rates)))
        done += stage.repeats
    head = _head(parts[-1].in_shape, spec.head_channels, spec.num_classes, spec.dropout, spec.style)
    blocks = Block("Stages", stem.out_shape, tuple(stages))
    return Block("ConvNet", stem.in_shape, (*stem.steps, ("blocks", blocks), *head.steps))


def _stem(in_shape: Shape, channels: int, stride: int, style: Style) -> Block:
    chain = _Chain(in_shape, style).conv("conv_stem", channels, 3, stride)
    return chain.norm("bn1").activate("act1").finish("Stem")


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


def _head(in_shape: Shape, channels: int, num_classes: int, dropout: float, style: Style) -> Block:
    chain = _Chain(in_shape, style).conv("conv_head", channels).norm("bn2").activate("act2")
    chain.add("global_pool", GlobalPool(chain.shape))
    if dropout:
        chain.add("dropout", Dropout(chain.shape, dropout))
    return chain.add("classifier", Linear(chain.shape, num_classes)).finish("Head")
