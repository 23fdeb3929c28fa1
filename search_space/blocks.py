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
    MaxPool,
    Operation,
    Shape,
    Shuffle,
)
from mnas.search_space.rounding import round_filters
from mnas.search_space.spec import Activation, Head, NetworkSpec, StageSpec, Stem, Style


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stage: what a block function is given."""

    stage: StageSpec
    in_shape: Shape
    stride: int
    style: Style
    drop_path: float = 0.0

    @property
    def inside(self) -> int:
        """Channels of the k x k convolution."""
        return self.stage.inside(self.in_shape[0])

    @property
    def se_channels(self) -> int:
        """Channels inside squeeze-and-excitation, from the block's input or the channels inside; 0 is none.

        Reference: mnasnet_model.py and efficientnet_model.py: max(1, int(input filters x ratio)); mobilenet_v3.py of
        tf_slim: those inside x ratio, to a multiple of 8.
        """
        ratio, style = self.stage.se_ratio, self.style
        if not ratio:
            return 0
        wanted = (self.in_shape[0] if style.se_of == "in" else self.inside) * ratio
        return (
            max(1, int(wanted)) if style.se_divisor == 1 else round_filters(wanted, divisor=style.se_divisor)
        )

    @property
    def se_out_channels(self) -> int:
        """Likewise, from the block's output.

        Reference: resnet_model.py of ResNet-RS: int(4 x filters x ratio); 4 x filters are the channels out.
        """
        ratio = self.stage.se_ratio
        return max(1, int(self.stage.out_channels * ratio)) if ratio else 0


class _Chain:
    """Appends named steps and keeps track of the shape."""

    def __init__(self, in_shape: Shape, style: Style, activation: Activation | None = None) -> None:
        self.in_shape = self.shape = in_shape
        self.style = style
        self.activation = activation or style.activation
        self.steps: list[tuple[str, Operation | Block]] = []

    @classmethod
    def of(cls, layer: Layer) -> Self:
        """For the steps of a layer."""
        return cls(layer.in_shape, layer.style, layer.stage.activation)

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
        return self.add(name, Activate(self.shape, self.activation))

    def conv_norm(
        self, number: int, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
    ) -> Self:
        """`conv1` and `bn1`, for example: a convolution and its norm, numbered as in ResNets."""
        return self.conv(f"conv{number}", out_channels, kernel, stride, groups=groups).norm(f"bn{number}")

    def shuffle(self, name: str, groups: int) -> Self:
        """Nothing where it would change nothing: with one group, or with as many as there are channels."""
        return self if groups in (1, self.shape[0]) else self.add(name, Shuffle(self.shape, groups))

    def chain(self, in_shape: Shape) -> "_Chain":
        """An empty one of the same style."""
        return _Chain(in_shape, self.style, self.activation)

    def ghost(self, out_channels: int, kernel: int = 1, stride: int = 1, *, activate: bool = True) -> Self:
        """A convolution to half of the channels; a 3x3 depthwise one makes the others of them, and stands behind.

        Reference: GhostNet (arXiv 1911.11907), sec. 3.1, with the ratio s = 2 and the kernel d = 3 of its code.
        """
        half = -(-out_channels // 2)
        primary = self.chain(self.shape).conv("conv", half, kernel, stride).norm("bn")
        cheap = self.chain(primary.shape).conv("conv", half, 3, groups=half).norm("bn")
        if activate:
            primary.activate("act")
            cheap.activate("act")
        self.add("primary_conv", primary.finish("Primary"))
        self.add("cheap_operation", Block("Cheap", cheap.in_shape, tuple(cheap.steps), "concat"))
        return self if 2 * half == out_channels else self.add("cut", MatchChannels(self.shape, out_channels))

    def ghost_module(self, name: str, out_channels: int, *, activate: bool) -> Self:
        """The same as a block of its own."""
        module = self.chain(self.shape).ghost(out_channels, activate=activate)
        return self.add(name, module.finish("GhostModule"))

    def squeeze_excite(self, reduced: int) -> Self:
        """Reference: SENet (arXiv 1709.01507); 1x1 convolutions with bias, sigmoid gate."""
        if not reduced:
            return self
        pooled: Shape = (self.shape[0], 1, 1)
        inner: Shape = (reduced, 1, 1)
        steps: tuple[tuple[str, Operation], ...] = (
            ("pool", GlobalPool(self.shape)),
            ("conv_reduce", Conv(pooled, reduced, 1, bias=True)),
            ("act1", Activate(inner, self.style.se_activation or self.activation)),
            ("conv_expand", Conv(inner, self.shape[0], 1, bias=True)),
            ("gate", Activate(pooled, self.style.se_gate)),
        )
        return self.add("se", Block("SqueezeExcite", self.shape, steps, combine="multiply"))

    def finish(self, label: str) -> Block:
        return Block(label, self.in_shape, tuple(self.steps))

    def finish_with_skip(self, label: str, layer: Layer, *, activate_after: bool = False) -> Block:
        """Adds the stage's skip, with drop path on the branch that is not the skip.

        Args:
            label: of the block.
            layer: whose skip it is.
            activate_after: puts an activation after the sum, or at the end where nothing is added.
        """
        combine, shortcut = self._skip(layer)
        after = Activate(self.shape, self.activation) if activate_after else None
        if combine is None:
            if after is not None:
                self.add("act", after)
            return self.finish(label)
        if layer.drop_path:
            self.add("drop_path", DropPath(self.shape, layer.drop_path))
        return Block(label, self.in_shape, tuple(self.steps), combine, shortcut, after)

    def _skip(self, layer: Layer) -> tuple[Literal["add"] | None, Block | None]:
        """How the stage's skip is combined in this layer, and what it passes through."""
        match layer.stage.skip:
            case "none":
                return None, None
            case "pool":
                return "add", _pool_shortcut(self.in_shape, layer.stride, self.shape[0])
            case skip if layer.stride > 1 or self.in_shape != self.shape:
                made = _depthwise_shortcut if skip == "depthwise" else _conv_shortcut
                shortcut = None if skip == "identity" else made(layer, self.shape[0])
                return (None if shortcut is None else "add"), shortcut
            case _:
                return "add", None


def _pool_shortcut(in_shape: Shape, stride: int, out_channels: int) -> Block:
    """MnasNet's pooling skip: 3x3 average pool with the block's stride; channels cut or zero-padded."""
    pool = AvgPool(in_shape, 3, stride)
    steps: list[tuple[str, Operation | Block]] = [("pool", pool)]
    if in_shape[0] != out_channels:
        steps.append(("channels", MatchChannels(pool.out_shape, out_channels)))
    return Block("PoolShortcut", in_shape, tuple(steps))


def _conv_shortcut(layer: Layer, out_channels: int) -> Block:
    """1x1 convolution and norm; the stride is the convolution's (`conv`), or an average pool's before it (`avg`).

    Reference: ResNet (arXiv 1512.03385), sec. 3.3, option B; ResNet-D (arXiv 1812.01187), sec. 4.1.
    """
    chain, stride = _Chain.of(layer), layer.stride
    if layer.stage.skip == "avg" and stride > 1:
        chain.add("pool", AvgPool(chain.shape, stride, stride))
        stride = 1
    label = "AvgShortcut" if layer.stage.skip == "avg" else "ConvShortcut"
    return chain.conv("conv", out_channels, 1, stride).norm("bn").finish(label)


def _depthwise_shortcut(layer: Layer, out_channels: int) -> Block:
    """Depthwise k x k with the stride and norm, 1x1 convolution and norm: GhostNet's."""
    chain, channels = _Chain.of(layer), layer.in_shape[0]
    chain.conv("conv_dw", channels, layer.stage.kernel, layer.stride, groups=channels).norm("bn_dw")
    return chain.conv("conv", out_channels).norm("bn").finish("DepthwiseShortcut")


def conv(layer: Layer) -> Block:
    """k x k convolution, norm, activation, squeeze-and-excitation (timm's ConvBnAct, with SE)."""
    stage = layer.stage
    chain = _Chain.of(layer)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1").activate("act1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("ConvBnAct", layer)


def sepconv(layer: Layer) -> Block:
    """Depthwise k x k, SE, linear 1x1 (timm's DepthwiseSeparableConv; MBConv with expansion 1)."""
    stage, channels = layer.stage, layer.in_shape[0]
    chain = _Chain.of(layer)
    chain.conv("conv_dw", channels, stage.kernel, layer.stride, groups=channels).norm("bn1").activate("act1")
    chain.squeeze_excite(layer.se_channels).conv("conv_pw", stage.out_channels).norm("bn2")
    return chain.finish_with_skip("SepConv", layer)


def mbconv(layer: Layer) -> Block:
    """1x1 expansion, depthwise k x k, SE, linear 1x1 projection.

    Reference: MobileNetV2 (arXiv 1801.04381), with SE as in MnasNet (arXiv 1807.11626), sec. 4.1.
    """
    stage, inner = layer.stage, layer.inside
    chain = _Chain.of(layer)
    chain.conv("conv_pw", inner).norm("bn1").activate("act1")
    chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn2").activate("act2")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", stage.out_channels).norm("bn3")
    return chain.finish_with_skip("MBConv", layer)


def fused_mbconv(layer: Layer) -> Block:
    """k x k expansion, SE, linear 1x1 projection (timm's EdgeResidual).

    Reference: EfficientNetV2 (arXiv 2104.00298), Fig. 2.
    """
    chain = _Chain.of(layer)
    chain.conv("conv_exp", layer.inside, layer.stage.kernel, layer.stride).norm("bn1").activate("act1")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", layer.stage.out_channels).norm("bn2")
    return chain.finish_with_skip("FusedMBConv", layer)


def projection(layer: Layer) -> Block:
    """k x k convolution, norm, squeeze-and-excitation, without an activation: it only matches shapes.

    Reference: ResNet (arXiv 1512.03385), sec. 3.3, option B: the projection shortcut.
    """
    stage = layer.stage
    chain = _Chain.of(layer)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("Projection", layer)


def basic(layer: Layer) -> Block:
    """Two k x k convolutions, squeeze-and-excitation, activation after the sum.

    Reference: ResNet (arXiv 1512.03385), Fig. 5, left.
    """
    stage = layer.stage
    chain = _Chain.of(layer)
    chain.conv_norm(1, stage.out_channels, stage.kernel, layer.stride).activate("act1")
    chain.conv_norm(2, stage.out_channels, stage.kernel)
    return chain.squeeze_excite(layer.se_out_channels).finish_with_skip(
        "BasicBlock", layer, activate_after=True
    )


def bottleneck(layer: Layer) -> Block:
    """1x1 to fewer channels, k x k with the stride, 1x1, squeeze-and-excitation, activation after the sum.

    Reference: ResNet (arXiv 1512.03385), Fig. 5, right; the stride as in ResNet-D (arXiv 1812.01187), sec. 4.1;
    squeeze-and-excitation as in ResNet-RS (arXiv 2103.07579), of the block's output.
    """
    stage, inner = layer.stage, layer.inside
    chain = _Chain.of(layer)
    chain.conv_norm(1, inner).activate("act1")
    chain.conv_norm(2, inner, stage.kernel, layer.stride, groups=stage.groups).activate("act2")
    chain.conv_norm(3, stage.out_channels).squeeze_excite(layer.se_out_channels)
    return chain.finish_with_skip("Bottleneck", layer, activate_after=True)


def xblock(layer: Layer) -> Block:
    """RegNet's block: a bottleneck with groups, and squeeze-and-excitation (of a Y block) before its last convolution.

    Reference: RegNet (arXiv 2003.13678), sec. 3.2 and Fig. 4; squeeze-and-excitation as in pycls (models/blocks.py):
    channels inside from the block's input.
    """
    stage, inner = layer.stage, layer.inside
    chain = _Chain.of(layer)
    chain.conv_norm(1, inner).activate("act1")
    chain.conv_norm(2, inner, stage.kernel, layer.stride, groups=stage.groups).activate("act2")
    chain.squeeze_excite(layer.se_channels).conv_norm(3, stage.out_channels)
    return chain.finish_with_skip("XBlock", layer, activate_after=True)


def igcv1(layer: Layer) -> Block:
    """k x k convolution in `groups` partitions, then a 1x1 convolution in partitions that take one channel of each.

    The norm and activation stand before the permutation back, with which they commute, so that the norm can be folded.

    Reference: IGCV1 (arXiv 1707.02725): primary partitions L = groups, M = channels / L channels in each.
    """
    stage = layer.stage
    out, partitions = stage.out_channels, stage.out_channels // stage.groups
    chain = _Chain.of(layer)
    chain.conv("conv1", out, stage.kernel, layer.stride, groups=stage.groups)
    chain.shuffle("shuffle1", stage.groups)
    chain.conv("conv2", out, groups=partitions).norm("bn").activate("act").shuffle("shuffle2", partitions)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("IGCV1", layer)


def igcv2(layer: Layer) -> Block:
    """Depthwise k x k, then sparse 1x1 convolutions whose product joins each channel in with each channel out.

    Nothing stands between them: together they are one linear map. `branch_sizes` says what each has in a branch.

    Reference: IGCV2 (arXiv 1804.06202): W = P_L W_L ... P_2 W_2 P_1 W_1, W_1 channel-wise.
    """
    stage, out = layer.stage, layer.stage.out_channels
    chain = _Chain.of(layer)
    chain.conv("conv_dw", chain.shape[0], stage.kernel, layer.stride, groups=chain.shape[0])
    sizes = branch_sizes(out, stage.groups)
    for number, size in enumerate(sizes, 1):
        chain.conv(f"conv{number}", out, groups=out // size)
        if number == len(sizes):
            chain.norm("bn").activate("act")
        chain.shuffle(f"shuffle{number}", out // size)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("IGCV2", layer)


def branch_sizes(channels: int, groups: int) -> tuple[int, ...]:
    """Channels in a branch of each 1x1 convolution of `igcv2`: those of the first as long as they divide what is left.

    Their product is `channels`, which is the complementary condition.

    Reference: IGCV2 (arXiv 1804.06202): the product of K_l is C.

    >>> branch_sizes(64, 8), branch_sizes(96, 12), branch_sizes(96, 1)
    ((8, 8), (8, 12), (96,))
    """
    size, left, sizes = channels // groups, channels, []
    while left > size > 1 and left % size == 0:
        sizes.append(size)
        left //= size
    return (*sizes, left)


def igcv3(layer: Layer) -> Block:
    """MBConv whose 1x1 convolutions have groups and a shuffle between; activated behind the depthwise one alone.

    Reference: IGCV3 (arXiv 1806.00178), and its code (homles11/IGCV3, symbols/igcv3.py).
    """
    stage, inner = layer.stage, layer.inside
    chain = _Chain.of(layer)
    chain.conv("conv_pw", inner, groups=stage.groups).norm("bn1").shuffle("shuffle", stage.groups)
    chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn2").activate("act2")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", stage.out_channels, groups=stage.groups)
    return chain.norm("bn3").finish_with_skip("IGCV3", layer)


def ghost_module(layer: Layer) -> Block:
    """The Ghost module in the place of a k x k convolution, norm and activation, with squeeze-and-excitation."""
    stage = layer.stage
    chain = _Chain.of(layer).ghost(stage.out_channels, stage.kernel, layer.stride)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("GhostModule", layer)


def ghost(layer: Layer) -> Block:
    """A Ghost module that expands, with a stride a depthwise k x k, SE, a linear Ghost module.

    Reference: GhostNet (arXiv 1911.11907), Fig. 3 and Table 1.
    """
    stage, inner = layer.stage, layer.inside
    chain = _Chain.of(layer).ghost_module("ghost1", inner, activate=True)
    if layer.stride > 1:
        chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn_dw")
    chain.squeeze_excite(layer.se_channels).ghost_module("ghost2", stage.out_channels, activate=False)
    return chain.finish_with_skip("GhostBottleneck", layer)


BLOCKS: dict[str, Callable[[Layer], Block]] = {
    "conv": conv,
    "sepconv": sepconv,
    "mbconv": mbconv,
    "fused_mbconv": fused_mbconv,
    "projection": projection,
    "basic": basic,
    "bottleneck": bottleneck,
    "xblock": xblock,
    "igcv1": igcv1,
    "igcv2": igcv2,
    "igcv3": igcv3,
    "ghost_module": ghost_module,
    "ghost": ghost,
}


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
    chain = _Chain(segment.in_shape, segment.style).conv("conv_stem", segment.channels, 3, segment.stride)
    return chain.norm("bn1").activate("act1").finish("Stem")


def _max_pool_stem(segment: Segment) -> Block:
    """Reference: ResNet (arXiv 1512.03385), Table 1: conv1 and the max pool of conv2_x."""
    chain = _Chain(segment.in_shape, segment.style).conv("conv_stem", segment.channels, 7, segment.stride)
    chain.norm("bn1").activate("act1")
    return chain.add("max_pool", MaxPool(chain.shape, 3, 2)).finish("Stem")


def _deep_stem(segment: Segment) -> Block:
    """Reference: ResNet-RS (arXiv 2103.07579), sec. 5, and its code: the max pool of ResNet-D is a convolution."""
    half, channels = segment.channels // 2, segment.channels
    chain = _Chain(segment.in_shape, segment.style)
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
    chain = _Chain(segment.in_shape, segment.style)
    if segment.kind == "conv":
        chain.conv("conv_head", segment.channels).norm("bn2").activate("act2")
    chain.add("global_pool", GlobalPool(chain.shape))
    if segment.kind == "late":
        chain.add("conv_head", Conv(chain.shape, segment.channels, 1, bias=True)).activate("act2")
    if dropout:
        chain.add("dropout", Dropout(chain.shape, dropout))
    return chain.add("classifier", Linear(chain.shape, segment.num_classes)).finish("Head")
