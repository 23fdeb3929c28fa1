"""Whose turn it is where tests run side by side."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from turns import turn

AT_ONCE = 0.3  # seconds in which a thread has surely started


class Holder:
    """A test in a thread of its own: waits for its turn and keeps it until told."""

    def __init__(self, folder: Path, alone: bool) -> None:
        self.begun, self._end = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(folder, alone))
        self._thread.start()

    def _run(self, folder: Path, alone: bool) -> None:
        with turn(folder, alone=alone):
            self.begun.set()
            self._end.wait(60)

    def end(self) -> None:
        self._end.set()
        self._thread.join()


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[bool], Holder]]:
    with ExitStack() as stack:

        def start(alone: bool) -> Holder:
            holder = Holder(tmp_path, alone)
            stack.callback(holder.end)
            return holder

        yield start


def test_two_run_side_by_side(hold: Callable[[bool], Holder]) -> None:
    assert hold(False).begun.wait(10)
    assert hold(False).begun.wait(10)


def test_one_that_is_alone_waits_for_others_and_they_for_it(hold: Callable[[bool], Holder]) -> None:
    first = hold(False)
    assert first.begun.wait(10)
    alone = hold(True)
    time.sleep(AT_ONCE)
    assert not alone.begun.is_set()
    later = hold(False)  # although the first one would let it in
    time.sleep(AT_ONCE)
    assert not later.begun.is_set()
    first.end()
    assert alone.begun.wait(10)
    assert not later.begun.wait(AT_ONCE)
    alone.end()
    assert later.begun.wait(10)
