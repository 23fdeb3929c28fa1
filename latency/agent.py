"""What stands for a device: who it is, its lock, and, on another one, the hands that do what a connection asks for.

One self-contained script, so that it can be copied to another device: it needs Python 3.9 or later and nothing else.
Here its functions are called; there `serve` reads requests from stdin and answers on stdout, one JSON object a line. It
lives as long as its stdin is open: when the connection ends, however it does, the worker is ended, the lock is free and
the folder is removed.

Requests, and the event that answers each (`refused`, with a `message`, where the system said no):
`file` (`name`, `size`, then so many bytes): `stored`; `clear` (removes the models): `cleared`;
`lock`: `lock` with the `holder`, empty where it is ours now; `providers`: `providers`; `run` (`worker`, `job`): the
worker's own events, then `ended` with its `status` and `last_words`. First of all comes `ready`, with `device`, `state`
and the packages that are `missing`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

NEEDED = ("numpy", "onnxruntime")
# Seconds between asking the worker to end and ending it.
GRACE_S = 5.0
# Of what the worker wrote to stderr, at most; and bytes of a file that are written at once.
LAST_WORDS, BLOCK = 500, 1 << 20
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def runtime_version() -> str:
    """ONNX Runtime's version, without importing it where the package's metadata tells."""
    try:
        return importlib.metadata.version("onnxruntime")
    except importlib.metadata.PackageNotFoundError:  # a build under another name, onnxruntime-gpu for example
        import onnxruntime

        return str(onnxruntime.__version__)


def runtime_providers() -> list[str]:
    """ONNX Runtime's execution providers here, by imports of a second."""
    import onnxruntime

    return list(onnxruntime.get_available_providers())


def describe_device() -> dict[str, Any]:
    """The fields of a `Device`: what decides a network's latency here, apart from the conditions."""
    cpu, flags = _cpu()
    return {
        "cpu": cpu,
        "flags": flags,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "onnxruntime": runtime_version(),
    }


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


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mnas` or `~/.cache/mnas`, or a temporary one where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnas"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    fallback = Path(tempfile.gettempdir()) / f"mnas-{os.getuid()}"
    with suppress(OSError):
        fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback


def lock_path() -> Path:
    """The lock file in the user's cache folder.

    The host's name is part of it, since home folders are shared between machines and devices are not.
    """
    return cache_folder() / f"latency-{platform.node() or 'device'}.lock"


def open_lock(path: Path) -> int:
    """A handle of the lock file, which is made where it is missing; raises OSError."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def try_lock(handle: int) -> str:
    """Takes the lock, which the system frees when this process ends; empty, or the process that holds it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return ""


def serve(folder: str) -> None:
    """Does what stdin asks for until it closes.

    Args:
        folder: for the files; this script lies in it. Who made it removes it.
    """
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    os.environ["TMPDIR"] = folder  # what ONNX Runtime leaves there is removed with it
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    device = None if missing else describe_device()
    _emit("ready", device=device, state=device_state(), missing=missing)
    lock: list[int] = []
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        try:
            _answer(request, folder, lock)
        except OSError as error:
            _emit("refused", message=f"{error.strerror or error} ({error.filename or request['do']})")


def _answer(request: dict[str, Any], folder: str, lock: list[int]) -> None:
    """Does one request; `lock` holds the lock file's handle once it was asked for."""
    what = request["do"]
    if what == "file":
        _store(os.path.join(folder, os.path.basename(request["name"])), request["size"])
        _emit("stored")
    elif what == "clear":
        for name in os.listdir(folder):
            if name.endswith(".onnx"):
                os.remove(os.path.join(folder, name))
        _emit("cleared")
    elif what == "lock":
        if not lock:
            lock.append(open_lock(lock_path()))
        _emit("lock", holder=try_lock(lock[0]))
    elif what == "providers":
        _emit("providers", providers=runtime_providers())
    elif what == "run":
        _run(folder, request["worker"], request["job"])


def _emit(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def _store(path: str, size: int) -> None:
    """Writes the next `size` bytes of stdin, which are read to the end even where the disk refuses them."""
    handle, refused, left = -1, None, size
    while left and (block := sys.stdin.buffer.read(min(left, BLOCK))):
        left -= len(block)
        try:
            if handle < 0:
                handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            view = memoryview(block)
            while view and refused is None:
                view = view[os.write(handle, view) :]
        except OSError as error:
            refused = OSError(error.errno, error.strerror, path)
    if handle >= 0:
        os.close(handle)
    if refused is not None:
        with suppress(OSError):
            os.remove(path)
        raise refused


def _run(folder: str, worker: str, job: dict[str, Any]) -> None:
    """A fresh worker process, whose events go out as they are; it is ended when stdin closes."""
    process = subprocess.Popen(
        [sys.executable, os.path.join(folder, worker)],
        cwd=folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    errors, last_words = process.stderr.fileno(), b""
    try:
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode())
            process.stdin.close()
        while True:
            readable, _, _ = select.select([0, errors], [], [])
            if 0 in readable:
                sys.exit(1)  # nothing is asked for while a worker runs: the connection has ended
            block = os.read(errors, 1 << 16)
            if not block:
                break
            last_words = (last_words + block)[-4 * LAST_WORDS :]
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    finally:
        _end(process)
    words = last_words.decode("utf-8", errors="replace").strip()[-LAST_WORDS:]
    _emit("ended", status=process.returncode, last_words=words)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the worker and its group."""
    for number, wait_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, None)):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
