"""What a run was made with: versions and platform, as plain JSON."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from mnas import __version__

PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "fvcore", "scikit-learn", "safetensors")


def package_versions() -> dict[str, str | None]:
    """Installed versions by package name, None where it is absent; imports none of them."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def memory_bytes() -> int | None:
    """The machine's memory in bytes; None where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def usable_cores() -> int:
    """Cores that this process may use (its affinity mask, not the machine's total)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment() -> dict[str, Any]:
    """Versions and platform of this process."""
    return {
        "mnas": __version__,
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "cores": usable_cores(),
        "packages": package_versions(),
    }
