"""Where networks are timed: this machine, or another device over ssh."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from mnas.errors import InputError
from mnas.latency.address import EXAMPLE, parse_address
from mnas.latency.agent import device_state, runtime_providers
from mnas.latency.child import Event, OnEvent, run_worker
from mnas.latency.conditions import CPU, Conditions
from mnas.latency.device import Device, this_device
from mnas.latency.lock import device_lock
from mnas.latency.ssh import SshHost

Say = Callable[[str], None]
LOCAL_NAME = "local"


class Workplace(Protocol):
    """A host's lock and a folder of models on it, while one measurement lasts."""

    def place(self, files: Sequence[Path]) -> list[str]:
        """Makes these models, and none before them, readable there: their paths as the worker there sees them."""
        ...

    def run(self, job: Mapping[str, Any], on_event: OnEvent) -> list[Event]:
        """A job in a fresh worker process there; events and errors as `child.run_worker`.

        Where it had to begin again, a second `start` event says so.
        """
        ...


class Host(Protocol):
    """Where networks are timed."""

    @property
    def name(self) -> str:
        """For sentences: `this device`, or what the other one is."""
        ...

    @property
    def device(self) -> Device:
        """What it is.

        Raises:
            MeasurementError: it cannot be reached, or lacks what a measurement needs.
        """
        ...

    @property
    def providers(self) -> Sequence[str]:
        """ONNX Runtime's execution providers there; raises as `device`."""
        ...

    @property
    def state(self) -> Mapping[str, Any]:
        """See `agent.device_state`; of another device, as of the last connection. Raises as `device`."""
        ...

    def open(self, say: Say) -> AbstractContextManager[Workplace]:
        """Holds its lock, and a folder there that is removed in any case.

        Args:
            say: told, in words, of a wait.

        Raises:
            MeasurementError: another process holds the lock for too long; also as `device`.
        """
        ...


class LocalHost:
    """This machine."""

    name = "this device"

    @property
    def device(self) -> Device:
        """As `Host`."""
        return this_device()

    @property
    def providers(self) -> Sequence[str]:
        """As `Host`."""
        return runtime_providers()

    @property
    def state(self) -> Mapping[str, Any]:
        """As `Host`."""
        return device_state()

    @contextmanager
    def open(self, say: Say) -> Iterator[Workplace]:
        """As `Host`."""
        with device_lock(on_wait=say):
            yield _Here()


class _Here:
    """Models are timed where they lie."""

    def place(self, files: Sequence[Path]) -> list[str]:
        """As `Workplace`."""
        return [str(path) for path in files]

    def run(self, job: Mapping[str, Any], on_event: OnEvent) -> list[Event]:
        """As `Workplace`."""
        return run_worker(job, on_event=on_event)


LOCAL: Host = LocalHost()


def parse_host(text: str) -> Host:
    """The host of a `--device` flag; nothing is connected yet.

    Args:
        text: `local`, or `ssh://[user@]host[:port][?python=PATH]`; what is left out is as in your ssh configuration.

    Raises:
        InputError: neither.
    """
    if text == LOCAL_NAME:
        return LOCAL
    if not text.startswith("ssh:"):
        raise InputError(f"a device is {LOCAL_NAME!r} or an address, {EXAMPLE} for example; got {text!r}.")
    return SshHost(parse_address(text))


def describe_conditions(conditions: Conditions, host: Host) -> str:
    """The conditions with the host's ONNX Runtime; and the host, where that is not this device."""
    there = "" if host is LOCAL else f"; {host.device.describe()}"
    return f"{conditions.describe(host.device)}{there}"


def check_conditions(conditions: Conditions, host: Host) -> None:
    """Refuses conditions that a host does not offer.

    Raises:
        InputError: more threads than cores, or a provider that is not installed; both are named.
        MeasurementError: the host cannot be reached, or lacks what a measurement needs.
    """
    problems, cores = [], host.device.cores
    if conditions.threads > cores:
        problems.append(f"threads must lie between 1 and the {cores} usable cores, got {conditions.threads}")
    if conditions.provider != CPU and conditions.provider not in (known := host.providers):
        problems.append(f"provider must be one of {', '.join(known)}, got {conditions.provider!r}")
    if problems:
        raise InputError(f"conditions of a latency on {host.name}: {'; '.join(problems)}.")
