"""From the bytes of an image file to pixels of one shape."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from itertools import islice
from warnings import catch_warnings, simplefilter

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mnas.env import usable_cores
from mnas.errors import InputError

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")  # Pillow is asked for no others, whatever the bytes are
BATCH = 64  # files held in memory at a time, chosen here: 64 photos of 5 MB
# A JPEG is decoded at a fraction that leaves twice the pixels asked for, as `Image.thumbnail` of Pillow does.
REDUCING_GAP = 2
_ORIENTATION = 0x0112  # the EXIF tag, and what undoes each of its values (EXIF 2.3, section 4.6.4)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnreadableError(InputError):
    """Bytes that are no image, or a damaged one."""


def decode(content: bytes, size: int) -> NDArray[np.uint8]:
    """The middle square of an image, resized with antialias (bilinear); the first frame where it is animated.

    Turned as its EXIF orientation says; of 16 bits the upper 8; grey is repeated; transparent lies on white.

    Args:
        content: a JPEG, PNG, BMP or WebP file.
        size: height and width of the result in pixels.

    Returns:
        (3, size, size) uint8, red, green, blue.

    Raises:
        UnreadableError: another format, damaged, truncated, or of more than 178 megapixels.
    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            image.draft(None, (REDUCING_GAP * size, REDUCING_GAP * size))
            image.load()
            colours = _colours(_upright(image))
        side = min(colours.size)
        left, top = (colours.width - side) // 2, (colours.height - side) // 2
        box = (left, top, left + side, top + side)
        square = colours.resize((size, size), Image.Resampling.BILINEAR, box)
        return np.asarray(square).transpose(2, 0, 1)
    except UnidentifiedImageError as error:
        raise UnreadableError("not a JPEG, PNG, BMP or WebP image") from error
    except Exception as error:  # a damaged file can make Pillow raise anything
        raise UnreadableError(f"damaged: {error or type(error).__name__}") from error


def shorter_side(content: bytes) -> int:
    """In pixels, from the file's header; raises UnreadableError as `decode` does."""
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            return min(image.size)
    except Exception as error:
        raise UnreadableError(f"no image: {type(error).__name__}") from error


def decode_all(
    contents: Iterable[tuple[str, bytes | str]], size: int
) -> Iterator[tuple[str, NDArray[np.uint8] | str]]:
    """Each name with its pixels (see `decode`), or with the reason why there are none; one thread a core."""
    rest = iter(contents)
    with ThreadPoolExecutor(usable_cores()) as pool, catch_warnings():
        simplefilter("ignore")  # Pillow's, of files that it reads all the same
        while batch := list(islice(rest, BATCH)):
            names, files = zip(*batch, strict=True)
            yield from zip(names, pool.map(partial(attempt, size=size), files), strict=True)


def attempt(content: bytes | str, size: int) -> NDArray[np.uint8] | str:
    """The pixels (see `decode`), or the reason why there are none; a text for content is one already."""
    if isinstance(content, str):
        return content
    try:
        return decode(content, size)
    except UnreadableError as error:
        return str(error)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF says; as it is stored where there is none, or a damaged one."""
    try:
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # bytes of a camera or an editor, which can make Pillow raise anything
        return image
    return image if turn is None else image.transpose(turn)


def _colours(image: Image.Image) -> Image.Image:
    """Eight bits of red, green and blue."""
    if image.mode.startswith("I"):  # grey of 16 bits
        upper = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(upper.clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.getbands()[-1] in ("A", "a") or "transparency" in image.info:
        shown = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown).convert("RGB")
    return image.convert("RGB")
