"""The trial store: an append-only table of events in SQLite, from which every state is read.

WAL with synchronous=FULL: what `commit` has returned from survives a kill and a power cut. A row is one whole
event, so a search cut off between two commits loses at most what was not yet acknowledged.
"""

import contextlib
import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from mnas.errors import RunDirectoryError

SCHEMA = 1
APPLICATION_ID = 0x6D6E6173  # "mnas" in ASCII
EventKind = Literal[
    "asked",
    "rung",
    "result",
    "told",
    "predictor",
    "steps",
    "reference",
    "refit",
    "finalists",
    "trained",
    "rank",
    "timed",
    "point",
    "images",
    "finished",
]

_CREATE = """
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time REAL NOT NULL,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One row: its number, seconds since the epoch, kind, and JSON object."""

    number: int
    time: float
    kind: EventKind
    payload: Mapping[str, Any]


class EventStore:
    """Events of one run; one process writes, any may read.

    `append` collects, `commit` makes durable. Closing without a commit drops what was not committed.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.last_commit = time.monotonic()

    @classmethod
    def create(cls, path: Path) -> Self:
        """A new, empty store.

        Raises:
            RunDirectoryError: the file exists or cannot be written.
        """
        if path.exists():
            raise RunDirectoryError(f"{path} exists already.")
        with _clear(path, "created"):
            connection = cls._connect(path)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            connection.execute(_CREATE)
            connection.commit()
        return cls(connection, path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """An existing store, checked.

        Raises:
            RunDirectoryError: missing, damaged, or of another version.
        """
        if not path.is_file():
            raise RunDirectoryError(f"the store {path} is missing; this run cannot be read.")
        with _clear(path, "read"):
            connection = cls._connect(path)
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID or version != SCHEMA:
            connection.close()
            raise RunDirectoryError(
                f"the store {path} has schema {version}; this version of mnas reads schema {SCHEMA}. "
                f"Open the run with the version named in its env.json."
            )
        return cls(connection, path)

    @staticmethod
    def _connect(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=5.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def append(self, kind: EventKind, payloads: Sequence[Mapping[str, Any]]) -> None:
        """Adds events of one kind to the open transaction; NaN and infinity are refused.

        Raises:
            RunDirectoryError: the disk is full or cannot be written.
        """
        rows = [(time.time(), kind, json.dumps(payload, allow_nan=False)) for payload in payloads]
        with _clear(self._path, "written"):
            self._connection.executemany("INSERT INTO events (time, kind, payload) VALUES (?, ?, ?)", rows)

    def commit(self) -> None:
        """Makes everything appended durable; returns after it is on disk.

        Raises:
            RunDirectoryError: the disk is full or cannot be written; the earlier commits stand.
        """
        with _clear(self._path, "written"):
            self._connection.commit()
        self.last_commit = time.monotonic()

    def events(self) -> Iterator[Event]:
        """All events in order.

        Raises:
            RunDirectoryError: a row that cannot be read.
        """
        with _clear(self._path, "read"):
            for number, moment, kind, payload in self._connection.execute(
                "SELECT number, time, kind, payload FROM events ORDER BY number"
            ):
                yield Event(number, moment, kind, json.loads(payload))

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


@contextlib.contextmanager
def _clear(path: Path, verb: str) -> Iterator[None]:
    """Turns what SQLite and JSON raise into one message that says what to do."""
    try:
        yield
    except (sqlite3.OperationalError, OSError) as error:
        raise RunDirectoryError(
            f"the store {path} could not be {verb}: {error}. What was committed before is kept; "
            f"mend the cause (disk space, permissions) and run: mnas resume {path.parent}"
        ) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise RunDirectoryError(
            f"the store {path} is damaged ({error}). Restore it from a copy, or begin a new run with --out."
        ) from error
