"""What a run was made with: versions and platform, as plain JSON."""

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from mnas import __version__

PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "fvcore", "scikit-learn", "safetensors")
BRIDGED = ("optuna", "nni")  # whose searchers can be controllers
# Of control groups, version 2: which one this process is in, and where their files are.
MEMBERSHIP, CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str | None]:
    """Installed versions by package name, None where it is absent; imports none of them."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions


def memory_bytes() -> int | None:
    """Memory that this process may use: the machine's, or less in a container. None where the system does not tell."""
    limits = _group_limits()
    with suppress(ValueError, OSError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=None)


def _group_limits() -> list[int]:
    """In bytes, of this process's control group and those around it.

    Reference: docs.kernel.org/admin-guide/cgroup-v2.html, "memory.max": a number, or `max` for no limit.
    """
    try:
        (own,) = [line[4:] for line in MEMBERSHIP.read_text().splitlines() if line.startswith("0::/")]
    except (ValueError, OSError):
        return []
    inner = PurePosixPath(own)
    limits = []
    for folder in (inner, *inner.parents):
        with suppress(ValueError, OSError):
            limits.append(int((CONTROL_GROUPS / folder / "memory.max").read_text()))
    return limits


def python_path() -> str:
    """`PYTHONPATH` for a child that is to import this very mnas, wherever it works."""
    return os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", ""))))


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
