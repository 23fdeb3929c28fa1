"""What a block function is given, and how it writes its program: a chain of named steps that keeps track of shapes."""

from dataclasses import dataclass
from typing import Literal, Self

from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
    Block,
    Conv,
    DropPath,
    GlobalPool,
    MatchChannels,
    Operation,
    Shape,
    Shuffle,
)
from mnas.search_space.rounding import round_filters
from mnas.search_space.spec import Activation, StageSpec, Style


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


class Chain:
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
        """Appends any step."""
        self.steps.append((name, step))
        self.shape = step.out_shape
        return self

    def conv(
        self, name: str, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
    ) -> Self:
        """A convolution without a bias, padded as the style says."""
        padding = self.style.padding
        return self.add(name, Conv(self.shape, out_channels, kernel, stride, groups, padding=padding))

    def norm(self, name: str) -> Self:
        """The style's batch norm."""
        return self.add(name, BatchNorm(self.shape, self.style.norm_eps, self.style.norm_momentum))

    def activate(self, name: str) -> Self:
        """The layer's activation."""
        return self.add(name, Activate(self.shape, self.activation))

    def conv_norm(
        self, number: int, out_channels: int, kernel: int = 1, stride: int = 1, *, groups: int = 1
    ) -> Self:
        """`conv1` and `bn1`, for example: a convolution and its norm, numbered as in ResNets."""
        return self.conv(f"conv{number}", out_channels, kernel, stride, groups=groups).norm(f"bn{number}")

    def shuffle(self, name: str, groups: int) -> Self:
        """Nothing where it would change nothing: with one group, or with as many as there are channels."""
        return self if groups in (1, self.shape[0]) else self.add(name, Shuffle(self.shape, groups))

    def chain(self, in_shape: Shape) -> "Chain":
        """An empty one of the same style."""
        return Chain(in_shape, self.style, self.activation)

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
        """Squeeze-and-excitation with so many channels inside; 0 is none.

        Reference: SENet (arXiv 1709.01507); 1x1 convolutions with bias, a gate.
        """
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
        """The steps as a block without a skip."""
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
    chain, stride = Chain.of(layer), layer.stride
    if layer.stage.skip == "avg" and stride > 1:
        chain.add("pool", AvgPool(chain.shape, stride, stride))
        stride = 1
    label = "AvgShortcut" if layer.stage.skip == "avg" else "ConvShortcut"
    return chain.conv("conv", out_channels, 1, stride).norm("bn").finish(label)


def _depthwise_shortcut(layer: Layer, out_channels: int) -> Block:
    """Depthwise k x k with the stride and norm, 1x1 convolution and norm: GhostNet's."""
    chain, channels = Chain.of(layer), layer.in_shape[0]
    chain.conv("conv_dw", channels, layer.stage.kernel, layer.stride, groups=channels).norm("bn_dw")
    return chain.conv("conv", out_channels).norm("bn").finish("DepthwiseShortcut")
