"""Predictors that a calibration may hold, told apart by their format."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

from mnas.errors import InputError
from mnas.latency.kernel_predictor import FORMAT as KERNEL_FORMAT
from mnas.latency.kernel_predictor import KernelPredictor
from mnas.latency.predictor import FORMAT as STRUCTURAL_FORMAT
from mnas.latency.predictor import StructuralPredictor
from mnas.protocols import LatencyEstimate
from mnas.search_space import NetworkSpec


class Predictor(Protocol):
    """What predicts latencies on one device: a `LatencyModel` that can be scaled and written down."""

    @property
    def device(self) -> str:
        """What the estimates hold for, in words."""
        ...

    def predict(self, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order, with its 90 % interval."""
        ...

    def shares(self, spec: NetworkSpec) -> dict[str, float]:
        """Predicted milliseconds of a network by kind of work; they add up to the prediction."""
        ...

    def scaled(self, factor: float) -> Self:
        """The predictor for the same device when everything takes `factor` times as long."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        ...


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
