"""A tar of images: as its folder, read as a stream, whatever its author wanted."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnas.data import archive as module
from mnas.data import load_data
from mnas.data.archive import Archive
from mnas.errors import InputError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, shade in (("cat", 0), ("dog", 100)):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), shade + number).save(tmp_path / "photos" / label / f"{number}.png")
    return tmp_path / "photos"


def picture(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), shade).save(file, "PNG")
    return file.getvalue()


def add(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for field, value in fields.items():
        setattr(member, field, value)
    tar.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"])
def test_an_archive_reads_like_its_folder(folder: Path, suffix: str) -> None:
    path = folder.with_name(f"packed{suffix}")
    compression = {"z": "gz"}.get(suffix[-1], "") if suffix != ".tar" else ""
    compression = "xz" if "x" in suffix else "gz" if "g" in suffix else compression
    with tarfile.open(path, f"w:{compression}") as tar:
        tar.add(folder, "./photos")
    data, packed = load_data(str(folder)), load_data(str(path))
    assert packed.name == path.name
    assert packed.classes == data.classes == ("cat", "dog")
    for one, two in ((data.train, packed.train), (data.val, packed.val), (data.test, packed.test)):
        np.testing.assert_array_equal(one.images, two.images)
        np.testing.assert_array_equal(one.labels, two.labels)


def test_the_cache_spares_the_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder.with_name("packed.tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "photos")
    first = load_data(str(path))
    monkeypatch.setattr(Archive, "_open", None)
    np.testing.assert_array_equal(load_data(str(path)).train.images, first.train.images)


def test_hostile_names_links_and_devices_are_passed_over(folder: Path) -> None:
    path = folder.with_name("hostile.tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")
        for name in ("../cat/evil.png", "cat/../../evil.png", "/cat/evil.png", "cat/.evil.png"):
            add(tar, name, picture())
        add(tar, "cat/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "cat/hard.png", type=tarfile.LNKTYPE, linkname="cat/0.png")
        add(tar, "cat/device.png", type=tarfile.CHRTYPE)
        add(tar, "cat/pipe.png", type=tarfile.FIFOTYPE)
        add(tar, "cat/0.png", picture(250))  # a second of that name: the first counts
    listing = Archive(path).listing()
    assert listing.images == tuple(f"{label}/{number}.png" for label in ("cat", "dog") for number in range(5))
    assert listing.folders == ("cat", "dog")
    before = sorted(folder.parent.rglob("*"))
    data = load_data(str(path))
    assert max(split.images[split.labels == 0].max() for split in (data.train, data.val, data.test)) == 4
    assert [file for file in sorted(folder.parent.rglob("*")) if "cache" not in file.parts] == before


def test_folders_need_no_members_of_their_own(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "bare.tar", "w") as tar:
        for label in ("cat", "dog"):
            for number in range(3):
                add(tar, f"{label}/{number}.png", picture())
        add(tar, "empty", type=tarfile.DIRTYPE)
        add(tar, "dog/a.heic", b"...")
    with pytest.raises(
        InputError, match=r"1 file cannot be read: dog/a\.heic \(\.heic is not read.*1 class .*: empty"
    ):
        load_data(str(tmp_path / "bare.tar"))


def test_an_archive_that_grows_beyond_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL_BYTES", 1000)
    with tarfile.open(tmp_path / "bomb.tar.gz", "w:gz") as tar:
        add(tar, "cat/0.png", bytes(10_000_000))
    with pytest.raises(InputError, match=r"grows beyond .* MiB when it is decompressed"):
        load_data(str(tmp_path / "bomb.tar.gz"))


def test_a_file_that_is_too_large_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FILE_BYTES", 10_000)
    path = folder.with_name("large.tar")
    with tarfile.open(path, "w") as tar:
        tar.add(folder, ".")
        add(tar, "cat/large.png", bytes(10_001))
    with pytest.raises(InputError, match=r"1 file cannot be read: cat/large\.png \(larger than 256 MiB\)"):
        load_data(str(path))
    data = load_data(str(path), skip_unreadable=True)
    assert len(data.train) + len(data.val) + len(data.test) == 10


@pytest.mark.parametrize("damage", ["truncated", "text"])
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_a_damaged_archive_is_one_clear_error(folder: Path, suffix: str, damage: str) -> None:
    path = folder.with_name(f"bad.tar{suffix}")
    with tarfile.open(path, f"w:{suffix[1:]}") as tar:
        tar.add(folder, ".")
        add(tar, "dog/noise.bin", np.random.default_rng(0).bytes(5000))
    whole = path.read_bytes()
    path.write_bytes(
        whole[: len(whole) - 4000 if suffix else 9 * 512] if damage == "truncated" else b"no archive" * 99
    )
    with pytest.raises(InputError, match=r"bad\.tar"):
        load_data(str(path))
