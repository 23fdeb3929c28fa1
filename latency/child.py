"""Runs the worker script as a child process and reads its events; whatever goes wrong is one clear error."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from mnas.errors import MeasurementError

WORKER = Path(__file__).with_name("worker.py")
# Seconds without any event after which the worker counts as hung: a session of a large network opens in a few
# seconds and warm-up is capped at five, so this leaves room for a slow device (chosen here).
SILENCE_S = 120.0
# Seconds between asking a process group to end and ending it.
GRACE_S = 5.0
_EVENTS = ("start", "progress", "batch", "done", "error")
_END = ""


def run_worker(
    job: Mapping[str, Any],
    *,
    on_event: Callable[[dict[str, Any]], None] | None = None,
    worker: Path | None = None,
    silence_s: float = SILENCE_S,
) -> list[dict[str, Any]]:
    """Sends `job` to a fresh worker process and returns its events up to and with `done`.

    The child stands in a session of its own: Ctrl-C reaches this process alone, which ends the child's group.

    Args:
        job: what `worker.py` describes.
        on_event: called with each event as it comes.
        worker: the script; None is the package's own.
        silence_s: seconds without an event after which the child counts as hung and is ended.

    Raises:
        MeasurementError: the worker reported an error, died, hung, or wrote something that is no event.
    """
    command = [sys.executable, str(worker or WORKER)]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
        )
        try:
            return _converse(process, job, on_event, silence_s, errors)
        finally:
            end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and its group: TERM, `GRACE_S` seconds, KILL. Closes its pipes."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _converse(
    process: subprocess.Popen[bytes],
    job: Mapping[str, Any],
    on_event: Callable[[dict[str, Any]], None] | None,
    silence_s: float,
    errors: IO[bytes],
) -> list[dict[str, Any]]:
    assert process.stdin is not None
    assert process.stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(process.stdout, lines), daemon=True).start()
    with contextlib.suppress(BrokenPipeError):  # it died at once: the missing `done` tells
        process.stdin.write(json.dumps(job).encode())
        process.stdin.close()
    events: list[dict[str, Any]] = []
    while True:
        try:
            line = lines.get(timeout=silence_s)
        except queue.Empty:
            raise MeasurementError(
                f"the measuring process was silent for {silence_s:.0f} s and was ended. The machine may be "
                f"overloaded, or a network too slow to time.{_tail(errors)}"
            ) from None
        if line == _END:
            raise MeasurementError(f"the measuring process {_ending(process)}.{_tail(errors)}")
        event = _parse(line)
        events.append(event)
        if on_event is not None:
            on_event(event)
        if event["event"] == "error":
            raise MeasurementError(f"the measuring process failed: {event.get('message')}{_tail(errors)}")
        if event["event"] == "done":
            return events


def _read(pipe: IO[bytes], lines: "queue.SimpleQueue[str]") -> None:
    """Puts each line into the queue, then the end mark."""
    with contextlib.suppress(ValueError, OSError):  # the pipe was closed under us: the caller has given up
        for line in pipe:
            lines.put(line.decode("utf-8", errors="replace").rstrip("\n") or " ")
    lines.put(_END)


def _parse(line: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or event.get("event") not in _EVENTS:
        raise MeasurementError(
            f"the measuring process wrote something that is no event: {line[:200]!r}. "
            "Something in this Python environment prints to the worker's output."
        )
    return event


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How a process that closed its output ended, in words."""
    try:
        code = process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return "closed its output without a result"
    if code >= 0:
        return f"ended with status {code} before its result"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hint = ": out of memory, or ended by someone" if -code == signal.SIGKILL else ""
    return f"was ended by {name} before its result{hint}"


def _tail(errors: IO[bytes], limit: int = 500) -> str:
    """The last lines that the child wrote to stderr, at most `limit` characters; empty where there are none."""
    size = os.fstat(errors.fileno()).st_size
    text = (
        os.pread(errors.fileno(), 4 * limit, max(0, size - 4 * limit))
        .decode("utf-8", errors="replace")
        .strip()
    )
    return f" Its last words: {text[-limit:]}" if text else ""
