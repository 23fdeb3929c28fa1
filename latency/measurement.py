"""What a measurement says: a ratio to the reference with its interval, milliseconds, and the raw samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from math import ceil
from statistics import median
from typing import Any, Literal, Self

from mnas.errors import InputError, UnknownNameError
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device
from mnas.latency.intervals import (
    DRIFT_REJECTS,
    WIDEST,
    Interval,
    drifts,
    over_processes,
    paired_ratio,
    process_effects,
)
from mnas.latency.operators import Operator
from mnas.latency.worker import bootstrap_median
from mnas.search_space import NetworkSpec

MeasurementStatus = Literal["ok", "unresolved", "noisy"]
FORMAT = "mnas.measurements/2"
# Difference between the paired and the plain milliseconds from which a summary mentions it.
RAW_DIFFERS = 0.10


@dataclass(frozen=True, slots=True)
class ProcessSamples:
    """Raw samples of one network in one fresh process, paired by round.

    Args:
        process: index into `MeasurementSet.processes`.
        candidate_ms: `(rounds,)`, milliseconds per run by the clock that decides (`Conditions.clock`).
        reference_ms: `(rounds,)`, of the reference in the same rounds.
        candidate_wall_ms: `(rounds,)`, the same runs by the wall clock.
        reference_wall_ms: `(rounds,)`, likewise.
        closed: whether the ratio's interval closed to +-1 % before the budget ended.
        rejected: whether the noise gate left it out.
        drift: of the reference, a fraction; see `intervals.drifts`.
        shift: what the ratio is divided by: how much this process shifted the ratios of all its networks, where they
            were spread over processes so that this can be told (`intervals.process_effects`).
    """

    process: int
    candidate_ms: tuple[float, ...]
    reference_ms: tuple[float, ...]
    candidate_wall_ms: tuple[float, ...]
    reference_wall_ms: tuple[float, ...]
    closed: bool
    rejected: bool = False
    drift: float = 0.0
    shift: float = 1.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One network's latency on this device.

    Args:
        name: as given.
        status: `ok`; `unresolved` (the budget ended before most processes' intervals closed to +-1 %; the
            interval here says how far they did); `noisy` (the machine was too noisy, three times: no figure to
            decide by).
        ratio: to the reference, the median over processes; `ratio_low` to `ratio_high` is its 95 % interval.
        latency_ms: ratio x the set's `reference_ms`; likewise `low_ms` and `high_ms`.
        raw_ms: the plain wall-clock median, over processes, in this run.
        model_sha256: of the ONNX file that was timed.
        input_shape: (batch, channels, height, width).
        samples: by process, the rejected ones too.
        operators: of its graph as ONNX Runtime optimised it, in order, times by the median over processes; none unless
            they were asked for.
    """

    name: str
    status: MeasurementStatus
    ratio: float
    ratio_low: float
    ratio_high: float
    latency_ms: float
    low_ms: float
    high_ms: float
    raw_ms: float
    model_sha256: str
    input_shape: tuple[int, ...]
    samples: tuple[ProcessSamples, ...]
    operators: tuple[Operator, ...] = ()

    @property
    def raw_differs(self) -> bool:
        """Whether `raw_ms` is more than 10 % from `latency_ms`, which a summary has to say."""
        return abs(self.raw_ms / self.latency_ms - 1) > RAW_DIFFERS


@dataclass(frozen=True, slots=True)
class MeasurementSet:
    """Networks measured together, with everything that the figures hold for.

    Args:
        conditions: threads, batch, precision, provider.
        device: where.
        reference: the network that each was paired with.
        reference_ms: what a ratio of 1 is in milliseconds.
        reference_given: whether the caller gave it; else it is this run's own median over processes.
        reference_raw_ms: the reference's plain wall-clock median in this run, over processes.
        measurements: in the order given.
        processes: one record for each process: versions, providers, cores, load before and after, governor.
        warnings: what a reader must know, in words.
        seed: of order and bootstrap.
        seconds: that it took.
    """

    conditions: Conditions
    device: Device
    reference: NetworkSpec
    reference_ms: float
    reference_given: bool
    reference_raw_ms: float
    measurements: tuple[Measurement, ...]
    processes: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    seed: int
    seconds: float

    def __getitem__(self, name: str) -> Measurement:
        """The measurement of that name.

        Raises:
            UnknownNameError: none of that name; also a LookupError.
        """
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        raise UnknownNameError("measured network", name, (item.name for item in self.measurements))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        return {
            "format": FORMAT,
            **{item.name: getattr(self, item.name) for item in fields(self)},
            "conditions": self.conditions.to_dict(),
            "device": self.device.to_dict(),
            "reference": self.reference.to_dict(),
            "measurements": [_lists(asdict(measurement)) for measurement in self.measurements],
            "processes": [dict(record) for record in self.processes],
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: not this format, or fields that are missing or unknown.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise InputError(f"expected measurements of format {FORMAT!r}.")
        values = {name: value for name, value in data.items() if name != "format"}
        try:
            values["conditions"] = Conditions.from_dict(values["conditions"])
            values["device"] = Device.from_dict(values["device"])
            values["reference"] = NetworkSpec.from_dict(values["reference"])
            values["measurements"] = tuple(_measurement(item) for item in values["measurements"])
            values["processes"] = tuple(values["processes"])
            values["warnings"] = tuple(values["warnings"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise InputError(f"measurements: a field is missing, unknown or mistyped: {error}.") from error


def gate(samples: Sequence[ProcessSamples]) -> tuple[ProcessSamples, ...]:
    """The same samples with their drift, and `rejected` where it is over 30 %."""
    found = drifts([item.reference_ms for item in samples])
    return tuple(
        replace(item, rejected=drift > DRIFT_REJECTS, drift=drift)
        for item, drift in zip(samples, found, strict=True)
    )


def judge(
    samples: Sequence[ProcessSamples], processes: int, *, seed: int
) -> tuple[MeasurementStatus, Interval]:
    """Status and ratio from gated samples; where every process was rejected, from all of them, as `noisy`.

    Args:
        samples: of one network, through `gate`; at least one.
        processes: how many were asked for; fewer than half of them left is `noisy`.
        seed: of the bootstrap.
    """
    kept = [item for item in samples if not item.rejected]
    ratio = over_processes([_ratio(item, seed) for item in kept or samples])
    if len(kept) < ceil(processes / 2) or ratio.half_width > WIDEST:
        return "noisy", ratio
    closed = sum(item.closed for item in kept)
    return ("ok" if 2 * closed >= len(kept) else "unresolved"), ratio


def _ratio(item: ProcessSamples, seed: int) -> Interval:
    """Of one process, its shift taken out."""
    found = paired_ratio(item.candidate_ms, item.reference_ms, seed=seed)
    return Interval(found.value / item.shift, found.low / item.shift, found.high / item.shift)


def plain_ratio(item: ProcessSamples) -> float:
    """Of the medians of one process, its shift taken out."""
    return median(item.candidate_ms) / median(item.reference_ms) / item.shift


def level(samples: Mapping[str, tuple[ProcessSamples, ...]]) -> dict[str, tuple[ProcessSamples, ...]]:
    """The same samples of several networks, each with the shift of its process; the rejected ones have no say in it."""
    observed = [
        (number, item.process, math.log(plain_ratio(item)))
        for number, items in enumerate(samples.values())
        for item in items
        if not item.rejected
    ]
    effects = process_effects(observed)
    return {
        name: tuple(replace(item, shift=math.exp(effects.get(item.process, 0.0))) for item in items)
        for name, items in samples.items()
    }


def own_ms(samples: Sequence[ProcessSamples], *, seed: int) -> Interval:
    """A network's own milliseconds in these minutes, by the clock that decides: median over processes, with interval.

    What a process does to all of its networks alike cancels in the ratio, so that networks are compared by that; it
    is part of what one network takes, so that a target is judged by this. The reference's noise is not.

    Args:
        samples: of one network, through `gate`; at least one.
        seed: of the bootstrap.
    """
    kept = [item for item in samples if not item.rejected] or samples
    return over_processes([Interval(*bootstrap_median(item.candidate_ms, seed)) for item in kept])


def median_ms(samples: Sequence[ProcessSamples], which: str) -> float:
    """Median over processes of the median over rounds, ms; of those that the gate kept, where it kept any.

    Args:
        which: `candidate_ms`, `reference_ms`, `candidate_wall_ms` or `reference_wall_ms`.
    """
    kept = [item for item in samples if not item.rejected] or samples
    return float(median(median(getattr(item, which)) for item in kept))


def _lists(data: dict[str, Any]) -> dict[str, Any]:
    """Tuples of one measurement as JSON lists, so that a written and a fresh dictionary are equal."""
    samples = [
        {name: list(value) if isinstance(value, tuple) else value for name, value in item.items()}
        for item in data["samples"]
    ]
    operators = [{**item, "output_shape": list(item["output_shape"])} for item in data["operators"]]
    return {**data, "input_shape": list(data["input_shape"]), "samples": samples, "operators": operators}


def _measurement(data: Mapping[str, Any]) -> Measurement:
    """The inverse of `_lists`."""

    def tuples(item: Mapping[str, Any]) -> dict[str, Any]:
        return {name: tuple(value) if isinstance(value, list) else value for name, value in item.items()}

    return Measurement(
        **{
            **data,
            "input_shape": tuple(data["input_shape"]),
            "samples": tuple(ProcessSamples(**tuples(item)) for item in data["samples"]),
            "operators": tuple(Operator(**tuples(item)) for item in data["operators"]),
        }
    )
