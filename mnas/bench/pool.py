"""Runs in processes of their own, each with one thread; what comes of a run is the same in any number of them."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from mnas.bench.drive import Run, Task, run
from mnas.errors import SearchError

# Each library's own; they are read when it is loaded, so they have to stand before a process starts.
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
# Seconds for a process to end when it is asked to (chosen here).
GRACE_S = 5.0


def run_all(tasks: Sequence[Task], processes: int, done: Callable[[int, Task], None]) -> list[Run]:
    """What came of each task, in their order.

    Args:
        tasks: each is run once.
        processes: how many run at once.
        done: told how many are done and which was the last, whenever one is.

    Raises:
        SearchError: a run failed, or a process died; the others are stopped.
    """
    found: dict[int, Run] = {}
    with _one_thread_each():
        before = set(multiprocessing.active_children())
        executor = ProcessPoolExecutor(
            min(processes, len(tasks)), multiprocessing.get_context("spawn"), initializer=_start
        )
        try:
            waiting = {executor.submit(run, task): number for number, task in enumerate(tasks)}
            for future in as_completed(waiting):
                number = waiting[future]
                found[number] = future.result()
                done(len(found), tasks[number])
        except BaseException as error:
            executor.shutdown(wait=False, cancel_futures=True)
            _end(set(multiprocessing.active_children()) - before)
            if isinstance(error, BrokenProcessPool):
                raise SearchError(
                    "a process that ran controllers was ended from outside; too little memory? Use fewer --processes."
                ) from error
            raise
        executor.shutdown()
    return [found[number] for number in range(len(tasks))]


def _end(children: Collection[BaseProcess]) -> None:
    """Waits for them to end, by force where it takes too long."""
    for child in children:
        child.terminate()
    for child in children:
        child.join(GRACE_S)
        if child.is_alive():
            child.kill()
            child.join()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """For processes that are started now: linear algebra on one thread."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _start() -> None:
    """In a new process: an interrupt is its parent's to handle, and without a parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
