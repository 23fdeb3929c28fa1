"""EfficientNet B0 to B8, L2, and the Lite line.

Norm and padding are those of timm's plain models (eps 1e-5, symmetric padding); the first TensorFlow releases used eps
1e-3 and `same` padding, which changes no count.
"""

from dataclasses import replace

from mnas.search_space.block_strings import decode_stages
from mnas.search_space.scaling import RELEASED, released, scale
from mnas.search_space.spec import NetworkSpec, Style
from mnas.zoo.member import Member

PAPER = "arXiv 1905.11946v5, Table 2"
LITE = "tensorflow/tpu, models/official/efficientnet/lite/README.md"

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
# Percent. B8's and L2's were published with other training (AdvProp; Noisy Student) and are not given here.
_TOP1 = (77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3)
# Width, depth, resolution, dropout, top-1 in percent.
_LITE = (
    (1.0, 1.0, 224, 0.2, 75.1),
    (1.0, 1.1, 240, 0.2, 76.7),
    (1.1, 1.2, 260, 0.3, 77.6),
    (1.2, 1.4, 280, 0.3, 79.8),
    (1.4, 1.8, 300, 0.3, 81.5),
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


def _members() -> dict[str, Member]:
    members = {}
    for number, name in enumerate(RELEASED):
        top1 = _TOP1[number] if number < len(_TOP1) else None
        members[name] = Member.of(released(B0, name), top1, PAPER)
    for number, (width, depth, resolution, dropout, top1) in enumerate(_LITE):
        members[f"efficientnet_lite{number}"] = Member.of(
            _lite(width, depth, resolution, dropout), top1, LITE
        )
    return members


MEMBERS = _members()
