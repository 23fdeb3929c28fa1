"""Where images come from: the names in a folder or an archive, and the bytes behind them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})
OTHER_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jp2", ".jxl"})
# Chosen here: an uncompressed photo of 89 megapixels, Pillow's own limit before it warns, is 256 MiB.
MAX_FILE_BYTES = 256 << 20
TOO_LARGE = f"larger than {MAX_FILE_BYTES >> 20} MiB"


@dataclass(frozen=True, slots=True)
class Listing:
    """What lies in a folder or an archive. Names are relative to it, with `/` between folders; none is hidden.

    Args:
        images: files whose names end as images do that can be read.
        folders: with and without images.
        refused: the reason by name, of images and folders that are known to be unreadable.
    """

    images: tuple[str, ...]
    folders: tuple[str, ...]
    refused: Mapping[str, str]


class Source(Protocol):
    """A folder or an archive. Nothing in it is run, linked or written."""

    path: Path

    def stamp(self) -> Any:
        """JSON that changes when an image does."""
        ...

    def listing(self) -> Listing:
        """Everything in it, sorted by name; raises InputError where it cannot be read."""
        ...

    def contents(self, names: Collection[str]) -> Iterator[tuple[str, bytes | str]]:
        """The name and bytes of each of these files, in any order; a text is the reason why it cannot be read."""
        ...


def kind_of(name: str) -> str | None:
    """`image`, `other` for an image of a format that is not read here, None for any other file.

    >>> kind_of("cats/A.JPG"), kind_of("cats/b.heic"), kind_of("labels.csv")
    ('image', 'other', None)
    """
    suffix = PurePosixPath(name).suffix.lower()
    return "image" if suffix in IMAGE_SUFFIXES else "other" if suffix in OTHER_SUFFIXES else None


def other_format(name: str) -> str:
    """Why an image of `other` kind is refused."""
    return f"{PurePosixPath(name).suffix.lower()} is not read: save it as JPEG, PNG, BMP or WebP"
