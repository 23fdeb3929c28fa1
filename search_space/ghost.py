"""GhostNet as a spec, and `ghost`: the space of its expansions, kernels, depths and squeeze-and-excitation.

483,729,408 networks: GhostNet's stem, channels and strides, and its last convolution and head. In each of the six
groups of blocks of one width the expansion {2, 3, 6} (the first {1, 2}), the depth, and squeeze-and-excitation
{0, 0.25}; in all but the first the kernel {3, 5}, which only the first block of a group has: others convolve with Ghost
modules alone. GhostNet is no member: its blocks of 80 channels have three expansions, and of those of 160 every second
has squeeze-and-excitation.

Reference: GhostNet (arXiv 1911.11907), Table 1, and its code (huawei-noah/Efficient-AI-Backbones, ghostnet_pytorch).
"""

from functools import lru_cache

from mnas.search_space.rounding import round_filters
from mnas.search_space.space import Choice, Factor, SearchSpace, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# Kernel, channels inside, channels out, ratio of squeeze-and-excitation, stride of each block.
BLOCKS: tuple[tuple[int, int, int, float, int], ...] = (
    (3, 16, 16, 0.0, 1),
    (3, 48, 24, 0.0, 2),
    (3, 72, 24, 0.0, 1),
    (5, 72, 40, 0.25, 2),
    (5, 120, 40, 0.25, 1),
    (3, 240, 80, 0.0, 2),
    (3, 200, 80, 0.0, 1),
    (3, 184, 80, 0.0, 1),
    (3, 184, 80, 0.0, 1),
    (3, 480, 112, 0.25, 1),
    (3, 672, 112, 0.25, 1),
    (5, 672, 160, 0.25, 2),
    (5, 960, 160, 0.0, 1),
    (5, 960, 160, 0.25, 1),
    (5, 960, 160, 0.0, 1),
    (5, 960, 160, 0.25, 1),
)
STEM_CHANNELS, LAST_CHANNELS, HEAD_CHANNELS = 16, 960, 1280
DIVISOR = 4
STYLE = Style("relu", se_of="inside", se_divisor=DIVISOR, se_gate="hard_sigmoid")
# The space: channels and strides of the groups; expansions and depths around GhostNet's (chosen here).
CHANNELS, STRIDES = (16, 24, 40, 80, 112, 160), (1, 2, 2, 2, 1, 2)
EXPANSIONS, KERNELS, SE_RATIOS = (2, 3, 6), (3, 5), (0.0, 0.25)
FIRST_EXPANSIONS = (1, 2)
LAYERS = ((1, 2), (1, 2, 3), (1, 2, 3), (2, 3, 4), (1, 2, 3), (3, 4, 5))


def ghostnet_network(width: float = 1.0, *, resolution: int = 224, num_classes: int = 1000) -> NetworkSpec:
    """GhostNet.

    Args:
        width: all channels but the head's become round_filters(channels x width, divisor=4).
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.
    """
    stem = before = _rounded(STEM_CHANNELS, width)
    stages: list[StageSpec] = []
    for kernel, inside, channels, se_ratio, stride in BLOCKS:
        out = _rounded(channels, width)
        stages.append(_bottleneck(kernel, stride, out, 1, _rounded(inside, width) / before, se_ratio))
        before = out
    stages.append(_last(_rounded(LAST_CHANNELS, width)))
    return _network(stem, tuple(stages), resolution, num_classes)


def _rounded(channels: int, width: float) -> int:
    return round_filters(channels * width, divisor=DIVISOR)


@lru_cache(maxsize=1024)
def _bottleneck(
    kernel: int, stride: int, out: int, repeats: int, expansion: float, se_ratio: float
) -> StageSpec:
    return StageSpec("ghost", kernel, stride, out, repeats, expansion, se_ratio, "depthwise")


def _last(channels: int) -> StageSpec:
    """The convolution behind the blocks."""
    return StageSpec("conv", 1, 1, channels, skip="none")


def _network(stem: int, stages: tuple[StageSpec, ...], resolution: int, num_classes: int) -> NetworkSpec:
    return NetworkSpec(
        stem, stages, HEAD_CHANNELS, resolution, num_classes, drop_path=0.0, style=STYLE, head="late"
    )


def ghost_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; groups of blocks are numbered from 1."""
    choices: list[Choice] = []
    factors: list[Factor] = []
    for number, layers in enumerate(LAYERS):
        name = f"block{number + 1}"
        own = [
            Choice(f"{name}.expansion", EXPANSIONS if number else FIRST_EXPANSIONS),
            Choice(f"{name}.layers", layers),
            Choice(f"{name}.se_ratio", SE_RATIOS),
        ]
        own += [Choice(f"{name}.kernel", KERNELS)] if number else []
        choices += own
        factors.append(_factor(number, tuple(choice.name for choice in own)))

    def build(values: Values) -> NetworkSpec:
        stages = tuple(stage for part in factors for stage in part.stages(values))
        return _network(STEM_CHANNELS, stages, resolution, num_classes)

    return SearchSpace("ghost", tuple(choices), build, factors=tuple(factors))


def _factor(number: int, own: tuple[str, ...]) -> Factor:
    def stages(values: Values) -> tuple[StageSpec, ...]:
        expansion, layers, se_ratio, *kernel = (values[name] for name in own)
        out, stride = CHANNELS[number], STRIDES[number]
        side = int(kernel[0]) if kernel else KERNELS[0]
        blocks = _bottleneck(side, stride, out, int(layers), int(expansion), float(se_ratio))
        return (blocks,) if number + 1 < len(CHANNELS) else (blocks, _last(LAST_CHANNELS))

    return Factor(own, stages)
