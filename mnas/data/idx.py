"""The idx file format, in which MNIST and its successors come."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError

_IDX_UINT8 = 0x08  # the idx format's code for unsigned bytes; the magic number is (0, 0, code, dimensions)
_IDX_MAX_BYTES = 1 << 30  # chosen here: 20 times Fashion-MNIST; a damaged header must not fill the memory


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes, gzipped if its name ends in .gz.

    Args:
        path: the file.
        dimensions: that the array must have: 3 for images (n, h, w), 1 for labels (n,).

    Raises:
        InputError: missing, not an idx file of so many dimensions, empty, truncated, or too long.

    Reference: "The IDX file format" (yann.lecun.com/exdb/mnist): magic number, big-endian sizes, data.
    """
    header_size = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(header_size)
            if len(header) < header_size or header[:4] != bytes((0, 0, _IDX_UINT8, dimensions)):
                raise InputError(
                    f"{path} is not an idx file of {dimensions} dimensions: expected it to begin with "
                    f"0000{_IDX_UINT8:02x}{dimensions:02x}, got {header[:4].hex() or 'nothing'}."
                )
            shape = struct.unpack(f">{dimensions}I", header[4:])
            count = 1
            for size in shape:
                count *= size
            if not 0 < count <= _IDX_MAX_BYTES:
                raise InputError(f"{path} is damaged: its header says {shape}, {count} bytes of data.")
            content = file.read(count + 1)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or f"damaged or truncated ({error})"
        raise InputError(f"cannot read {path}: {reason}.") from error
    if len(content) != count:
        found = f"only {len(content)}" if len(content) < count else "more"
        raise InputError(f"{path} is damaged: its header promises {count} bytes of data, it has {found}.")
    return np.frombuffer(content, np.uint8).reshape(shape)
