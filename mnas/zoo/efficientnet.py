"""EfficientNet B0 to B8, L2, and the Lite line.

Norm and padding are those of timm's plain models (eps 1e-5, symmetric padding); the first TensorFlow releases used eps
1e-3 and `same` padding, which changes no count.
"""

from dataclasses import replace

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import RELEASED, RELEASED_LATER, released, scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import TIMM_RESULTS, Figures, Member

PAPER = "arXiv 1905.11946v5, Table 2"
LITE = "tensorflow/tpu 07e173cc, models/official/efficientnet/lite/README.md"

# EfficientNet (arXiv 1905.11946), Table 1; survival 0.8: efficientnet_builder.py.
B0 = NetworkSpec(
    stem_channels=32,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c16_se0.25",
            "ir_r2_k3_s2_e6_c24_se0.25",
            "ir_r2_k5_s2_e6_c40_se0.25",
            "ir_r3_k3_s2_e6_c80_se0.25",
            "ir_r3_k5_s1_e6_c112_se0.25",
            "ir_r4_k5_s2_e6_c192_se0.25",
            "ir_r1_k3_s1_e6_c320_se0.25",
        )
    ),
    head_channels=1280,
)
# Top-1 in percent, parameters, multiply-adds. B8 and L2 are not in the paper: timm measured the weights that were
# released of them, B8's trained with RandAugment, L2's with Noisy Student on 300 million more images.
_PAPER = {
    "b0": (77.1, 5.3e6, 0.39e9),
    "b1": (79.1, 7.8e6, 0.70e9),
    "b2": (80.1, 9.2e6, 1.0e9),
    "b3": (81.6, 12e6, 1.8e9),
    "b4": (82.9, 19e6, 4.2e9),
    "b5": (83.6, 30e6, 9.9e9),
    "b6": (84.0, 43e6, 19e9),
    "b7": (84.3, 66e6, 37e9),
}
_FIGURES = {size: Figures(PAPER, *row) for size, row in _PAPER.items()} | {
    "b8": Figures(f"{TIMM_RESULTS}: tf_efficientnet_b8.ra_in1k", 85.368),
    "l2": Figures(f"{TIMM_RESULTS}: tf_efficientnet_l2.ns_jft_in1k", 88.352),
}
# Width, depth, resolution, dropout; top-1 in percent, parameters, multiply-adds.
_LITE = (
    ((1.0, 1.0, 224, 0.2), (75.1, 4.7e6, 407e6)),
    ((1.0, 1.1, 240, 0.2), (76.7, 5.4e6, 631e6)),
    ((1.1, 1.2, 260, 0.3), (77.6, 6.1e6, 899e6)),
    ((1.2, 1.4, 280, 0.3), (79.8, 8.2e6, 1.44e9)),
    ((1.4, 1.8, 300, 0.3), (81.5, 13.0e6, 2.64e9)),
)


def _lite(width: float, depth: float, resolution: int, dropout: float) -> NetworkSpec:
    """Without squeeze-and-excitation, with ReLU6; stem, head and the repeats of the first and last stage stay B0's.

    Reference: lite/README.md and efficientnet_lite_builder.py of the release.
    """
    plain = tuple(replace(stage, se_ratio=0.0) for stage in B0.stages)
    scaled = scale(replace(B0, stages=plain), depth=depth, width=width, resolution=resolution)
    first, *inner, last = scaled.stages
    return replace(
        scaled,
        stem_channels=B0.stem_channels,
        stages=(replace(first, repeats=1), *inner, replace(last, repeats=1)),
        head_channels=B0.head_channels,
        dropout=dropout,
        style=Style(activation="relu6"),
    )


MEMBERS: dict[str, Member] = {
    name: Member(f"EfficientNet-{size.upper()}", "EfficientNet", released(B0, name), _FIGURES[size])
    for name, size in ((name, name.removeprefix("efficientnet_")) for name in RELEASED | RELEASED_LATER)
} | {
    f"efficientnet_lite{number}": Member(
        f"EfficientNet-Lite{number}", "EfficientNet-Lite", _lite(*coefficients), Figures(LITE, *published)
    )
    for number, (coefficients, published) in enumerate(_LITE)
}
