"""Exports of a stored run: which network, which weights, where to, and what is never touched."""

import json
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file, save_file

from mnas.config import make_config
from mnas.errors import InputError, RunDirectoryError, UnknownNameError
from mnas.files import write_json
from mnas.model import build_module
from mnas.rundir import RunDirectory
from mnas.search import export_run
from mnas.search_space import NetworkSpec, StageSpec

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 3, 0.25),), 32, resolution=32, num_classes=5)
GROWN = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 3, 3, 0.25),), 32, resolution=34, num_classes=5)
SEED = 6
ABOUT = {"trained": "3 epochs on pictures", "input": '{"mean": [0.5]}'}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run with a baseline, a scaled network and one member of a family."""
    run = RunDirectory.create(tmp_path / "run")
    config = make_config({"target_latency": "10ms", "seed": SEED})
    run.write_config(config.to_toml())
    write_json(run.outputs().baseline, SPEC.to_dict())
    write_json(run.outputs().scaled, GROWN.to_dict())
    (run.path / "family").mkdir()
    write_json(run.path / "family" / "b1.json", GROWN.to_dict())
    return run


@pytest.fixture
def trained(run: RunDirectory) -> RunDirectory:
    """The same with trained weights of the baseline."""
    save_file(build_module(SPEC, seed=77, channels_last=False).state_dict(), run.outputs().weights, ABOUT)
    return run


def texts_of(path: Path) -> dict[str, str]:
    with safetensors.safe_open(path, framework="pt") as file:
        return file.metadata()


def test_an_untrained_run_never_looks_trained(run: RunDirectory) -> None:
    for form, names in (
        ("safetensors", ["baseline-untrained.safetensors"]),
        ("python", ["baseline.py", "baseline-untrained.safetensors"]),
    ):
        exported = export_run(run.path, form, None)
        assert exported["path"] == str(run.path / names[0])
        assert exported["files"] == [str(run.path / name) for name in names]
        assert exported["format"] == form
        assert exported["weights"] == "untrained weights"
    state = build_module(SPEC, seed=SEED).state_dict()
    found = load_file(run.path / "baseline-untrained.safetensors")
    assert all(torch.equal(found[name], state[name]) for name in state)
    assert not run.outputs().weights.exists()
    # Even where such a file got the name of trained weights, it says itself what it is.
    (run.path / "baseline-untrained.safetensors").rename(run.outputs().weights)
    again = export_run(run.path, "safetensors", None)
    assert again["weights"] == "untrained weights"
    assert again["path"] == str(run.path / "baseline-untrained.safetensors")


def test_a_trained_run_exports_its_weights_and_keeps_them(trained: RunDirectory) -> None:
    before = trained.outputs().weights.read_bytes()
    exported = export_run(trained.path, "python", None)
    assert exported["weights"] == "3 epochs on pictures"
    assert exported["files"] == [str(trained.path / "baseline.py"), str(trained.outputs().weights)]
    assert trained.outputs().weights.read_bytes() == before
    state = load_file(trained.outputs().weights)
    exported = export_run(trained.path, "safetensors", None)
    assert exported["files"] == [str(trained.outputs().weights)]
    now = load_file(trained.outputs().weights)
    assert now.keys() == state.keys()
    assert all(torch.equal(now[name], state[name]) for name in state)
    assert texts_of(trained.outputs().weights).items() >= ABOUT.items()
    assert NetworkSpec.from_dict(json.loads(texts_of(trained.outputs().weights)["network"])) == SPEC
    assert export_run(trained.path, "onnx", None)["weights"] == "3 epochs on pictures"


def test_trained_weights_belong_to_the_baseline_alone(trained: RunDirectory) -> None:
    scaled = export_run(trained.path, "onnx", None, "scaled")
    assert scaled["path"] == str(trained.path / "scaled.onnx")
    assert scaled["weights"] == "untrained weights"
    member = export_run(trained.path, "safetensors", None, "b1")
    assert member["files"] == [str(trained.path / "family" / "b1-untrained.safetensors")]
    with safetensors.safe_open(member["path"], framework="pt") as file:
        assert NetworkSpec.from_dict(json.loads(file.metadata()["network"])) == GROWN


@pytest.mark.parametrize("network", ["baseline", "scaled", "b1"])
def test_json_of_a_network_is_the_runs_own_file(run: RunDirectory, network: str) -> None:
    before = {path: path.read_bytes() for path in run.path.rglob("*.json")}
    exported = export_run(run.path, "json", None, network)
    assert {path: path.read_bytes() for path in run.path.rglob("*.json")} == before
    assert Path(exported["path"]) in before
    assert exported["error"] == 0.0


@pytest.mark.parametrize(
    ("form", "name", "network"),
    [
        ("safetensors", "baseline.safetensors", "scaled"),
        ("onnx", "baseline.safetensors", "baseline"),
        ("json", "baseline.json", "scaled"),
        ("json", "family/b1.json", "baseline"),
        ("onnx", "trials.db", "baseline"),
        ("json", "config.toml", "baseline"),
    ],
)
def test_files_of_the_run_are_never_replaced_by_others(
    trained: RunDirectory, form: str, name: str, network: str
) -> None:
    before = {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()}
    with pytest.raises(RunDirectoryError, match="belongs to the run"):
        export_run(trained.path, form, trained.path / name, network)
    assert {path: path.read_bytes() for path in trained.path.rglob("*") if path.is_file()} == before


def test_untrained_weights_may_not_take_the_place_of_trained_ones(run: RunDirectory) -> None:
    with pytest.raises(RunDirectoryError, match="belongs to the run"):
        export_run(run.path, "safetensors", run.outputs().weights)


def test_another_place(run: RunDirectory, tmp_path: Path) -> None:
    exported = export_run(run.path, "json", tmp_path / "net.json")
    assert exported["path"] == str(tmp_path / "net.json")
    assert NetworkSpec.from_dict(json.loads((tmp_path / "net.json").read_text())) == SPEC


def test_networks_and_formats_that_are_not_there(run: RunDirectory) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: b1, baseline, scaled\..*networks of"):
        export_run(run.path, "json", None, "b7")
    with pytest.raises(UnknownNameError):
        export_run(run.path, "json", None, "../baseline")
    with pytest.raises(UnknownNameError, match="did you mean 'python'"):
        export_run(run.path, "pyton", None)
    run.outputs().baseline.unlink()
    with pytest.raises(RunDirectoryError, match=r"no baseline yet.*mnas resume"):
        export_run(run.path, "json", None)


def test_a_strangers_weights_that_do_not_fit_are_one_message(run: RunDirectory) -> None:
    save_file({"evil": torch.zeros(3)}, run.outputs().weights, {"trained": "by someone"})
    with pytest.raises(InputError, match="do not fit the network"):
        export_run(run.path, "python", None)
    run.outputs().weights.write_bytes(b"no safetensors")
    with pytest.raises(RunDirectoryError, match="damaged"):
        export_run(run.path, "python", None)
