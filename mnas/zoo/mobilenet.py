"""MobileNetV2 and V3 at their widths."""

from dataclasses import replace

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import Member

V2_PAPER, V3_PAPER = "arXiv 1801.04381v4, Table 4", "arXiv 1905.02244v5, Table 3"

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
# Top-1 in percent by width; None where the papers' tables do not have it.
_V2_TOP1 = {0.35: None, 0.5: None, 0.75: None, 1.4: 74.7}
_V3_WIDTHS = {"large": (0.75,), "small": (0.5, 0.75)}


def _widened(spec: NetworkSpec, width: float) -> NetworkSpec:
    """V2's last convolution is widened only above 1, V3's never; V3's stem keeps its channels below 0.75.

    Reference: MobileNetV2 (arXiv 1801.04381), sec. 4; timm, models/mobilenetv3.py.
    """
    late = spec.head == "late"
    scaled = scale(spec, depth=1.0, width=width, resolution=spec.resolution)
    head = spec.head_channels if late or width < 1 else scaled.head_channels
    stem = spec.stem_channels if late and width < 0.75 else scaled.stem_channels
    return replace(scaled, stem_channels=stem, head_channels=head)


def _percent(width: float) -> str:
    return f"{round(100 * width):03}"


MEMBERS: dict[str, Member] = {
    "mobilenetv2": Member.of(V2, 72.0, V2_PAPER, "mobilenetv2_100"),
    "mobilenetv3_large": Member.of(V3_LARGE, 75.2, V3_PAPER, "mobilenetv3_large_100"),
    "mobilenetv3_small": Member.of(V3_SMALL, 67.4, V3_PAPER, "mobilenetv3_small_100"),
}
MEMBERS |= {
    f"mobilenetv2_{_percent(width)}": Member.of(_widened(V2, width), top1, V2_PAPER)
    for width, top1 in _V2_TOP1.items()
}
MEMBERS |= {
    f"mobilenetv3_{size}_{_percent(width)}": Member.of(_widened(spec, width))
    for size, spec in (("large", V3_LARGE), ("small", V3_SMALL))
    for width in _V3_WIDTHS[size]
}
