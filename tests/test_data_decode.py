"""Pixels of every kind of image file, with values worked out by hand, and bytes that are no image."""

import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from mnas.data.decode import UnreadableError, decode, decode_all, shorter_side

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8))


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand (RFC 2083): Pillow writes none of 16 bits a colour, and none of a size that it is not."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def colour_of(pixels: np.ndarray) -> list[int]:
    """The one colour that all pixels have."""
    assert pixels.dtype == np.uint8
    assert (pixels == pixels[:, :1, :1]).all()
    return [int(channel) for channel in pixels[:, 0, 0]]


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})])
@pytest.mark.parametrize("size", [(40, 30), (7, 301), (1, 1), (16, 16), (1, 500)])
def test_a_solid_colour_stays_exactly_that(kind: str, options: dict[str, Any], size: tuple[int, int]) -> None:
    pixels = decode(saved(Image.new("RGB", size, (10, 200, 30)), kind, **options), 16)
    assert pixels.shape == (3, 16, 16)
    assert colour_of(pixels) == [10, 200, 30]


def test_a_large_jpeg_keeps_its_colour() -> None:
    content = saved(Image.new("RGB", (900, 700), (10, 200, 30)), "JPEG", quality=95)
    assert np.abs(decode(content, 32).astype(int) - np.array([10, 200, 30])[:, None, None]).max() <= 2


def test_the_middle_square_is_kept() -> None:
    image = Image.new("RGB", (30, 10), GREEN)
    image.paste(RED, (0, 0, 10, 10))
    image.paste(BLUE, (20, 0, 30, 10))
    assert colour_of(decode(saved(image), 10)) == [0, 255, 0]
    assert colour_of(decode(saved(image.transpose(Image.Transpose.ROTATE_90)), 10)) == [0, 255, 0]


def test_shrinking_averages() -> None:
    """Without antialias a chess board of single pixels would come out black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    pixels = decode(saved(Image.fromarray(board)), 8)
    assert np.abs(pixels.astype(int) - 127).max() <= 3


def test_exif_orientation_is_obeyed() -> None:
    """Orientation 6: the camera was turned; what is stored on the left belongs at the top (EXIF 2.3, 4.6.4)."""
    image = Image.new("RGB", (20, 20), RED)
    image.paste(BLUE, (10, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(saved(image, exif=exif), 20)
    assert colour_of(pixels[:, :10]) == [255, 0, 0]
    assert colour_of(pixels[:, 10:]) == [0, 0, 255]


@pytest.mark.parametrize("orientation", range(1, 10))
def test_every_orientation_is_that_of_pillow(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation  # 9 is none that EXIF knows
    content = saved(NOISE, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(BytesIO(content)))
    np.testing.assert_array_equal(decode(content, 40).transpose(1, 2, 0), np.asarray(upright))


def test_a_damaged_exif_does_not_spoil_the_image() -> None:
    content = saved(Image.new("RGB", (9, 9), RED), exif=b"Exif\0\0no exif at all")
    assert colour_of(decode(content, 4)) == [255, 0, 0]


def palette_with_a_hole() -> bytes:
    image = Image.new("P", (6, 6), 1)
    image.putpalette([0, 0, 0, *BLUE])
    return saved(image, transparency=1)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (saved(Image.new("L", (6, 6), 77)), [77, 77, 77]),
        (saved(Image.new("1", (6, 6), 1)), [255, 255, 255]),
        (saved(Image.new("RGBA", (6, 6), (*RED, 0))), [255, 255, 255]),
        (saved(Image.new("RGBA", (6, 6), (*RED, 255))), [255, 0, 0]),
        (saved(Image.new("RGBA", (6, 6), (0, 0, 0, 51))), [204, 204, 204]),  # a fifth of black on white
        (saved(Image.new("LA", (6, 6), (9, 255))), [9, 9, 9]),
        (saved(Image.new("RGB", (6, 6), RED).quantize()), [255, 0, 0]),
        (palette_with_a_hole(), [255, 255, 255]),
        (saved(Image.fromarray(np.full((6, 6), 0xABCD, np.uint16))), [0xAB] * 3),
        (png(1, 1, 16, 2, b"\0" + bytes.fromhex("1234abcdff00")), [0x12, 0xAB, 0xFF]),
    ],
    ids=[
        "grey",
        "bits",
        "clear",
        "opaque",
        "veil",
        "grey+alpha",
        "palette",
        "palette+hole",
        "grey16",
        "rgb16",
    ],
)
def test_every_mode_becomes_three_colours(content: bytes, expected: list[int]) -> None:
    assert colour_of(decode(content, 4)) == expected


def test_cmyk() -> None:
    content = saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=95)
    assert np.abs(decode(content, 8).astype(int) - np.array([0, 255, 255])[:, None, None]).max() <= 3


@pytest.mark.parametrize(("kind", "options"), [("WEBP", {"lossless": True}), ("PNG", {})])
def test_of_an_animation_the_first_frame_counts(kind: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in (GREEN, RED)]
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert colour_of(decode(content, 6)) == [0, 255, 0]


BAD = {
    "empty": b"",
    "text": b"this is no image",
    "gif": saved(Image.new("RGB", (6, 6)), "GIF"),
    "truncated png": saved(NOISE)[:-900],
    "truncated jpeg": saved(NOISE, "JPEG")[:-300],
    "damaged png": saved(NOISE)[:60] + bytes(50) + saved(NOISE)[110:],
    "bomb": png(60_000, 60_000, 8, 2, b""),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_what_is_no_image_is_one_kind_of_error(content: bytes) -> None:
    with pytest.raises(UnreadableError, match=r"not a JPEG|damaged: "):
        decode(content, 8)


def test_shorter_side() -> None:
    assert shorter_side(saved(Image.new("L", (300, 41)))) == 41
    with pytest.raises(UnreadableError):
        shorter_side(b"")


def test_many_at_once_keep_their_names() -> None:
    """More than one batch; a reason instead of bytes is handed on."""
    files = [(str(level), saved(Image.new("L", (2, 2), level))) for level in range(150)]
    found = dict(decode_all([*files, ("gone", "no such file"), ("text", b"text")], 2))
    assert found.pop("gone") == "no such file"
    assert found.pop("text") == "not a JPEG, PNG, BMP or WebP image"
    assert {name: colour_of(np.asarray(pixels))[0] for name, pixels in found.items()} == {
        str(level): level for level in range(150)
    }
