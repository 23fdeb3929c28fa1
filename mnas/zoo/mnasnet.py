"""MnasNet A1, B1 and small, and the first two at other widths, which widen all but the head."""

from dataclasses import replace

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import Member

PAPER = "arXiv 1807.11626v3, Table 1"
_RELU = Style(activation="relu")

# tensorflow/tpu, models/official/mnasnet/mnasnet_models.py.
A1 = NetworkSpec(
    stem_channels=32,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c16_noskip",
            "ir_r2_k3_s2_e6_c24",
            "ir_r3_k5_s2_e3_c40_se0.25",
            "ir_r4_k3_s2_e6_c80",
            "ir_r2_k3_s1_e6_c112_se0.25",
            "ir_r3_k5_s2_e6_c160_se0.25",
            "ir_r1_k3_s1_e6_c320",
        )
    ),
    head_channels=1280,
    drop_path=0.0,
    style=_RELU,
)
B1 = replace(
    A1,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c16_noskip",
            "ir_r3_k3_s2_e3_c24",
            "ir_r3_k5_s2_e3_c40",
            "ir_r3_k5_s2_e6_c80",
            "ir_r2_k3_s1_e6_c96",
            "ir_r4_k5_s2_e6_c192",
            "ir_r1_k3_s1_e6_c320_noskip",
        )
    ),
)
SMALL = NetworkSpec(
    stem_channels=8,
    stages=decode_stages(
        (
            "ds_r1_k3_s1_e1_c8",
            "ir_r1_k3_s2_e3_c16",
            "ir_r2_k3_s2_e6_c16",
            "ir_r4_k5_s2_e6_c32_se0.25",
            "ir_r3_k3_s1_e6_c32_se0.25",
            "ir_r3_k5_s2_e6_c88_se0.25",
            "ir_r1_k3_s1_e6_c144",
        )
    ),
    head_channels=1280,
    dropout=0.0,
    drop_path=0.0,
    style=_RELU,
)
WIDTHS = (0.5, 0.75, 1.4)  # those that timm has beside 1; that of A1's is called semnasnet there


def _widened(spec: NetworkSpec, width: float) -> NetworkSpec:
    scaled = scale(spec, depth=1.0, width=width, resolution=spec.resolution)
    return replace(scaled, head_channels=spec.head_channels)


MEMBERS: dict[str, Member] = {
    "mnasnet_a1": Member.of(A1, 75.2, PAPER, "semnasnet_100"),
    "mnasnet_b1": Member.of(B1, None, "", "mnasnet_100"),
    "mnasnet_small": Member.of(SMALL),
}
MEMBERS |= {
    f"mnasnet_{name}_{round(100 * width):03}": Member.of(
        _widened(spec, width), None, "", f"{timm}_{round(100 * width):03}"
    )
    for name, spec, timm in (("a1", A1, "semnasnet"), ("b1", B1, "mnasnet"))
    for width in WIDTHS
}
