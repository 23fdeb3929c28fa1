"""A folder of images on disk."""

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mnas.data.source import MAX_FILE_BYTES, TOO_LARGE, Listing, kind_of, other_format


def read_file(path: Path) -> bytes | str:
    """Its bytes; a text is why it cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return str(error.strerror)
    return content if len(content) <= MAX_FILE_BYTES else TOO_LARGE


class Folder:
    """A folder, read once when it is made; links are followed, except into a folder that they lie in.

    Args:
        path: of a folder that is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[
            str, tuple[int, int]
        ] = {}  # size in bytes and time of the last change, of each image
        self._folders: list[str] = []
        self._refused: dict[str, str] = {}
        self._walk(path, "", ())

    def stamp(self) -> Any:
        """Names, sizes and times of the images, and what was refused."""
        return [sorted(self._files.items()), sorted(self._folders), sorted(self._refused.items())]

    def listing(self) -> Listing:
        """Everything in it, sorted by name."""
        return Listing(tuple(sorted(self._files)), tuple(sorted(self._folders)), self._refused)

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes | str]]:
        """The name and bytes of each of these files, in the order given; a text is why it cannot be read."""
        for name in names:
            yield name, read_file(self.path / name)

    def _walk(self, folder: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        """Notes what is in a folder; `above` are device and inode of those around it."""
        try:
            status = folder.stat()
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self._refused[prefix or "."] = str(error.strerror)
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            return
        if prefix:
            self._folders.append(prefix.removesuffix("/"))
        for entry in entries:
            if not entry.name.startswith("."):
                self._note(entry, prefix + entry.name, (*above, here))

    def _note(self, entry: "os.DirEntry[str]", name: str, above: tuple[tuple[int, int], ...]) -> None:
        kind = kind_of(name)
        try:
            if entry.is_dir():
                self._walk(Path(entry.path), f"{name}/", above)
            elif kind == "other":
                self._refused[name] = other_format(name)
            elif kind == "image" and entry.is_file():
                status = entry.stat()
                self._files[name] = (status.st_size, status.st_mtime_ns)
            elif kind == "image" and entry.is_symlink():
                self._refused[name] = "a link that leads nowhere"
        except OSError:  # a link that leads to itself
            return
