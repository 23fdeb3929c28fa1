"""One measurement at a time on a device: a lock of this user that the system frees when its holder dies."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mnas.errors import MeasurementError
from mnas.latency.agent import lock_path, open_lock, try_lock

# Seconds to wait for another measurement: longer than a calibration takes (chosen here).
WAIT_S = 900.0
# Seconds between two tries here, and on another device, which tries should not disturb (chosen here).
POLL_S, POLL_THERE_S = 0.2, 2.0


@contextmanager
def device_lock(
    *, wait_s: float = WAIT_S, on_wait: Callable[[str], None] | None = None, path: Path | None = None
) -> Iterator[None]:
    """Holds this device's lock inside the `with` block.

    Args:
        wait_s: seconds to wait for another holder; 0 is not at all.
        on_wait: told once, in words, that and for whom it waits.
        path: of the lock file; None is `agent.lock_path()`.

    Raises:
        MeasurementError: the lock file cannot be opened, or another process still holds it after `wait_s`.
    """
    path = path or lock_path()
    try:
        handle = open_lock(path)
    except OSError as error:
        raise MeasurementError(
            f"cannot open the lock file {path}: {error.strerror}. "
            "Set XDG_CACHE_HOME to a folder that you can write."
        ) from error
    try:
        wait_for_lock(
            lambda: try_lock(handle),
            wait_s=wait_s,
            poll_s=POLL_S,
            on_wait=on_wait,
            where=f"this device (lock file: {path})",
        )
        yield
    finally:
        os.close(handle)  # which frees the lock


def wait_for_lock(
    attempt: Callable[[], str],
    *,
    wait_s: float,
    poll_s: float,
    on_wait: Callable[[str], None] | None,
    where: str,
) -> None:
    """Tries until the lock is ours.

    Args:
        attempt: takes the lock, or returns the process that holds it; see `agent.try_lock`.
        wait_s: seconds, after which it gives up.
        poll_s: seconds between tries.
        on_wait: told once, in words, that and for whom it waits.
        where: the device, for messages.

    Raises:
        MeasurementError: another process still holds it.
    """
    deadline, told = time.monotonic() + wait_s, False
    while holder := attempt():
        if time.monotonic() >= deadline:
            raise MeasurementError(
                f"process {holder} is measuring on {where} and has not finished within {wait_s:.0f} s; "
                "two at a time would spoil both. Wait for it, or end it."
            )
        if on_wait and not told:
            on_wait(f"waiting for process {holder}, which is measuring on {where.partition(' (')[0]}")
            told = True
        time.sleep(poll_s)
