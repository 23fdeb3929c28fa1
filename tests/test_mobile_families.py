"""EfficientNet, V2, Lite, MnasNet, MobileNetV2 and V3 against timm and the published integers, every member."""

from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
from timm_families import TOLERANCE, difference, hook_count, random_logits

from mnas.errors import InputError, UnknownNameError
from mnas.export.timm_file import refuse_timm
from mnas.search_space import NetworkSpec, StageSpec, decode_stage, encode_stage, network_cost
from mnas.zoo import efficientnet, efficientnetv2, member, mnasnet, mobilenet, published

pytestmark = pytest.mark.usefixtures("one_thread")

MEMBERS = efficientnet.MEMBERS | efficientnetv2.MEMBERS | mnasnet.MEMBERS | mobilenet.MEMBERS
TIMM = {name: entry.aliases[0] if entry.aliases else name for name, entry in MEMBERS.items()}
# Those whose logits are compared each time: the others of a family differ from them by width, depth and resolution.
QUICK = {
    *("efficientnet_b0", "efficientnet_b1", "efficientnet_lite0", "efficientnetv2_b0", "efficientnetv2_s"),
    *("mnasnet_a1", "mnasnet_b1", "mnasnet_small", "mobilenetv2", "mobilenetv2_140"),
    *("mobilenetv3_small", "mobilenetv3_large"),
}
LOGITS = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MEMBERS]
# pytorchcv's table (osmr/imgclsmob) for B0 to B8; the releases' and timm's for the others.
PARAMS = {
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "efficientnet_b8": 87_413_142,
    "efficientnet_l2": 480_309_308,
    "efficientnet_lite0": 4_652_008,
    "efficientnet_lite1": 5_416_680,
    "efficientnet_lite2": 6_092_072,
    "efficientnet_lite3": 8_197_096,
    "efficientnet_lite4": 13_006_568,
    "efficientnetv2_b0": 7_139_704,
    "efficientnetv2_b1": 8_141_052,
    "efficientnetv2_b2": 10_096_086,
    "efficientnetv2_b3": 14_358_406,
    "efficientnetv2_s": 21_458_488,
    "efficientnetv2_m": 54_139_356,
    "efficientnetv2_l": 118_515_272,
    "mnasnet_a1": 3_887_038,
    "mnasnet_b1": 4_383_312,
    "mnasnet_small": 2_030_264,
    "mobilenetv2": 3_504_872,
}
RESOLUTIONS = {"l2": 800} | {
    f"b{number}": pixels for number, pixels in enumerate((224, 240, 260, 300, 380, 456, 528, 600, 672))
}


@pytest.mark.parametrize("name", MEMBERS)
def test_parameters_and_madds_equal_timms(name: str) -> None:
    with torch.device("meta"):
        module = timm.create_model(TIMM[name], pretrained=False)
    cost = network_cost(published(name))
    assert cost.params == sum(parameter.numel() for parameter in module.parameters())
    assert cost.madds == hook_count(module, published(name).resolution)


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_are_the_published_integers(name: str) -> None:
    assert network_cost(published(name)).params == PARAMS[name]


@pytest.mark.parametrize("name", LOGITS)
def test_logits_equal_timms(name: str) -> None:
    module = timm.create_model(TIMM[name], pretrained=False)
    assert difference(published(name), module, random_logits(module)) <= TOLERANCE


def styled(**changes: Any) -> Any:
    return lambda spec: replace(spec, style=replace(spec.style, **changes))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mobilenetv3_small", styled(activation="silu")),
        ("mobilenetv3_small", styled(se_gate="sigmoid")),
        ("mobilenetv3_small", styled(se_activation=None)),
        (
            "mobilenetv3_small",
            lambda spec: replace(spec, stages=tuple(replace(s, activation=None) for s in spec.stages)),
        ),
        ("efficientnetv2_b0", styled(padding="symmetric")),
        ("efficientnetv2_b0", styled(norm_eps=1e-5)),
        ("efficientnet_lite0", styled(activation="relu")),
    ],
)
def test_a_changed_network_is_seen(name: str, change: Any) -> None:
    module = timm.create_model(TIMM[name], pretrained=False)
    assert difference(change(published(name)), module, random_logits(module)) > 10 * TOLERANCE


@pytest.mark.parametrize("changes", [{"se_of": "in"}, {"se_divisor": 1}])
def test_other_numbers_of_channels_in_squeeze_and_excitation_do_not_fit(changes: dict[str, Any]) -> None:
    module = timm.create_model("mobilenetv3_small_100", pretrained=False)
    with pytest.raises(RuntimeError, match="size mismatch"):
        difference(styled(**changes)(published("mobilenetv3_small")), module, random_logits(module))


def test_timms_names_are_accepted_and_an_unknown_one_is_not() -> None:
    for name, alias in TIMM.items():
        assert published(alias) == published(name)
    with pytest.raises(UnknownNameError, match="efficientnetv2_s"):
        published("efficientnetv2_xs")


def test_resolutions_are_those_of_the_papers_evaluation() -> None:
    for size, pixels in RESOLUTIONS.items():
        assert published(f"efficientnet_{size}").resolution == pixels
    v2 = {"b0": 224, "b1": 240, "b2": 260, "b3": 300, "s": 384, "m": 480, "l": 480}
    assert {size: published(f"efficientnetv2_{size}").resolution for size in v2} == v2
    lite = [published(f"efficientnet_lite{number}").resolution for number in range(5)]
    assert lite == [224, 240, 260, 280, 300]


def test_accuracies_have_a_source() -> None:
    assert (member("efficientnet_b7").top1, member("efficientnetv2_l").top1) == (0.843, 0.857)
    for entry in MEMBERS.values():
        assert (entry.top1 is None) == (entry.source == "")


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("er_r4_k3_s2_e4_c48", StageSpec("fused_mbconv", 3, 2, 48, 4, 4)),
        ("ir_r1_k3_s1_e3.67_c24_nre", StageSpec("mbconv", 3, 1, 24, 1, 3.67, activation="relu")),
        ("cn_r2_k3_s1_c24_nhs_skip", StageSpec("conv", 3, 1, 24, 2, activation="hard_swish")),
    ],
)
def test_block_strings_have_fused_blocks_fractions_and_activations(text: str, stage: StageSpec) -> None:
    assert decode_stage(text) == stage
    assert encode_stage(stage) == text


def test_a_timm_string_with_an_expansion_of_one_is_understood() -> None:
    assert decode_stage("cn_r2_k3_s1_e1_c24_skip") == decode_stage("cn_r2_k3_s1_c24_skip")
    with pytest.raises(InputError, match="neither e but e1"):
        decode_stage("cn_r2_k3_s1_e4_c24_skip")


def test_six_and_six_point_naught_are_one_expansion() -> None:
    assert hash(StageSpec("mbconv", 3, 1, 8, 1, 6.0)) == hash(StageSpec("mbconv", 3, 1, 8, 1, 6))
    assert StageSpec("mbconv", 3, 1, 8, 1, 4.5).inside(16) == 72
    assert StageSpec("mbconv", 3, 1, 8, 1, 3.67).inside(24) == 88  # 88.08


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"expansion": 0.5}, "expansion must be a number of at least 1, got 0.5"),
        ({"expansion": float("inf")}, "expansion must be"),
        ({"expansion": True}, "expansion must be"),
        ({"op": "sepconv", "expansion": 1.5}, "expansion must be a whole number"),
        ({"activation": "swish"}, "activation must be one of"),
        ({"op": "fused"}, "op must be one of"),
    ],
)
def test_a_stage_that_is_none_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(StageSpec("mbconv", 3, 1, 8, 1, 6), **changes)


@pytest.mark.parametrize("name", ["mobilenetv3_large", "efficientnetv2_b0"])
def test_json_goes_both_ways_and_older_files_are_read(name: str) -> None:
    spec = published(name)
    assert NetworkSpec.from_dict(spec.to_dict()) == spec
    older = published("mobilenetv2").to_dict()
    for field in ("se_of", "se_divisor", "se_activation", "se_gate"):
        older["style"].pop(field)
    for stage in older["stages"]:
        stage.pop("activation")
    older.pop("head")
    assert NetworkSpec.from_dict(older) == published("mobilenetv2")


def test_timms_builder_holds_v2_and_refuses_v3() -> None:
    refuse_timm(published("efficientnetv2_s"))
    with pytest.raises(InputError, match=r"the head is 'late'.*another kind than EfficientNet's"):
        refuse_timm(published("mobilenetv3_large"))
