"""Stages as the strings that the field uses, `ir_r2_k3_s2_e6_c24_se0.25`, in timm's grammar.

`ir` is mbconv, `er` fused_mbconv, `ds` sepconv, `cn` conv; r repeats, k kernel, s stride, e expansion, c channels, se
ratio, n the activation of the stage where it is not the network's.
An `ir`, `er` or `ds` keeps its identity skip unless it says `noskip`; a `cn` has one only if it says `skip`.
What timm's grammar cannot say is refused by name: a network is never written as a string that loses it.
"""

import re
from collections.abc import Iterable

from mnas.errors import InputError
from mnas.search_space.spec import Activation, Skip, StageSpec

_OPS = {"ir": "mbconv", "er": "fused_mbconv", "ds": "sepconv", "cn": "conv"}
_CODES = {op: code for code, op in _OPS.items()}
_TOKEN = re.compile(r"(se|[rksec])(\d+(?:\.\d+)?)")
# Reference: timm/models/_efficientnet_builder.py, _decode_block_str.
_ACTIVATIONS: dict[str, Activation] = {"nre": "relu", "nr6": "relu6", "nhs": "hard_swish", "nsw": "silu"}
_ACTIVATION_CODES = {activation: code for code, activation in _ACTIVATIONS.items()}


def encode_stage(stage: StageSpec) -> str:
    """The block string of one stage.

    Raises:
        InputError: the stage has something that timm's grammar cannot say.
    """
    code = _CODES.get(stage.op)
    if code is None:
        raise InputError(f"the op {stage.op} has no block string; use the JSON of the network.")
    if stage.skip not in ("identity", "none"):
        kind = "pooling" if stage.skip == "pool" else f"'{stage.skip}'"
        raise InputError(f"a {kind} skip has no block string; use the JSON of the network.")
    if stage.drop_path_share is not None:
        raise InputError("a stage's own drop path has no block string; use the JSON of the network.")
    if code == "cn" and stage.se_ratio:
        raise InputError(
            "a conv with squeeze-and-excitation has no block string; use the JSON of the network."
        )
    parts = [code, f"r{stage.repeats}", f"k{stage.kernel}", f"s{stage.stride}"]
    if code != "cn":
        parts.append(f"e{stage.expansion:g}")
    parts.append(f"c{stage.out_channels}")
    if stage.se_ratio:
        parts.append(f"se{stage.se_ratio:g}")
    if stage.activation is not None:
        parts.append(_ACTIVATION_CODES[stage.activation])
    if code == "cn" and stage.skip == "identity":
        parts.append("skip")
    if code != "cn" and stage.skip == "none":
        parts.append("noskip")
    return "_".join(parts)


def decode_stage(text: str) -> StageSpec:
    """The stage of one block string.

    Raises:
        InputError: an unknown op or token, a token given twice, or one that is missing.

    >>> decode_stage("ir_r2_k3_s2_e6_c24_se0.25").out_channels
    24
    """
    code, *tokens = text.split("_")
    if code not in _OPS:
        raise InputError(f"block string {text!r}: unknown op {code!r}; known are {', '.join(_OPS)}.")
    values: dict[str, str] = {}
    skip: Skip = "none" if code == "cn" else "identity"
    activation: Activation | None = None
    for token in tokens:
        match = _TOKEN.fullmatch(token)
        if token in ("skip", "noskip"):
            skip = "identity" if token == "skip" else "none"
        elif token in _ACTIVATIONS and activation is None:
            activation = _ACTIVATIONS[token]
        elif match is None or match[1] in values:
            raise InputError(f"block string {text!r}: token {token!r} is unknown or given twice.")
        else:
            values[match[1]] = match[2]
    missing = [name for name in "rksc" if name not in values]
    whole = [name for name in "rksc" if not values.get(name, "1").isdigit()]
    extra = values.keys() & {"e", "se"} if code == "cn" else set()
    if missing or whole or extra - {"e"} or (extra and values["e"] != "1"):
        raise InputError(
            f"block string {text!r}: needs r, k, s, c as whole numbers, and for cn neither e but e1 nor se."
        )
    return StageSpec(
        op=_OPS[code],
        kernel=int(values["k"]),
        stride=int(values["s"]),
        out_channels=int(values["c"]),
        repeats=int(values["r"]),
        expansion=_number(values.get("e", "1")),
        se_ratio=float(values.get("se", "0")),
        skip=skip,
        activation=activation,
    )


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


def encode_stages(stages: Iterable[StageSpec]) -> list[str]:
    """The block strings of all stages.

    Raises:
        InputError: a stage that timm's grammar cannot say.
    """
    return [encode_stage(stage) for stage in stages]


def decode_stages(texts: Iterable[str]) -> tuple[StageSpec, ...]:
    """The stages of a list of block strings.

    Raises:
        InputError: a string that is not in the grammar.
    """
    return tuple(decode_stage(text) for text in texts)
