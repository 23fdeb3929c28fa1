"""ResNet and ResNet-RS as specs, and `resnet-rs`: the space of depth, width and resolution around the latter.

441 networks: the released depths and two smaller ones, widths 0.25 to 2, and image sizes from 4/7 to 10/7 of the
resolution that is asked for (128 to 320 pixels for 224). It is the grid that the paper draws its scaling rules from,
with the finer steps of its released family.

Reference: ResNet (arXiv 1512.03385), Table 1; ResNet-RS (arXiv 2103.07579), sec. 5 and 6, and its code
(tensorflow/tpu, models/official/resnet).
"""

from collections.abc import Sequence
from typing import Literal

from mnas.search_space.rounding import round_filters
from mnas.search_space.space import Choice, SearchSpace, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# Channels of the first convolution of each stage's blocks, and strides of its first block.
CHANNELS, STRIDES = (64, 128, 256, 512), (1, 2, 2, 2)
STEM_CHANNELS, EXPANSION, SE_RATIO = 64, 4, 0.25
# Blocks of each stage by the depth in the name: ResNet's (Table 1) and ResNet-RS's (configs/*.yaml).
LAYERS: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
RS_LAYERS: dict[int, tuple[int, int, int, int]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    350: (4, 36, 72, 4),
    420: (4, 44, 87, 4),
}
# The share of the drop connect rate in each group of blocks: get_drop_connect_rate(rate, i, 5), i = 2 to 5.
DROP_PATH_SHARES = (0.4, 0.6, 0.8, 1.0)
# The space: 26 = 3 x (2 + 2 + 2 + 2) + 2 is the paper's smallest depth; 38 (chosen here) lies between it and 50.
SPACE_LAYERS: dict[int, tuple[int, int, int, int]] = {26: (2, 2, 2, 2), 38: (3, 3, 3, 3), **RS_LAYERS}
WIDTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
# Sevenths of the space's resolution, which is the first: 224, 128, 160, 192, 256, 288 and 320 pixels for 224.
SIZES = (7, 4, 5, 6, 8, 9, 10)
LEAST_SIZE = 8  # pixels: chosen here; below it the strides leave nothing to look at


def resnet_network(
    layers: Sequence[int],
    block: Literal["basic", "bottleneck"],
    *,
    resolution: int = 224,
    num_classes: int = 1000,
) -> NetworkSpec:
    """A ResNet with these blocks in each of its four stages, the stride in the 3x3 convolution.

    Args:
        layers: blocks of each stage.
        block: two 3x3 convolutions, or a bottleneck.
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.
    """
    expansion = EXPANSION if block == "bottleneck" else 1
    stages = tuple(
        StageSpec(block, 3, stride, channels * expansion, repeats, expansion, skip="conv")
        for channels, stride, repeats in zip(CHANNELS, STRIDES, layers, strict=True)
    )
    return NetworkSpec(
        STEM_CHANNELS,
        stages,
        0,
        resolution,
        num_classes,
        dropout=0.0,
        drop_path=0.0,
        style=Style("relu"),
        stem="max_pool",
        head="pool",
    )


def resnet_rs_network(
    layers: Sequence[int],
    *,
    width: float = 1.0,
    resolution: int = 224,
    num_classes: int = 1000,
    dropout: float = 0.25,
    drop_path: float = 0.0,
) -> NetworkSpec:
    """A ResNet-RS: ResNet-D with squeeze-and-excitation and a convolution in place of the max pool.

    Args:
        layers: blocks of each of the four stages.
        width: of stem and stages, as a factor; the channels inside the blocks are rounded as published elsewhere.
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.
        dropout: before the classifier.
        drop_path: of the last stage; the earlier ones have 0.4, 0.6 and 0.8 of it.
    """
    stages = tuple(
        StageSpec(
            "bottleneck",
            3,
            stride,
            round_filters(channels * width) * EXPANSION,
            repeats,
            EXPANSION,
            SE_RATIO,
            "avg",
            drop_path_share=share,
        )
        for channels, stride, repeats, share in zip(CHANNELS, STRIDES, layers, DROP_PATH_SHARES, strict=True)
    )
    return NetworkSpec(
        round_filters(STEM_CHANNELS * width),
        stages,
        0,
        resolution,
        num_classes,
        dropout=dropout,
        drop_path=drop_path,
        style=Style("relu"),
        stem="deep",
        head="pool",
    )


def resnet_rs_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space around a resolution (pixels), for a number of classes."""
    smallest = min(resolution, LEAST_SIZE)
    sizes = tuple(dict.fromkeys(max(smallest, round(resolution * size / 7)) for size in SIZES))
    choices = (Choice("depth", tuple(SPACE_LAYERS)), Choice("width", WIDTHS), Choice("resolution", sizes))

    def build(values: Values) -> NetworkSpec:
        return resnet_rs_network(
            SPACE_LAYERS[int(values["depth"])],
            width=float(values["width"]),
            resolution=int(values["resolution"]),
            num_classes=num_classes,
        )

    return SearchSpace("resnet-rs", choices, build)
