"""A latency that is a sum over stages, for the space `mbconv`: fitted to what Accel-NASBench measured on an FPGA.

It is there to be a cost that is additive exactly, so that the best network under it is known, and shaped as a device's
is. For a device of yours calibrate one. `benchmarks/accuracy/fit_latency.py` fits it.

Reference: afzalxo/Accel-NASBench, commit 42603572, Apache-2.0 (the measured latencies).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Self

import numpy as np

from mnas.accuracy.surrogate import covered
from mnas.errors import InputError
from mnas.search_space import NetworkSpec, StageSpec

FORMAT = "mnas.stage-latency/1"
FILE = "latency_zcu102.json"


@dataclass(frozen=True, slots=True)
class StageLatency:
    """Milliseconds of a network: a constant and what each of its seven stages adds.

    Args:
        fixed_ms: of every network.
        stage_ms: of each stage that `mbconv` has; no two stages of it are equal, since their channels differ.
        device: what was measured.
        mape: mean absolute percentage error on networks not fitted, as a fraction.
    """

    fixed_ms: float
    stage_ms: Mapping[StageSpec, float]
    device: str
    mape: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From the coefficient file's JSON.

        Raises:
            InputError: not this format, or numbers that are missing, misshapen, negative or not finite.
        """
        if data.get("format") != FORMAT:
            raise InputError(f"expected stage latencies {FORMAT!r}, got {data.get('format')!r}.")
        try:
            fixed, stages = (
                float(data["fixed_ms"]),
                [np.array(part, np.float64) for part in data["stages_ms"]],
            )
            device, mape = str(data["device"]), float(data["held_out"]["mape"])
        except (LookupError, TypeError, ValueError) as error:
            raise InputError(f"the stage latencies have a wrong field: {error!r}.") from error
        known = covered()[1]
        numbers = np.concatenate([[fixed, mape], *(part.ravel() for part in stages)])
        shaped = [part.shape for part in stages] == [(len(variants),) for variants in known]
        if not shaped or not (np.isfinite(numbers) & (numbers >= 0)).all():
            raise InputError(
                f"stage latencies must be finite, not negative, and one for each of {[len(v) for v in known]} variants."
            )
        pairs = (
            (stage, part[row])
            for part, variants in zip(stages, known, strict=True)
            for stage, row in variants.items()
        )
        return cls(fixed, {stage: float(ms) for stage, ms in pairs}, device, mape)

    def ms(self, spec: NetworkSpec) -> float:
        """Of one image.

        Raises:
            KeyError: a network outside `mbconv`.
        """
        return self.fixed_ms + sum(self.stage_ms[stage] for stage in spec.stages)

    def range_ms(self) -> tuple[float, float]:
        """Of the quickest and of the slowest network."""
        known = [[self.stage_ms[stage] for stage in variants] for variants in covered()[1]]
        return self.fixed_ms + sum(map(min, known)), self.fixed_ms + sum(map(max, known))


def zcu102() -> StageLatency:
    """The one that ships."""
    return StageLatency.from_dict(json.loads((files("mnas.bench") / FILE).read_bytes()))
