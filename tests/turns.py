"""Tests that run side by side (`pytest -n 2`) take turns: one that times something has the machine to itself."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Runs a test when no other runs that wants to be alone; when none runs at all if it does itself.

    Who waits to be alone holds the gate, at which all others wait: else there might always be one of them.

    Args:
        folder: of the two lock files, the same for all.
        alone: whether nothing else may run meanwhile.
    """
    with open(folder / "gate", "w") as gate, open(folder / "machine", "w") as machine:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(machine, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        yield  # closing them frees both
