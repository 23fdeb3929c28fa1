"""The primitive operations that blocks are written in, each with its shapes.

A `Block` is a tree: named steps run one after another, and `combine` says what happens to the result.
Cost, torch module and ONNX graph are three readers of this tree; none of them decides anything.
Shapes are `(channels, height, width)` of one image; the batch is not part of a program.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mnas.errors import InputError
from mnas.search_space.spec import Activation, Gate, Padding

Shape = tuple[int, int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right


@dataclass(frozen=True, slots=True)
class Conv:
    """A square 2-d convolution; `groups == in channels == out channels` is a depthwise one.

    Raises:
        InputError: groups that do not divide the channels in and out.
    """

    in_shape: Shape
    out_channels: int
    kernel: int
    stride: int = 1
    groups: int = 1
    bias: bool = False
    padding: Padding = "symmetric"

    def __post_init__(self) -> None:
        if self.in_shape[0] % self.groups or self.out_channels % self.groups:
            raise InputError(
                f"a convolution's groups must divide its channels; got {self.in_shape[0]} channels in, "
                f"{self.out_channels} out and {self.groups} groups."
            )

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is a group of its own."""
        return self.groups > 1 and self.groups == self.in_shape[0]

    @property
    def out_shape(self) -> Shape:
        """Height and width are the input's over the stride, rounded up, with either padding."""
        _, height, width = self.in_shape
        return self.out_channels, -(-height // self.stride), -(-width // self.stride)

    @property
    def pads(self) -> Pads:
        """Zero padding in pixels. `same` puts the odd pixel at the bottom and right, as TensorFlow does."""
        if self.padding == "symmetric":
            half = self.kernel // 2
            return half, half, half, half
        _, height, width = self.in_shape
        _, out_height, out_width = self.out_shape
        vertical = max(0, (out_height - 1) * self.stride + self.kernel - height)
        horizontal = max(0, (out_width - 1) * self.stride + self.kernel - width)
        return vertical // 2, horizontal // 2, vertical - vertical // 2, horizontal - horizontal // 2


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Batch norm over channels, with weight and bias."""

    in_shape: Shape
    eps: float
    momentum: float

    @property
    def out_shape(self) -> Shape:
        """Unchanged."""
        return self.in_shape


@dataclass(frozen=True, slots=True)
class Activate:
    """An element-wise non-linearity; `sigmoid` and `hard_sigmoid` are gates of squeeze-and-excitation."""

    in_shape: Shape
    kind: Activation | Gate

    @property
    def out_shape(self) -> Shape:
        """Unchanged."""
        return self.in_shape


@dataclass(frozen=True, slots=True)
class AvgPool:
    """Average pooling; padding is not counted in the average.

    Raises:
        InputError: an even kernel that is not the stride.
    """

    in_shape: Shape
    kernel: int
    stride: int

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0 and self.kernel != self.stride:
            raise InputError(
                f"a pool with an even kernel needs the same stride; got kernel {self.kernel}, stride {self.stride}."
            )

    @property
    def out_shape(self) -> Shape:
        """Height and width are the input's over the stride, rounded up."""
        channels, height, width = self.in_shape
        return channels, -(-height // self.stride), -(-width // self.stride)

    @property
    def pads(self) -> Pads:
        """In pixels: kernel // 2 on each side of an odd kernel; what an even one's last window lacks."""
        if self.kernel % 2:
            half = self.kernel // 2
            return half, half, half, half
        _, height, width = self.in_shape
        return 0, 0, -height % self.stride, -width % self.stride


@dataclass(frozen=True, slots=True)
class MaxPool:
    """Max pooling with an odd kernel; padding of kernel // 2 on each side is never the greatest."""

    in_shape: Shape
    kernel: int
    stride: int

    @property
    def out_shape(self) -> Shape:
        """Height and width are the input's over the stride, rounded up."""
        channels, height, width = self.in_shape
        return channels, -(-height // self.stride), -(-width // self.stride)


@dataclass(frozen=True, slots=True)
class MatchChannels:
    """The first `out_channels` channels, zero channels appended where the input has fewer."""

    in_shape: Shape
    out_channels: int

    @property
    def out_shape(self) -> Shape:
        """The input's with the other number of channels."""
        return self.out_channels, *self.in_shape[1:]


@dataclass(frozen=True, slots=True)
class Shuffle:
    """The channels as `groups` rows, read by columns: channel r x columns + c comes to place c x groups + r.

    Channels of one group become neighbours of channels of every other; with as many groups as there were columns it
    is undone.

    Raises:
        InputError: groups that do not divide the channels.

    Reference: ShuffleNet (arXiv 1707.01083), sec. 3.1; the permutation of IGCV1 (arXiv 1707.02725).
    """

    in_shape: Shape
    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1 or self.in_shape[0] % self.groups:
            raise InputError(
                f"a shuffle's groups must divide its channels; got {self.in_shape[0]} channels and "
                f"{self.groups} groups."
            )

    @property
    def out_shape(self) -> Shape:
        """Unchanged."""
        return self.in_shape

    @property
    def order(self) -> list[int]:
        """Which channel of the input stands at each place."""
        columns = self.in_shape[0] // self.groups
        return [row * columns + column for column in range(columns) for row in range(self.groups)]


@dataclass(frozen=True, slots=True)
class GlobalPool:
    """The mean over height and width."""

    in_shape: Shape

    @property
    def out_shape(self) -> Shape:
        """(channels, 1, 1)."""
        return self.in_shape[0], 1, 1


@dataclass(frozen=True, slots=True)
class DropPath:
    """Stochastic depth per sample, scaled by the survival probability; identity outside training."""

    in_shape: Shape
    rate: float

    @property
    def out_shape(self) -> Shape:
        """Unchanged."""
        return self.in_shape


@dataclass(frozen=True, slots=True)
class Dropout:
    """Dropout of the flattened features; identity outside training."""

    in_shape: Shape
    rate: float

    @property
    def out_shape(self) -> Shape:
        """Unchanged."""
        return self.in_shape


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer with bias on a `(channels, 1, 1)` input, which it flattens."""

    in_shape: Shape
    out_features: int

    @property
    def out_shape(self) -> Shape:
        """(out_features, 1, 1)."""
        return self.out_features, 1, 1


Operation = (
    Conv
    | BatchNorm
    | Activate
    | AvgPool
    | MaxPool
    | MatchChannels
    | Shuffle
    | GlobalPool
    | DropPath
    | Dropout
    | Linear
)


Combine = Literal["add", "multiply", "concat"]


@dataclass(frozen=True, slots=True)
class Block:
    """Named steps in a row, and what is done with their result.

    Args:
        label: how the block is printed, `MBConv` for example.
        in_shape: of the input.
        steps: name and operation or block, in order.
        combine: `add` the input to the result, `multiply` the input by it, `concat` the result's channels behind
            the input's, or None for the result alone.
        shortcut: what the input passes through before it is added; None is the input itself.
        after: the activation of the sum; None is none.

    Raises:
        InputError: a shortcut that is not to be added, an activation after anything but a sum, or results of another
            height or width than the input they are to stand behind.
    """

    label: str
    in_shape: Shape
    steps: tuple[tuple[str, "Operation | Block"], ...]
    combine: Combine | None = None
    shortcut: "Block | None" = None
    after: Activate | None = None

    def __post_init__(self) -> None:
        if self.combine not in ("add", None) and self.shortcut is not None:
            raise InputError(
                f"block {self.label}: a shortcut can be added alone, got combine={self.combine!r}."
            )
        if self.after is not None and self.combine != "add":
            raise InputError(f"block {self.label}: an activation after the sum needs combine='add'.")
        if self.combine == "concat" and self.out_shape[1:] != self.in_shape[1:]:
            raise InputError(
                f"block {self.label}: to stand behind the input, a result needs its height and width "
                f"{self.in_shape[1:]}, got {self.out_shape[1:]}."
            )

    @property
    def out_shape(self) -> Shape:
        """Of the result; a `multiply` block is a gate and keeps its input's shape."""
        if self.combine == "multiply" or not self.steps:
            return self.in_shape
        channels, height, width = self.steps[-1][1].out_shape
        return channels + (self.in_shape[0] if self.combine == "concat" else 0), height, width


def walk(block: Block, prefix: str = "") -> Iterator[tuple[str, Operation]]:
    """Every operation with its dotted name, in order of execution (a shortcut after its block's steps)."""
    children: list[tuple[str, Operation | Block]] = list(block.steps)
    children += [("shortcut", block.shortcut)] if block.shortcut else []
    children += [("after", block.after)] if block.after else []
    for name, child in children:
        if isinstance(child, Block):
            yield from walk(child, f"{prefix}{name}.")
        else:
            yield prefix + name, child
