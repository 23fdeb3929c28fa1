"""Networks timed together on a device, in milliseconds as they are now."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mnas.latency import LOCAL, Host, MeasurementSet, measure
from mnas.latency.conditions import Conditions
from mnas.latency.intervals import DRIFT_REJECTS
from mnas.latency.measure import TOGETHER
from mnas.latency.measurement import RAW_DIFFERS, own_ms
from mnas.records import latency_fields
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec


@dataclass(frozen=True, slots=True)
class DeviceLatency:
    """One network's latency on a device.

    Args:
        ms: as `measurement.own_ms`.
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
    """Latencies by name, what a person must know of them, the reference's milliseconds, and the raw record as JSON."""

    by_name: Mapping[str, DeviceLatency]
    warnings: list[str]
    reference_ms: float
    record: dict[str, Any]


def measured_on(host: Host) -> str:
    """What a latency that was measured there is called."""
    return f"measured on {host.name}"


def measure_together(
    networks: Mapping[str, NetworkSpec],
    *,
    reference: NetworkSpec,
    start_ms: float | None,
    conditions: Conditions,
    processes: int,
    budget_s: float,
    seed: int,
    host: Host = LOCAL,
    reporter: Reporter,
) -> DeviceLatencies:
    """All networks interleaved in fresh processes.

    Args:
        networks: by name.
        reference: what they are paired with.
        start_ms: the reference's milliseconds at the start of the search, for the record; None where it was not
            timed.
        conditions: threads, batch, precision, provider.
        processes: fresh ones.
        budget_s: seconds, all processes together.
        seed: of order and intervals.
        host: where.
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
        host=host,
        on_progress=reporter.progress,
    )
    warnings = list(result.warnings)
    source = measured_on(host)
    found = {name: _latency(result, name, source) for name in networks}
    apart = [abs(latency.fields["latency_raw_ms"] / latency.ms - 1) for latency in found.values()]
    if max(apart) > RAW_DIFFERS:
        warnings.append(
            f"the plain wall clock is up to {max(apart):.0%} from the time on the core (more than 10 % for "
            f"{sum(a > RAW_DIFFERS for a in apart)} of {len(apart)} networks): other work on {host.name}?"
        )
    record = {**result.to_dict(), "start_reference_ms": start_ms}
    return DeviceLatencies(found, warnings, result.reference_ms, record)


def _latency(result: MeasurementSet, name: str, source: str) -> DeviceLatency:
    m, ms = result[name], own_ms(result[name].samples, seed=result.seed)
    # A wall clock far beyond the time on the core is another process's doing: no verdict on the network.
    noisy = m.raw_ms > (1 + DRIFT_REJECTS) * ms.value
    fields = latency_fields(ms.value, m.raw_ms, ms.low, ms.high, source)
    return DeviceLatency(ms.value, max(ms.high, m.raw_ms), "noisy" if noisy else m.status, fields)
