"""A process that decodes images: `python -m mnas.data.worker`, as `stream.py` starts it.

It reads lines of JSON: first an object with `folder` and `size` (pixels), then, for each batch, a list of names in the
folder. It answers a batch with a line of JSON, which is null, or a name that cannot be read and the reason; behind a
null follow the pixels, (n, 3, size, size) uint8. It ends when its input does.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO
from warnings import simplefilter

import numpy as np
from numpy.typing import NDArray

from mnas.data.decode import attempt
from mnas.data.folder import read_file


def main(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers until there are no more requests."""
    job = json.loads(requests.readline())
    for line in requests:
        pixels = decoded(Path(job["folder"]), json.loads(line), job["size"])
        failed = pixels if isinstance(pixels, tuple) else None
        answers.write(json.dumps(failed).encode() + b"\n")
        if not isinstance(pixels, tuple):
            answers.write(pixels.data)
        answers.flush()


def decoded(folder: Path, names: Sequence[str], size: int) -> NDArray[np.uint8] | tuple[str, str]:
    """(n, 3, size, size) uint8 of these files, or the first that cannot be read and the reason."""
    pixels = np.empty((len(names), 3, size, size), np.uint8)
    for number, name in enumerate(names):
        found = attempt(read_file(folder / name), size)
        if isinstance(found, str):
            return name, found
        pixels[number] = found
    return pixels


if __name__ == "__main__":
    simplefilter("ignore")  # Pillow's, of files that it reads all the same
    try:
        main(sys.stdin.buffer, sys.stdout.buffer)
    except BrokenPipeError:  # whoever asked is gone
        os._exit(1)
