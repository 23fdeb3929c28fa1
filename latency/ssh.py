"""Another device over OpenSSH: the system's own `ssh`, with the user's keys, known hosts and configuration.

One connection for one measurement. It starts `agent.py` there, which is sent over it, as are `worker.py` and the
models; nothing is installed, nothing listens. When the connection ends, the agent ends the worker, frees the device's
lock and removes its folder.
"""

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mnas.errors import MeasurementError
from mnas.latency import agent
from mnas.latency.address import Address
from mnas.latency.child import SILENCE_S, WORKER, Child, Event, OnEvent, died, gather, hung, parse_event
from mnas.latency.device import Device
from mnas.latency.lock import POLL_THERE_S, WAIT_S, wait_for_lock
from mnas.latency.ssh_failures import LostConnectionError, explained, failure

# Seconds: for a connection; between signs of life, of which so many may fail; for the agent to say that it is there;
# for it to end by itself (chosen here: a network that is away for longer than a quarter of a minute is gone).
CONNECT_S, ALIVE_S, ALIVE_COUNT, READY_S, END_S = 10, 5, 3, 60.0, 5.0
# Seconds before a lost connection is tried again, and again (chosen here: a reboot of a router, not of a device).
PAUSES_S = (2.0, 10.0)
# Characters of what ssh said that are looked at (a changed host key is a long story).
SAID = 4000
# Makes a folder there that its end removes, puts the agent into it from stdin, and starts it. One line, and quoted as
# a whole, so that it means the same to every login shell.
_BOOT = ";".join(
    (
        "import atexit,os,shutil,sys,tempfile",
        "folder=tempfile.mkdtemp(prefix='mnas-')",
        "atexit.register(shutil.rmtree,folder,True)",
        "file=open(os.path.join(folder,'agent.py'),'wb')",
        "file.write(sys.stdin.buffer.read(int(sys.argv[1])))",
        "file.close()",
        "sys.path.insert(0,folder)",
        "import agent",
        "agent.serve(folder)",
    )
)
T = TypeVar("T")


class SshHost:
    """Another device. It is first connected to when something of it is asked for.

    Args:
        address: where it is.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        self._device: Device | None = None
        self._state: Mapping[str, Any] = {}
        self._providers: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """As `Host`."""
        return self.device.describe()

    @property
    def device(self) -> Device:
        """As `Host`."""
        if self._device is None:
            self._once(lambda connection: None)
        assert self._device is not None
        return self._device

    @property
    def state(self) -> Mapping[str, Any]:
        """As `Host`."""
        if not self._state:
            self._once(lambda connection: None)
        return self._state

    @property
    def providers(self) -> Sequence[str]:
        """As `Host`."""
        if not self._providers:
            self._providers = tuple(self._once(lambda connection: connection.ask("providers")["providers"]))
        return self._providers

    @contextmanager
    def open(self, say: Callable[[str], None]) -> Iterator["_There"]:
        """As `Host`."""
        there = _There(self, say)
        try:
            yield there
        finally:
            there.close()

    def connect(self) -> "_Connection":
        """A new connection, to the same device as before.

        Raises:
            MeasurementError: it cannot be reached, lacks what is needed, or is another device than before.
        """
        connection = _Connection(self.address)
        try:
            ready = connection.greet()
            device = Device.from_dict(ready["device"])
            if self._device not in (None, device):
                raise MeasurementError(
                    f"at {self.address} there is another device now, or another ONNX Runtime: {device}, and before it "
                    f"was {self._device}. Figures of two devices are not mixed: begin again."
                )
        except BaseException:
            connection.close()
            raise
        self._device, self._state = device, ready["state"]
        return connection

    def _once(self, action: Callable[["_Connection"], T]) -> T:
        """Connects for one question."""

        def attempt() -> T:
            connection = self.connect()
            try:
                return action(connection)
            finally:
                connection.close()

        return _persist(attempt, lambda text: None)


class _There:
    """A `Workplace` on another device; what was placed is sent again where a connection was lost."""

    def __init__(self, host: SshHost, say: Callable[[str], None]) -> None:
        self._host, self._say = host, say
        self._connection: _Connection | None = None
        self._files: Sequence[Path] = ()
        self._sent = False

    def place(self, files: Sequence[Path]) -> list[str]:
        """As `Workplace`."""
        self._files, self._sent = files, False
        self._try(lambda connection: None)
        return [path.name for path in files]

    def run(self, job: Mapping[str, Any], on_event: OnEvent) -> list[Event]:
        """As `Workplace`."""
        return self._try(lambda connection: connection.run(job, on_event))

    def close(self) -> None:
        """Ends the connection, and with it what is there."""
        if self._connection is not None:
            connection, self._connection, self._sent = self._connection, None, False
            connection.close()

    def _try(self, action: Callable[["_Connection"], T]) -> T:
        def attempt() -> T:
            try:
                return action(self._ready())
            except BaseException:
                self.close()
                raise

        return _persist(attempt, self._say)

    def _ready(self) -> "_Connection":
        """A connection with the lock held and every file there."""
        if self._connection is None:
            connection = self._connection = self._host.connect()
            wait_for_lock(
                lambda: str(connection.ask("lock")["holder"]),
                wait_s=WAIT_S,
                poll_s=POLL_THERE_S,
                on_wait=self._say,
                where=self._host.name,
            )
            connection.send(WORKER)
        if not self._sent:
            self._connection.ask("clear")
            for number, path in enumerate(self._files, 1):
                self._say(f"copying network {number} of {len(self._files)}")
                self._connection.send(path)
            self._sent = True
        return self._connection


class _Connection:
    """One `ssh` and the agent at its other end."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._source = Path(agent.__file__).read_bytes()
        try:
            self._child = Child(ssh_command(address, len(self._source)), os.environ | {"LC_ALL": "C"})
        except FileNotFoundError as error:
            raise MeasurementError(
                "there is no program `ssh` here. Install OpenSSH's client: apt-get install openssh-client, for example."
            ) from error

    def greet(self) -> Event:
        """Starts the agent and returns what it says of its device.

        Raises:
            MeasurementError: no connection, no Python, no place, or a package is missing.
        """
        self._child.send(self._source)
        ready: Event = {}
        while ready.get("event") != "ready":  # login scripts may print, too
            ready = self._answer(READY_S)
        if missing := ready["missing"]:
            raise MeasurementError(
                f"{self.address}: {self.address.python} there has no {' and no '.join(missing)}. Install it there: "
                f"{self.address.python} -m pip install {' '.join(missing)}; or name a Python that has it: "
                f"{self.address}?python=venv/bin/python"
            )
        return ready

    def ask(self, what: str, **fields: Any) -> Event:
        """A request and its answer; raises MeasurementError where it is refused, or the connection was lost."""
        self._child.send(json.dumps({"do": what, **fields}).encode() + b"\n")
        return self._answer(SILENCE_S)

    def send(self, path: Path) -> None:
        """Copies a file into the agent's folder, under its own name; raises as `ask`."""
        self._child.send(
            json.dumps({"do": "file", "name": path.name, "size": path.stat().st_size}).encode() + b"\n"
        )
        with path.open("rb") as file:
            while block := file.read(agent.BLOCK):
                self._child.send(block)
        self._answer(SILENCE_S)

    def run(self, job: Mapping[str, Any], on_event: OnEvent) -> list[Event]:
        """As `Workplace.run`, without another try."""
        self._child.send(json.dumps({"do": "run", "worker": WORKER.name, "job": job}).encode() + b"\n")

        def next_event(doing: str) -> Event:
            try:
                line = self._line(SILENCE_S)
            except TimeoutError:
                raise hung(SILENCE_S, doing, "") from None
            told = self._accepted(_event(line))
            if told.get("event") == "ended":
                raise died(told["status"], doing, told["last_words"])
            return parse_event(line)

        events = gather(next_event, on_event)
        self._answer(SILENCE_S)
        return events

    def close(self) -> None:
        """Closes its input, upon which the agent cleans up and ends; where it does not, ssh is ended."""
        self._child.end(END_S)

    def _line(self, wait_s: float) -> str:
        """The next line; raises TimeoutError, and where there is no more the reason for that."""
        line = self._child.line(wait_s)
        if line is None:
            raise failure(self.address, self._child.status(), self._child.last_words(SAID))
        return line

    def _answer(self, wait_s: float) -> Event:
        """The next event of the agent."""
        try:
            event = _event(self._line(wait_s))
        except TimeoutError:
            raise LostConnectionError(f"{self.address} did not answer within {wait_s:.0f} s.") from None
        return self._accepted(event)

    def _accepted(self, event: Event) -> Event:
        if event.get("event") == "refused":
            raise MeasurementError(explained(self.address, str(event["message"])))
        return event


def ssh_command(address: Address, size: int) -> list[str]:
    """The program and its arguments that start an agent of `size` bytes, which is then to be written to it.

    Nothing is asked in a terminal, nothing is forwarded; keys, known hosts and the rest are the user's.
    """
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": CONNECT_S,
        "ServerAliveInterval": ALIVE_S,
        "ServerAliveCountMax": ALIVE_COUNT,
        "ClearAllForwardings": "yes",
        "RemoteCommand": "none",
    }
    command = ["ssh", "-T", "-a", "-x"]
    for name, value in options.items():
        command += ["-o", f"{name}={value}"]
    if address.port is not None:
        command += ["-p", str(address.port)]
    return [
        *command,
        "--",
        address.destination,
        f"{shlex.quote(address.python)} -c {shlex.quote(_BOOT)} {size}",
    ]


def _event(line: str) -> Event:
    """The JSON object of a line; an empty one where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _persist(attempt: Callable[[], T], say: Callable[[str], None]) -> T:
    """Tries again, after a pause, where the connection was lost."""
    for pause_s in PAUSES_S:
        try:
            return attempt()
        except LostConnectionError as error:
            say(f"{error} Trying again in {pause_s:.0f} s")
            time.sleep(pause_s)
    return attempt()
