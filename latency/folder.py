"""The folder of this user in which measurements are locked and calibrations kept."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mnas` or `~/.cache/mnas`, or a temporary one where that cannot be written."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnas"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    fallback = Path(tempfile.gettempdir()) / f"mnas-{os.getuid()}"
    with suppress(OSError):
        fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback
