"""`mbconv`: EfficientNet-B0's stem, head, channels and strides; each block's op, kernel, depth and SE are open.

104,485,552,128 networks: expansion {1, 4, 6}, kernel {3, 5}, layers {1, 2, 3} ({1, 2, 3, 4} in the
192-channel block), squeeze-and-excitation {0, 0.25}. It is the space whose members Accel-NASBench
(afzalxo/Accel-NASBench) trained and measured. B0 itself is a member.
"""

from functools import lru_cache

from mnas.search_space.space import Choice, Factor, SearchSpace, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# EfficientNet (arXiv 1905.11946), Table 1: output channels and stride of the first layer of each block.
CHANNELS = (16, 24, 40, 80, 112, 192, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
# Accel-NASBench's options for each block.
EXPANSIONS, KERNELS, SE_RATIOS = (1, 4, 6), (3, 5), (0.0, 0.25)
LAYERS = ((1, 2, 3),) * 5 + ((1, 2, 3, 4), (1, 2, 3))


@lru_cache(maxsize=1024)
def _stage(number: int, expansion: int, kernel: int, layers: int, se_ratio: float) -> StageSpec:
    """With expansion 1 there is nothing to expand: the block is a separable convolution."""
    op = "sepconv" if expansion == 1 else "mbconv"
    return StageSpec(op, kernel, STRIDES[number], CHANNELS[number], layers, expansion, se_ratio)


def mbconv_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; blocks are numbered from 1."""
    names = [
        tuple(f"block{number}.{what}" for what in ("expansion", "kernel", "layers", "se_ratio"))
        for number in range(1, len(CHANNELS) + 1)
    ]
    choices = tuple(
        choice
        for (expansion, kernel, layers, se_ratio), depths in zip(names, LAYERS, strict=True)
        for choice in (
            Choice(expansion, EXPANSIONS),
            Choice(kernel, KERNELS),
            Choice(layers, depths),
            Choice(se_ratio, SE_RATIOS),
        )
    )
    style = Style(activation="silu")

    def factor(number: int, block: tuple[str, ...]) -> Factor:
        return Factor(block, lambda values: (_stage(number, *(values[name] for name in block)),))

    factors = tuple(factor(number, block) for number, block in enumerate(names))

    def build(values: Values) -> NetworkSpec:
        stages = tuple(stage for part in factors for stage in part.stages(values))
        return NetworkSpec(STEM_CHANNELS, stages, HEAD_CHANNELS, resolution, num_classes, style=style)

    return SearchSpace("mbconv", choices, build, factors=factors)
