"""The device that a latency holds for: what tells it from another, and its state at the moment."""

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from mnas.env import usable_cores
from mnas.errors import InputError
from mnas.latency.conditions import runtime_version

_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, slots=True)
class Device:
    """What decides a network's latency here, apart from the conditions. Holds no host name and no address.

    Args:
        cpu: the model as the system names it.
        flags: digest of the CPU's instruction set flags; empty where the system does not list them.
        cores: that this process may use.
        machine: instruction set architecture, `x86_64` or `aarch64` for example.
        system: operating system and its release.
        onnxruntime: version.
    """

    cpu: str
    flags: str
    cores: int
    machine: str
    system: str
    onnxruntime: str

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal for equal records, so that calibrations are cached under it."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line for people: `AMD EPYC, 2 cores, x86_64` for example."""
        return f"{self.cpu}, {self.cores} core{'s' * (self.cores != 1)}, {self.machine}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: fields that are missing or unknown.
        """
        names = {item.name for item in fields(cls)}
        if set(data) != names:
            raise InputError(
                f"device: missing {sorted(names - set(data))}, unknown {sorted(set(data) - names)}."
            )
        return cls(**data)


@lru_cache(maxsize=1)
def this_device() -> Device:
    """The record of this device; read once per process."""
    cpu, flags = _cpu()
    return Device(
        cpu=cpu,
        flags=flags,
        cores=usable_cores(),
        machine=platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        onnxruntime=runtime_version(),
    )


def device_state() -> dict[str, Any]:
    """What changes from minute to minute: `load` (one-minute average, None where unknown) and `governor`."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    try:
        governor = _GOVERNOR.read_text().strip()
    except OSError:
        governor = None
    return {"load": load, "governor": governor}


def _cpu() -> tuple[str, str]:
    """Model name and digest of the sorted flags, from /proc/cpuinfo where it is there."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), ""
    rows = [line.partition(":") for line in lines]
    values = {key.strip().lower(): value.strip() for key, _, value in reversed(rows)}
    parts = " ".join(values[key] for key in ("cpu implementer", "cpu part") if key in values)
    name = values.get("model name") or values.get("hardware") or parts or platform.machine()
    flags = values.get("flags") or values.get("features") or ""
    return name, hashlib.sha256(" ".join(sorted(flags.split())).encode()).hexdigest()[:12] if flags else ""
