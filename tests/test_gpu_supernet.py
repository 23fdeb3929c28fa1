"""Shared weights on a GPU, and workers that train there. Needs CUDA."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import MODELS, mnas, result_of

from mnas.config import make_config
from mnas.data import ImageData, load_data
from mnas.search import start_search
from mnas.search.reporting import Quiet
from mnas.search_space import SearchSpace
from mnas.search_space.space_file import space_from_file
from mnas.supernet import Recipe, SupernetAccuracy, train_supernet

if not torch.cuda.is_available():
    pytest.skip("needs a GPU: torch.cuda.is_available() is False", allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_thread")]

SPACE_FILE = """
stem_channels = 8
head_channels = 32
stem_stride = 1

[[stages]]
op = "mbconv"
kernel = [3, 5]
stride = 2
out_channels = [8, 16]
repeats = [1, 2]
expansion = [2, 3]
se_ratio = [0.0, 0.25]
"""
# On what its candidates are trained, and how.
ON_GPU = """
import os, torch

class OnGpu(Accuracy):
    expensive = True
    def evaluate(self, specs, *, seed):
        name = torch.cuda.get_device_name(torch.ones(1, device="cuda").device)
        (found,) = super().evaluate(specs, seed=seed)
        return [AccuracyEstimate(found.value, found.std, f"{os.environ['CUDA_VISIBLE_DEVICES']}:{name}")]
"""


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    file = tmp_path_factory.mktemp("space") / "own.toml"
    file.write_text(SPACE_FILE)
    return space_from_file(file, resolution=8, num_classes=10)


class StoppedError(Exception):
    """A training is stopped as a kill would stop it."""


def stops(at: str) -> Callable[[str], None]:
    def say(text: str) -> None:
        if at in text:
            raise StoppedError

    return say


def test_stopped_and_resumed_equals_uninterrupted(
    space: SearchSpace, digits: ImageData, tmp_path: Path
) -> None:
    recipe = Recipe(epochs=2, batch_size=128)
    whole = train_supernet(space, digits, recipe, device="cuda")
    with pytest.raises(StoppedError):  # before the epoch is kept: the last checkpoint is a step's
        train_supernet(
            space, digits, recipe, device="cuda", folder=tmp_path, say=stops("epoch 1 of 2"), checkpoint_s=0.0
        )
    resumed = train_supernet(space, digits, recipe, device="cuda", folder=tmp_path)
    torch.testing.assert_close(
        dict(resumed.named_parameters()), dict(whole.named_parameters()), rtol=0, atol=0
    )


def test_networks_score_alike_on_both_devices(space: SearchSpace, digits: ImageData, tmp_path: Path) -> None:
    spec = space.decode(space.first)
    found = {}
    for device in ("cuda", "cpu"):  # the second loads what the first has trained
        model = SupernetAccuracy(space, digits, supernet_epochs=20, device=device, threads=1)
        model.prepare(tmp_path, lambda text: None)
        (found[device],) = model.evaluate([spec], seed=0)
    assert found["cuda"].value >= 0.8
    assert found["cuda"].value == pytest.approx(found["cpu"].value, abs=0.01)


def search_config(**more: object) -> dict[str, object]:
    """Two workers share whatever GPUs there are."""
    return {
        "data": "digits",
        "target_madds": "4M",
        "trials": 4,
        "finals": 1,
        "final_epochs": 4,
        "train_device": "auto",
        "executor": "processes",
        "workers": 2,
        **more,
    }


def test_workers_train_candidates_on_the_gpu(tmp_path: Path) -> None:
    result = start_search(make_config(search_config(epochs=2)), tmp_path / "run", Quiet())
    assert (result["status"], result["trials"]) == ("done", 4)
    assert result["baseline"]["test_accuracy"] >= 0.5


def test_workers_score_on_shared_weights_on_the_gpu(tmp_path: Path) -> None:
    values = search_config(accuracy="supernet", supernet_epochs=1, proxy_images=600)
    result = start_search(make_config(values), tmp_path / "run", Quiet())
    assert (result["status"], result["trials"]) == ("done", 4)


def test_each_worker_sees_its_gpu(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS + ON_GPU)
    flags = ("--target-madds", "100M", "--accuracy", "models:OnGpu", "--trials", "6", "--out", "run")
    done = mnas(tmp_path, "search", *flags, "--executor", "processes", "--workers", "2", "--json")
    assert result_of(done)["trials"] == 6
    with sqlite3.connect(tmp_path / "run" / "trials.db") as store:
        text = " ".join(str(row) for row in store.execute("select * from events"))
    assert f"0:{torch.cuda.get_device_name()}" in text
