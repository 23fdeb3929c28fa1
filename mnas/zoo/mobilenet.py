"""MobileNetV2 and V3 at their widths."""

from dataclasses import replace
from functools import partial

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import TIMM_RESULTS, Figures, Member, at_widths

V2_PAPER, V3_PAPER = "arXiv 1801.04381v4, Table 4", "arXiv 1905.02244v5, Table 3"
RELEASE = "tensorflow/models 0ba83cf0, research/slim/nets/mobilenet/README.md"

# MobileNetV2 (arXiv 1801.04381), Table 2.
V2 = NetworkSpec(
    stem_channels=32,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c16",
            "ir_r2_k3_s2_e6_c24",
            "ir_r3_k3_s2_e6_c32",
            "ir_r4_k3_s2_e6_c64",
            "ir_r3_k3_s1_e6_c96",
            "ir_r3_k3_s2_e6_c160",
            "ir_r1_k3_s1_e6_c320",
        )
    ),
    head_channels=1280,
    drop_path=0.0,
    style=Style(activation="relu6"),
)
# Squeeze-and-excitation is a quarter of the channels inside, in multiples of 8: arXiv 1905.02244, sec. 5.3.
_V3 = Style(
    activation="hard_swish", se_of="inside", se_divisor=8, se_activation="relu", se_gate="hard_sigmoid"
)
# Tables 1 and 2 with the expansions as factors, as timm has them.
V3_LARGE = NetworkSpec(
    stem_channels=16,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c16_nre",
            "ir_r1_k3_s2_e4_c24_nre",
            "ir_r1_k3_s1_e3_c24_nre",
            "ir_r3_k5_s2_e3_c40_se0.25_nre",
            "ir_r1_k3_s2_e6_c80",
            "ir_r1_k3_s1_e2.5_c80",
            "ir_r2_k3_s1_e2.3_c80",
            "ir_r2_k3_s1_e6_c112_se0.25",
            "ir_r3_k5_s2_e6_c160_se0.25",
            "cn_r1_k1_s1_c960",
        )
    ),
    head_channels=1280,
    drop_path=0.0,
    style=_V3,
    head="late",
)
V3_SMALL = replace(
    V3_LARGE,
    stages=decode_stages(
        (
            "ds_r1_k3_s2_e1_c16_se0.25_nre",
            "ir_r1_k3_s2_e4.5_c24_nre",
            "ir_r1_k3_s1_e3.67_c24_nre",
            "ir_r1_k5_s2_e4_c40_se0.25",
            "ir_r2_k5_s1_e6_c40_se0.25",
            "ir_r2_k5_s1_e3_c48_se0.25",
            "ir_r3_k5_s2_e6_c96_se0.25",
            "cn_r1_k1_s1_c576",
        )
    ),
    head_channels=1024,
)
# By width: top-1 in percent, parameters, multiply-adds.
_V2 = {
    1.0: Figures(V2_PAPER, 72.0, 3.4e6, 300e6),
    0.35: Figures(RELEASE, 60.3, 1.66e6, 59e6),
    0.5: Figures(RELEASE, 65.4, 1.95e6, 97e6),
    0.75: Figures(RELEASE, 69.8, 2.61e6, 209e6),
    1.4: Figures(V2_PAPER, 74.7, 6.9e6, 585e6),
}
_V3_LARGE = {1.0: Figures(V3_PAPER, 75.2, 5.4e6, 219e6), 0.75: Figures(RELEASE, 73.3, 4.0e6, 155e6)}
_V3_SMALL = {
    1.0: Figures(V3_PAPER, 67.4),
    0.5: Figures(f"{TIMM_RESULTS}: mobilenetv3_small_050.lamb_in1k", 57.91),
    0.75: Figures(RELEASE, 65.4, 2.4e6, 44e6),
}


def _widened(spec: NetworkSpec, width: float) -> NetworkSpec:
    """V2's last convolution is widened only above 1, V3's never; V3's stem keeps its channels below 0.75.

    Reference: MobileNetV2 (arXiv 1801.04381), sec. 4; timm, models/mobilenetv3.py.
    """
    late = spec.head == "late"
    scaled = scale(spec, depth=1.0, width=width, resolution=spec.resolution)
    head = spec.head_channels if late or width < 1 else scaled.head_channels
    stem = spec.stem_channels if late and width < 0.75 else scaled.stem_channels
    return replace(scaled, stem_channels=stem, head_channels=head)


MEMBERS: dict[str, Member] = (
    at_widths("mobilenetv2", "MobileNetV2", _V2, partial(_widened, V2))
    | at_widths("mobilenetv3_large", "MobileNetV3-Large", _V3_LARGE, partial(_widened, V3_LARGE))
    | at_widths("mobilenetv3_small", "MobileNetV3-Small", _V3_SMALL, partial(_widened, V3_SMALL))
)
