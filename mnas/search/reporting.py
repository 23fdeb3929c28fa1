"""What the search says while it works; who draws it is not its business."""

from typing import Protocol


class Reporter(Protocol):
    """Receives progress; the command line draws it, a library user may ignore it."""

    def stage(self, text: str) -> None:
        """A new part of the work begins."""
        ...

    def progress(self, done: int, total: int, text: str) -> None:
        """`done` of `total` steps of the present part; `text` is a short state."""
        ...

    def note(self, text: str) -> None:
        """Something that a person should know."""
        ...

    def warn(self, text: str) -> None:
        """Something that a person should worry about."""
        ...


class Quiet:
    """Says nothing."""

    def stage(self, text: str) -> None:
        """Ignored."""

    def progress(self, done: int, total: int, text: str) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""

    def warn(self, text: str) -> None:
        """Ignored."""
