"""JSON objects of a run directory, read field by field: whoever wrote them is not trusted."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import RunDirectoryError
from mnas.files import read_json

# Bounds that no file of ours comes near; they keep a stranger's run from filling memory or the page.
LONGEST_TEXT, LONGEST_LIST, GREATEST = 5_000, 2_000, 1e18


@dataclass(frozen=True, slots=True)
class Fields:
    """One object of `file`; `where` says which, for messages. Null and missing are one.

    Every reader raises RunDirectoryError, naming the file and the field, for what does not fit.
    """

    file: Path
    where: str
    data: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> "Fields":
        """The object that a JSON file holds.

        Raises:
            RunDirectoryError: missing, too large, not JSON, or not an object.
        """
        try:
            return cls.of(file, "", read_json(file))
        except RecursionError as error:
            raise RunDirectoryError(f"{file} is damaged: nested too deeply.") from error

    @classmethod
    def of(cls, file: Path, where: str, data: Any) -> "Fields":
        """`data` as an object, checked."""
        if not isinstance(data, Mapping):
            raise RunDirectoryError(
                f"{file} is damaged: {where or 'it'} should be an object, got {type(data).__name__}."
            )
        return cls(file, where, data)

    def __contains__(self, name: str) -> bool:
        return self.data.get(name) is not None

    def text(self, name: str) -> str:
        """A text that has to be there."""
        value = self.data.get(name)
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            raise self._wrong(name, f"a text of at most {LONGEST_TEXT} characters")
        return value

    def number(self, name: str) -> float:
        """A finite number that has to be there."""
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= GREATEST:
            raise self._wrong(name, "a finite number")
        return float(value)

    def amount(self, name: str) -> float:
        """A number of at least 0."""
        value = self.number(name)
        if value < 0:
            raise self._wrong(name, "a number of at least 0")
        return value

    def whole(self, name: str) -> int:
        """A whole number of at least 0."""
        value = self.amount(name)
        if value != math.floor(value):
            raise self._wrong(name, "a whole number")
        return int(value)

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.data.get(name)
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def maybe_text(self, name: str) -> str | None:
        """A text, or None where it is missing or null."""
        return self.text(name) if name in self else None

    def maybe_amount(self, name: str) -> float | None:
        """A number of at least 0, or None."""
        return self.amount(name) if name in self else None

    def maybe_whole(self, name: str) -> int | None:
        """A whole number of at least 0, or None."""
        return self.whole(name) if name in self else None

    def object(self, name: str) -> "Fields":
        """An object inside this one."""
        return Fields.of(self.file, self._path(name), self.data.get(name))

    def maybe_object(self, name: str) -> "Fields | None":
        """An object, or None."""
        return self.object(name) if name in self else None

    def objects(self, name: str) -> Iterator["Fields"]:
        """The objects of a list; none where it is missing."""
        for number, item in enumerate(self._list(name), 1):
            yield Fields.of(self.file, f"{self._path(name)}, number {number}", item)

    def texts(self, name: str) -> tuple[str, ...]:
        """The texts of a list; none where it is missing."""
        items = self._list(name)
        if not all(isinstance(item, str) and len(item) <= LONGEST_TEXT for item in items):
            raise self._wrong(name, f"a list of texts of at most {LONGEST_TEXT} characters")
        return tuple(items)

    def _list(self, name: str) -> list[Any]:
        items = self.data.get(name)
        if items is None:
            return []
        if not isinstance(items, list) or len(items) > LONGEST_LIST:
            raise self._wrong(name, f"a list of at most {LONGEST_LIST}")
        return items

    def _path(self, name: str) -> str:
        return f"{self.where}, {name}" if self.where else name

    def _wrong(self, name: str, expected: str) -> RunDirectoryError:
        value = self.data.get(name)
        got = "nothing" if value is None else f"{value!r:.60}"
        return RunDirectoryError(
            f"{self.file} is damaged: {self._path(name)!r} should be {expected}, got {got}. "
            f"Restore it from a copy, or run the command that wrote it again."
        )
