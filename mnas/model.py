"""NetworkSpec -> torch module, with timm's names: ordinary nested modules, nothing interpreted at run time.

The program of the blocks is read once, here; what comes out prints as MBConv blocks, exports and compiles.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from mnas.search_space.network import network_program
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
    Pads,
    Shuffle,
)
from mnas.search_space.spec import NetworkSpec

_ACTIVATIONS: Mapping[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "silu": nn.SiLU,
    "hard_swish": nn.Hardswish,
    "sigmoid": nn.Sigmoid,
    "hard_sigmoid": nn.Hardsigmoid,
}

# Computed in the memory of the norm before them, which nothing else reads: a pass over memory less in training.
_IN_PLACE = ("relu", "relu6", "silu", "hard_swish")


def build_module(spec: NetworkSpec, *, seed: int = 0, channels_last: bool = True) -> nn.Module:
    """The network as a module in training mode on the CPU: (n, c, h, w) float32 -> logits (n, classes).

    Args:
        spec: the network. Height and width of the input are its resolution; with `same` padding the padding
            is fixed for that resolution.
        seed: of the initial weights, drawn from a generator of their own; global random state is untouched.
        channels_last: keeps the weights of convolutions in torch's channels-last memory format.

    >>> from mnas.zoo import published
    >>> module = build_module(published("mnasnet_small"))
    >>> module(torch.zeros(2, 3, 224, 224)).shape
    torch.Size([2, 1000])
    """
    return build_block(network_program(spec), seed=seed, channels_last=channels_last)


def build_block(block: Block, *, seed: int = 0, channels_last: bool = True) -> nn.Module:
    """One block as a module; arguments as of `build_module`."""
    with torch.device("meta"):  # no default initialisation, which would draw from the global generator
        module = _module(block)
    module.to_empty(device="cpu")
    _initialise(
        module, torch.Generator().manual_seed(seed)
    )  # before the format, which changes the order drawn
    return module.to(memory_format=torch.channels_last) if channels_last else module


def build_frame(spec: NetworkSpec) -> nn.Module:
    """The module of `build_module` with its parameters on torch's meta device: shapes without values.

    The norms' statistics are on the CPU, as new.
    """
    with torch.device("meta"):
        module = _module(network_program(spec))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean = torch.zeros(layer.num_features)
            layer.running_var = torch.ones(layer.num_features)
            layer.num_batches_tracked = torch.tensor(0)
    return module


def _in_turn(modules: Iterable[nn.Module], x: Tensor) -> Tensor:
    for module in modules:
        x = module(x)
    return x


class _Labelled(nn.Sequential):
    """Named modules in a row, printed under the label of their block. Abstract: the four below are final."""

    def __init__(self, modules: "OrderedDict[str, nn.Module]", label: str = "Sequential") -> None:
        super().__init__(modules)
        self.label = label

    def _get_name(self) -> str:
        return self.label


class Chain(_Labelled):
    """The modules one after another."""


class Residual(_Labelled):
    """The input, or what `shortcut` makes of it, is added to the result of the modules; `after` takes the sum."""

    def __init__(
        self,
        modules: "OrderedDict[str, nn.Module]",
        label: str = "Residual",
        shortcut: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__(modules, label)
        self.depth = len(modules)
        if shortcut is not None:
            self.add_module("shortcut", shortcut)
        if after is not None:
            self.add_module("after", after)
        self.has_shortcut = shortcut is not None

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the shape that the result and what is added to it have."""
        modules = list(self)
        others = modules[self.depth :]
        added = others.pop(0)(x) if self.has_shortcut else x
        return _in_turn(others, added + _in_turn(modules[: self.depth], x))

    @property
    def branch(self) -> list[nn.Module]:
        """The modules whose result the input is added to."""
        return list(self)[: self.depth]


class Gate(_Labelled):
    """The input is multiplied by the result of the modules, one factor for each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> the same shape."""
        return x * _in_turn(self, x)


class Concat(_Labelled):
    """The channels of the result of the modules stand behind those of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, c + channels of the result, h, w)."""
        return torch.cat((x, _in_turn(self, x)), dim=1)


class FirstChannels(nn.Module):
    """The first channels, zero channels appended where the input has fewer."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(n, in channels, h, w) -> (n, out channels, h, w)."""
        if self.in_channels >= self.out_channels:
            return x[:, : self.out_channels]
        return functional.pad(x, (0, 0, 0, 0, 0, self.out_channels - self.in_channels))

    def extra_repr(self) -> str:
        """The numbers of channels."""
        return f"{self.in_channels}, {self.out_channels}"


def _module(block: Block) -> nn.Module:
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    before: Operation | Block | None = None
    for name, step in block.steps:
        if isinstance(step, Linear):
            modules["flatten"] = nn.Flatten()
        if isinstance(step, Conv) and not _is_symmetric(step.pads):
            top, left, bottom, right = step.pads
            modules[f"{name}_pad"] = nn.ZeroPad2d((left, right, top, bottom))
        if isinstance(step, Activate) and isinstance(before, BatchNorm) and step.kind in _IN_PLACE:
            modules[name] = _ACTIVATIONS[step.kind](inplace=True)
        else:
            modules[name] = _module(step) if isinstance(step, Block) else _layer(step)
        before = step
    if block.combine is None:
        return Chain(modules, block.label)
    if block.combine != "add":
        return (Gate if block.combine == "multiply" else Concat)(modules, block.label)
    shortcut = None if block.shortcut is None else _module(block.shortcut)
    return Residual(modules, block.label, shortcut, None if block.after is None else _layer(block.after))


def _is_symmetric(pads: Pads) -> bool:
    return pads[:2] == pads[2:]


def _layer(operation: Operation) -> nn.Module:
    match operation:
        case Conv():
            return _conv(operation)
        case BatchNorm(in_shape=(channels, _, _), eps=eps, momentum=momentum):
            return nn.BatchNorm2d(channels, eps, momentum)
        case Activate(kind=kind):
            return _ACTIVATIONS[kind]()
        case AvgPool(kernel=kernel, stride=stride) if kernel % 2:
            return nn.AvgPool2d(kernel, stride, kernel // 2, count_include_pad=False)
        case AvgPool(kernel=kernel, stride=stride):
            return nn.AvgPool2d(kernel, stride, ceil_mode=True, count_include_pad=False)
        case MaxPool(kernel=kernel, stride=stride):
            return nn.MaxPool2d(kernel, stride, kernel // 2)
        case MatchChannels(in_shape=(channels, _, _), out_channels=out):
            return FirstChannels(channels, out)
        case Shuffle(groups=groups):
            return nn.ChannelShuffle(groups)
        case GlobalPool():
            return nn.AdaptiveAvgPool2d(1)
        case DropPath(rate=rate):
            from torchvision.ops import StochasticDepth  # here: a second of import that few networks need

            drop_path: nn.Module = StochasticDepth(rate, "row")
            return drop_path
        case Dropout(rate=rate):
            return nn.Dropout(rate)
        case Linear(in_shape=in_shape, out_features=features):
            return nn.Linear(prod(in_shape), features)


def _conv(conv: Conv) -> nn.Conv2d:
    return nn.Conv2d(
        conv.in_shape[0],
        conv.out_channels,
        conv.kernel,
        conv.stride,
        conv.pads[:2] if _is_symmetric(conv.pads) else 0,
        groups=conv.groups,
        bias=conv.bias,
    )


def _initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Initial weights as published.

    Reference: mnasnet_model.py and efficientnet_model.py: conv_kernel_initializer (normal, variance 2 over
    the fan-out; a depthwise layer's fan-out is that of one channel), dense_kernel_initializer (uniform).
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = prod(layer.kernel_size) * layer.out_channels // layer.groups
            nn.init.normal_(layer.weight, 0.0, sqrt(2.0 / fan_out), generator=generator)
        elif isinstance(layer, nn.Linear):
            bound = 1.0 / sqrt(layer.out_features)
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
