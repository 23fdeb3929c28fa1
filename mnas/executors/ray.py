"""Workers that are actors of a Ray cluster: one that is running, or one on this machine for this search alone.

Ray can run anything for whoever reaches it (CVE-2023-48022), so a cluster takes part only where it asks for a token.
"""

import importlib.util
import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from queue import SimpleQueue
from typing import Any

from mnas.env import python_path
from mnas.errors import InputError, SearchError
from mnas.executors.dispatch import Lost
from mnas.executors.placing import Place
from mnas.executors.worker import serve

LOOPBACK = "127.0.0.1"
# Of Ray's object store, of which nothing is used here; it takes no less (ray 2.60: 75 MiB).
_STORE_BYTES = 100 * 1024**2
# Says `in` where a cluster lets in who has no token.
_PROBE = (
    "import sys; from ray._raylet import GcsClient; "
    "GcsClient(address=sys.argv[1]).internal_kv_get(b'mnas', None, timeout=10); print('in')"
)
_PROBE_S, _ANSWER_S = 60.0, 10.0
_REFUSED = ("Unauthenticated", "InvalidAuthToken", "AuthenticationError")
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


class Trainer:
    """An actor: a worker of `worker.py` in a thread, its lines carried by calls. It takes and gives JSON text alone."""

    def __init__(self, setup: str) -> None:
        self._inbox: SimpleQueue[str | None] = SimpleQueue()
        self._outbox: SimpleQueue[str | None] = SimpleQueue()
        self._inbox.put(setup)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        try:
            serve(self._inbox.get, self._outbox.put)
        finally:
            self._outbox.put(None)

    def tell(self, line: str) -> None:
        """A line for it."""
        self._inbox.put(line)

    def next(self) -> str | None:
        """Its next line, once there is one; None where no more will come."""
        return self._outbox.get()


@dataclass(slots=True)
class RayCrew:
    """A `Crew` of Ray actors. Ray is started, or connected to, when the first worker is.

    Args:
        setup: what `worker.py` describes, without the cores.
        places: what each worker on this machine has to itself; on another cluster only their number counts.
        threads: of torch in each worker, for which Ray is asked for as many cores.
        gpus: whether each worker is to have a GPU.
        address: of a running cluster, `host:port` or `auto`; None is one of our own.
    """

    setup: Mapping[str, Any]
    places: Sequence[Place]
    threads: int
    gpus: bool
    address: str | None = None
    _ray: Any = None
    _actors: dict[int, Any] = field(default_factory=dict)
    _asked: dict[Any, int] = field(default_factory=dict)  # the call of `next` that each place has open
    _environment: dict[str, str | None] = field(default_factory=dict)

    def start(self, place: int) -> None:
        """A new actor; where the cluster has no room for it, it comes later."""
        if self._ray is None:
            self._connect()
        cores = self.places[place].cores if self.address is None else None
        options = {
            "num_cpus": self.threads,
            "num_gpus": int(self.gpus),
            "max_restarts": 0,
            "max_concurrency": 3,
        }
        made = self._ray.remote(**options)(Trainer)
        self._actors[place] = made.remote(json.dumps({**self.setup, "cores": cores}))
        self._ask(place)

    def _ask(self, place: int) -> None:
        self._asked[self._actors[place].next.remote()] = place

    def tell(self, place: int, message: Mapping[str, Any]) -> None:
        """A call of `tell`."""
        self._actors[place].tell.remote(json.dumps(message))

    def hear(self, wait_s: float) -> list[tuple[int, Mapping[str, Any] | Lost]]:
        """Answers of `next`; an error there is a lost worker."""
        heard: list[tuple[int, Mapping[str, Any] | Lost]] = []
        ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=wait_s)
        if ready:
            ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for call in ready:
            place = self._asked.pop(call)
            try:
                line = self._ray.get(call)
            except self._ray.exceptions.RayError as error:
                line = None
                reason = " ".join(str(error).split())
                heard.append((place, Lost(f"was lost ({type(error).__name__}: {reason:.300})")))
            else:
                heard.append((place, Lost("stopped") if line is None else json.loads(line)))
            if line is None:
                self.end(place)
            else:
                self._ask(place)
        return heard

    def end(self, place: int) -> None:
        """Kills the actor's process."""
        actor = self._actors.pop(place, None)
        if actor is None:
            return
        self._asked = {call: other for call, other in self._asked.items() if other != place}
        self._ray.kill(actor)

    def close(self) -> None:
        """Kills the actors and leaves the cluster, which ends if it is our own."""
        if self._ray is None:
            return
        for place in list(self._actors):
            self.end(place)
        self._ray.shutdown()
        self._ray = None
        self._restore()

    def _connect(self) -> None:
        """Starts Ray, or connects to the cluster.

        Raises:
            InputError: no cluster, no token, or a cluster that asks for none.
        """
        settings = {
            "RAY_AUTH_MODE": "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": python_path(),  # for the workers of a cluster of our own
        }
        if self.address is None:
            # Without the second, which is about other systems' firewalls, Ray listens on every address of the machine.
            settings |= {"RAY_AUTH_TOKEN": _own_token(), "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        self._environment = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            ray = _import_ray()
            self._begin(ray)
            self._ray = ray
        finally:
            if self._ray is None:
                self._restore()

    def _begin(self, ray: Any) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address is None:
            count = len(self.places)
            context = ray.init(
                address="local",
                num_cpus=count * self.threads,
                num_gpus=count if self.gpus else 0,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _node_ip_address=LOOPBACK,
                **quiet,
            )
            if context.address_info["node_ip_address"] != LOOPBACK:
                ray.shutdown()
                raise SearchError(
                    "this version of Ray does not stay on this machine; give a cluster's --address."
                )
            return
        _check_answers(self.address)
        try:
            context = ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"cannot connect to a Ray cluster at {self.address}: {reason:.300} Give the address of its head, "
                f"host:port, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token."
            ) from error
        try:
            _check_token_is_wanted(context.address_info["gcs_address"], self.address)
        except InputError:
            ray.shutdown()
            raise

    def _restore(self) -> None:
        for name, value in self._environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def check_ray() -> None:
    """Raises InputError where Ray is not installed, without importing it."""
    if importlib.util.find_spec("ray") is None:
        raise InputError("--executor ray needs Ray: pip install 'mnas[ray]'.")


@cache
def _own_token() -> str:
    """Of clusters of our own; Ray reads it once for a process."""
    return secrets.token_hex(32)


@cache
def _import_ray() -> Any:
    """The package, which reads at its import whether it asks for tokens and where it listens.

    Raises:
        InputError: it was imported before that was set.
    """
    if "ray" in sys.modules:
        raise InputError(
            "Ray was imported before the search; begin the search where nothing has imported ray."
        )
    import ray
    import ray.exceptions

    return ray


def _check_answers(address: str) -> None:
    """Refuses an address where nothing listens; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # `auto`
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except OSError as error:
        raise InputError(f"nothing answers at {address}, where a Ray cluster is to be: {error}.") from error


def _check_token_is_wanted(gcs: str, address: str) -> None:
    """Refuses a cluster that lets in who has no token."""
    environment = {name: value for name, value in os.environ.items() if name not in _TOKENS}
    try:
        tried = subprocess.run(
            [sys.executable, "-P", "-c", _PROBE, gcs],
            env={**environment, "RAY_AUTH_MODE": "disabled", "HOME": os.devnull},
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
        )
    except subprocess.TimeoutExpired:
        raise InputError(f"the Ray cluster at {address} did not say whether it asks for a token.") from None
    if "in" in tried.stdout.split():
        raise InputError(
            f"the Ray cluster at {address} runs code for whoever reaches it, without a token. Make one with `ray "
            f"get-auth-token --generate`, give it to every machine, and start Ray there with RAY_AUTH_MODE=token."
        )
    if not any(word in tried.stderr for word in _REFUSED):
        raise InputError(
            f"the Ray cluster at {address} did not say whether it asks for a token: {tried.stderr.strip()[-300:]}"
        )
