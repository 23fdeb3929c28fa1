"""Finalists trained for longer: cut off anywhere, chosen by what they became, and what is said where one fails."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import MODELS, Said, write_photos

from mnas.config import make_config
from mnas.errors import SearchError
from mnas.search import resume_search, start_search
from mnas.trainer import loop
from mnas.training import TrainingError
from mnas.weights import load_weights

FLAGS = {"latency": "finals_models:Latency"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with thirty images of three colours and a latency model that answers at once."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "finals_models.py").write_text(MODELS)
    write_photos(tmp_path / "photos", 32, 32, "png")
    return tmp_path


def search(work: Path, name: str, reporter: Said) -> dict[str, Any]:
    asked = {
        "data": "photos",
        "target_latency": "0.5ms",
        "trials": 3,
        "ask_batch": 3,
        "epochs": 1,
        "finals": 2,
    }
    return start_search(make_config({**asked, **FLAGS, "final_epochs": 3}), work / name, reporter)


class Interrupts(Said):
    """Ctrl-C in the second epoch of the second finalist."""

    finalist = 0

    def stage(self, name: str) -> None:
        super().stage(name)
        self.finalist += name.startswith("training finalist")

    def progress(self, done: int, total: int, text: str) -> None:
        if self.finalist == 2 and text.startswith("epoch 2"):
            raise KeyboardInterrupt


def test_cut_off_in_the_middle_it_ends_as_if_it_had_not_been(work: Path) -> None:
    whole = search(work, "whole", Said())
    assert whole["status"] == "done"
    cut = search(work, "cut", Interrupts())
    assert cut["status"] == "interrupted"
    (first,) = (work / "cut" / "finals").glob("*/model.safetensors")
    before = first.stat().st_mtime_ns
    resumed = resume_search(work / "cut", FLAGS, Said())
    assert first.stat().st_mtime_ns == before  # trained once
    for name in ("architecture", "accuracy", "val_accuracy", "proxy_accuracy", "accuracy_source"):
        assert resumed["baseline"][name] == whole["baseline"][name]
    for file in (
        "baseline.safetensors",
        *(str(p.relative_to(work / "whole")) for p in (work / "whole").glob("finals/*/*")),
    ):
        expected, found = load_weights(work / "whole" / file), load_weights(work / "cut" / file)
        assert all(np.array_equal(found[key], value) for key, value in expected.items())
    assert not list((work / "cut").glob("finals/*/checkpoint*"))


@contextlib.contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, calls: int) -> Any:
    """So many of the longer trainings diverge."""
    left = [calls]
    real = loop.fit

    def fit(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] >= 0:
            raise TrainingError("the loss is nan")
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("mnas.trainer.fit", fit)
        yield


def test_a_finalist_that_cannot_be_trained_is_left_out_and_said(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = Said()
    with failing(monkeypatch, 1):
        result = search(work, "one", reporter)
    assert any("could not be trained for longer: the loss is nan" in text for text in reporter.warnings)
    rows = [row for row in result["finalists"] if "trained_accuracy" in row]
    assert [row["architecture"] for row in rows] == [result["baseline"]["architecture"]]
    assert result["baseline"]["val_accuracy"] == rows[0]["trained_accuracy"]


def test_without_any_that_can_be_trained_the_search_says_so(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        failing(monkeypatch, 2),
        pytest.raises(SearchError, match=r"none of the finalists .* the loss is nan") as e,
    ):
        search(work, "none", Said())
    assert "3 trials are kept" in e.value.__notes__[0]
