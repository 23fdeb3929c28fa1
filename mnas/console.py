"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY_S = 5.0


def _left(started: float, first: int, done: int, total: int) -> str:
    """Time left from the pace since `first`."""
    if done <= first:
        return ""
    seconds = (time.monotonic() - started) / (done - first) * (total - done)
    return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.0f} min left"


class ConsoleReporter:
    """Draws what a search reports; use it as a context manager, so that the live bar is always taken down."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._started = self._last = 0.0
        self._first = -1
        self._line = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_part()

    def stage(self, text: str) -> None:
        """Prints the part's name."""
        self._end_part()
        print(f"- {text}", file=sys.stderr, flush=True)

    def progress(self, done: int, total: int, text: str) -> None:
        """Moves the bar, or prints a line every five seconds and at the end."""
        now = time.monotonic()
        if self._first < 0:
            self._first, self._started, self._last = done, now, now
        if self._live:
            self._draw(done, total, text)
        elif now - self._last >= _LINE_EVERY_S or done == total:
            self._last = now
            left = _left(self._started, self._first, done, total) if done < total else ""
            line = "  " + ", ".join(filter(None, (f"{done}/{total}", text, left)))
            if line != self._line:  # the last step is often reported twice
                print(line, file=sys.stderr, flush=True)
            self._line = line

    def note(self, text: str) -> None:
        """Prints a line."""
        self._print(f"  {text}")

    def warn(self, text: str) -> None:
        """Prints a line that says `warning`."""
        self._print(f"  warning: {text}")

    def _print(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def _draw(self, done: int, total: int, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        if self._progress is None:
            self._progress = Progress(
                TextColumn(" "),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.description}", markup=False),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=total)
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total, description=text)

    def _end_part(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None
        self._first = -1
