"""A tar of a folder of images, read as a stream: nothing is ever extracted."""

import gzip
import lzma
import tarfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from mnas.data.source import MAX_FILE_BYTES, TOO_LARGE, Listing, kind_of, other_format
from mnas.errors import InputError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz")
# Chosen here: images hardly shrink, so an archive that grows a hundredfold is a trap; below 256 MiB none can harm,
# even where a header claims all of it and tarfile holds it in memory.
MAX_GROWTH, SMALL_BYTES = 100, 256 << 20


class Archive:
    """A .tar, .tar.gz or .tar.xz. Links, devices, hidden files and names that lead outside are passed over.

    Args:
        path: of a file that is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def stamp(self) -> Any:
        """Size and time of the archive's last change."""
        status = self.path.stat()
        return [status.st_size, status.st_mtime_ns]

    def listing(self) -> Listing:
        """Everything in it, sorted by name; raises InputError where it is damaged or grows beyond measure."""
        images: set[str] = set()
        folders: set[str] = set()
        refused: dict[str, str] = {}
        with self._open() as archive:
            for member, name in _members(archive):
                kind = None if member.isdir() or name in images or name in refused else kind_of(name)
                around = [str(parent) for parent in PurePosixPath(name).parents][:-1]
                folders.update(around, [name] if member.isdir() else [])
                if kind == "image" and member.size > MAX_FILE_BYTES:
                    refused[name] = TOO_LARGE
                elif kind == "image":
                    images.add(name)
                elif kind == "other":
                    refused[name] = other_format(name)
        return Listing(tuple(sorted(images)), tuple(sorted(folders)), refused)

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes | str]]:
        """The name and bytes of each of these files, in the archive's order; of equal names the first counts."""
        left = set(names)
        with self._open() as archive:
            for member, name in _members(archive):
                if name in left and member.isreg():
                    left.remove(name)
                    file = archive.extractfile(member) if member.size <= MAX_FILE_BYTES else None
                    yield name, TOO_LARGE if file is None else file.read()
                if not left:
                    return

    @contextmanager
    def _open(self) -> Iterator[tarfile.TarFile]:
        limit = max(SMALL_BYTES, MAX_GROWTH * self.path.stat().st_size)
        try:
            with _decompressed(self.path) as file:
                stream: Any = _Limited(file, limit, self.path)
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    yield archive
        except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
            raise InputError(f"cannot read the archive {self.path}: {error}.") from error


class _Limited:
    """A stream of bytes that ends in an InputError beyond a limit."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, limit: int, path: Path) -> None:
        self._file, self._left, self._limit, self._path = file, limit, limit, path

    def read(self, count: int) -> bytes:
        """The next bytes, at most `count`."""
        data = self._file.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise InputError(
                f"the archive {self._path} is refused: it grows beyond {self._limit >> 20:,} MiB when it is "
                f"decompressed, {MAX_GROWTH} times its size or more. Unpack it yourself if you trust it."
            )
        return data


def _decompressed(path: Path) -> IO[bytes] | gzip.GzipFile:
    if path.name.endswith((".gz", ".tgz")):
        return gzip.open(path)
    if path.name.endswith((".xz", ".txz")):
        return lzma.open(path)
    return path.open("rb")


def _members(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, str]]:
    """Plain files and folders with the names that they are known by; all others are passed over."""
    for member in archive:
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        outside = member.name.startswith("/") or any(part.startswith(".") for part in parts)
        if parts and not outside and (member.isdir() or (member.isreg() and not member.issparse())):
            yield member, "/".join(parts)
