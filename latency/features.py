"""What a network's latency is explained by: sums over its operations, cached per part of a network.

Every feature is a plain sum, so a network's are the sum of its segments', and a predictor that is linear in
them is additive over segments.
"""

from functools import lru_cache
from math import prod
from typing import assert_never

from mnas.search_space import Block, NetworkSpec, Segment, segment_program, segments, walk
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

# ONNX Runtime's CPU kernels hold channels in blocks (its NCHWc layout), of 16 with AVX-512 and NEON, of 8 with AVX2.
# Convolutions pad their channels to whole blocks, but pooling and the gates' averages leave the layout where channels
# do not fill them: slower kernels, with a copy before and after. A 112-pixel toy with a pooling skip takes 0.26 ms
# with 32 channels and 0.92 ms with 24. Telling such elements apart halved the held-out error of `mnasnet`, whose
# channels are often no multiple of 16 (from 12.6 % with 90 networks), and did not change that of `mbconv`.
# Counting what fills the blocks as well took the held-out error of width-scaled networks of `mbconv`, whose channels
# are multiples of 8, from 7.1 % to 5.4 %, with 60 mixed networks to fit (8 draws of them out of 194).
BLOCK = 16

# Units: MAdds, elements (float32 values of one image), weights, or counts. The set was chosen by cross-validation
# on networks of `mbconv` and `mnasnet`, at their own resolution, scaled and shrunk, measured on two shared x86 cores
# with AVX-512. Splitting the sums by resolution, tried on the same networks, changed nothing.
FEATURES = (
    "networks",  # 1 for the stem: what a run costs whatever the network
    "convolutions",  # count
    "pointwise_madds",  # 1x1 convolutions over an image
    "pointwise_padding",  # MAdds that full blocks of channels would have more
    "dense_madds",  # k x k convolutions over all channels
    "dense_padding",  # likewise
    "dense_elements",  # that they read and write
    "depthwise3_madds",  # kernel up to 3
    "depthwise5_madds",  # kernel 5 and more
    "depthwise_padding",  # likewise
    "depthwise_elements",  # read and written by depthwise convolutions
    "vector_madds",  # layers on one pixel: inside squeeze-and-excitation, and the classifier
    "gates",  # count of squeeze-and-excitation
    "gate_elements",  # that are averaged and multiplied by gates
    "gate_elements_unaligned",  # of those, the ones whose channels do not fill their blocks are counted here
    "weights",  # read once a run, by convolutions over an image
    "convolution_elements",  # read and written by convolutions over an image
    "padding_elements",  # that full blocks of channels would have more
    "silu_elements",  # through activations that no kernel fuses with a convolution
    "clamp_elements",  # through relu and relu6, which are fused with it
    "add_elements",  # of skip connections
    "pool_elements",  # written by 3x3 average pooling
    "pool_elements_unaligned",  # likewise
    "match_elements",  # written by cutting or padding channels
    "grouped_madds",  # convolutions of several groups that are not depthwise
    "grouped_padding",  # MAdds that full blocks of each group's channels would have more
    "max_pool_elements",  # written by max pooling
    "shuffle_elements",  # written by channel shuffles
    "concat_elements",  # written by concatenations
)


@lru_cache(maxsize=65536)
def segment_features(segment: Segment) -> tuple[float, ...]:
    """The segment's sums in the order of `FEATURES`; cached."""
    program = segment_program(segment)
    sums = dict.fromkeys(FEATURES, 0.0)
    if segment.stage is None and not segment.num_classes:
        sums["networks"] = 1.0
    for _, operation in walk(program):
        for name, amount in _operation(operation).items():
            sums[name] += amount
    _combined(program, sums)
    return tuple(sums.values())


def network_features(spec: NetworkSpec) -> tuple[float, ...]:
    """The network's sums in the order of `FEATURES`, at its resolution."""
    return tuple(map(sum, zip(*map(segment_features, segments(spec)), strict=True)))


def _operation(operation: Operation) -> dict[str, float]:
    match operation:
        case Conv(in_shape=(channels, height, width), kernel=kernel, groups=groups):
            return _conv(operation, channels, height * width, kernel, groups)
        case Linear(in_shape=in_shape, out_features=out):
            return {"vector_madds": prod(in_shape) * out}
        case Activate(in_shape=(_, 1, 1)) | GlobalPool() | BatchNorm() | DropPath() | Dropout():
            return {}  # free, or folded into the convolution before
        case Activate(in_shape=in_shape, kind=kind):
            return {"clamp_elements" if kind in ("relu", "relu6") else "silu_elements": prod(in_shape)}
        case AvgPool(in_shape=(channels, _, _)):
            return {f"pool_elements{_unaligned(channels)}": prod(operation.out_shape)}
        case MaxPool():
            return {"max_pool_elements": prod(operation.out_shape)}
        case Shuffle():
            return {"shuffle_elements": prod(operation.out_shape)}
        case MatchChannels():
            return {"match_elements": prod(operation.out_shape)}
        case _:
            assert_never(operation)


def _conv(operation: Conv, channels: int, pixels: int, kernel: int, groups: int) -> dict[str, float]:
    out, height, width = operation.out_shape
    weights = kernel * kernel * (channels // groups) * out
    madds = weights * height * width
    if pixels == 1 and kernel == 1:
        return {"vector_madds": madds}
    out_pixels = height * width
    elements = channels * pixels + out * out_pixels
    in_full, out_full = whole_blocks(channels), whole_blocks(out)
    sums: dict[str, float] = {
        "convolutions": 1,
        "weights": weights,
        "convolution_elements": elements,
        "padding_elements": in_full * pixels + out_full * out_pixels - elements,
    }
    if operation.is_depthwise:
        sums["depthwise3_madds" if kernel <= 3 else "depthwise5_madds"] = madds
        sums["depthwise_padding"] = (out_full / out - 1) * madds
        sums["depthwise_elements"] = elements
        return sums
    if groups > 1:
        whole = groups * whole_blocks(channels // groups) * whole_blocks(out // groups)
        return sums | {
            "grouped_madds": madds,
            "grouped_padding": kernel * kernel * whole * out_pixels - madds,
        }
    padding = kernel * kernel * in_full * out_full * out_pixels - madds
    if kernel == 1:
        return sums | {"pointwise_madds": madds, "pointwise_padding": padding}
    return sums | {"dense_madds": madds, "dense_padding": padding, "dense_elements": elements}


def whole_blocks(channels: int) -> int:
    """Channels rounded up to whole blocks."""
    return -(-channels // BLOCK) * BLOCK


def _combined(block: Block, sums: dict[str, float]) -> None:
    """Adds what blocks do with their results: skips, concatenations and gates."""
    if block.combine == "add":
        sums["add_elements"] += prod(block.out_shape)
    elif block.combine == "concat":
        sums["concat_elements"] += prod(block.out_shape)
    elif block.combine == "multiply":
        sums["gates"] += 1
        sums[f"gate_elements{_unaligned(block.in_shape[0])}"] += prod(block.in_shape)
    for _, step in block.steps:
        if isinstance(step, Block):
            _combined(step, sums)


def _unaligned(channels: int) -> str:
    """The ending of a feature's name for channels that do not fill their blocks."""
    return "_unaligned" if channels % BLOCK else ""
