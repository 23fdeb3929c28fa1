"""Calibrations kept for this user: one for each device, ONNX Runtime and conditions; never mixed."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mnas.errors import InputError, UnknownNameError
from mnas.files import make_folder, read_json, write_json
from mnas.latency.agent import cache_folder
from mnas.latency.calibrate import Calibration
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept calibration: its name (the file's), and what is in it, or why that cannot be read."""

    name: str
    path: Path
    calibration: Calibration | None
    error: str | None


def calibration_path(device: Device, conditions: Conditions) -> Path:
    """Where the calibration of a device under these conditions is kept.

    The device's fingerprint holds ONNX Runtime's version, so that another version is another file.
    """
    text = json.dumps(conditions.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return _folder() / f"{device.fingerprint}-{digest}.json"


def kept_calibrations() -> list[Kept]:
    """Every calibration that is kept, by name; the unreadable ones with the reason."""
    return [_kept(path) for path in sorted(_folder().glob("*.json"))]


def find_calibration(name: str) -> Kept:
    """The kept calibration of that name, or the only one whose name begins so.

    Raises:
        UnknownNameError: none, or several.
    """
    found = [path for path in sorted(_folder().glob("*.json")) if path.stem.startswith(name)]
    if len(found) != 1 or not name:
        hint = "More than one begins so." if len(found) > 1 else "See `mnas latency devices list`."
        names = [path.stem for path in found] or [path.stem for path in _folder().glob("*.json")]
        raise UnknownNameError("calibration", name, names, hint=hint)
    return _kept(found[0])


def import_calibration(path: Path, *, replace: bool = False) -> Kept:
    """Copies a calibration's file to its place, for searches on the device that it was made on.

    Args:
        path: what `mnas latency devices export` wrote.
        replace: whether it may take the place of another one of the same device and conditions.

    Raises:
        InputError: unreadable, of another version, or its place is taken.
        RunDirectoryError: the folder cannot be written.
    """
    calibration = read_any(path)
    place = calibration_path(calibration.device, calibration.conditions)
    if place.is_file() and not replace:
        raise InputError(
            f"a calibration of {_what(calibration.device)} under these conditions is kept already ({place.stem}); "
            "--replace puts this one in its place."
        )
    return _kept(keep_calibration(calibration))


def _folder() -> Path:
    return cache_folder() / "calibrations"


def _kept(path: Path) -> Kept:
    try:
        return Kept(path.stem, path, Calibration.from_dict(read_json(path)), None)
    except InputError as error:
        return Kept(path.stem, path, None, str(error))


def read_any(path: Path) -> Calibration:
    """The calibration in a file, of whatever device and conditions.

    Raises:
        InputError: unreadable, damaged, or of another version.
    """
    try:
        return Calibration.from_dict(read_json(path))
    except InputError as error:
        raise InputError(
            f"the calibration {path} cannot be used: {error} Make it anew on its device (mnas latency calibrate), then "
            "export it from there."
        ) from error


def read_calibration(path: Path, device: Device, conditions: Conditions) -> Calibration:
    """The calibration in a file, if it holds for this device and these conditions.

    Raises:
        InputError: damaged, of another version, or made on another device or under other conditions.
    """
    calibration = read_any(path)
    if calibration.device.fingerprint != device.fingerprint:
        raise InputError(
            f"the calibration {path} was made on another device ({_what(calibration.device)}); this is "
            f"{_what(device)}. Latencies of one device say nothing about another."
        )
    if calibration.conditions != conditions:
        raise InputError(
            f"the calibration {path} holds for {calibration.conditions.describe(device)}, not for "
            f"{conditions.describe(device)}."
        )
    return calibration


def keep_calibration(calibration: Calibration) -> Path:
    """Writes a calibration to its place in the cache, for later searches.

    Raises:
        RunDirectoryError: the folder cannot be written, or the disk is full.
    """
    path = calibration_path(calibration.device, calibration.conditions)
    make_folder(path.parent)
    write_json(path, calibration.to_dict())
    return path


def _what(device: Device) -> str:
    return f"{device.describe()}, ONNX Runtime {device.onnxruntime}"
