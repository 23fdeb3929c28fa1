"""Predictors that a calibration may hold, told apart by their format."""

from collections.abc import Callable, Mapping
from typing import Any

from mnas.errors import InputError
from mnas.latency.kernel_predictor import FORMAT as KERNEL_FORMAT
from mnas.latency.kernel_predictor import KernelPredictor
from mnas.latency.predictor import FORMAT as STRUCTURAL_FORMAT
from mnas.latency.predictor import StructuralPredictor

Predictor = KernelPredictor | StructuralPredictor
_READERS: dict[str, Callable[[Mapping[str, Any]], Predictor]] = {
    KERNEL_FORMAT: KernelPredictor.from_dict,
    STRUCTURAL_FORMAT: StructuralPredictor.from_dict,
}


def predictor_from_dict(data: Mapping[str, Any]) -> Predictor:
    """The inverse of a predictor's `to_dict`.

    Raises:
        InputError: none of the formats, or a field that is missing or mistyped.
    """
    name = data.get("format") if isinstance(data, Mapping) else None
    if name not in _READERS:
        raise InputError(f"expected a predictor of format {' or '.join(map(repr, _READERS))}, got {name!r}.")
    return _READERS[name](data)
