"""Data sets: splits that share nothing and never move, and idx files that are read or refused."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mnas.data import ImageData, Split, load_data, read_idx, search_resolution
from mnas.errors import InputError, UnknownNameError

Splits = tuple[Split, Split, Split]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


def splits(data: ImageData) -> Splits:
    return data.train, data.val, data.test


def rows(split: Split) -> list[tuple[bytes, int]]:
    return [(image.tobytes(), int(label)) for image, label in zip(split.images, split.labels, strict=True)]


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0))


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    """A Fashion-MNIST of 120 + 20 images; image i is filled with the number i (of its part)."""
    for part, count in (("train", 120), ("t10k", 20)):
        images = np.broadcast_to(np.arange(count)[:, None, None], (count, 28, 28))
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return tmp_path


def test_digits_are_all_there_once_and_scaled_to_bytes(digits: ImageData) -> None:
    original = load_digits()
    expected = sorted(
        (bytes(int(pixel * 255 / 16 + 0.5) for pixel in image.ravel()), int(label))
        for image, label in zip(original.images, original.target, strict=True)
    )
    assert sorted(row for split in splits(digits) for row in rows(split)) == expected
    assert [len(split) for split in splits(digits)] == [1078, 359, 360]
    assert {split.images.shape[1:] for split in splits(digits)} == {(1, 8, 8)}
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert digits.classes == tuple("0123456789")


def test_splits_share_no_image(digits: ImageData) -> None:
    train, val, test = ({image for image, _ in rows(split)} for split in splits(digits))
    assert not train & val
    assert not (train | val) & test


def test_splits_are_stratified(digits: ImageData) -> None:
    total = sum(np.bincount(split.labels) for split in splits(digits))
    for split in splits(digits):
        share = total * len(split) / 1797
        # one rounding for the test split, one more for the validation split, the sum of both for the rest
        np.testing.assert_array_less(np.abs(np.bincount(split.labels) - share), 2)


def test_splits_are_the_same_at_every_load_and_the_test_images_for_every_seed(digits: ImageData) -> None:
    again, other = load_data("digits"), load_data("digits", seed=7)
    for one, two in zip(splits(digits), splits(again), strict=True):
        assert rows(one) == rows(two)
    assert rows(other.test) == rows(digits.test)
    assert rows(other.val) != rows(digits.val)
    assert sorted(rows(other.val) + rows(other.train)) == sorted(rows(digits.val) + rows(digits.train))


def test_fashion_mnist_from_its_files(fashion_folder: Path) -> None:
    data = load_data(f"fashion-mnist:{fashion_folder}")
    assert (data.name, data.native_size, len(data.classes)) == ("fashion-mnist", 28, 10)
    assert [len(split) for split in splits(data)] == [100, 20, 20]
    assert np.bincount(data.val.labels).tolist() == [2] * 10
    numbers = [split.images[:, 0, 0, 0] for split in splits(data)]
    assert sorted([*numbers[0], *numbers[1]]) == list(range(120))
    assert numbers[2].tolist() == list(range(20))
    np.testing.assert_array_equal(data.train.labels, numbers[0] % 10)


def test_unpacked_files_will_do(fashion_folder: Path) -> None:
    packed = load_data(f"fashion-mnist:{fashion_folder}")
    for path in list(fashion_folder.iterdir()):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert rows(load_data(f"fashion-mnist:{fashion_folder}").val) == rows(packed.val)


def test_missing_files_are_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.*dataset-fashion-mnist"):
        load_data(f"fashion-mnist:{tmp_path}")


def test_images_and_labels_must_agree(fashion_folder: Path) -> None:
    write_idx(fashion_folder / "t10k-labels-idx1-ubyte.gz", np.zeros(19))
    with pytest.raises(InputError, match=r"20 images in t10k-images-idx3-ubyte\.gz, but 19 labels"):
        load_data(f"fashion-mnist:{fashion_folder}")


def test_a_label_without_a_class_is_refused(fashion_folder: Path) -> None:
    write_idx(fashion_folder / "t10k-labels-idx1-ubyte.gz", np.full(20, 10))
    with pytest.raises(InputError, match="10 classes, but labels from 10 to 10"):
        load_data(f"fashion-mnist:{fashion_folder}")


def test_read_idx_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "hand"
    path.write_bytes(bytes.fromhex("00000803 00000002 00000001 00000003 010203 fdfeff"))
    np.testing.assert_array_equal(read_idx(path, dimensions=3), [[[1, 2, 3]], [[253, 254, 255]]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected it to begin with 00000801, got nothing"),
        ("00000803 00000001 00000001 00000001 07", "expected it to begin with 00000801, got 00000803"),
        ("00000d01 00000001 00000000", "got 00000d01"),
        ("00000801 0000", "not an idx file"),
        ("00000801 00000000", "its header says"),
        ("00000801 ffffffff 01", "its header says"),
        ("00000801 00000003 0102", "promises 3 bytes of data, it has only 2"),
        ("00000801 00000003 01020304", "promises 3 bytes of data, it has more"),
    ],
)
def test_damaged_idx_is_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(bytes.fromhex(content))
    with pytest.raises(InputError, match=message):
        read_idx(path, dimensions=1)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip", "absent"])
def test_damaged_gzip_is_one_clear_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "labels.gz"
    write_idx(path, np.arange(200))
    whole = path.read_bytes()
    match damage:
        case "truncated":
            path.write_bytes(whole[:-20])
        case "flipped":
            path.write_bytes(whole[:40] + bytes([whole[40] ^ 0xFF]) + whole[41:])
        case "not gzip":
            path.write_bytes(gzip.decompress(whole))
        case "absent":
            path.unlink()
    with pytest.raises(InputError, match=r"labels\.gz"):
        read_idx(path, dimensions=1)


def test_unknown_names_teach(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'fashion-mnist'"):
        load_data("fashion_mnist")
    with pytest.raises(UnknownNameError, match=r"Known: cifar10, cifar100, digits, fashion-mnist\. Your own"):
        load_data("photos")
    for name in ("digits:x", "fashion-mnist:", "cifar10", "cifar100:"):
        with pytest.raises(InputError, match="fashion-mnist:DIR, cifar10:DIR or cifar100:DIR"):
            load_data(name)
    for name in ("photos/", "./photos", "photos.tar.gz"):
        with pytest.raises(InputError, match=f"there is no folder and no file {name}"):
            load_data(name)
    (tmp_path / "photos.zip").touch()
    with pytest.raises(
        InputError, match=r"photos\.zip is neither a folder nor a \.tar, \.tar\.gz or \.tar\.xz"
    ):
        load_data(str(tmp_path / "photos.zip"))


@pytest.mark.parametrize(
    ("native", "expected"), [(8, 32), (28, 32), (32, 32), (33, 64), (224, 224), (500, 224)]
)
def test_search_resolution(digits: ImageData, native: int, expected: int) -> None:
    assert search_resolution(replace(digits, native_size=native)) == expected


def test_splits_are_checked(digits: ImageData) -> None:
    images, labels = digits.val.images, digits.val.labels
    with pytest.raises(InputError, match="uint8"):
        Split(images.astype(np.float32), labels)
    with pytest.raises(InputError, match=r"359 images need \(359,\) int64 labels"):
        Split(images, labels[:-1])
    with pytest.raises(InputError, match="one shape"):
        replace(digits, val=Split(images[:, :, 1:], labels))
