"""Which image belongs to which class and split, from names alone."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from mnas.data.source import Listing
from mnas.errors import InputError
from mnas.seeds import derive_seed

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
PART_NAMES: dict[str, Part] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
SHARE = 5  # chosen here: validation and test are each one in five, as they are of `digits`
EXPECTED = "FOLDER/CLASS/IMAGE, or FOLDER/train/CLASS/IMAGE with val and test beside train"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Row:
    """An image: its name in the source, its class, its split."""

    name: str
    label: str
    part: Part


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be decoded.

    Args:
        classes: every class that has a folder, sorted, with or without images.
        rows: first those of train, then of val, then of test; by name in each.
        outside: names of images outside any class.
    """

    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    outside: tuple[str, ...]


def arrange(listing: Listing, seed: int, where: str) -> Plan:
    """Classes and splits of what was found.

    A single folder around everything is looked through. If the folders are called train, val (valid, validation)
    and test, and hold folders themselves, they are the splits; otherwise each folder is a class. A split that is
    missing is one in five of the images of each class, at least one where the class has as many as splits to fill.
    The order in which images are taken for it comes from hashes of their names: the same names give the same
    split everywhere, and with each new image at most one old one of its class crosses each border.

    Args:
        listing: names in the source.
        seed: of the hashes.
        where: the source, for messages.

    Raises:
        InputError: no folders of classes, or folders that are partly splits and partly classes.
    """
    prefix = _common_prefix(listing)
    folders, outside = _level(listing, prefix)
    parts = sorted(top for top in folders if top in PART_NAMES and _holds_folders(listing, f"{prefix}{top}/"))
    others = sorted(set(folders) - set(parts))
    if not folders:
        found = f"{len(outside)} images outside any class ({shorten(outside)})" if outside else "no images"
        raise InputError(f"{where} has no folders of classes: expected {EXPECTED}; found {found}.")
    if parts and (others or "train" not in parts):
        detail = f"beside {shorten(others)}" if others else "without train"
        raise InputError(f"{where} is unclear: expected {EXPECTED}; found {shorten(parts)} {detail}.")
    roots: list[tuple[str, Part | None]] = [(f"{prefix}{top}/", PART_NAMES[top]) for top in parts]
    classes: set[str] = set()
    rows: list[Row] = []
    unassigned: dict[str, list[tuple[str, str]]] = defaultdict(
        list
    )  # by class: name in it, name in the source
    for root, part in roots or [(prefix, None)]:
        classes.update(_level(listing, root)[0])
        for name in listing.images:
            label, slash, inner = name.removeprefix(root).partition("/")
            if not name.startswith(root) or not slash:
                continue
            if part in (None, "train"):
                unassigned[label].append((f"{label}/{inner}", name))
            else:
                rows.append(Row(name, label, part))
    missing = [part for part in PARTS[1:] if part not in {given for _, given in roots}]
    for label, members in unassigned.items():
        rows += _divided(label, members, missing, seed)
    rows.sort(key=lambda row: (PARTS.index(row.part), row.name))
    return Plan(tuple(sorted(classes)), tuple(rows), tuple(outside))


def shorten(names: Iterable[str]) -> str:
    """The first few names.

    >>> shorten(["a", "b", "c", "d", "e"])
    'a, b, c, ...'
    """
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _common_prefix(listing: Listing) -> str:
    """Folders around everything, as `photos/`."""
    prefix = ""
    while True:
        folders, loose = _level(listing, prefix)
        if loose or len(folders) != 1 or not _holds_folders(listing, f"{prefix}{folders[0]}/"):
            return prefix
        prefix = f"{prefix}{folders[0]}/"


def _level(listing: Listing, prefix: str) -> tuple[list[str], list[str]]:
    """Names of the folders, and of the images, directly behind a prefix."""
    folders = [name.removeprefix(prefix) for name in listing.folders if name.startswith(prefix)]
    images = [name for name in listing.images if name.startswith(prefix) and "/" not in name[len(prefix) :]]
    return [name for name in folders if "/" not in name], images


def _holds_folders(listing: Listing, prefix: str) -> bool:
    folders, loose = _level(listing, prefix)
    return bool(folders) and not loose


def _divided(label: str, members: list[tuple[str, str]], missing: list[Part], seed: int) -> list[Row]:
    """The images of one class, in `train` or one of the missing splits."""
    ranked = sorted(members, key=lambda member: derive_seed(seed, "photos", ascii(member[0])))
    # Half a fifth is rounded up. Two images for three splits: the second is for validation.
    share = max(1, (2 * len(ranked) + SHARE) // (2 * SHARE))
    rows = []
    for part in missing:
        count = min(share, len(ranked) - 1)
        rows += [Row(name, label, part) for _, name in ranked[:count]]
        ranked = ranked[count:]
    return rows + [Row(name, label, "train") for _, name in ranked]
