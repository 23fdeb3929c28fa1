"""Networks timed together on this device, on the search's scale of milliseconds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mnas.latency import MeasurementSet, measure, reference_ms_of
from mnas.latency.conditions import Conditions
from mnas.latency.intervals import DRIFT_REJECTS, DRIFT_WARNS
from mnas.latency.measure import TOGETHER
from mnas.latency.measurement import RAW_DIFFERS
from mnas.records import latency_fields
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

MEASURED = "measured on this device"


@dataclass(frozen=True, slots=True)
class DeviceLatency:
    """One network's latency on this device.

    Args:
        ms: ratio to the reference x the reference's milliseconds.
        upper_ms: the greater of the interval's upper end and the plain wall clock: what has to be within a target.
        status: of the measurement; `noisy` decides nothing.
        fields: for JSON, as `records.latency_fields`.
    """

    ms: float
    upper_ms: float
    status: Literal["ok", "unresolved", "noisy"]
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeviceLatencies:
    """Latencies by name, what a person must know of them, the raw record as JSON, and what a ratio of 1 is in ms."""

    by_name: Mapping[str, DeviceLatency]
    warnings: list[str]
    record: dict[str, Any]
    reference_ms: float


def measure_here(
    networks: Mapping[str, NetworkSpec],
    *,
    reference: NetworkSpec,
    start_ms: float | None,
    conditions: Conditions,
    processes: int,
    budget_s: float,
    seed: int,
    reporter: Reporter,
    time_reference: bool = True,
) -> DeviceLatencies:
    """All networks interleaved in fresh processes.

    Args:
        networks: by name.
        reference: what they are paired with.
        start_ms: the reference's milliseconds at the start of the search; a ratio of 1 is the mean of these and of
            its milliseconds afterwards. None is those afterwards alone.
        time_reference: whether the reference is timed by itself afterwards. If not, a ratio of 1 is `start_ms`, and
            its samples beside the networks tell the drift: for networks whose runs take many milliseconds.
        conditions: threads, batch, precision, provider.
        processes: fresh ones.
        budget_s: seconds, all processes together.
        seed: of order and intervals.
        reporter: told of progress.

    Raises:
        MeasurementError: a measurement failed.
    """
    result = measure(
        networks,
        reference=reference,
        conditions=conditions,
        processes=processes,
        budget_s=budget_s,
        seed=seed,
        protocol=TOGETHER,
        on_progress=reporter.progress,
    )
    end_ms = result.reference_ms
    if time_reference or start_ms is None:
        # Timed by itself as at the start: in runs under a millisecond it depends on what runs beside it.
        end_ms = reference_ms_of(
            reference,
            conditions=conditions,
            seed=derive_seed(seed, "reference"),
            on_progress=reporter.progress,
        )
    start_ms, warnings = start_ms or end_ms, list(result.warnings)
    drift = abs(end_ms / start_ms - 1)
    if drift > DRIFT_WARNS:
        warnings.append(
            f"the reference network's latency moved by {drift:.0%} since the start of the search."
        )
    scale = (start_ms + end_ms) / 2 if time_reference else start_ms
    found = {name: _on_scale(result, name, scale, drift) for name in networks}
    apart = [abs(latency.fields["latency_raw_ms"] / latency.ms - 1) for latency in found.values()]
    if max(apart) > RAW_DIFFERS:
        warnings.append(
            f"the plain wall clock is up to {max(apart):.0%} from the paired milliseconds (more than 10 % for "
            f"{sum(a > RAW_DIFFERS for a in apart)} of {len(apart)} networks): other work on this device?"
        )
    record = {**result.to_dict(), "start_reference_ms": start_ms, "end_reference_ms": end_ms}
    return DeviceLatencies(found, warnings, record, scale)


def _on_scale(result: MeasurementSet, name: str, scale: float, drift: float) -> DeviceLatency:
    m = result[name]
    ms, low, high = m.ratio * scale, m.ratio_low * scale, m.ratio_high * scale
    # A wall clock far beyond the time on the core is another process's doing: no verdict on the network.
    noisy = drift > DRIFT_REJECTS or m.raw_ms > (1 + DRIFT_REJECTS) * ms
    fields = latency_fields(ms, m.raw_ms, low, high, MEASURED)
    return DeviceLatency(ms, max(high, m.raw_ms), "noisy" if noisy else m.status, fields)
