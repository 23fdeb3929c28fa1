"""What it means when `ssh`, or the system at its other end, fails: one sentence each, with what to do."""

from mnas.errors import MeasurementError
from mnas.latency.address import Address

# Characters of what was said that are shown at most, where nothing is known of it.
SHOWN = 500
# What ssh says, what that means, and what mends it ({by_hand} connects in a terminal). Whatever of `_PASSING` it says
# may have passed a moment later.
_REASONS = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "its host key is not the one in known_hosts: {by_hand} says more",
    ),
    (
        "Host key verification failed",
        "its host key is not known. Connect once by hand and compare its fingerprint: {by_hand}",
    ),
    (
        ": Permission denied (",
        "it accepts none of your keys. Install one there with ssh-copy-id, or load it with ssh-add; "
        "{by_hand} must work without a question",
    ),
    ("Could not resolve hostname", "there is no host of that name"),
    ("Connection refused", "no ssh server listens at that port"),
    ("No route to host", "there is no route to it: is it switched on and in this network?"),
    ("Network is unreachable", "this machine has no network that leads to it"),
    ("No space left on device", "the disk there is full: free space in its folder for temporary files"),
    (
        "No usable temporary directory",
        "no folder for temporary files there can be written: free space, or set TMPDIR",
    ),
    ("Read-only file system", "its folder for temporary files cannot be written: set TMPDIR there"),
    ("SyntaxError", "its Python is older than 3.9: name another with ?python=PATH"),
)
_PASSING = (
    "timed out",
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "closed by remote host",
    "not responding",
)
_NO_PYTHON = 127  # a shell's status where a program is not found; POSIX, 2.8.2


class LostConnectionError(MeasurementError):
    """A connection that ended by itself: worth another try."""


def failure(address: Address, status: int | None, said: str) -> MeasurementError:
    """The error of an `ssh` that ended: what happened, and what to do.

    Args:
        address: where to.
        status: of ssh: 255 is its own failure, any other the remote command's.
        said: on stderr.
    """
    if status == _NO_PYTHON:
        return MeasurementError(
            f"{address}: there is no {address.python!r} there. Name the Python that has numpy and onnxruntime: "
            f"{address}?python=venv/bin/python"
        )
    known = any(sign in said for sign, _ in _REASONS)
    if not known and (any(sign in said for sign in _PASSING) or status in (None, 255) or status < 0):
        return LostConnectionError(
            f"the connection to {address} was lost{f' ({_last_line(said)})' if said else ''}."
        )
    return MeasurementError(explained(address, said or f"the agent there ended with status {status}"))


def explained(address: Address, said: str) -> str:
    """In words, what went wrong at an address, from what ssh, the agent or the system there said."""
    for sign, meaning in _REASONS:
        if sign in said:
            return f"{address}: {meaning.format(by_hand=address.by_hand)} ({_last_line(said)})."
    return f"{address}: {said[-SHOWN:]}"


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1].strip().rstrip(".")
