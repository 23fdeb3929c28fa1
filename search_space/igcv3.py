"""IGCV3-D as a spec, and `igcv3`: the space of its groups, kernels, expansions and depths.

4,353,564,672 networks: MobileNetV2's channels and strides; in each of the seven blocks the groups of the 1x1
convolutions {1, 2, 4} and the kernel {3, 5}, but for the first the expansion {4, 6}, and but for the first and last the
depth, from MobileNetV2's to IGCV3-D's. IGCV3-D itself is a member. With one group a block is MobileNetV2's without the
activation behind the expansion.

Reference: IGCV3 (arXiv 1806.00178) and its code (homles11/IGCV3 bdf9a8f6, symbols/igcv3.py): two groups in every block,
no activation behind the expansion, momentum and epsilon of norms as PyTorch's, no dropout.
"""

from functools import lru_cache

from mnas.search_space.space import Choice, Factor, SearchSpace, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# MobileNetV2's (arXiv 1801.04381, Table 2).
CHANNELS = (16, 24, 32, 64, 96, 160, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
# IGCV3-D's.
LAYERS = (1, 4, 6, 8, 6, 6, 1)
EXPANSIONS = (1, 6, 6, 6, 6, 6, 6)
GROUPS = 2
# The space: groups of the paper's ablation, and depths from MobileNetV2's to IGCV3-D's.
SPACE_GROUPS, SPACE_KERNELS, SPACE_EXPANSIONS = (1, 2, 4), (3, 5), (4, 6)
SPACE_LAYERS = ((1,), (2, 3, 4), (3, 4, 6), (4, 6, 8), (3, 4, 6), (3, 4, 6), (1,))


def igcv3_network(
    width: float = 1.0, *, groups: int = GROUPS, resolution: int = 224, num_classes: int = 1000
) -> NetworkSpec:
    """IGCV3-D.

    Args:
        width: channels of stem and stages become round(channels x width), those of the head only grow.
        groups: of the 1x1 convolutions of every block; channels are rounded up to multiples of it.
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.

    Raises:
        InputError: a width that leaves no channels, or groups below 1.

    Reference: symbols/igcv3.py and igcv3_g2g4.py.
    """

    divisor = max(1, groups)  # fewer are refused by the stages

    def widened(channels: int) -> int:
        return -(-round(channels * width) // divisor) * divisor

    stages = tuple(
        StageSpec("igcv3", 3, stride, widened(channels), repeats, expansion, groups=groups)
        for channels, stride, repeats, expansion in zip(CHANNELS, STRIDES, LAYERS, EXPANSIONS, strict=True)
    )
    head = int(HEAD_CHANNELS * max(1.0, width))
    return _network(widened(STEM_CHANNELS), stages, head, resolution, num_classes)


def _network(
    stem: int, stages: tuple[StageSpec, ...], head: int, resolution: int, num_classes: int
) -> NetworkSpec:
    style = Style("relu6")
    return NetworkSpec(stem, stages, head, resolution, num_classes, dropout=0.0, drop_path=0.0, style=style)


@lru_cache(maxsize=1024)
def _stage(number: int, kernel: int, groups: int, expansion: int, layers: int) -> StageSpec:
    return StageSpec("igcv3", kernel, STRIDES[number], CHANNELS[number], layers, expansion, groups=groups)


def igcv3_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; blocks are numbered from 1."""
    choices: list[Choice] = []
    factors: list[Factor] = []
    for number, layers in enumerate(SPACE_LAYERS):
        options: dict[str, tuple[int, ...]] = {
            "kernel": SPACE_KERNELS,
            "groups": SPACE_GROUPS,
            "expansion": SPACE_EXPANSIONS if number else EXPANSIONS[:1],
            "layers": layers,
        }
        own = [Choice(f"block{number + 1}.{what}", some) for what, some in options.items() if len(some) > 1]
        choices += own
        factors.append(_factor(number, options, tuple(choice.name for choice in own)))

    def build(values: Values) -> NetworkSpec:
        stages = tuple(stage for part in factors for stage in part.stages(values))
        return _network(STEM_CHANNELS, stages, HEAD_CHANNELS, resolution, num_classes)

    return SearchSpace("igcv3", tuple(choices), build, factors=tuple(factors))


def _factor(number: int, options: dict[str, tuple[int, ...]], own: tuple[str, ...]) -> Factor:
    def stages(values: Values) -> tuple[StageSpec, ...]:
        names = {what: f"block{number + 1}.{what}" for what in options}
        given = {what: int(values.get(names[what], some[0])) for what, some in options.items()}
        return (_stage(number, **given),)

    return Factor(own, stages)
