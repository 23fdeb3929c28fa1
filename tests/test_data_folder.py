"""A folder of one's own images: layouts, splits, what is refused, and the cache."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnas.data import ImageData, Split, load_data, photos, search_resolution
from mnas.data.stream import StreamedSplit
from mnas.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached images, one of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mnas" / "images"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "photos"


def paint(path: Path, number: int = 0, size: tuple[int, int] = (8, 8)) -> None:
    """A picture whose colour is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(path)


def fill(folder: Path, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        paint(folder / f"{number:04}.png", number)


def numbers(split: Split) -> list[int]:
    """Of the pictures in a split, sorted."""
    return sorted((split.images[:, 0, 0, 0] + 256 * split.images[:, 1, 0, 0].astype(int)).tolist())


def counts(data: ImageData) -> list[list[int]]:
    return [
        np.bincount(split.labels, minlength=len(data.classes)).tolist()
        for split in (data.train, data.val, data.test)
    ]


def four_classes(folder: Path) -> None:
    for label, count, first in (("cat", 10, 0), ("dog", 15, 100), ("bird", 4, 200), ("fox", 3, 300)):
        fill(folder / label, count, first)


def test_folders_of_classes_are_split_by_class(folder: Path) -> None:
    four_classes(folder)
    data = load_data(str(folder))
    assert data.classes == ("bird", "cat", "dog", "fox")
    # a fifth of 4, 10, 15, 3, rounded, for validation and for test
    assert counts(data) == [[2, 6, 9, 1], [1, 2, 3, 1], [1, 2, 3, 1]]
    everything = [number for split in (data.train, data.val, data.test) for number in numbers(split)]
    assert sorted(everything) == [*range(10), *range(100, 115), *range(200, 204), *range(300, 303)]
    assert (data.name, data.flip, data.left_out) == ("photos", True, ())
    assert data.train.images.shape == (18, 3, 32, 32)
    for split in (data.train, data.val, data.test):  # the label is that of the picture's folder
        found = split.images[:, 0, 0, 0] + 256 * split.images[:, 1, 0, 0].astype(int)
        assert [[1, 2, 0, 3][number // 100] for number in found] == split.labels.tolist()


def test_a_split_hardly_moves_when_an_image_is_added(folder: Path) -> None:
    four_classes(folder)
    before = load_data(str(folder))
    for number in range(115, 120):
        paint(folder / "dog" / f"{number:04}.png", number)
        after = load_data(str(folder))
        for one, two in ((before.test, after.test), (before.val, after.val)):
            lost = set(numbers(one)) - set(numbers(two))
            assert len(lost) <= 2
            assert all(100 <= one_lost < 200 for one_lost in lost)
        before = after


def test_the_seed_and_the_name_of_the_folder(folder: Path) -> None:
    four_classes(folder)
    data = load_data(str(folder))
    shutil.copytree(folder, folder.with_name("copy") / "inner" / "photos")
    wrapped = load_data(str(folder.with_name("copy")))
    assert numbers(wrapped.test) == numbers(data.test)
    assert wrapped.classes == data.classes
    assert numbers(load_data(str(folder), seed=1).test) != numbers(data.test)


def test_splits_that_are_given_are_kept(folder: Path) -> None:
    for first, part in enumerate(("train", "valid", "test")):
        for second, label in enumerate(("cat", "dog")):
            fill(folder / part / label / "deeper", 2 + first, 100 * first + 10 * second)
    data = load_data(str(folder))
    assert data.classes == ("cat", "dog")
    assert numbers(data.train) == [0, 1, 10, 11]
    assert numbers(data.val) == [100, 101, 102, 110, 111, 112]
    assert numbers(data.test) == [200, 201, 202, 203, 210, 211, 212, 213]
    assert counts(data) == [[2, 2], [3, 3], [4, 4]]


@pytest.mark.parametrize("given", ["val", "test"])
def test_a_missing_split_comes_out_of_train(folder: Path, given: str) -> None:
    for label, first in (("cat", 0), ("dog", 100)):
        fill(folder / "train" / label, 10, first)
        fill(folder / given / label, 5, first + 50)
    data = load_data(str(folder))
    kept, made = (data.val, data.test) if given == "val" else (data.test, data.val)
    assert numbers(kept) == [*range(50, 55), *range(150, 155)]
    assert np.bincount(made.labels).tolist() == [2, 2]
    assert sorted([*numbers(data.train), *numbers(made)]) == [*range(10), *range(100, 110)]


def test_train_alone_is_split_like_folders_of_classes(folder: Path) -> None:
    four_classes(folder / "train")
    data = load_data(str(folder))
    assert counts(data) == [[2, 6, 9, 1], [1, 2, 3, 1], [1, 2, 3, 1]]


def test_train_may_be_a_class(folder: Path) -> None:
    for label, first in (("bus", 0), ("train", 100)):
        fill(folder / label, 5, first)
    assert load_data(str(folder)).classes == ("bus", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), "no folders of classes: expected FOLDER/CLASS/IMAGE.*found no images"),
        (
            ("a.png", "b.png", "c.png", "d.png"),
            r"found 4 images outside any class \(a.png, b.png, c.png, \.\.\.\)",
        ),
        (("cat/1.png", "cat/2.png", "cat/3.png"), "a single class, cat: a classifier needs at least 2"),
        (("train/cat/1.png", "train/dog/1.png", "val/1.png"), "unclear.*found train beside val"),
        (("val/cat/1.png", "test/cat/1.png"), "unclear.*found test, val without train"),
        (("cat/1.png", "dog/1.png"), "2 classes without an image in val: cat, dog; 2 classes .* in test"),
    ],
)
def test_other_layouts_teach_what_is_expected(folder: Path, files: tuple[str, ...], message: str) -> None:
    folder.mkdir()
    for file in files:
        paint(folder / file)
    with pytest.raises(InputError, match=message):
        load_data(str(folder))


def test_everything_wrong_is_counted_and_named_at_once_and_skipped_when_asked(folder: Path) -> None:
    four_classes(folder)
    for name in ("a", "b", "c"):
        (folder / "cat" / f"{name}.jpg").write_text("no image")
    (folder / "dog" / "clip.gif").write_bytes(b"GIF89a")
    (folder / "empty").mkdir()
    paint(folder / "rare" / "1.png", 400)
    paint(folder / "loose.png")
    with pytest.raises(InputError) as caught:
        load_data(str(folder))
    reason = "not a JPEG, PNG, BMP or WebP image"
    problems = (
        f"4 files cannot be read: cat/a.jpg ({reason}), cat/b.jpg ({reason}), cat/c.jpg ({reason}), ...",
        "1 image outside any class folder: loose.png",
        "1 class without an image: empty",
        "1 class without an image in val: rare",
        "1 class without an image in test: rare",
    )
    assert str(caught.value) == (
        f"{folder} cannot be used as it is: {'; '.join(problems)}. Mend this, or leave out what cannot be used with "
        f"--skip-unreadable."
    )
    data = load_data(str(folder), skip_unreadable=True)
    assert data.left_out == problems
    assert data.classes == ("bird", "cat", "dog", "fox", "rare")
    assert [sum(part) for part in zip(*counts(data), strict=True)] == [4, 10, 15, 3, 1]


def test_a_class_that_training_never_sees_is_left_out_only_when_asked(folder: Path) -> None:
    for part in ("train", "val", "test"):
        for number, label in enumerate(("cat", "dog")):
            fill(folder / part / label, 2, 10 * number)
    fill(folder / "val" / "elk", 2, 50)
    with pytest.raises(
        InputError, match=r"1 class without an image in train: elk; 1 class .* in test: elk\. "
    ):
        load_data(str(folder))
    data = load_data(str(folder), skip_unreadable=True)
    assert data.classes == ("cat", "dog")
    assert numbers(data.val) == [0, 1, 10, 11]
    assert data.val.labels.tolist() == [0, 0, 1, 1]


def test_hidden_files_and_links_that_loop_are_passed_over(folder: Path) -> None:
    four_classes(folder)
    before = load_data(str(folder))
    (folder / ".git").mkdir()
    (folder / ".hidden.png").write_text("no image")
    (folder / "cat" / "._0001.png").write_text("no image")
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / "cat" / "again").symlink_to(folder)
    (folder / "cat" / "self.png").symlink_to("self.png")
    os.mkfifo(folder / "cat" / "pipe.png")
    after = load_data(str(folder))
    assert [numbers(split) for split in (after.train, after.val, after.test)] == [
        numbers(split) for split in (before.train, before.val, before.test)
    ]
    (folder / "cat" / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(
        InputError, match=r"1 file cannot be read: cat/gone\.png \(a link that leads nowhere\)"
    ):
        load_data(str(folder))


def test_links_to_elsewhere_are_followed(folder: Path, tmp_path: Path) -> None:
    four_classes(tmp_path / "elsewhere")
    folder.mkdir()
    for label in ("cat", "dog"):
        (folder / label).symlink_to(tmp_path / "elsewhere" / label)
    assert counts(load_data(str(folder)))[0] == [6, 9]


def test_the_size_is_the_median_of_the_images_or_what_was_asked_for(folder: Path) -> None:
    for label in ("cat", "dog"):
        for number, size in enumerate([(40, 90), (50, 60), (70, 65)]):
            paint(folder / label / f"{number}.png", number, size)
    data = load_data(str(folder))  # 40, 50, 65: 50, up to a multiple of 32
    assert (data.native_size, search_resolution(data)) == (64, 64)
    data = load_data(str(folder), resolution=20)
    assert (data.native_size, data.train.images.shape[2:]) == (20, (20, 20))


def test_large_images_are_kept_at_224(folder: Path) -> None:
    for label in ("cat", "dog"):
        for number in range(3):
            paint(folder / label / f"{number}.jpg", number, (400, 300))
    assert load_data(str(folder)).native_size == 224


def test_more_than_half_of_the_memory_stays_in_its_files(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_classes(folder)
    memory = {"SC_PHYS_PAGES": 200, "SC_PAGE_SIZE": 4096}  # half of it holds 32 images of 65 x 65
    monkeypatch.setattr("os.sysconf", memory.__getitem__)
    assert isinstance(load_data(str(folder), resolution=96).train, StreamedSplit)
    assert isinstance(load_data(str(folder), resolution=64).train, Split)


def test_the_cache_is_used_and_may_be_deleted(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    four_classes(folder)
    first = load_data(str(folder))
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(photos, "decode_all", None)
        again = load_data(str(folder))
    np.testing.assert_array_equal(again.train.images, first.train.images)
    np.testing.assert_array_equal(again.train.labels, first.train.labels)
    kept.unlink()
    assert numbers(load_data(str(folder)).val) == numbers(first.val)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_cache_is_decoded_anew(folder: Path, cache: Path, damage: str) -> None:
    four_classes(folder)
    first = load_data(str(folder))
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    middle = len(whole) // 2
    kept.write_bytes(
        {
            "truncated": whole[:middle],
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "empty": b"",
            "text": b"no cache",
        }[damage]
    )
    again = load_data(str(folder))
    np.testing.assert_array_equal(again.train.images, first.train.images)
    assert kept.read_bytes() == whole
    assert [file.name for file in cache.iterdir()] == [kept.name]


def test_a_changed_image_is_decoded_anew_in_place_of_the_old_cache(folder: Path, cache: Path) -> None:
    four_classes(folder)
    load_data(str(folder))
    paint(folder / "cat" / "0003.png", 99)
    os.utime(folder / "cat" / "0003.png", ns=(1, 1))
    data = load_data(str(folder))
    assert 99 in [*numbers(data.train), *numbers(data.val), *numbers(data.test)]
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_done_without(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    four_classes(folder)
    monkeypatch.setattr("mnas.data.cache.np.savez", full)
    assert counts(load_data(str(folder)))[0] == [2, 6, 9, 1]
    assert list(cache.iterdir()) == []
