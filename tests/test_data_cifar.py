"""CIFAR from its binary files; the python version is never unpickled."""

from pathlib import Path

import numpy as np
import pytest

from mnas.data import load_data
from mnas.errors import InputError

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def records(labels: list[int], first: int, prefix: bytes = b"") -> bytes:
    """One record a label: red is the number of the record, green 2, blue 3."""
    return b"".join(
        prefix + bytes([label, *[first + number] * 1024, *[2] * 1024, *[3] * 1024])
        for number, label in enumerate(labels)
    )


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(records(list(range(10)), 10 * number))
    (folder / "test_batch.bin").write_bytes(records([3, 1], 100))
    return folder


def test_cifar10(ten: Path) -> None:
    for place in (ten, ten.parent):
        data = load_data(f"cifar10:{place}")
        assert (data.name, data.classes, data.native_size, data.flip) == ("cifar10", TEN, 32, True)
        assert [np.bincount(split.labels, minlength=10).tolist() for split in (data.train, data.val)] == [
            [4] * 10,
            [1] * 10,
        ]
        red = np.concatenate([data.train.images, data.val.images])[:, 0, 0, 0]
        assert sorted(red.tolist()) == list(range(50))
        np.testing.assert_array_equal(data.train.labels, data.train.images[:, 0, 0, 0] % 10)
        assert data.test.labels.tolist() == [3, 1]
        assert data.test.images[1, :, 31, 31].tolist() == [101, 2, 3]


def test_cifar100_has_its_fine_classes(tmp_path: Path) -> None:
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"name{number}" for number in range(100)))
    (tmp_path / "train.bin").write_bytes(records([99] * 10, 0, prefix=b"\x07"))
    (tmp_path / "test.bin").write_bytes(records([98], 50, prefix=b"\x07"))
    data = load_data(f"cifar100:{tmp_path}")
    assert (len(data.train), len(data.val), len(data.classes)) == (8, 2, 100)
    assert (data.train.labels[0], data.test.labels[0], data.test.images[0, 0, 0, 0]) == (99, 98, 50)


def test_the_python_version_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    with pytest.raises(InputError, match=r"python version: pickles can run code.*cifar-10-binary\.tar\.gz"):
        load_data(f"cifar10:{tmp_path}")
    with pytest.raises(InputError, match="python version"):
        load_data(f"cifar10:{tmp_path / 'cifar-10-batches-py'}")
    with pytest.raises(InputError, match=r"missing train\.bin, test\.bin, fine_label_names\.txt\. Unpack"):
        load_data(f"cifar100:{tmp_path}")


@pytest.mark.parametrize("content", [b"", records([1], 0)[:-1], records([1], 0) + b"x"])
def test_damaged_files_are_named(ten: Path, content: bytes) -> None:
    (ten / "data_batch_3.bin").write_bytes(content)
    with pytest.raises(InputError, match=r"data_batch_3\.bin is damaged: expected records of 3073 bytes"):
        load_data(f"cifar10:{ten}")
