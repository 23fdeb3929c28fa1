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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
# How native code ends a process.
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class Child:
    """A process that is written to and whose lines are read as they come; what it writes to stderr is kept.

    It stands in a session of its own: Ctrl-C reaches this process alone, which ends the child's group.

    Args:
        command: program and arguments.
        environment: of the process; None is this one's.
        take: given this child and each line as it comes, in another thread, then an empty one; None keeps them for
            `line`.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        take: "Callable[[Child, str], None] | None" = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115, closed by `end`
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment,
                start_new_session=True,
            )
        except OSError:
            self._errors.close()
            raise
        assert self._process.stdout is not None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        put = self._lines.put if take is None else partial(take, self)
        threading.Thread(target=_read, args=(self._process.stdout, put), daemon=True).start()

    def ends_first(self) -> None:
        """Where memory runs out, the system ends it before this process, and before others of the user."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._process.pid}/oom_score_adj").write_text("1000")

    def send(self, data: bytes) -> None:
        """Writes; where the process is gone, the end of its lines tells."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def close_input(self) -> None:
        """No more is written."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def line(self, wait_s: float) -> str | None:
        """The next line, None where they have ended.

        Raises:
            TimeoutError: none came within `wait_s`.
        """
        try:
            return self._lines.get(timeout=wait_s) or None
        except queue.Empty:
            raise TimeoutError from None

    def status(self) -> int | None:
        """The exit status, as `subprocess` has it; None where it has not ended within `GRACE_S`."""
        try:
            return self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return None

    def last_words(self, limit: int = 500) -> str:
        """The last lines that it wrote to stderr, at most `limit` characters; empty where there are none."""
        size = os.fstat(self._errors.fileno()).st_size
        data = os.pread(self._errors.fileno(), 4 * limit, max(0, size - 4 * limit))
        return data.decode("utf-8", errors="replace").strip()[-limit:]

    def end(self, wait_s: float = 0.0) -> None:
        """Closes its input, lets it end by itself for `wait_s`, then ends it and its group."""
        self.close_input()
        try:
            if wait_s:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(wait_s)
        finally:
            end_group(self._process)
            self._errors.close()


def run_worker(
    job: Mapping[str, Any],
    *,
    on_event: OnEvent | None = None,
    worker: Path | None = None,
    silence_s: float | None = None,
) -> list[Event]:
    """Sends `job` to a fresh worker process and returns its events up to and with `done`.

    Args:
        job: what `worker.py` describes.
        on_event: called with each event as it comes.
        worker: the script; None is the package's own.
        silence_s: seconds without an event after which the child counts as hung and is ended; None is `SILENCE_S`.

    Raises:
        MeasurementError: the worker reported an error, died, hung, or wrote something that is no event.
    """
    child, wait_s = Child([sys.executable, str(worker or WORKER)]), silence_s or SILENCE_S

    def next_event(doing: str) -> Event:
        try:
            line = child.line(wait_s)
        except TimeoutError:
            raise hung(wait_s, doing, child.last_words()) from None
        if line is None:
            raise died(child.status(), doing, child.last_words())
        return parse_event(line)

    try:
        child.ends_first()
        child.send(json.dumps(job).encode())
        child.close_input()
        return gather(next_event, on_event)
    finally:
        child.end()


def gather(next_event: Callable[[str], Event], on_event: OnEvent | None) -> list[Event]:
    """A worker's events up to and with `done`.

    Args:
        next_event: waits for one; told what the worker said last that it does.
        on_event: called with each.

    Raises:
        MeasurementError: the worker reported an error; also as `next_event`.
    """
    events: list[Event] = []
    doing = "starting"
    while True:
        event = next_event(doing)
        doing = str(event.get("what", doing))
        events.append(event)
        if on_event is not None:
            on_event(event)
        if event["event"] == "error":
            raise MeasurementError(
                f"the measuring process failed ({doing}): {str(event.get('message')).strip()}"
            )
        if event["event"] == "done":
            return events


def parse_event(line: str) -> Event:
    """The event of a line.

    Raises:
        MeasurementError: it is none.
    """
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


def hung(silence_s: float, doing: str, last_words: str) -> MeasurementError:
    """The error of a worker that was silent for too long; `doing` is what it had said last."""
    return MeasurementError(
        f"the measuring process was silent for {silence_s:.0f} s ({doing}) and was ended. The network may be too slow "
        f"to time, or never end; or the machine is overloaded: end other work on it and try again.{_said(last_words)}"
    )


def died(status: int | None, doing: str, last_words: str) -> MeasurementError:
    """The error of a worker that ended before its result.

    Args:
        status: as `subprocess` has it; None while it lives.
        doing: what it had said last.
        last_words: what it wrote to stderr.
    """
    how = how_ended(status) + (" without a result" if status is None else " before its result")
    hint = ": out of memory, or ended by someone" if status == -signal.SIGKILL else ""
    crashed = status is not None and -status in _CRASHES
    advice = " ONNX Runtime crashed: run the model with it by hand, or install another version of it."
    return MeasurementError(
        f"the measuring process {how}{hint} ({doing}).{advice if crashed else ''}{_said(last_words)}"
    )


def how_ended(status: int | None) -> str:
    """In words what became of a process, by its status as `subprocess` has it; None while it lives.

    >>> how_ended(-9)
    'was ended by SIGKILL'
    """
    if status is None:
        return "closed its output"
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


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


def _read(pipe: IO[bytes], put: Callable[[str], None]) -> None:
    """Hands on each line, then the end mark."""
    with contextlib.suppress(ValueError, OSError):  # the pipe was closed under us: the caller has given up
        for line in pipe:
            put(line.decode("utf-8", errors="replace").rstrip("\n") or " ")
    put(_END)


def _said(last_words: str) -> str:
    return f" Its last words: {last_words}" if last_words else ""
