"""MnasNet A1, B1 and small, and the first two at other widths, which widen all but the head."""

from dataclasses import replace
from functools import partial

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import TIMM_RESULTS, Figures, Member, at_widths

PAPER = "arXiv 1807.11626v3"
RELEASE = "tensorflow/tpu 009812fb, models/official/mnasnet/README.md"
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
# By width: top-1 in percent, parameters, multiply-adds. 0.5, 0.75 and 1.4 are those that timm has beside 1.
_A1 = {
    1.0: Figures(f"{PAPER}, Table 1", 75.2, 3.9e6, 312e6),
    0.5: Figures(RELEASE, 68.9, 2.1e6, 105.2e6),
    0.75: Figures(RELEASE, 73.3, 2.9e6, 226.7e6),
    1.4: Figures(RELEASE, 77.2, 6.1e6, 591.5e6),
}
_B1 = {1.0: Figures(f"{TIMM_RESULTS}: mnasnet_100.rmsp_in1k", 74.65), 0.5: None, 0.75: None, 1.4: None}
_SMALL = Figures(f"{PAPER}, Table 4", 66.0, 2.0e6, 68e6)


def _widened(spec: NetworkSpec, width: float) -> NetworkSpec:
    scaled = scale(spec, depth=1.0, width=width, resolution=spec.resolution)
    return replace(scaled, head_channels=spec.head_channels)


MEMBERS: dict[str, Member] = (
    at_widths("mnasnet_a1", "MnasNet-A1", _A1, partial(_widened, A1), timm="semnasnet")
    | at_widths("mnasnet_b1", "MnasNet-B1", _B1, partial(_widened, B1), timm="mnasnet")
    | {"mnasnet_small": Member("MnasNet-small", "MnasNet-small", SMALL, _SMALL)}
)
