"""Published networks measured on a device."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnas.latency import LOCAL, Conditions, Host, measure
from mnas.records import latency_fields, network_fields
from mnas.search.measured import measured_on
from mnas.search.reporting import Reporter
from mnas.zoo import ZOO, published


def measure_zoo(
    names: Sequence[str] | None,
    threads: int,
    batch: int,
    resolution: int | None,
    seed: int,
    reporter: Reporter,
    *,
    host: Host = LOCAL,
) -> dict[str, Any]:
    """Times published networks, all interleaved with EfficientNet-B0 in three fresh processes.

    Args:
        names: of `mnas.zoo`; None is all.
        threads: of the network.
        batch: images per run.
        resolution: in pixels; None is each network's own.
        seed: of the order and the intervals.
        reporter: told of progress.
        host: where.

    Raises:
        UnknownNameError: no such network.
        InputError: conditions that the device does not offer.
        MeasurementError: a measurement failed.
    """
    conditions = Conditions(threads=threads, batch=batch)
    specs = {name: published(name) for name in names or ZOO}
    if resolution is not None:
        specs = {name: replace(spec, resolution=resolution) for name, spec in specs.items()}
    reference = replace(published("efficientnet_b0"), resolution=next(iter(specs.values())).resolution)
    reporter.stage(f"measuring {len(specs)} networks in fresh processes")
    result = measure(
        specs,
        reference=reference,
        conditions=conditions,
        seed=seed,
        host=host,
        on_progress=reporter.progress,
    )
    for text in result.warnings:
        reporter.warn(text)
    rows = []
    for name, spec in specs.items():
        m = result[name]
        latency = latency_fields(m.latency_ms, m.raw_ms, m.low_ms, m.high_ms, measured_on(host))
        rows.append({"name": name, "status": m.status, **network_fields(spec), **latency})
    return {
        "networks": rows,
        "conditions": f"{conditions.describe(result.device)}; {result.device.describe()}",
    }
