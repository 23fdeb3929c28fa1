"""EfficientNetV2 B0 to B3, S, M and L.

timm has B0 to B3 only as converted from TensorFlow (eps 1e-3, `same` padding), and so they are here; S, M and L are its
plain models.
"""

from dataclasses import replace

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import Figures, Member

RELEASE = "google/automl 25907c22, efficientnetv2/README.md"
TENSORFLOW = Style(norm_eps=1e-3, padding="same")

# Fused-MBConv with expansion 1 is a convolution. Reference: effnetv2_configs.py.
_STAGES = {
    "b0": (
        "cn_r1_k3_s1_c16_skip",
        "er_r2_k3_s2_e4_c32",
        "er_r2_k3_s2_e4_c48",
        "ir_r3_k3_s2_e4_c96_se0.25",
        "ir_r5_k3_s1_e6_c112_se0.25",
        "ir_r8_k3_s2_e6_c192_se0.25",
    ),
    "s": (
        "cn_r2_k3_s1_c24_skip",
        "er_r4_k3_s2_e4_c48",
        "er_r4_k3_s2_e4_c64",
        "ir_r6_k3_s2_e4_c128_se0.25",
        "ir_r9_k3_s1_e6_c160_se0.25",
        "ir_r15_k3_s2_e6_c256_se0.25",
    ),
    "m": (
        "cn_r3_k3_s1_c24_skip",
        "er_r5_k3_s2_e4_c48",
        "er_r5_k3_s2_e4_c80",
        "ir_r7_k3_s2_e4_c160_se0.25",
        "ir_r14_k3_s1_e6_c176_se0.25",
        "ir_r18_k3_s2_e6_c304_se0.25",
        "ir_r5_k3_s1_e6_c512_se0.25",
    ),
    "l": (
        "cn_r4_k3_s1_c32_skip",
        "er_r7_k3_s2_e4_c64",
        "er_r7_k3_s2_e4_c96",
        "ir_r10_k3_s2_e4_c192_se0.25",
        "ir_r19_k3_s1_e6_c224_se0.25",
        "ir_r25_k3_s2_e6_c384_se0.25",
        "ir_r7_k3_s1_e6_c640_se0.25",
    ),
}
# Width, depth, evaluation resolution, dropout.
_SMALL = {
    "b0": (1.0, 1.0, 224, 0.2),
    "b1": (1.0, 1.1, 240, 0.2),
    "b2": (1.1, 1.2, 260, 0.3),
    "b3": (1.2, 1.4, 300, 0.3),
}
# Stem, evaluation resolution, dropout.
_LARGE = {"s": (24, 384, 0.2), "m": (24, 480, 0.3), "l": (32, 480, 0.4)}
# Top-1 in percent, parameters, multiply-adds.
_FIGURES = {
    "b0": (78.7, 7.1e6, 0.72e9),
    "b1": (79.8, 8.1e6, 1.2e9),
    "b2": (80.5, 10.1e6, 1.7e9),
    "b3": (82.1, 14.4e6, 3.0e9),
    "s": (83.9, 21.5e6, 8.4e9),
    "m": (85.2, 54.1e6, 24.7e9),
    "l": (85.7, 119.5e6, 56.3e9),
}


def _small(name: str) -> NetworkSpec:
    width, depth, resolution, dropout = _SMALL[name]
    base = NetworkSpec(32, decode_stages(_STAGES["b0"]), 1280, style=TENSORFLOW)
    # V2 rounds to the nearest multiple of 8, without the rule of 10 per cent: effnetv2_model.py, round_filters.
    scaled = scale(base, depth=depth, width=width, resolution=resolution, least=0.0)
    return replace(scaled, dropout=dropout)


def _large(name: str) -> NetworkSpec:
    stem, resolution, dropout = _LARGE[name]
    return NetworkSpec(stem, decode_stages(_STAGES[name]), 1280, resolution=resolution, dropout=dropout)


MEMBERS: dict[str, Member] = {
    f"efficientnetv2_{size}": Member(
        f"EfficientNetV2-{size.upper()}",
        "EfficientNetV2",
        _small(size) if size in _SMALL else _large(size),
        Figures(RELEASE, *published),
        (f"tf_efficientnetv2_{size}",) if size in _SMALL else (),
    )
    for size, published in _FIGURES.items()
}
