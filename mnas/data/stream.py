"""Images that stay in their files: decoded by worker processes, a few batches ahead of who asks."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnas.data.decode import BATCH
from mnas.data.images import Split
from mnas.env import python_path, usable_cores
from mnas.errors import SearchError
from mnas.latency.child import end_group

MAX_WORKERS = 16  # chosen here: each holds one batch


@dataclass(frozen=True, slots=True, eq=False)
class StreamedSplit:
    """Images of a folder with their labels, decoded anew whenever they are asked for. See `LabelledImages`.

    The same file gives the same pixels (see `decode`), and batches come in the order asked, however many workers
    there are.

    Args:
        folder: around the files.
        names: of the n files in it, with `/` between folders.
        labels: (n,) int64, each the index of a class.
        size: height and width in pixels that images are decoded to.
        workers: processes that decode, each one batch at a time.
    """

    folder: Path
    names: tuple[str, ...]
    labels: NDArray[np.int64]
    size: int
    workers: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.names)

    def take(self, indices: NDArray[np.int64]) -> Split:
        """These images (k of them, at least 1, in this order) in memory."""
        images = np.empty((len(indices), *self.shape), np.uint8)
        starts = range(0, len(indices), BATCH)
        with closing(self.batches([indices[start : start + BATCH] for start in starts])) as batches:
            for start, batch in zip(starts, batches, strict=True):
                images[start : start + BATCH] = batch
        return Split(images, self.labels[indices])

    def batches(self, chosen: Sequence[NDArray[np.int64]]) -> Generator[NDArray[np.uint8], None, None]:
        """For each (k,) int64 of indices the images (k, 3, size, size) uint8, in this order.

        As many batches as there are workers are decoded ahead. The workers end with the iterator.

        Raises:
            SearchError: an image that can no longer be read, or a worker that died.
        """
        requests = ([self.names[index] for index in indices] for indices in chosen)
        with ExitStack() as stack:
            waiting: deque[tuple[_Worker, list[str]]] = deque()
            for _, names in zip(range(self.workers), requests, strict=False):
                worker = stack.enter_context(closing(_Worker(self.folder, self.size)))
                worker.ask(names)
                waiting.append((worker, names))
            while waiting:
                worker, names = waiting.popleft()
                pixels = worker.answer(len(names))
                following = next(requests, None)
                if following is not None:
                    worker.ask(following)
                    waiting.append((worker, following))
                yield pixels


def worker_count() -> int:
    """Processes that decode: one core is left for who asks, and processes that torchrun started share the others."""
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max((usable_cores() - 1) // sharing, 1), MAX_WORKERS)


class _Worker:
    """One process of `worker.py`, in a session of its own, so that Ctrl-C reaches only who asks."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mnas.data.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": python_path()},
            start_new_session=True,
        )
        self._send({"folder": str(folder.absolute()), "size": size})

    def ask(self, names: list[str]) -> None:
        """Has it decode these files; the answer to the last such call must have been taken."""
        self._send(names)

    def answer(self, count: int) -> NDArray[np.uint8]:
        """(count, 3, size, size) uint8 of the files asked for."""
        assert isinstance(self._process.stdout, BufferedReader)
        pixels = np.empty((count, 3, self.size, self.size), np.uint8)
        line = self._process.stdout.readline()
        if line and (failed := json.loads(line)) is not None:
            name, reason = failed
            raise SearchError(
                f"cannot read {self.folder / name}: {reason}. It could be read when all images were checked: leave "
                f"them as they are while they are in use."
            )
        if not line or self._process.stdout.readinto(pixels.data) < pixels.nbytes:
            status = self._process.wait()
            killed = "out of memory, or ended by someone; start again, with smaller batches"
            raise SearchError(
                f"a process that decodes images of {self.folder}, {count} at a time, ended with status {status}: "
                f"{killed if status == -signal.SIGKILL else 'its last words are above'}."
            )
        return pixels

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        end_group(self._process)

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it died; its missing answer tells
            pass
