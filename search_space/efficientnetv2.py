"""`efficientnetv2`: EfficientNetV2-B0's stem, head, channels and strides; each stage's op, kernel, expansion and depth.

2,176,782,336 networks: MBConv (with squeeze-and-excitation) or Fused-MBConv (without), kernel {3, 5}, expansion
{1, 4, 6}, three numbers of layers around the backbone's. With expansion 1 nothing is expanded: what remains is a
separable convolution, or a convolution. Pooling skips are left out, as the paper found them never chosen. V2-B0 is a
member.

Reference: EfficientNetV2 (arXiv 2104.00298), sec. 3.3; google/automl, efficientnetv2/effnetv2_configs.py.
"""

from functools import lru_cache

from mnas.search_space.space import Choice, Factor, SearchSpace, Value, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# V2-B0 (effnetv2_configs.py, v2_base_block).
CHANNELS = (16, 32, 48, 96, 112, 192)
STRIDES = (1, 2, 2, 2, 1, 2)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
SE_RATIO = 0.25
OPS, KERNELS, EXPANSIONS = ("mbconv", "fused_mbconv"), (3, 5), (1, 4, 6)
# The paper does not say which numbers; chosen here around B0's 1, 2, 2, 3, 5 and 8.
LAYERS = ((1, 2, 3), (1, 2, 3), (1, 2, 3), (2, 3, 4), (4, 5, 6), (6, 8, 10))
_FIELDS = ("op", "kernel", "expansion", "layers")


@lru_cache(maxsize=1024)
def _stage(number: int, op: str, kernel: int, expansion: int, layers: int) -> StageSpec:
    se_ratio = SE_RATIO if op == "mbconv" else 0.0
    if expansion == 1:
        op = "sepconv" if op == "mbconv" else "conv"
    return StageSpec(op, kernel, STRIDES[number], CHANNELS[number], layers, expansion, se_ratio)


def efficientnetv2_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; stages are numbered from 1."""
    names = [tuple(f"stage{number}.{what}" for what in _FIELDS) for number in range(1, len(CHANNELS) + 1)]
    choices: list[Choice] = []
    for own, layers in zip(names, LAYERS, strict=True):
        options: list[tuple[Value, ...]] = [OPS, KERNELS, EXPANSIONS, layers]
        choices += map(Choice, own, options)
    style = Style(activation="silu")

    def factor(number: int, own: tuple[str, ...]) -> Factor:
        return Factor(own, lambda values: (_stage(number, *(values[name] for name in own)),))

    factors = tuple(factor(number, own) for number, own in enumerate(names))

    def build(values: Values) -> NetworkSpec:
        stages = tuple(stage for part in factors for stage in part.stages(values))
        return NetworkSpec(STEM_CHANNELS, stages, HEAD_CHANNELS, resolution, num_classes, style=style)

    return SearchSpace("efficientnetv2", tuple(choices), build, factors=factors)
