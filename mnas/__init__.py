"""mnas: the most accurate convolutional network that meets a latency budget on your own device.

This file runs before any sub-package, so it stays tiny and imports nothing heavy.
"""

from pathlib import Path

__version__ = "0.1.0.dev0"

# In a checkout, `search_space/`, `controllers/` and `latency/` stand beside this folder instead of in it
# (pyproject.toml maps them under `mnas` in the wheel); one more search path makes the import names the same.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "search_space" / "__init__.py").is_file() and (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
del _checkout, Path
