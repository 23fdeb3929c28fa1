"""The errors that a user can meet: one root, each also the builtin that it resembles."""

import difflib
from collections.abc import Iterable


class MnasError(Exception):
    """Root of every error raised on purpose. `exit_code` is what the command line ends with."""

    exit_code = 2


class InputError(MnasError, ValueError):
    """Something given from outside is wrong, and nothing was run (exit code 2)."""


MOST_NAMES = 20  # that a message lists (chosen here); of more it names the nearest


class UnknownNameError(InputError, LookupError):
    """A name that no registry, space or table knows."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        guess = f"; did you mean {near[0]!r}?" if near else "."
        known_text = f" Known: {', '.join(names)}." if len(names) <= MOST_NAMES else ""
        super().__init__(f"unknown {kind} {name!r}{guess}{known_text}{' ' + hint if hint else ''}")


class RunDirectoryError(InputError, OSError):
    """A run directory that exists already, is damaged, locked, or of another version."""


class SearchError(MnasError, RuntimeError):
    """Found out by measuring or running: a target out of range, a predictor that fails (exit code 1)."""

    exit_code = 1


class MeasurementError(SearchError):
    """A latency that could not be measured: the child failed, hung, or the machine is too noisy."""
