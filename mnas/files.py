"""Files that are either whole or not there: write beside, fsync, rename, fsync the folder."""

import contextlib
import hashlib
import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from mnas.errors import RunDirectoryError


def write_bytes(path: Path, data: bytes) -> None:
    """Replaces `path` by a file with these bytes, atomically and durably.

    Raises:
        RunDirectoryError: the folder cannot be written, or the disk is full; the old file is untouched.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write {path}: {error.strerror}. Free space or choose another folder with --out."
        ) from error


def make_folder(path: Path) -> None:
    """Makes a folder and those above it.

    Raises:
        RunDirectoryError: it cannot be made, or a file is in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunDirectoryError(f"cannot make the folder {path}: {error.strerror}.") from error


def write_json(path: Path, data: Any) -> None:
    """Writes indented JSON; NaN and infinity are refused by the encoder."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def write_toml(path: Path, data: Mapping[str, Any]) -> None:
    """Writes TOML, which knows no None."""
    write_bytes(path, tomli_w.dumps(data).encode())


def read_toml(path: Path) -> dict[str, Any]:
    """Reads TOML.

    Raises:
        RunDirectoryError: missing, or not TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunDirectoryError(f"{path} is not TOML: {error}.") from error


def read_json(path: Path, *, max_bytes: int = 64 << 20) -> Any:
    """Reads JSON of at most `max_bytes`.

    Raises:
        RunDirectoryError: missing, too large, or not JSON, which knows no NaN and no infinity.
    """
    try:
        size, data = path.stat().st_size, b""
        if size <= max_bytes:
            data = path.read_bytes()
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror}.") from error
    if size > max_bytes:
        raise RunDirectoryError(f"{path} is larger than {max_bytes} bytes, which no file of ours is.")
    try:
        return json.loads(data, parse_constant=_refuse)
    except ValueError as error:
        raise RunDirectoryError(f"{path} is damaged: not JSON ({error}).") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
