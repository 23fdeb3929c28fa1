"""A folder or a tar of the user's own images: arranged, decoded once, and refused where they cannot be used."""

import hashlib
import json
from collections import Counter
from itertools import accumulate, pairwise
from statistics import median_low
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.data.cache import read_cache, write_cache
from mnas.data.decode import UnreadableError, decode_all, shorter_side
from mnas.data.images import MAX_RESOLUTION, RESOLUTION_STEP, ImageData, Split
from mnas.data.layout import PARTS, Plan, Row, arrange
from mnas.data.problems import find_problems, refuse
from mnas.data.source import Listing, Source
from mnas.env import memory_bytes
from mnas.errors import InputError

FORM = 1  # of the cache; a new number where decoding or arranging changes
SAMPLE = 200  # images whose size is looked at, chosen here
MEMORY_SHARE = 2  # chosen here: training copies the images once


def load_photos(source: Source, *, seed: int, resolution: int | None, skip: bool) -> ImageData:
    """The images of a folder or archive, in three splits.

    Args:
        source: where they are.
        seed: of splits that the source does not name.
        resolution: height and width that they are decoded to. None: their median shorter side (of 200 of them),
            rounded up to a multiple of 32, at most 224.
        skip: leave out what cannot be used, instead of refusing it.

    Raises:
        InputError: the layout is another one, something cannot be used, or all of it is too large for the memory.
    """
    listing, plan, failed, images = _decoded(source, seed, resolution)
    kept = [row for row in plan.rows if row.name not in failed]
    problems = find_problems(plan, kept, {**listing.refused, **failed})
    if problems and not skip:
        refuse(str(source.path), problems)
    usable = _usable(str(source.path), kept)
    if len(usable) < len(kept):
        wanted = set(usable)
        images = images[[row in wanted for row in kept]]
    classes = tuple(sorted({row.label for row in usable}))
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([number[row.label] for row in usable], np.int64)
    counts = Counter(row.part for row in usable)
    borders = accumulate((counts[part] for part in PARTS), initial=0)
    train, val, test = (Split(images[start:stop], labels[start:stop]) for start, stop in pairwise(borders))
    name = source.path.resolve().name
    return ImageData(name, classes, images.shape[-1], train, val, test, flip=True, left_out=tuple(problems))


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


def _decoded(
    source: Source, seed: int, resolution: int | None
) -> tuple[Listing, Plan, dict[str, str], NDArray[np.uint8]]:
    """What is there, how it is arranged, why some images failed, and the pixels of the others, from the cache."""
    where = str(source.path)
    key = _digest([str(source.path.resolve()), seed, resolution])
    stamp = _digest([FORM, source.stamp()])
    kept = read_cache(key, stamp)
    if kept is not None:
        about, images = kept
        stored = about["listing"]
        listing = Listing(tuple(stored["images"]), tuple(stored["folders"]), stored["refused"])
        return listing, arrange(listing, seed, where), about["failed"], images
    listing = source.listing()
    plan = arrange(listing, seed, where)
    names = [row.name for row in plan.rows]
    size = resolution or _own_resolution(source, names)
    _check_memory(where, len(names), size)
    images, failed = _pixels(source, names, size)
    about = {
        "listing": {
            "images": listing.images,
            "folders": listing.folders,
            "refused": dict(listing.refused),
        },
        "failed": failed,
    }
    write_cache(key, stamp, about, images)
    return listing, plan, failed, images


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


def _check_memory(where: str, count: int, size: int) -> None:
    memory, needed = memory_bytes(), count * 3 * size * size
    if memory is None:
        return
    bound = memory // MEMORY_SHARE
    if needed <= bound:
        return
    fitting = int((bound / (3 * count)) ** 0.5) // RESOLUTION_STEP * RESOLUTION_STEP
    advice = f"choose smaller ones with --resolution {fitting}" if fitting else "take fewer"
    raise InputError(
        f"{where}: {count:,} images of {size} x {size} pixels take {needed / 1e9:.1f} GB, more than half of this "
        f"machine's memory of {memory / 1e9:.1f} GB; {advice}."
    )


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:32]
