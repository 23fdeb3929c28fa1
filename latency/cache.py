"""Calibrations kept for this user: one for each device, ONNX Runtime and conditions; never mixed."""

import hashlib
import json
from pathlib import Path

from mnas.errors import InputError
from mnas.files import make_folder, read_json, write_json
from mnas.latency.calibrate import Calibration
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device
from mnas.latency.folder import cache_folder


def calibration_path(device: Device, conditions: Conditions) -> Path:
    """Where the calibration of a device under these conditions is kept.

    The device's fingerprint holds ONNX Runtime's version, so that another version is another file.
    """
    text = json.dumps(conditions.to_dict(), sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return cache_folder() / "calibrations" / f"{device.fingerprint}-{digest}.json"


def read_calibration(path: Path, device: Device, conditions: Conditions) -> Calibration:
    """The calibration in a file, if it holds for this device and these conditions.

    Raises:
        InputError: damaged, of another version, or made on another device or under other conditions.
    """
    try:
        calibration = Calibration.from_dict(read_json(path))
    except InputError as error:
        raise InputError(f"the calibration {path} cannot be used: {error}") from error
    if calibration.device.fingerprint != device.fingerprint:
        raise InputError(
            f"the calibration {path} was made on another device ({_what(calibration.device)}); this is "
            f"{_what(device)}. Latencies of one device say nothing about another."
        )
    if calibration.conditions != conditions:
        raise InputError(
            f"the calibration {path} holds for {calibration.conditions.describe()}, not for "
            f"{conditions.describe()}."
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
