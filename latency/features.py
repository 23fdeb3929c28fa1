"""What a network's latency is explained by: sums over its operations, cached per part of a network.

Every feature is a plain sum, so a network's are the sum of its segments', and a predictor that is linear in
them is additive over segments.
"""

from functools import lru_cache
from math import prod

from mnas.search_space import Block, NetworkSpec, Segment, segment_program, segments, walk
from mnas.search_space.program import Activate, AvgPool, Conv, GlobalPool, Linear, MatchChannels, Operation

# Units: MAdds, elements (float32 values of one image), weights, or counts.
FEATURES = (
    "networks",  # 1 for the stem: what a run costs whatever the network
    "convolutions",  # count
    "pointwise_madds",  # 1x1 convolutions over an image
    "dense_madds",  # k x k convolutions over all channels
    "depthwise3_madds",  # kernel up to 3
    "depthwise5_madds",  # kernel 5 and more
    "vector_madds",  # layers on one pixel: inside squeeze-and-excitation, and the classifier
    "gates",  # count of squeeze-and-excitation
    "gate_elements",  # that are averaged and multiplied by gates
    "weights",  # read once a run, by layers over an image
    "convolution_elements",  # read and written by layers over an image
    "depthwise_elements",  # of those, by depthwise ones
    "silu_elements",  # through activations that no kernel fuses with a convolution
    "clamp_elements",  # through relu and relu6, which are fused with it
    "add_elements",  # of skip connections
    "pool_elements",  # written by 3x3 average pooling
    "match_elements",  # written by cutting or padding channels
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
        case Activate(in_shape=(_, 1, 1)) | GlobalPool():
            return {}
        case Activate(in_shape=in_shape, kind=kind):
            return {"silu_elements" if kind in ("silu", "sigmoid") else "clamp_elements": prod(in_shape)}
        case AvgPool():
            return {"pool_elements": prod(operation.out_shape)}
        case MatchChannels():
            return {"match_elements": prod(operation.out_shape)}
        case _:
            return {}


def _conv(operation: Conv, channels: int, pixels: int, kernel: int, groups: int) -> dict[str, float]:
    out, height, width = operation.out_shape
    weights = kernel * kernel * (channels // groups) * out
    madds = weights * height * width
    if pixels == 1 and kernel == 1:
        return {"vector_madds": madds}
    elements = channels * pixels + prod(operation.out_shape)
    sums: dict[str, float] = {"convolutions": 1, "weights": weights, "convolution_elements": elements}
    if groups > 1:
        sums["depthwise3_madds" if kernel <= 3 else "depthwise5_madds"] = madds
        sums["depthwise_elements"] = elements
    else:
        sums["pointwise_madds" if kernel == 1 else "dense_madds"] = madds
    return sums


def _combined(block: Block, sums: dict[str, float]) -> None:
    """Adds what blocks do with their results: skips and gates."""
    if block.combine == "add":
        sums["add_elements"] += prod(block.out_shape)
    elif block.combine == "multiply":
        sums["gates"] += 1
        sums["gate_elements"] += prod(block.in_shape)
    for _, step in block.steps:
        if isinstance(step, Block):
            _combined(step, sums)
