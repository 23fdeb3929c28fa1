"""EfficientNet, MnasNet and MobileNetV2.

Norm and padding are those of timm's plain models (eps 1e-5, momentum 0.1, symmetric padding); the first
TensorFlow releases used eps 1e-3 and `same` padding, which changes no count.
"""

from collections.abc import Sequence

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.spec import Activation, NetworkSpec, Style
from mnas.zoo.member import Member


def _network(
    stem: int, blocks: Sequence[str], activation: Activation, *, dropout: float = 0.2, drop_path: float = 0.0
) -> NetworkSpec:
    return NetworkSpec(
        stem_channels=stem,
        stages=decode_stages(blocks),
        head_channels=1280,
        dropout=dropout,
        drop_path=drop_path,
        style=Style(activation=activation),
    )


_SPECS: dict[str, NetworkSpec] = {
    # EfficientNet (arXiv 1905.11946), Table 1; survival 0.8: efficientnet_builder.py.
    "efficientnet_b0": _network(
        32,
        (
            "ds_r1_k3_s1_e1_c16_se0.25",
            "ir_r2_k3_s2_e6_c24_se0.25",
            "ir_r2_k5_s2_e6_c40_se0.25",
            "ir_r3_k3_s2_e6_c80_se0.25",
            "ir_r3_k5_s1_e6_c112_se0.25",
            "ir_r4_k5_s2_e6_c192_se0.25",
            "ir_r1_k3_s1_e6_c320_se0.25",
        ),
        "silu",
        drop_path=0.2,
    ),
    # MnasNet (arXiv 1807.11626): tensorflow/tpu, models/official/mnasnet/mnasnet_models.py.
    "mnasnet_a1": _network(
        32,
        (
            "ds_r1_k3_s1_e1_c16_noskip",
            "ir_r2_k3_s2_e6_c24",
            "ir_r3_k5_s2_e3_c40_se0.25",
            "ir_r4_k3_s2_e6_c80",
            "ir_r2_k3_s1_e6_c112_se0.25",
            "ir_r3_k5_s2_e6_c160_se0.25",
            "ir_r1_k3_s1_e6_c320",
        ),
        "relu",
    ),
    "mnasnet_b1": _network(
        32,
        (
            "ds_r1_k3_s1_e1_c16_noskip",
            "ir_r3_k3_s2_e3_c24",
            "ir_r3_k5_s2_e3_c40",
            "ir_r3_k5_s2_e6_c80",
            "ir_r2_k3_s1_e6_c96",
            "ir_r4_k5_s2_e6_c192",
            "ir_r1_k3_s1_e6_c320_noskip",
        ),
        "relu",
    ),
    "mnasnet_small": _network(
        8,
        (
            "ds_r1_k3_s1_e1_c8",
            "ir_r1_k3_s2_e3_c16",
            "ir_r2_k3_s2_e6_c16",
            "ir_r4_k5_s2_e6_c32_se0.25",
            "ir_r3_k3_s1_e6_c32_se0.25",
            "ir_r3_k5_s2_e6_c88_se0.25",
            "ir_r1_k3_s1_e6_c144",
        ),
        "relu",
        dropout=0.0,
    ),
    # MobileNetV2 (arXiv 1801.04381), Table 2.
    "mobilenetv2": _network(
        32,
        (
            "ds_r1_k3_s1_e1_c16",
            "ir_r2_k3_s2_e6_c24",
            "ir_r3_k3_s2_e6_c32",
            "ir_r4_k3_s2_e6_c64",
            "ir_r3_k3_s1_e6_c96",
            "ir_r3_k3_s2_e6_c160",
            "ir_r1_k3_s1_e6_c320",
        ),
        "relu6",
    ),
}

MEMBERS = {name: Member(spec) for name, spec in _SPECS.items()}
