"""CIFAR-10 and CIFAR-100 from their binary version: plain bytes, which the python version's pickles are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnas.data.images import ImageData, Split, split_off
from mnas.errors import InputError

VAL_SHARE = 5  # one in five training images: 10,000 of 50,000, as many as the official test images
PIXELS = (3, 32, 32)  # of each record, behind its labels: red, green, blue planes, row by row


@dataclass(frozen=True, slots=True)
class _Version:
    """Files of a data set.

    Reference: cs.toronto.edu/~kriz/cifar.html, "Binary version".
    """

    folder: str
    pickled: str
    archive: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int  # before the pixels; the last of them is the class


CIFAR: Mapping[str, _Version] = {
    "cifar10": _Version(
        folder="cifar-10-batches-bin",
        pickled="cifar-10-batches-py",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test=("test_batch.bin",),
        names="batches.meta.txt",
        label_bytes=1,
    ),
    "cifar100": _Version(
        folder="cifar-100-binary",
        pickled="cifar-100-python",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test=("test.bin",),
        names="fine_label_names.txt",
        label_bytes=2,
    ),
}


def cifar(name: str, folder: Path, seed: int) -> ImageData:
    """CIFAR-10 or, with its 100 fine classes, CIFAR-100.

    Args:
        name: `cifar10` or `cifar100`.
        folder: of the binary files, or the one around it.
        seed: of the border between training and validation; the test images are the official ones.

    Raises:
        InputError: files that are missing or damaged, or only the python version, which is never unpickled.
    """
    version = CIFAR[name]
    inner = folder / version.folder
    place = inner if inner.is_dir() else folder
    files = (*version.train, *version.test, version.names)
    missing = [file for file in files if not (place / file).is_file()]
    if missing:
        found = ""
        if folder.name == version.pickled or (folder / version.pickled).is_dir():
            found = f" {version.pickled} is the python version: pickles can run code, and are not read here."
        raise InputError(
            f"no binary {name} in {folder}: missing {', '.join(missing)}.{found} Unpack {version.archive} of "
            f"www.cs.toronto.edu/~kriz/cifar.html and name its folder: {name}:DIR."
        )
    classes = tuple((place / version.names).read_text(encoding="utf-8", errors="replace").split())
    official, test = (_read(place, part, version) for part in (version.train, version.test))
    train, val = split_off(official, len(official) // VAL_SHARE, seed, f"{name} val")
    return ImageData(name, classes, PIXELS[-1], train, val, test, flip=True)


def _read(folder: Path, files: tuple[str, ...], version: _Version) -> Split:
    record = version.label_bytes + int(np.prod(PIXELS))
    parts = []
    for file in files:
        try:
            content = np.fromfile(folder / file, np.uint8)
        except OSError as error:
            raise InputError(f"cannot read {folder / file}: {error.strerror}.") from error
        if len(content) == 0 or len(content) % record:
            raise InputError(
                f"{folder / file} is damaged: expected records of {record} bytes, it has {len(content)} bytes."
            )
        parts.append(content.reshape(-1, record))
    records = np.concatenate(parts)
    images = records[:, version.label_bytes :].reshape(-1, *PIXELS)
    return Split(images, records[:, version.label_bytes - 1].astype(np.int64))
