"""A run directory: its names, its lock, and what may be written into it."""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Any

from mnas.errors import RunDirectoryError
from mnas.files import read_toml, write_bytes, write_toml

FORMAT = 1
# What runs and searches for coefficients lie in where no folder was named.
DEFAULT_FOLDERS = ("runs", "scalings")
# With the label of a target where there are several.
_OUTPUT = re.compile(r"(baseline|scaled)(-[0-9.+][0-9A-Za-zµ.+-]*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The files of a network that a search ends with; `label` is the target's where it has several, else empty."""

    folder: Path
    label: str = ""

    baseline = property(lambda self: self._file("baseline", "json"))
    weights = property(lambda self: self._file("baseline", "safetensors"))
    onnx = property(lambda self: self._file("baseline", "onnx"))
    scaled = property(lambda self: self._file("scaled", "json"))
    scaled_onnx = property(lambda self: self._file("scaled", "onnx"))

    def _file(self, name: str, suffix: str) -> Path:
        return self.folder / f"{name}{self.label and f'-{self.label}'}.{suffix}"


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The files of one run; `path` is absolute."""

    path: Path

    config = property(lambda self: self.path / "config.toml")
    space = property(lambda self: self.path / "space.toml")
    environment = property(lambda self: self.path / "env.json")
    trials = property(lambda self: self.path / "trials.db")
    calibration = property(lambda self: self.path / "calibration.json")
    finalists = property(lambda self: self.path / "finalists.json")
    finals = property(lambda self: self.path / "finals")
    supernet = property(lambda self: self.path / "supernet")
    result = property(lambda self: self.path / "result.json")
    family = property(lambda self: self.path / "family.json")
    family_folder = property(lambda self: self.path / "family")
    report = property(lambda self: self.path / "report.html")

    def outputs(self, label: str = "") -> Outputs:
        """Of the target with this label."""
        return Outputs(self.path, label)

    def networks(self) -> list[Path]:
        """The JSON files of baselines and of what was grown from them, as far as they are there."""
        found = (file for name in ("baseline", "scaled") for file in sorted(self.path.glob(f"{name}*.json")))
        return [file for file in found if _OUTPUT.fullmatch(file.stem)]

    @classmethod
    def create(cls, out: Path | None, *, resume: str = "mnas resume") -> "RunDirectory":
        """A new, empty run directory; `runs/<date>-<n>` where `out` is None.

        Args:
            out: where.
            resume: the command that goes on with one that is there.

        Raises:
            RunDirectoryError: it exists and is not empty, or cannot be made.
        """
        path = (out if out is not None else _next_free(Path(DEFAULT_FOLDERS[0]))).absolute()
        if _NAME.fullmatch(path.name) is None:
            raise RunDirectoryError(
                f"{path.name!r} is no name for a run: letters, digits, '.', '_' and '-', at most 64, "
                f"beginning with a letter or digit."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise RunDirectoryError(
                    f"{path} exists and is not empty. Continue it with: {resume} {path} "
                    f"- or choose another folder with --out."
                )
            probe = path / ".write-test"
            probe.touch()
            probe.unlink()
        except FileExistsError as error:
            raise RunDirectoryError(f"{path} is a file; choose another folder with --out.") from error
        except OSError as error:
            if isinstance(error, RunDirectoryError):
                raise
            raise RunDirectoryError(
                f"cannot write to {path}: {error.strerror}. Choose a folder you may write to with --out."
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDirectory":
        """An existing run directory.

        Raises:
            RunDirectoryError: it is not there, or not a run of this version.
        """
        run = cls(path.absolute())
        if not run.config.is_file():
            raise RunDirectoryError(f"{path} is not a run directory: it has no config.toml.")
        found = run.read_config().get("format")
        if found != FORMAT:
            raise RunDirectoryError(
                f"{path} was written in run format {found!r}; this version of mnas reads format {FORMAT}. "
                f"Open it with the version named in its env.json."
            )
        return run

    @property
    def is_prepared(self) -> bool:
        """Whether an accuracy model has left something that a resumed search goes on from."""
        return self.supernet.is_dir() and any(self.supernet.iterdir())

    def discard(self) -> None:
        """Removes what a run that never began has left; anything that is not ours stays."""
        with contextlib.suppress(OSError):
            self.supernet.rmdir()
        discard_folder(self.path, (self.config, self.space, self.environment, self.calibration), self.trials)

    def keep_space(self, file: Path) -> None:
        """Copies the file of the user's own space, so that a resumed run searches the same.

        Raises:
            RunDirectoryError: it cannot be read.
        """
        try:
            write_bytes(self.space, file.read_bytes())
        except OSError as error:
            raise RunDirectoryError(f"cannot read {file}: {error.strerror}.") from error

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes the resolved configuration, with the format of the run."""
        write_toml(self.config, {"format": FORMAT, **config})

    def read_config(self) -> dict[str, Any]:
        """The stored configuration with its `format`.

        Raises:
            RunDirectoryError: unreadable, or not TOML.
        """
        return read_toml(self.config)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; the lock of a process that died is free at once.

        Raises:
            RunDirectoryError: another process holds it, or the folder cannot be written.
        """
        try:
            file: IO[str] = (self.path / ".lock").open("a+")
        except OSError as error:
            raise RunDirectoryError(f"cannot write to {self.path}: {error.strerror}.") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunDirectoryError(
                    f"{self.path} is in use by {holder}. Wait for it, or stop it; it can be resumed."
                ) from error
            file.truncate(0)
            file.write(f"process {os.getpid()}")
            file.flush()
            yield


def discard_folder(path: Path, files: Iterable[Path], store: Path) -> None:
    """Removes these files, a store and the lock; then the folder and a default folder around it, if they are empty.

    Args:
        path: the folder.
        files: in it, there or not.
        store: its `EventStore`'s file.
    """
    stores = (store.with_name(store.name + end) for end in ("", "-wal", "-shm"))
    for file in (*files, *stores, path / ".lock"):
        file.unlink(missing_ok=True)
    for folder in (path, *([path.parent] if path.parent.name in DEFAULT_FOLDERS else [])):
        with contextlib.suppress(OSError):  # something that is not ours is in it
            folder.rmdir()


def _next_free(parent: Path) -> Path:
    today = date.today().isoformat()
    number = 1
    while (parent / f"{today}-{number}").exists():
        number += 1
    return parent / f"{today}-{number}"
