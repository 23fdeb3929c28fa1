"""From what a user wrote behind --data to images."""

from pathlib import Path

from mnas.data.archive import ARCHIVE_SUFFIXES, Archive
from mnas.data.cifar import CIFAR, cifar
from mnas.data.folder import Folder
from mnas.data.images import SPLIT_SEED, ImageData
from mnas.data.named import FASHION_FOLDER, digits, fashion_mnist
from mnas.data.photos import load_photos
from mnas.errors import InputError, UnknownNameError

DATA_SETS = ("digits", "fashion-mnist", *CIFAR)
_OWN = "Your own images are read from a folder or a .tar, .tar.gz or .tar.xz of one: --data ./photos."


def load_data(
    name: str,
    *,
    seed: int = SPLIT_SEED,
    resolution: int | None = None,
    skip_unreadable: bool = False,
) -> ImageData:
    """The data set of a name or a path, with its splits.

    Args:
        name: `digits` (scikit-learn's: 1,797 grey images of 8 x 8 pixels); `fashion-mnist` (grey, 28 x 28;
            50,000, 10,000 and the official 10,000 images), from Debian's package; `fashion-mnist:DIR`, the
            same from its four idx files in DIR; `cifar10:DIR` and `cifar100:DIR`, from their binary version;
            or a folder of images, or a tar of one (see `layout.arrange`). A folder called `digits` is `./digits`.
        seed: of the borders between the splits, not of the search: the default holds for every search. Test
            images that the data set itself names are the same for every seed.
        resolution: height and width in pixels that images of a folder or tar are decoded to. None: their own
            median, rounded up to a multiple of 32, at most 224. Data sets by name keep their own size.
        skip_unreadable: leave out what cannot be used, instead of refusing it.

    Returns:
        Splits that share no image, each class with its share in each.

    Raises:
        UnknownNameError: no such data set; the nearest is named.
        InputError: files that are missing, damaged or not divided into classes, or a tar that is too large for the
            memory.

    >>> len(load_data("digits").train)
    1078
    """
    base, separator, folder = name.partition(":")
    if base == "digits" and not separator:
        return digits(seed)
    if base == "fashion-mnist" and bool(separator) == bool(folder):
        return fashion_mnist(Path(folder).expanduser() if folder else FASHION_FOLDER, seed)
    if base in CIFAR and folder:
        return cifar(base, Path(folder).expanduser(), seed)
    if base in DATA_SETS:
        raise InputError(
            f"the data set {name!r} is not complete: write digits, fashion-mnist, fashion-mnist:DIR, "
            f"cifar10:DIR or cifar100:DIR."
        )
    path = Path(name).expanduser()
    if path.is_dir():
        return load_photos(Folder(path), seed=seed, resolution=resolution, skip=skip_unreadable)
    if path.is_file() and path.name.endswith(ARCHIVE_SUFFIXES):
        return load_photos(Archive(path), seed=seed, resolution=resolution, skip=skip_unreadable)
    if path.exists():
        raise InputError(f"{name} is neither a folder nor a .tar, .tar.gz or .tar.xz. {_OWN}")
    if "/" in name or name.startswith((".", "~")) or name.endswith(ARCHIVE_SUFFIXES):
        raise InputError(f"there is no folder and no file {name}. {_OWN}")
    raise UnknownNameError("data set", base, DATA_SETS, hint=_OWN)


def located(name: str) -> str:
    """The same with its path from the root on, so that it means the same in another folder.

    >>> located("digits")
    'digits'
    """
    base, _, folder = name.partition(":")
    if base in DATA_SETS:
        return f"{base}:{Path(folder).expanduser().absolute()}" if folder else name
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name
