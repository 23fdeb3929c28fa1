import os
from pathlib import Path

import pytest

from mnas.errors import RunDirectoryError
from mnas.files import read_json, write_bytes, write_json
from mnas.seeds import derive_seed


def test_seeds_differ_by_purpose_and_number_and_zero_is_a_seed() -> None:
    seeds = [derive_seed(s, p, n) for s in (0, 1) for p in ("trial", "controller") for n in range(50)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 1 << 63 for seed in seeds)
    assert derive_seed(0, "trial", 7) == derive_seed(0, "trial", 7) != derive_seed(0, "trial7")


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirectoryError, match="No space left on device"):
        write_bytes(path, b"half")
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def test_nan_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot read"), (b"{", "not JSON"), (b"x" * 100, "larger")]
)
def test_json_that_cannot_be_read_says_why(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunDirectoryError, match=words):
        read_json(path, max_bytes=50)
