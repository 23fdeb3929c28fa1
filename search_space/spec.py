"""A whole network as data: immutable, printable, hashable, JSON both ways."""

from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from math import inf, prod
from typing import Any, Literal, Self

from mnas.errors import InputError
from mnas.search_space.rounding import round_filters

Skip = Literal["identity", "none", "pool", "conv", "avg", "depthwise"]
Activation = Literal["relu", "relu6", "silu", "hard_swish"]
Gate = Literal["sigmoid", "hard_sigmoid"]
Squeezed = Literal["in", "inside"]
Padding = Literal["symmetric", "same"]
Stem = Literal["conv", "max_pool", "deep"]
Head = Literal["conv", "pool", "late"]

SKIPS: tuple[Skip, ...] = ("identity", "none", "pool", "conv", "avg", "depthwise")
ACTIVATIONS: tuple[Activation, ...] = ("relu", "relu6", "silu", "hard_swish")
GATES: tuple[Gate, ...] = ("sigmoid", "hard_sigmoid")
SQUEEZED: tuple[Squeezed, ...] = ("in", "inside")
PADDINGS: tuple[Padding, ...] = ("symmetric", "same")
STEMS: tuple[Stem, ...] = ("conv", "max_pool", "deep")
HEADS: tuple[Head, ...] = ("conv", "pool", "late")
# Interleaved group convolutions, whose groups divide the channels in and out.
INTERLEAVED = ("igcv1", "igcv2", "igcv3")
# Those with more channels inside than they are given, whose expansion may be a fraction: the channels are rounded.
INVERTED = ("mbconv", "fused_mbconv", "igcv3", "ghost")
# Those with channels inside that `expansion` decides, and those that may have groups.
EXPANDING = (*INVERTED, "bottleneck", "xblock")
GROUPED = ("bottleneck", "xblock", *INTERLEAVED)
FORMAT = "mnas.network/1"
LEAST_RESOLUTION = 8  # in pixels: chosen here; below it there is nothing to see


@dataclass(frozen=True, slots=True)
class Style:
    """What every layer of a network shares.

    Args:
        activation: after each convolution that is not a linear projection.
        norm_eps: epsilon of batch norm (PyTorch's 1e-5; the TensorFlow releases use 1e-3).
        norm_momentum: PyTorch's convention, the weight of the new batch (TensorFlow's 0.99 is 0.01 here).
        padding: `symmetric`, or TensorFlow's `same` (the extra pixel at the bottom and right).
        se_of: what squeeze-and-excitation's ratio is of in `sepconv` and in what is wider inside (`mbconv`,
            `fused_mbconv`, `igcv3`, `ghost`): the channels that come `in`, or those `inside`, which it gates.
        se_divisor: channels of squeeze-and-excitation are rounded to multiples of this; 1 takes whole numbers.
        se_activation: inside squeeze-and-excitation; None is `activation`.
        se_gate: at its end.
    """

    activation: Activation = "silu"
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    padding: Padding = "symmetric"
    se_of: Squeezed = "in"
    se_divisor: int = 1
    se_activation: Activation | None = None
    se_gate: Gate = "sigmoid"

    def __post_init__(self) -> None:
        _one_of("activation", self.activation, ACTIVATIONS)
        _one_of("padding", self.padding, PADDINGS)
        _one_of("se_of", self.se_of, SQUEEZED)
        _one_of("se_activation", self.se_activation, (None, *ACTIVATIONS))
        _one_of("se_gate", self.se_gate, GATES)
        _positive_int("se_divisor", self.se_divisor)
        if not (0 < self.norm_eps < 1 and 0 < self.norm_momentum <= 1):
            raise InputError(
                f"norm_eps must lie in (0, 1) and norm_momentum in (0, 1]; "
                f"got {self.norm_eps!r} and {self.norm_momentum!r}."
            )


@dataclass(frozen=True, slots=True)
class StageSpec:
    """`repeats` copies of one layer; only the first has the stride.

    Args:
        op: `conv` (k x k convolution), `sepconv` (depthwise separable), `mbconv` (inverted bottleneck),
            `fused_mbconv` (its expansion and depthwise convolution in one), `projection` (k x k convolution and norm,
            no activation), `basic` and `bottleneck` (ResNet's), `xblock` (RegNet's), `igcv1`, `igcv2` and `igcv3`
            (interleaved group convolutions), `ghost_module` (k x k convolution to half of the channels, 3x3 depthwise
            from those to the others) or `ghost` (GhostNet's bottleneck).
        kernel: odd, in pixels.
        stride: of the first layer, 1 or 2.
        out_channels: of each layer.
        repeats: number of layers, at least 1.
        expansion: of `mbconv`, `fused_mbconv`, `igcv3` and `ghost`, the channels inside over the channels in; where it
            is no whole number they are rounded to a multiple of 8, of `ghost` 4. Of `bottleneck` and `xblock`, the
            channels out over the channels inside; 1 for the other ops.
        se_ratio: squeeze-and-excitation channels over the channels *in*, for `basic` and `bottleneck` over the
            channels *out*; 0 is none.
        skip: `identity` (where shapes match), `none`, `pool` (3x3 average pool, channels cut or padded), or what
            stands in for the identity where shapes differ: `conv` (1x1 convolution with the block's stride and norm),
            `avg` (2x2 average pool where the block has a stride, 1x1 convolution, norm) or `depthwise` (k x k with the
            block's stride, norm, 1x1 convolution, norm).
        groups: of the k x k convolution in `bottleneck`, `xblock` and `igcv1`, of the first 1x1 convolution in
            `igcv2`, of both in `igcv3`; 1 for the other ops.
        drop_path_share: of the network's drop_path, what each block of the stage has; None is the network's rule.
        activation: of the stage's layers; None is the network's.

    Raises:
        InputError: a value outside its domain.
    """

    op: str
    kernel: int
    stride: int
    out_channels: int
    repeats: int = 1
    expansion: int | float = 1
    se_ratio: float = 0.0
    skip: Skip = "identity"
    groups: int = 1
    drop_path_share: float | None = None
    activation: Activation | None = None

    def __post_init__(self) -> None:
        _one_of("op", self.op, _ops())
        _one_of("skip", self.skip, SKIPS)
        _one_of("stride", self.stride, (1, 2))
        _positive_int("kernel", self.kernel)
        _positive_int("out_channels", self.out_channels)
        _positive_int("repeats", self.repeats)
        _one_of("activation", self.activation, (None, *ACTIVATIONS))
        self._check_expansion()
        if self.kernel % 2 == 0:
            raise InputError(f"kernel must be odd, got {self.kernel}.")
        _positive_int("groups", self.groups)
        if not 0 <= self.se_ratio <= 1:
            raise InputError(f"se_ratio must lie in [0, 1], got {self.se_ratio!r}.")
        if self.drop_path_share is not None and not 0 <= self.drop_path_share <= 1:
            raise InputError(f"drop_path_share must lie in [0, 1], got {self.drop_path_share!r}.")
        self._check_groups()

    def inside(self, in_channels: int) -> int:
        """Channels inside a layer that is given so many; those of its k x k convolution.

        Reference: MobileNetV3 (arXiv 1905.02244), Tables 1 and 2: 16 x 4.5 = 72, 24 x 3.67 = 88; GhostNet's code
        (huawei-noah/Efficient-AI-Backbones) rounds to multiples of 4.
        """
        if self.op in INVERTED:
            exact = in_channels * self.expansion
            divisor = 4 if self.op == "ghost" else 8
            return int(exact) if isinstance(self.expansion, int) else round_filters(exact, divisor=divisor)
        if self.op in EXPANDING:
            return self.out_channels // int(self.expansion)
        return in_channels if self.op in ("sepconv", "igcv2") else self.out_channels

    def _check_expansion(self) -> None:
        if self.op not in INVERTED:
            _positive_int("expansion", self.expansion)
            if self.op not in EXPANDING and self.expansion != 1:
                raise InputError(
                    f"expansion belongs to {', '.join(EXPANDING)}; {self.op} takes 1, got {self.expansion}."
                )
        elif not _is_number(self.expansion) or not 1 <= self.expansion < inf:
            raise InputError(f"expansion must be a number of at least 1, got {self.expansion!r}.")
        elif self.expansion == int(self.expansion):
            object.__setattr__(self, "expansion", int(self.expansion))  # 6.0 and 6 are one network

    def _check_groups(self) -> None:
        if self.op not in GROUPED:
            if self.groups != 1:
                raise InputError(
                    f"groups belong to {' and '.join(GROUPED)}; {self.op} takes 1, got {self.groups}."
                )
            return
        least = self.groups if self.op in INTERLEAVED else int(self.expansion) * self.groups
        if self.out_channels % least:
            raise InputError(
                f"{self.op} with expansion {self.expansion} and {self.groups} groups needs out_channels that are a "
                f"multiple of {least}, got {self.out_channels}."
            )
        if self.op == "igcv2" and self.out_channels == self.groups > 1:
            raise InputError(
                f"igcv2 needs at least 2 channels in each group; got {self.groups} groups of {self.out_channels} "
                "out_channels."
            )


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """Stem, stages, head: everything that torch, ONNX and the cost model need to know.

    Args:
        stem_channels: that the stem ends with.
        stages: at least one.
        head_channels: of the head's 1x1 convolution; 0 with `head` `pool`.
        resolution: height and width of the input, in pixels, at least 8.
        num_classes: outputs of the classifier.
        in_channels: of the input image.
        dropout: before the classifier, in [0, 1).
        drop_path: stochastic depth; block i of n is dropped with probability drop_path x i / n, but for stages
            that have a share of their own.
        style: activation, norm and padding.
        stem_stride: of the stem's first convolution, 1 or 2.
        stem: `conv` (3x3 convolution), `max_pool` (ResNet's 7x7 convolution and 3x3 max pool of stride 2) or `deep`
            (ResNet-RS's: three 3x3 convolutions, the first two of half the channels, and one of stride 2).
        head: `conv` (1x1 convolution, pool, classifier), `pool` (pool, classifier) or `late` (pool, 1x1 convolution
            without a norm, classifier: MobileNetV3's).

    Raises:
        InputError: a value outside its domain, or groups that do not divide a stage's channels in.
    """

    stem_channels: int
    stages: tuple[StageSpec, ...]
    head_channels: int
    resolution: int = 224
    num_classes: int = 1000
    in_channels: int = 3
    dropout: float = 0.2
    drop_path: float = 0.2
    style: Style = field(default_factory=Style)
    stem_stride: int = 2
    stem: Stem = "conv"
    head: Head = "conv"

    def __post_init__(self) -> None:
        for name in ("stem_channels", "resolution", "num_classes", "in_channels"):
            _positive_int(name, getattr(self, name))
        if self.resolution < LEAST_RESOLUTION:
            raise InputError(f"resolution must be at least {LEAST_RESOLUTION} pixels, got {self.resolution}.")
        _one_of("stem_stride", self.stem_stride, (1, 2))
        _one_of("stem", self.stem, STEMS)
        _one_of("head", self.head, HEADS)
        if self.head != "pool":
            _positive_int("head_channels", self.head_channels)
        elif self.head_channels != 0:
            raise InputError(
                f"head 'pool' has no convolution; head_channels must be 0, got {self.head_channels!r}."
            )
        if self.stem == "deep" and self.stem_channels % 2:
            raise InputError(f"stem 'deep' needs an even stem_channels, got {self.stem_channels}.")
        if not self.stages:
            raise InputError("a network needs at least one stage, got none.")
        if not (0 <= self.dropout < 1 and 0 <= self.drop_path < 1):
            raise InputError(
                f"dropout and drop_path must lie in [0, 1), got {self.dropout}, {self.drop_path}."
            )
        self._check_groups()

    def _check_groups(self) -> None:
        channels = self.stem_channels
        for number, stage in enumerate(self.stages, 1):
            if stage.op in INTERLEAVED and channels % stage.groups:
                raise InputError(
                    f"stage {number}: the groups of {stage.op} must divide its channels; got {channels} channels in, "
                    f"{stage.out_channels} out and {stage.groups} groups."
                )
            channels = stage.out_channels

    @property
    def total_stride(self) -> int:
        """Pixels of the input, along a side, for each of the last stage's."""
        stem = self.stem_stride * (1 if self.stem == "conv" else 2)
        return stem * prod(stage.stride for stage in self.stages)

    @property
    def too_small(self) -> str | None:
        """What is to be said of a resolution below the total stride; None where it is none."""
        if self.resolution >= self.total_stride:
            return None
        return (
            f"at {self.resolution} pixels the last layers see one pixel, padded: all strides together are "
            f"{self.total_stride}."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        data = asdict(self)
        data["stages"] = list(data["stages"])
        return {"format": FORMAT, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`, strict: unknown, missing and mistyped fields are refused by name.

        Raises:
            InputError: not this format, or a field that is unknown, missing or of the wrong type.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"expected a network with format {FORMAT!r}, got {found!r}.")
        rest = {name: value for name, value in data.items() if name != "format"}
        stages = rest.get("stages")
        if not isinstance(stages, list | tuple):
            raise InputError("a network needs 'stages', a list of objects.")
        rest["stages"] = tuple(
            StageSpec(**_checked(StageSpec, stage, f"stage {number}"))
            for number, stage in enumerate(stages, 1)
        )
        rest["style"] = Style(**_checked(Style, rest.get("style", {}), "style"))
        return cls(**_checked(cls, rest, "network"))


_JSON_TYPES: dict[Any, tuple[type, ...]] = {
    int: (int,),
    float: (int, float),
    int | float: (int, float),
    str: (str,),
    Gate: (str,),
    Squeezed: (str,),
    Activation | None: (str, type(None)),
    Skip: (str,),
    Activation: (str,),
    Padding: (str,),
    Stem: (str,),
    Head: (str,),
    float | None: (int, float, type(None)),
    Style: (Style,),
    tuple[StageSpec, ...]: (tuple,),
}


def has_type(cls: type, name: str, value: object) -> bool:
    """Whether a value read from a file may stand in that field of `StageSpec`, `Style` or `NetworkSpec`."""
    (wanted,) = (_JSON_TYPES[item.type] for item in fields(cls) if item.name == name)
    return isinstance(value, wanted) and not isinstance(value, bool)


def _checked(cls: type, data: Any, where: str) -> dict[str, Any]:
    """`data` as keyword arguments for the dataclass `cls`, or every problem in one message."""
    if not isinstance(data, Mapping):
        raise InputError(f"{where} must be an object, got {type(data).__name__}.")
    known = {item.name: item for item in fields(cls)}
    problems = [f"unknown field {name!r}" for name in data if name not in known]
    for name, item in known.items():
        if name not in data:
            if item.default is MISSING and item.default_factory is MISSING:
                problems.append(f"missing field {name!r}")
        elif not has_type(cls, name, data[name]):
            problems.append(f"field {name!r} has the wrong type {type(data[name]).__name__}")
    if problems:
        raise InputError(f"{where}: {'; '.join(problems)}.")
    return dict(data)


def _one_of(name: str, value: object, options: Collection[object]) -> None:
    if value not in options:
        raise InputError(f"{name} must be one of {', '.join(map(str, options))}; got {value!r}.")


def _ops() -> Collection[object]:
    """The rows of `BLOCKS`."""
    from mnas.search_space.blocks import BLOCKS  # here: blocks are written in terms of this module

    return BLOCKS


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive_int(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}.")
