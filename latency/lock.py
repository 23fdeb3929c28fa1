"""One measurement at a time on a device: a lock of this user that the system frees when its holder dies."""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mnas.errors import MeasurementError
from mnas.latency.folder import cache_folder

# Seconds to wait for another measurement: longer than a calibration takes (chosen here).
WAIT_S = 900.0
_POLL_S = 0.2


def lock_path() -> Path:
    """The lock file in the user's cache folder.

    The host's name is part of it, since home folders are shared between machines and devices are not.
    """
    return cache_folder() / f"latency-{platform.node() or 'device'}.lock"


@contextmanager
def device_lock(
    *, wait_s: float = WAIT_S, on_wait: Callable[[str], None] | None = None, path: Path | None = None
) -> Iterator[None]:
    """Holds the device's lock inside the `with` block.

    Args:
        wait_s: seconds to wait for another holder; 0 is not at all.
        on_wait: told once, in words, that and for whom it waits.
        path: of the lock file; None is `lock_path()`.

    Raises:
        MeasurementError: the lock file cannot be opened, or another process still holds it after `wait_s`.
    """
    path = path or lock_path()
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MeasurementError(
            f"cannot open the lock file {path}: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that you can write."
        ) from error
    try:
        _acquire(handle, path, wait_s, on_wait)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)  # which frees the lock


def _acquire(handle: int, path: Path, wait_s: float, on_wait: Callable[[str], None] | None) -> None:
    deadline, told = time.monotonic() + wait_s, False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
        if time.monotonic() >= deadline:
            raise MeasurementError(
                f"process {holder} is measuring on this device and has not finished within {wait_s:.0f} s; "
                f"two at a time would spoil both. Wait for it, or end it (lock file: {path})."
            )
        if on_wait and not told:
            on_wait(f"waiting for process {holder}, which is measuring on this device")
            told = True
        time.sleep(_POLL_S)
