"""What a search knows of training steps: their time, predicted from networks that were timed, for its reward."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnas.latency import StructuralPredictor
from mnas.objective import training_factor
from mnas.search_space import NetworkSpec, network_cost


@dataclass(frozen=True, slots=True)
class Steps:
    """Training steps of a space's members.

    Args:
        predictor: fitted to the times of some of them, ms.
        reference_ms: of the reference when they were timed.
        fastest_ms: the least that a member is predicted to take; S of the reward is a multiple of it.
        fewest_params: of any member; P is a multiple of it.
        about: what is said of them in the result: networks timed, held-out error, conditions.
    """

    predictor: StructuralPredictor
    reference_ms: float
    fastest_ms: float
    fewest_params: int
    about: Mapping[str, Any] = field(default_factory=dict)

    def metrics(self, spec: NetworkSpec, step_ms: float | None = None) -> dict[str, float]:
        """Of a network, as a trial's metrics; `step_ms` where it was timed, else it is predicted.

        Raises:
            InputError: the network has an operation that no network timed had.
        """
        ms = float(self.predictor.network_ms([spec])[0]) if step_ms is None else step_ms
        params = network_cost(spec).params / self.fewest_params
        return {"step_ms": ms, "training_factor": training_factor(ms / self.fastest_ms, params)}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for the store."""
        return {
            "predictor": self.predictor.to_dict(),
            "reference_ms": self.reference_ms,
            "fastest_ms": self.fastest_ms,
            "fewest_params": self.fewest_params,
            "about": dict(self.about),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Steps":
        """The inverse of `to_dict`; raises InputError or KeyError where it is none."""
        return cls(
            StructuralPredictor.from_dict(data["predictor"]),
            float(data["reference_ms"]),
            float(data["fastest_ms"]),
            int(data["fewest_params"]),
            dict(data["about"]),
        )
