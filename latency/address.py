"""The address of a device, as a person types it."""

import re
from dataclasses import dataclass

from mnas.errors import InputError

EXAMPLE = "ssh://pi@raspberry:22"
PYTHON = "python3"
_ADDRESS = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@)?"
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?\])"
    r"(?::(?P<port>[0-9]{1,5}))?(?:\?python=(?P<python>[A-Za-z0-9_./+][A-Za-z0-9_./+-]*))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a device is; what is None is as in the user's ssh configuration.

    Args:
        host: a name, an alias of the configuration, or an IP address.
        user: there.
        port: 1 to 65535.
        python: the program that runs the worker; a path without a leading `/` begins in the home folder there.
    """

    host: str
    user: str | None = None
    port: int | None = None
    python: str = PYTHON

    @property
    def destination(self) -> str:
        """As `ssh` takes it."""
        return self.host if self.user is None else f"{self.user}@{self.host}"

    @property
    def by_hand(self) -> str:
        """What to type to connect in a terminal."""
        return f"ssh {'' if self.port is None else f'-p {self.port} '}{self.destination}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = "" if self.user is None else f"{self.user}@"
        return f"ssh://{user}{host}{'' if self.port is None else f':{self.port}'}"


def parse_address(text: str) -> Address:
    """The address of a device.

    Args:
        text: `ssh://[user@]host[:port][?python=PATH]`, in plain letters, digits and `._-` (PATH also `/+`).

    Raises:
        InputError: anything else: a password, a path, a space, a name that begins with `-`, a port out of range.

    >>> parse_address("ssh://pi@board:2222").by_hand
    'ssh -p 2222 pi@board'
    """
    found = _ADDRESS.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 1 <= port <= 65535):
        raise InputError(
            f"expected an address ssh://user@host:port, {EXAMPLE} for example, with no password (ssh's keys are used), "
            f"no path, and a port of 1 to 65535; ?python=venv/bin/python may follow. Got {text!r}."
        )
    return Address(found["host"].strip("[]"), found["user"], port, found["python"] or PYTHON)
