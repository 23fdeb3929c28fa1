"""One model measured on a device, with everything that the figure holds for: `mnas latency measure`."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mnas.errors import InputError
from mnas.files import make_folder, write_json
from mnas.latency import (
    CPU,
    LOCAL,
    Conditions,
    Host,
    Measurement,
    MeasurementSet,
    OnnxFile,
    Operator,
    Timeable,
    compare,
    measure,
    nearest_reference,
    read_onnx,
    reference_like,
    this_device,
)
from mnas.latency.agent import cache_folder
from mnas.records import latency_fields, network_fields
from mnas.search.measured import measured_on
from mnas.search.reporting import Reporter
from mnas.sources import BASELINE, find_source
from mnas.summary import table

# Runs of each network that are profiled in each process (chosen here: medians of so many move by a few per cent).
PROFILE_RUNS = 10
# Operators listed on the screen; the record has all of them.
MOST_LISTED = 12
# Seconds for an int8 file and its fp32 file, and fresh processes (chosen here: the difference is rarely small).
INT8_S, INT8_PROCESSES = 10.0, 5
SUFFIX = ".onnx"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to measure.

    Args:
        threads: of the network.
        batch: images per run; None is what a file fixes, or 1.
        precision: `fp32`, or `int8` of a network that is written here.
        provider: ONNX Runtime's execution provider.
        resolution: in pixels; None is the model's own.
        reference: name of the network to pair with; None is the nearest of `latency.REFERENCES`.
        processes: fresh ones.
        budget_s: seconds for all processes, warm-up included.
        profile: whether operators are timed as well, in runs of their own.
        seed: of order, inputs and bootstrap.
        out: the record's file; None is the user's cache.
    """

    threads: int = 1
    batch: int | None = None
    precision: str = "fp32"
    provider: str = CPU
    resolution: int | None = None
    reference: str | None = None
    processes: int = 9
    budget_s: float = 30.0
    profile: bool = False
    seed: int = 0
    out: Path | None = None


def measure_model(
    model: str,
    wanted: Wanted,
    reporter: Reporter,
    *,
    network: str = BASELINE,
    host: Host = LOCAL,
) -> dict[str, Any]:
    """Times a model in fresh processes, interleaved with a reference; writes the record with all raw samples.

    Args:
        model: an ONNX file, a run directory, a network's JSON file, or a published name.
        wanted: how.
        reporter: told of progress and warnings.
        network: of a run.
        host: where.

    Returns:
        `status`, the latency fields, the ratio to the reference, what it holds for, `record` (the file), and with
        `profile` the operators, dearest first.

    Raises:
        InputError: no such model, or one that cannot be timed; conditions that the device does not offer.
        MeasurementError: ONNX Runtime refuses the model, it crashes or hangs, or the device cannot be reached.
        RunDirectoryError: the record cannot be written.
    """
    if wanted.out is not None and wanted.out.is_dir():
        raise InputError(f"--out takes the record's file, {wanted.out} is a folder.")
    timed: Timeable
    if model.endswith(SUFFIX) or (Path(model).is_file() and not model.endswith(".json")):
        timed, fields = _file(Path(model), wanted), {}
        batch = timed.input_shape[0] if timed.input_shape else 1
    else:
        spec = find_source(model, network).spec
        timed = spec if wanted.resolution is None else replace(spec, resolution=wanted.resolution)
        fields, batch = network_fields(timed), wanted.batch or 1
        if timed.too_small is not None:
            reporter.warn(timed.too_small)
    conditions = Conditions(wanted.threads, batch, wanted.precision, wanted.provider)
    reference = wanted.reference or nearest_reference(timed)
    reporter.stage(f"measuring {model} beside {reference} in {wanted.processes} fresh processes")
    result = measure(
        {model: timed},
        reference=reference_like(timed, reference),
        conditions=conditions,
        processes=wanted.processes,
        budget_s=wanted.budget_s,
        seed=wanted.seed,
        profile_runs=PROFILE_RUNS if wanted.profile else 0,
        host=host,
        on_progress=reporter.progress,
    )
    for text in result.warnings:
        reporter.warn(text)
    record = wanted.out or _record_path(result)
    make_folder(record.parent)
    write_json(record, result.to_dict())
    (measured,) = result.measurements
    return {
        "model": model,
        "status": measured.status,
        **fields,
        **_latency(measured, result, reference, host),
        "conditions": conditions.describe(result.device),
        "device": result.device.describe(),
        "warnings": list(result.warnings),
        "record": str(record),
        **({"profile": _operators(measured)} if wanted.profile else {}),
    }


def compare_int8(fp32: Path, int8: Path, reporter: Reporter) -> dict[str, Any]:
    """Times an int8 file against the fp32 file that it came from, on this device, one thread.

    Returns:
        `int8_over_fp32`, its 95 % interval `_low` and `_high`, and `int8_verdict`: `faster`, `slower`, `undecided` or
        `noisy`.

    Raises:
        MeasurementError: a measurement failed, or another one holds the device.
    """
    reporter.stage("timing int8 against fp32 on this device")
    conditions = Conditions()
    found = compare(
        read_onnx(fp32),
        read_onnx(int8),
        conditions=conditions,
        budget_s=INT8_S,
        processes=INT8_PROCESSES,
        seed=0,
        on_progress=reporter.progress,
    )
    return {
        "int8_over_fp32": found.ratio,
        "int8_over_fp32_low": found.low,
        "int8_over_fp32_high": found.high,
        "int8_verdict": found.verdict,
        "int8_conditions": conditions.describe(this_device()),
    }


def int8_text(found: Mapping[str, Any]) -> str:
    """What that says, in a sentence."""
    span = f"{found['int8_over_fp32_low']:.2f} to {found['int8_over_fp32_high']:.2f}"
    text = f"int8 takes {found['int8_over_fp32']:.2f} ({span}) times as long as fp32 here ({found['int8_conditions']})"
    return f"{text}{_INT8[found['int8_verdict']]}"


_INT8 = {
    "faster": "",
    "slower": ": it is slower on this device; keep fp32 for it",
    "undecided": ": no difference was found",
    "noisy": ": the device was too noisy to say",
}


def measured_text(result: Mapping[str, Any]) -> str:
    """The result for people."""
    ms, low, high = result["latency_ms"], result["latency_low_ms"], result["latency_high_ms"]
    lines = [
        f"{result['model']}: {ms:.3g} ms ({low:.3g} to {high:.3g}; plain wall clock {result['latency_raw_ms']:.3g}), "
        f"{result['status']}",
        f"  {_STATUS[result['status']]}",
        f"  {result['ratio']:.4f} ({result['ratio_low']:.4f} to {result['ratio_high']:.4f}) times "
        f"{result['reference']}, which takes {result['reference_ms']:.3g} ms",
        f"  {result['conditions']}; {result['device']}",
    ]
    if "profile" in result:
        lines += ["", _profile_table(result["profile"])]
    return "\n".join([*lines, f"record, with all samples: {result['record']}"])


_STATUS = {
    "ok": "the 95 % interval of most processes closed to +-1 %",
    "unresolved": "the time for it ended before the intervals closed to +-1 %; a longer --budget narrows them",
    "noisy": "the device was too noisy: do not decide by this figure; end other work on it and measure again",
}


def _file(path: Path, wanted: Wanted) -> OnnxFile:
    if wanted.precision != "fp32":
        raise InputError(
            f"{path} is timed as it is: --precision {wanted.precision} belongs to a network that mnas writes. "
            "Quantise the file first (onnxruntime.quantization), then measure that."
        )
    return read_onnx(path, batch=wanted.batch, resolution=wanted.resolution)


def _latency(measured: Measurement, result: MeasurementSet, reference: str, host: Host) -> dict[str, Any]:
    status = "" if measured.status == "ok" else f" ({measured.status})"
    return {
        **latency_fields(
            measured.latency_ms,
            measured.raw_ms,
            measured.low_ms,
            measured.high_ms,
            f"{measured_on(host)}{status}",
        ),
        "ratio": measured.ratio,
        "ratio_low": measured.ratio_low,
        "ratio_high": measured.ratio_high,
        "reference": reference,
        "reference_ms": result.reference_ms,
        "processes": len(measured.samples),
        "rounds": sum(len(item.candidate_ms) for item in measured.samples),
    }


def _record_path(result: MeasurementSet) -> Path:
    (measured,) = result.measurements
    when = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    return cache_folder() / "measurements" / f"{when}-{measured.model_sha256[:8]}.json"


def _operators(measured: Measurement) -> list[dict[str, Any]]:
    """Dearest first, each with its share of all of them."""
    total = math.fsum(operator.ms for operator in measured.operators) or 1.0
    ordered = sorted(measured.operators, key=lambda operator: -operator.ms)
    return [{**_operator(operator), "share": operator.ms / total} for operator in ordered]


def _operator(operator: Operator) -> dict[str, Any]:
    return {
        "name": operator.name,
        "kind": operator.kind,
        "provider": operator.provider,
        "ms": operator.ms,
        "output_shape": list(operator.output_shape),
    }


def _profile_table(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        kinds[row["kind"]].append(row["ms"])
    total = sum(row["ms"] for row in rows) or 1.0
    by_kind = sorted(kinds.items(), key=lambda item: -sum(item[1]))
    first = table(
        ["operators", "count", "ms", "share"],
        [[k, str(len(v)), f"{sum(v):.3f}", f"{sum(v) / total:.1%}"] for k, v in by_kind],
    )
    second = table(
        ["dearest", "kind", "output", "ms", "share"],
        [
            [
                r["name"],
                r["kind"],
                "x".join(map(str, r["output_shape"])),
                f"{r['ms']:.3f}",
                f"{r['share']:.1%}",
            ]
            for r in rows[:MOST_LISTED]
        ],
    )
    return f"{first}\n\n{second}\n"
