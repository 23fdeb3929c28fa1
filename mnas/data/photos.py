"""A folder or a tar of the user's own images: arranged, decoded, and refused where they cannot be used."""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median_low
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from mnas.data.cache import read_cache, write_cache
from mnas.data.decode import UnreadableError, decode_all, shorter_side
from mnas.data.folder import Folder
from mnas.data.images import MAX_RESOLUTION, RESOLUTION_STEP, ImageData, LabelledImages, Split
from mnas.data.layout import PARTS, Plan, Row, arrange
from mnas.data.problems import find_problems, refuse
from mnas.data.source import Listing, Source
from mnas.data.stream import StreamedSplit, worker_count
from mnas.env import memory_bytes
from mnas.errors import InputError

FORM = 2  # of the cache; a new number where decoding or arranging changes
SAMPLE = 200  # images whose size is looked at, chosen here
MEMORY_SHARE = 2  # chosen here: training copies the images once


@dataclass(frozen=True, slots=True)
class _Found:
    """What is there, how it is arranged, and what became of each image.

    Args:
        listing: everything.
        plan: of its images.
        failed: the reason by name, of those that cannot be decoded.
        size: height and width in pixels that they are decoded to.
        images: (n, 3, size, size) uint8 of the others; None where they are streamed.
    """

    listing: Listing
    plan: Plan
    failed: dict[str, str]
    size: int
    images: NDArray[np.uint8] | None


def load_photos(source: Source, *, seed: int, resolution: int | None, skip: bool) -> ImageData:
    """The images of a folder or archive, in three splits.

    What takes at most half of the memory is decoded once and kept in the cache. A folder that takes more is checked
    once, all of it, with the result kept in the cache, and then decoded anew whenever images are asked for.

    Args:
        source: where they are.
        seed: of splits that the source does not name.
        resolution: height and width that they are decoded to. None: their median shorter side (of 200 of them),
            rounded up to a multiple of 32, at most 224.
        skip: leave out what cannot be used, instead of refusing it.

    Raises:
        InputError: the layout is another one, something cannot be used, or a tar is too large for the memory.
    """
    found = _found(source, seed, resolution)
    kept = [row for row in found.plan.rows if row.name not in found.failed]
    problems = find_problems(found.plan, kept, {**found.listing.refused, **found.failed})
    if problems and not skip:
        refuse(str(source.path), problems)
    usable = _usable(str(source.path), kept)
    images = found.images
    if images is not None and len(usable) < len(kept):
        wanted = set(usable)
        images = images[[row in wanted for row in kept]]
    classes = tuple(sorted({row.label for row in usable}))
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[row.label] for row in usable], np.int64)
    names, workers = tuple(row.name for row in usable), worker_count()
    counts = Counter(row.part for row in usable)
    splits: list[LabelledImages] = []
    for start, stop in pairwise(accumulate((counts[part] for part in PARTS), initial=0)):
        own = slice(start, stop)
        if images is None:
            splits.append(StreamedSplit(source.path, names[own], labels[own], found.size, workers))
        else:
            splits.append(Split(images[own], labels[own]))
    train, val, test = splits
    notes = [] if images is not None else [_streamed(found, workers)]
    return ImageData(
        source.path.resolve().name,
        classes,
        found.size,
        train,
        val,
        test,
        flip=True,
        left_out=tuple(problems),
        notes=tuple(notes),
    )


def _usable(where: str, rows: list[Row]) -> list[Row]:
    """Without images of classes that training never sees; raises InputError where nothing is left to learn."""
    taught = {row.label for row in rows if row.part == "train"}
    usable = [row for row in rows if row.label in taught]
    if len(taught) < 2:
        what = f"a single class, {min(taught)}" if taught else "no class with images to train on"
        raise InputError(f"{where} has {what}: a classifier needs at least 2.")
    empty = [part for part in PARTS if part not in {row.part for row in usable}]
    if empty:
        raise InputError(
            f"{where} has no usable image for {' and '.join(empty)}: add more images to a class."
        )
    return usable


def _found(source: Source, seed: int, resolution: int | None) -> _Found:
    """From the cache, or decoded now; a folder that is streamed is only checked."""
    place, stamp, limit = str(source.path.resolve()), _digest([FORM, source.stamp()]), _limit_bytes()
    key = _digest([place, seed, resolution])
    kept = read_cache(key, stamp, limit)
    if kept is not None:
        about, images = kept
        stored = about["listing"]
        listing = Listing(tuple(stored["images"]), tuple(stored["folders"]), stored["refused"])
        plan = arrange(listing, seed, str(source.path))
        return _Found(listing, plan, about["failed"], about["size"], images)
    listing = source.listing()
    plan = arrange(listing, seed, str(source.path))
    names = [row.name for row in plan.rows]
    size = resolution or _own_resolution(source, names)
    if limit is not None and _bytes(len(names), size) > limit:
        if not isinstance(source, Folder):
            _refuse_archive(source, len(names), size, limit)
        return _Found(listing, plan, _checked(source, place, stamp, sorted(names), size), size, None)
    images, failed = _pixels(source, names, size)
    about = {
        "listing": {
            "images": listing.images,
            "folders": listing.folders,
            "refused": dict(listing.refused),
        },
        "failed": failed,
        "size": size,
    }
    write_cache(key, stamp, about, images)
    return _Found(listing, plan, failed, size, images)


def _checked(source: Source, place: str, stamp: str, names: list[str], size: int) -> dict[str, str]:
    """The reason by name, of images that cannot be decoded: found by decoding every one, kept in the cache."""
    key = _digest([place, "checked", size])
    kept = read_cache(key, stamp)
    if kept is not None:
        return dict(kept[0]["failed"])
    failed = {
        name: pixels for name, pixels in decode_all(source.contents(names), size) if isinstance(pixels, str)
    }
    write_cache(key, stamp, {"failed": failed}, np.empty((0, 3, size, size), np.uint8))
    return failed


def _pixels(source: Source, names: list[str], size: int) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """(n, 3, size, size) uint8 of the names that could be decoded, in their order, and the reason by name."""
    images = np.empty((len(names), 3, size, size), np.uint8)
    index = {name: number for number, name in enumerate(names)}
    failed = dict.fromkeys(names, "no longer there")
    for name, pixels in decode_all(source.contents(names), size):
        if isinstance(pixels, str):
            failed[name] = pixels
        else:
            images[index[name]] = pixels
            del failed[name]
    return images[[name not in failed for name in names]] if failed else images, failed


def _own_resolution(source: Source, names: list[str]) -> int:
    """The median shorter side of a sample, up to a multiple of 32, at most 224."""
    sides = []
    for _, content in source.contents(names[:: max(1, len(names) // SAMPLE)]):
        if isinstance(content, bytes):
            try:
                sides.append(shorter_side(content))
            except UnreadableError:
                continue
    median = median_low(sides) if sides else MAX_RESOLUTION
    return min(-(-median // RESOLUTION_STEP) * RESOLUTION_STEP, MAX_RESOLUTION)


def _limit_bytes() -> int | None:
    """Of images that are kept in memory; None where the system does not tell of its memory."""
    memory = memory_bytes()
    return None if memory is None else memory // MEMORY_SHARE


def _bytes(count: int, size: int) -> int:
    return count * 3 * size * size


def _refuse_archive(source: Source, count: int, size: int, limit: int) -> NoReturn:
    fitting = int((limit / (3 * count)) ** 0.5) // RESOLUTION_STEP * RESOLUTION_STEP
    smaller = f", or choose smaller images with --resolution {fitting}" if fitting else ""
    raise InputError(
        f"{source.path}: {_too_large(count, size)}, and a tar can only be read from its beginning to its end; unpack "
        f"it and name the folder, which can be larger than the memory{smaller}."
    )


def _streamed(found: _Found, workers: int) -> str:
    processes = "1 process decodes" if workers == 1 else f"{workers} processes decode"
    return f"{_too_large(len(found.plan.rows), found.size)}: {processes} them anew whenever they are needed"


def _too_large(count: int, size: int) -> str:
    return (
        f"{count:,} images of {size} x {size} pixels take {_bytes(count, size) / 1e9:.1f} GB, more than half of the "
        f"memory of {(memory_bytes() or 0) / 1e9:.1f} GB"
    )


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:32]
