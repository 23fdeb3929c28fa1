import json
from dataclasses import replace

import pytest
from torch import nn

from mnas.errors import InputError
from mnas.search_space import (
    NetworkSpec,
    StageSpec,
    Style,
    decode_stage,
    encode_stage,
    encode_stages,
    mnasnet_space,
)
from mnas.zoo import ZOO, efficientnetv2, mnasnet, mobilenet, published

SMALL = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 6, 0.25),), 32, resolution=32, num_classes=10)


@pytest.mark.parametrize("name", ZOO)
def test_published_networks_round_trip_through_json(name: str) -> None:
    spec = published(name)
    assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_random_members_round_trip_through_json() -> None:
    space = mnasnet_space(resolution=96, num_classes=5)
    for point in ([0] * 42, [1] * 42):
        spec = space.decode(point)
        assert NetworkSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_the_stem_s_stride_is_2_where_a_file_does_not_say_it() -> None:
    data = replace(SMALL, stem_stride=1).to_dict()
    assert data["stem_stride"] == 1
    assert NetworkSpec.from_dict(data).stem_stride == 1
    del data["stem_stride"]
    assert NetworkSpec.from_dict(data) == SMALL


def test_every_problem_of_a_file_is_named_at_once() -> None:
    data = SMALL.to_dict()
    del data["head_channels"]
    data |= {"depth": 3, "resolution": "224", "dropout": True}
    with pytest.raises(InputError) as caught:
        NetworkSpec.from_dict(data)
    for words in (
        "unknown field 'depth'",
        "missing field 'head_channels'",
        "'resolution' has the wrong type str",
        "'dropout' has the wrong type bool",
    ):
        assert words in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"format": "mnas.network/2"},
        [],
        {"format": "mnas.network/1", "stages": 3},
        {"format": "mnas.network/1"},
    ],
)
def test_other_formats_are_refused(data: object) -> None:
    with pytest.raises(InputError):
        NetworkSpec.from_dict(data)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"op": "resnet"},
        {"kernel": 4},
        {"kernel": 0},
        {"stride": 3},
        {"out_channels": 0},
        {"repeats": 0},
        {"expansion": 0},
        {"se_ratio": -0.1},
        {"se_ratio": float("nan")},
        {"skip": "maybe"},
        {"op": "conv"},
        {"op": "projection"},
    ],
)
def test_stages_outside_their_domain_are_refused(changes: dict[str, object]) -> None:
    values = {"op": "mbconv", "kernel": 3, "stride": 1, "out_channels": 8, "expansion": 6} | changes
    with pytest.raises(InputError):
        StageSpec(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"stem_channels": 0},
        {"stem_stride": 3},
        {"stages": ()},
        {"resolution": 0},
        {"dropout": 1.0},
        {"drop_path": -1.0},
    ],
)
def test_networks_outside_their_domain_are_refused(changes: dict[str, object]) -> None:
    values = {"stem_channels": 8, "stages": SMALL.stages, "head_channels": 8} | changes
    with pytest.raises(InputError):
        NetworkSpec(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes", [{"activation": "tanh"}, {"norm_eps": 0.0}, {"norm_momentum": 2.0}, {"padding": "valid"}]
)
def test_styles_outside_their_domain_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Style(**changes)  # type: ignore[arg-type]


# Strings as timm writes them for these networks (timm/models/efficientnet.py, mnasnet and efficientnet builders).
TIMM_STRINGS = {
    "ir_r2_k3_s2_e6_c24_se0.25": StageSpec("mbconv", 3, 2, 24, 2, 6, 0.25),
    "ds_r1_k3_s1_e1_c16_noskip": StageSpec("sepconv", 3, 1, 16, skip="none"),
    "er_r4_k3_s2_e4_c48": StageSpec("fused_mbconv", 3, 2, 48, 4, 4),
    "ds_r1_k3_s1_c8": StageSpec("sepconv", 3, 1, 8),
    "cn_r1_k3_s1_c16_skip": StageSpec("conv", 3, 1, 16),
    "cn_r2_k5_s2_c32": StageSpec("conv", 5, 2, 32, 2, skip="none"),
}


@pytest.mark.parametrize("text", TIMM_STRINGS)
def test_block_strings_are_read_as_timm_reads_them(text: str) -> None:
    assert decode_stage(text) == TIMM_STRINGS[text]
    assert decode_stage(encode_stage(TIMM_STRINGS[text])) == TIMM_STRINGS[text]


def test_an_op_that_timm_s_grammar_lacks_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="the op projection has no block string"):
        encode_stage(StageSpec("projection", 1, 2, 16))


CODES = {"mbconv": "ir", "fused_mbconv": "er", "sepconv": "ds", "conv": "cn"}


def test_block_strings_mean_the_same_to_timm() -> None:
    builder = pytest.importorskip("timm.models._efficientnet_builder")
    families = efficientnetv2.MEMBERS | mnasnet.MEMBERS | mobilenet.MEMBERS
    activations = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hard_swish": nn.Hardswish, "silu": nn.SiLU}
    for spec in (member.spec for member in families.values()):
        decoded = builder.decode_arch_def([[text] for text in encode_stages(spec.stages)])
        for stage, blocks in zip(spec.stages, decoded, strict=True):
            assert len(blocks) == stage.repeats
            assert CODES[stage.op] == blocks[0]["block_type"]
            assert blocks[0]["out_chs"] == stage.out_channels
            assert blocks[0]["stride"] == stage.stride
            assert blocks[0].get("se_ratio", 0) == stage.se_ratio  # a `cn` has none
            skips = blocks[0]["skip"] if stage.op == "conv" else not blocks[0]["noskip"]
            assert skips == (stage.skip == "identity")
            assert blocks[0].get("exp_ratio", 1) == stage.expansion
            given = blocks[0]["act_layer"]  # in its own kind of class, of the same name
            wanted = None if stage.activation is None else activations[stage.activation].__name__
            assert (None if given is None else given.__name__) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "xx_r1_k3_s1_c8",
        "ir_r1_k3_s1",
        "ir_r1_k3_s1_c8_c9",
        "ir_r1_k3_s1_c8_q4",
        "cn_r1_k3_s1_c8_e6",
        "ir_r1.5_k3_s1_c8",
    ],
)
def test_strings_outside_the_grammar_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="block string"):
        decode_stage(text)


@pytest.mark.parametrize(
    "stage",
    [
        StageSpec("mbconv", 3, 1, 8, skip="pool"),
        StageSpec("mbconv", 3, 1, 8, skip="conv"),
        StageSpec("mbconv", 3, 1, 8, drop_path_share=0.5),
        StageSpec("conv", 3, 1, 8, se_ratio=0.25),
        StageSpec("xblock", 3, 1, 8),
    ],
)
def test_what_the_grammar_cannot_say_is_refused(stage: StageSpec) -> None:
    with pytest.raises(InputError, match="no block string"):
        encode_stage(stage)
