"""The formats, one row each: how a file is made, what it cannot hold, and what has to be true of it when loaded."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from mnas.errors import SearchError, UnknownNameError
from mnas.export.check import BUG, logits_error, same_weights
from mnas.export.onnx_file import check_folding, onnx_bytes
from mnas.export.source import python_source
from mnas.export.subject import Subject
from mnas.export.timm_file import refuse_timm, timm_json
from mnas.export.torch_files import pt2_bytes, weights_bytes, weights_metadata
from mnas.search_space import NetworkSpec

Reply = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Staged:
    """What a check may need beside the reply: the bytes of the file, and of the stand-in if there is one."""

    data: bytes
    stand_in: bytes | None


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Args:
        suffix: of the file.
        write: the bytes of the file, given its name and that of the weights beside it.
        check: the error of the logits in standard deviations, 0 where all is equal bit for bit; raises SearchError.
        weights_beside: whether the state dict lies beside it as safetensors.
        stand_in: a second file, with the weights of a module, for logits that are more than rounding errors.
        refuse: raises InputError for what the format cannot hold.
    """

    suffix: str
    write: Callable[[Subject, str, str], bytes]
    check: Callable[[Reply, Subject, Staged], float]
    weights_beside: bool = False
    stand_in: Callable[[Subject, nn.Module], bytes] | None = None
    refuse: Callable[[NetworkSpec], None] | None = None


def _check_onnx(reply: Reply, subject: Subject, staged: Staged) -> float:
    if staged.stand_in is not None:
        check_folding(staged.data, staged.stand_in, subject)
    return logits_error("onnx", reply, subject)


def _check_module(form: str) -> Callable[[Reply, Subject, Staged], float]:
    def check(reply: Reply, subject: Subject, _: Staged) -> float:
        same_weights(form, reply, subject)
        return logits_error(form, reply, subject)

    return check


def _check_safetensors(reply: Reply, subject: Subject, _: Staged) -> float:
    same_weights("safetensors", reply, subject)
    if reply["metadata"] != weights_metadata(subject):
        raise SearchError(f"the texts of the exported safetensors file changed; nothing was written. {BUG}")
    return 0.0


def _check_json(reply: Reply, subject: Subject, _: Staged) -> float:
    if NetworkSpec.from_dict(reply["network"]) != subject.spec:
        raise SearchError(f"the exported json file holds another network; nothing was written. {BUG}")
    return 0.0


def _json_bytes(subject: Subject) -> bytes:
    return (json.dumps(subject.spec.to_dict(), indent=2, allow_nan=False) + "\n").encode()


def _state(_: Subject, module: nn.Module) -> bytes:
    return weights_bytes(module, {})


TABLE: dict[str, Format] = {
    "onnx": Format(
        ".onnx", lambda subject, *_: onnx_bytes(subject, subject.module), _check_onnx, stand_in=onnx_bytes
    ),
    "pt2": Format(".pt2", lambda subject, *_: pt2_bytes(subject), _check_module("pt2"), stand_in=_state),
    "safetensors": Format(
        ".safetensors",
        lambda subject, *_: weights_bytes(subject.module, weights_metadata(subject)),
        _check_safetensors,
    ),
    "python": Format(".py", python_source, _check_module("python"), weights_beside=True, stand_in=_state),
    "timm": Format(
        ".timm.json",
        timm_json,
        _check_module("timm"),
        weights_beside=True,
        stand_in=_state,
        refuse=refuse_timm,
    ),
    "json": Format(".json", lambda subject, *_: _json_bytes(subject), _check_json),
}
FORMATS: tuple[str, ...] = tuple(TABLE)


def format_named(name: str) -> Format:
    """The row of a format.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if name not in TABLE:
        raise UnknownNameError("format", name, FORMATS)
    return TABLE[name]
