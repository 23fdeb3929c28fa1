"""Devices and their calibrations: `mnas latency calibrate` and `mnas latency devices`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.errors import InputError
from mnas.files import write_json
from mnas.latency import (
    LOCAL,
    Calibration,
    Conditions,
    Host,
    Kept,
    calibrate,
    few_networks,
    find_calibration,
    import_calibration,
    keep_calibration,
    kept_calibrations,
    read_any,
    this_device,
)
from mnas.search.reporting import Reporter
from mnas.summary import table

# Networks measured where another calibration is at hand (chosen here).
DEFAULT_FEW = 20


def calibrate_device(
    conditions: Conditions,
    reporter: Reporter,
    *,
    host: Host = LOCAL,
    seed: int = 0,
    like: str | None = None,
    networks: int | None = None,
) -> dict[str, Any]:
    """Calibrates a device and keeps the result, in place of the one before.

    Args:
        conditions: threads, batch, precision, provider.
        reporter: told of progress and warnings.
        host: where.
        seed: of the networks and the folds.
        like: a calibration of another device or other conditions, by name (or the beginning of it) or as a file: then
            few networks are measured, and the rest is told from that one.
        networks: how many then; None is 20.

    Raises:
        UnknownNameError: no calibration of that name.
        InputError: conditions that the device does not offer, `like` of this device under them, a number of networks
            that is refused, or profiles that do not tell what kernels take.
        MeasurementError: the device is too noisy, or a measurement failed.
        RunDirectoryError: the result cannot be kept.
    """
    if like is None and networks is not None:
        raise InputError("--networks goes with --like; without it a calibration's networks are fixed.")
    base = None if like is None else _known(like)
    if base is not None and (base.device.fingerprint, base.conditions) == (
        host.device.fingerprint,
        conditions,
    ):
        raise InputError(
            f"{like} is of this device under these conditions. A calibration told from it would take its place and be "
            "worse: give other conditions or another --device, or leave out --like to calibrate anew."
        )
    chosen = None if base is None else few_networks(seed, DEFAULT_FEW if networks is None else networks)
    reporter.stage(f"calibrating: timing networks on {host.name}")
    calibration = calibrate(
        conditions, seed=seed, networks=chosen, like=base, host=host, on_progress=reporter.progress
    )
    for text in calibration.warnings:
        reporter.warn(text)
    path = keep_calibration(calibration)
    return {**_row(calibration), "name": path.stem, "path": str(path), "seconds": calibration.seconds}


def calibrated_text(result: Mapping[str, Any]) -> str:
    """What was found, for people."""
    error = result["error"]
    return "\n".join(
        [
            f"{result['networks']} networks in {result['seconds']:.0f} s on {result['device']} "
            f"({result['conditions']})",
            f"  held out: mean error {error['mape']:.1%}, {error['within_5']:.0%} within 5 %, "
            f"{error['within_10']:.0%} within 10 %, Spearman {error['spearman']:.3f}",
            f"  {result['reference_ms']:.3g} ms for the reference",
            f"kept as {result['name']}: {result['path']}",
            "next: mnas latency validate",
        ]
    )


def device_rows() -> list[dict[str, Any]]:
    """Every kept calibration as JSON; `here` where its device is this one, `problem` where it cannot be read."""
    here = this_device().fingerprint
    rows: list[dict[str, Any]] = []
    for kept in kept_calibrations():
        if kept.calibration is None:
            rows.append({"name": kept.name, "problem": kept.error})
        else:
            rows.append(
                {
                    "name": kept.name,
                    "here": kept.calibration.device.fingerprint == here,
                    **_row(kept.calibration),
                }
            )
    return rows


def devices_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The kept calibrations as a table."""
    if not rows:
        return "no calibration is kept yet: mnas latency calibrate"
    good = [row for row in rows if "problem" not in row]
    cells = [
        [
            f"{row['name']}{' *' if row['here'] else ''}",
            row["made"],
            str(row["networks"]),
            f"{row['error']['mape']:.1%}",
            f"{row['device']}; {row['conditions']}",
        ]
        for row in good
    ]
    lines = (
        [table(["calibration", "made", "networks", "error", "device"], cells), "* this device"]
        if good
        else []
    )
    return "\n".join([*lines, *(f"{row['name']}: {row['problem']}" for row in rows if "problem" in row)])


def export_calibration(name: str, out: Path) -> dict[str, Any]:
    """Writes a kept calibration to a file.

    Raises:
        UnknownNameError: none of that name.
        InputError: it cannot be read.
        RunDirectoryError: the file cannot be written.
    """
    calibration = _readable(find_calibration(name))
    write_json(out, calibration.to_dict())
    return {"path": str(out), **_row(calibration)}


def import_device(path: Path, replace: bool) -> dict[str, Any]:
    """Keeps a calibration that was made elsewhere; errors as `latency.import_calibration`."""
    kept = import_calibration(path, replace=replace)
    return {"name": kept.name, "path": str(kept.path), **_row(_readable(kept))}


def _known(like: str) -> Calibration:
    path = Path(like)
    return read_any(path) if path.is_file() else _readable(find_calibration(like))


def _readable(kept: Kept) -> Calibration:
    if kept.calibration is None:
        raise InputError(f"the calibration {kept.path} cannot be used: {kept.error}")
    return kept.calibration


def _row(calibration: Calibration) -> dict[str, Any]:
    return {
        "device": calibration.device.describe(),
        "conditions": calibration.conditions.describe(calibration.device),
        "made": calibration.made,
        "networks": len(calibration.points),
        "reference_ms": calibration.reference_ms,
        "error": calibration.error.to_dict(),
        "like": calibration.like,
    }
