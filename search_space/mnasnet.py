"""`mnasnet`: the factorised hierarchical space of MnasNet (arXiv 1807.11626), sec. 4.1 and Fig. 4.

Per block: op {conv, separable conv, MBConv e3, MBConv e6}, kernel {3, 5}, SE ratio {0, 0.25}, skip {none,
identity, pool}, output filters {0.75, 1, 1.25} x and layers {-1, 0, +1} + those of MobileNetV2's block.
One layer is chosen for a block and repeated. Filters are rounded as published and equal results merged;
a block has at least one layer. Stem 32 and head 1280 are fixed, activations are ReLU as in the paper.
The paper lists three ops; its sub-space size of 432 counts MBConv twice, with expansion 3 and 6.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from mnas.search_space.rounding import round_filters
from mnas.search_space.space import Choice, Factor, SearchSpace, Value, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

OPS: dict[str, tuple[str, int]] = {
    "conv": ("conv", 1),
    "sepconv": ("sepconv", 1),
    "mbconv3": ("mbconv", 3),
    "mbconv6": ("mbconv", 6),
}
KERNELS, SE_RATIOS, SKIPS = (3, 5), (0.0, 0.25), ("none", "identity", "pool")
WIDTHS, DEPTHS = (0.75, 1.0, 1.25), (-1, 0, 1)
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280


@dataclass(frozen=True, slots=True)
class Reference:
    """A block of the network that the space is built around."""

    channels: int
    layers: int
    stride: int

    @property
    def filters(self) -> tuple[int, ...]:
        """The scaled channels, rounded, without repetitions."""
        return tuple(dict.fromkeys(round_filters(self.channels * width) for width in WIDTHS))

    @property
    def depths(self) -> tuple[int, ...]:
        """The layers on offer, at least one."""
        return tuple(self.layers + more for more in DEPTHS if self.layers + more >= 1)


# MobileNetV2 (arXiv 1801.04381), Table 2: c, n, s.
MOBILENETV2 = (
    Reference(16, 1, 1),
    Reference(24, 2, 2),
    Reference(32, 3, 2),
    Reference(64, 4, 2),
    Reference(96, 3, 1),
    Reference(160, 3, 2),
    Reference(320, 1, 1),
)
_FIELDS = ("op", "kernel", "se_ratio", "skip", "filters", "layers")


def _identity_is_possible(in_channels: int, filters: int, layers: int, stride: int) -> bool:
    """Whether any layer of the block has equal shapes in and out; from the second on, all have."""
    return layers > 1 or (stride == 1 and in_channels == filters)


@lru_cache(maxsize=65536)
def _stage(
    stride: int, op: str, kernel: int, se_ratio: float, skip: str, filters: int, layers: int
) -> StageSpec:
    name, expansion = OPS[op]
    return StageSpec(name, kernel, stride, filters, layers, expansion, se_ratio, skip)  # type: ignore[arg-type]


def mnasnet_space(
    *, resolution: int = 224, num_classes: int = 1000, reference: Iterable[Reference] = MOBILENETV2
) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; blocks are numbered from 1.

    Args:
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.
        reference: the blocks to build around; MobileNetV2's in the paper.
    """
    blocks = tuple(reference)
    names = [tuple(f"block{number}.{what}" for what in _FIELDS) for number in range(1, len(blocks) + 1)]
    choices: list[Choice] = []
    for block, block_names in zip(blocks, names, strict=True):
        options: list[tuple[Value, ...]] = [
            tuple(OPS),
            KERNELS,
            SE_RATIOS,
            SKIPS,
            block.filters,
            block.depths,
        ]
        choices += map(Choice, block_names, options)
    style = Style(activation="relu")

    def factor(stride: int, block_names: tuple[str, ...]) -> Factor:
        return Factor(block_names, lambda values: (_stage(stride, *(values[name] for name in block_names)),))

    factors = tuple(factor(block.stride, own) for block, own in zip(blocks, names, strict=True))

    def build(values: Values) -> NetworkSpec:
        stages = tuple(stage for part in factors for stage in part.stages(values))
        return NetworkSpec(STEM_CHANNELS, stages, HEAD_CHANNELS, resolution, num_classes, style=style)

    def merge(values: dict[str, Value]) -> dict[str, Value]:
        """An identity that applies to no layer is no skip."""
        channels = STEM_CHANNELS
        for block, (*_, skip, filters, layers) in zip(blocks, names, strict=True):
            out, depth = int(values[filters]), int(values[layers])
            if values[skip] == "identity" and not _identity_is_possible(channels, out, depth, block.stride):
                values = {**values, skip: "none"}
            channels = out
        return values

    def count_distinct() -> int:
        """Networks by channels out of the last block: a block's choices depend on the channels into it alone."""
        networks = {STEM_CHANNELS: 1}
        other = len(OPS) * len(KERNELS) * len(SE_RATIOS)
        for block in blocks:
            following: dict[int, int] = dict.fromkeys(block.filters, 0)
            for channels, count in networks.items():
                for filters in block.filters:
                    for layers in block.depths:
                        possible = _identity_is_possible(channels, filters, layers, block.stride)
                        following[filters] += count * other * (len(SKIPS) if possible else len(SKIPS) - 1)
            networks = following
        return sum(networks.values())

    return SearchSpace("mnasnet", tuple(choices), build, merge, count_distinct, factors)
