"""Decoded images kept on disk. Safe to delete; a file that is damaged or out of date is one that is not there."""

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from mnas.latency.agent import cache_folder


def read_cache(
    key: str, stamp: str, limit_bytes: int | None = None
) -> tuple[dict[str, Any], NDArray[np.uint8]] | None:
    """What `write_cache` wrote under this key, if it was with this stamp; None otherwise.

    None also where the images take more than `limit_bytes`: they are not read then. A .npz holds a checksum of each
    array, which reading compares; nothing is unpickled.
    """
    try:
        with _file(key).open("rb") as file, NpzFile(file, allow_pickle=False) as stored:
            about = json.loads(stored["about"].tobytes())
            assert stored.zip is not None  # only of one that is closed
            size = stored.zip.getinfo("images.npy").file_size
            if about.pop("stamp") != stamp or (limit_bytes is not None and size > limit_bytes):
                return None
            images: NDArray[np.uint8] = stored["images"]
            return about, images
    except Exception:  # damage can show in any way, and the images are decoded anew
        return None


def write_cache(key: str, stamp: str, about: dict[str, Any], images: NDArray[np.uint8]) -> None:
    """Keeps images (n, 3, s, s) uint8 and what is known of them (JSON); what was under the key is replaced.

    Written beside and renamed. Where the disk is full or cannot be written, nothing is kept.
    """
    path = _file(key)
    text = np.frombuffer(json.dumps({**about, "stamp": stamp}).encode(), np.uint8)
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, allow_pickle=False, about=text, images=images)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise


def _file(key: str) -> Path:
    return cache_folder() / "images" / f"{key}.npz"
