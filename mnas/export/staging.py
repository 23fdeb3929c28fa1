"""Files that are written aside, checked there, and moved to their place whole."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mnas.errors import RunDirectoryError


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path`, removed at the end with whatever is still in it.

    Raises:
        RunDirectoryError: the folder of `path` cannot be written.
    """
    with explained(path):
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put(path: Path, data: bytes) -> None:
    """Writes a file of a staging folder, durably.

    Raises:
        RunDirectoryError: the disk is full.
    """
    with explained(path), path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
        os.fchmod(file.fileno(), 0o644)


def move(staged: Path, target: Path) -> None:
    """Puts a staged file in the place of `target`, atomically and durably.

    Raises:
        RunDirectoryError: the target cannot be replaced.
    """
    with explained(target):
        os.replace(staged, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the system says when `path` cannot be written into one message.

    Raises:
        RunDirectoryError: an OSError was raised inside.
    """
    try:
        yield
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write {path}: {error.strerror}. Free space or choose another folder with --out."
        ) from error
