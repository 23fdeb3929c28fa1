"""A whole search on a folder of one's own images."""

import tomllib
from pathlib import Path

import pytest
from commands import MODELS, mnas, result_of, write_photos

SEARCH = (
    "search",
    "--data",
    "photos",
    "--target-latency",
    "20ms",
    "--latency",
    "models:Latency",
    "--out",
    "run",
)


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "models.py").write_text(MODELS)
    write_photos(tmp_path / "photos", 30, 24, "jpg")
    (tmp_path / "photos" / "red" / "broken.jpg").write_text("no image")
    return tmp_path


def test_a_search_on_a_folder(work: Path) -> None:
    refused = mnas(work, *SEARCH, code=2)
    assert "1 file cannot be read: red/broken.jpg" in refused.stderr
    assert "--skip-unreadable" in refused.stderr
    assert not (work / "run").exists()

    more = ("--skip-unreadable", "--trials", "2", "--epochs", "1", "--json")
    result = result_of(mnas(work, *SEARCH, *more))
    assert (result["status"], result["trials"]) == ("done", 2)
    baseline = result["baseline"]
    assert baseline["resolution"] == 32
    # of 11 names of red, 2 are for validation; by its hash, the broken one is one of them
    assert "trained 1 epoch on photos (19 images), scored on 5 validation images" in baseline["proxy_source"]
    assert "trained 4 epochs on photos (19 images, preset short)" in baseline["accuracy_source"]
    assert 0 <= baseline["test_accuracy"] <= 1
    config = tomllib.loads((work / "run" / "config.toml").read_text())
    # from the root on, so that it can be resumed from any folder
    assert (config["data"], config["skip_unreadable"]) == (str(work / "photos"), True)
    assert any("broken" in text for text in result["warnings"])


def test_the_flag_belongs_to_data(work: Path) -> None:
    done = mnas(work, "search", "--target-latency", "20ms", "--skip-unreadable", code=2)
    assert "--skip-unreadable belongs to --data" in done.stderr
