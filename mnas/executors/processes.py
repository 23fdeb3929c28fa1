"""Workers that are processes of this machine, one for each GPU or each set of cores."""

import json
import os
import queue
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mnas.env import python_path
from mnas.executors.dispatch import Lost
from mnas.executors.placing import Place
from mnas.latency.child import Child, how_ended


@dataclass(slots=True)
class Processes:
    """A `Crew` of processes, each in a session of its own; they end with this one, however it ends.

    Args:
        setup: what `worker.py` describes, without the cores.
        places: what each worker has to itself.
    """

    setup: Mapping[str, Any]
    places: Sequence[Place]
    _children: dict[int, Child] = field(default_factory=dict)
    _said: "queue.SimpleQueue[tuple[int, Child, str]]" = field(default_factory=queue.SimpleQueue)

    def start(self, place: int) -> None:
        """A new process."""
        own = self.places[place]
        environment = {**os.environ, **own.environment, "PYTHONPATH": python_path()}
        command = [sys.executable, "-P", "-m", "mnas.executors.worker"]
        child = Child(command, environment, partial(self._hand_on, place))
        child.ends_first()
        self._children[place] = child
        self.tell(place, {**self.setup, "cores": own.cores})

    def _hand_on(self, place: int, child: Child, line: str) -> None:
        self._said.put((place, child, line))

    def tell(self, place: int, message: Mapping[str, Any]) -> None:
        """A line to its stdin."""
        self._children[place].send(json.dumps(message).encode() + b"\n")

    def hear(self, wait_s: float) -> list[tuple[int, Mapping[str, Any] | Lost]]:
        """Lines of stdout; the end of them is a lost worker."""
        heard: list[tuple[int, Mapping[str, Any] | Lost]] = []
        try:
            said = [self._said.get(timeout=wait_s)]
            while not self._said.empty():
                said.append(self._said.get_nowait())
        except queue.Empty:
            return heard
        for place, child, line in said:
            if self._children.get(place) is not child:
                continue  # it was ended
            message = _message(line) if line else Lost(_end_of(child))
            heard.append((place, message))
            if isinstance(message, Lost):
                self.end(place)
        return heard

    def end(self, place: int) -> None:
        """TERM to its process group, then KILL."""
        child = self._children.pop(place, None)
        if child is not None:
            child.end()

    def close(self) -> None:
        """Their inputs end together; those that do not end by themselves are ended."""
        children = list(self._children.values())
        self._children.clear()
        for child in children:
            child.close_input()
        for child in children:
            child.end()


def _message(line: str) -> Mapping[str, Any] | Lost:
    """What a line says; a start-up file of the user's Python that prints makes a worker useless."""
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else Lost(f"wrote {line[:100]!r} where an answer belongs")


def _end_of(child: Child) -> str:
    """How a worker ended, with its last words."""
    status, words = child.status(), child.last_words()
    hint = ", out of memory or by someone" if status == -signal.SIGKILL else ""
    return f"{how_ended(status)}{hint}{f' ({words})' if words else ''}"
