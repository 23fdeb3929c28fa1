"""`mnas train` as a command: files, exact resume after a kill, transfer, several processes, bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import typer.testing
from commands import environment
from PIL import Image

from mnas.cli import app
from mnas.data import load_data
from mnas.errors import InputError, MnasError, RunDirectoryError
from mnas.files import read_json, write_json
from mnas.inputs import InputTransform
from mnas.model import build_module
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, StageSpec
from mnas.trainer import initial_weights, preset, timm_weights
from mnas.trainer.plan import Plan
from mnas.training import evaluate
from mnas.training_run import resume_training, start_training
from mnas.weights import load_metadata, load_weights, save_weights
from mnas.zoo import published

TINY = NetworkSpec(
    8, (StageSpec("mbconv", 3, 2, 16, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 16)), 32, 8, 1000
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network's file, in the folder that the test works in."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "tiny.json", TINY.to_dict())
    return "tiny.json"


def command(*arguments: str) -> Any:
    """The JSON that the command prints; its error is raised."""
    result = typer.testing.CliRunner().invoke(app, ["train", *arguments, "--json"])
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


def child(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mnas", "train", *arguments]


def test_digits_end_to_end(tiny: str, tmp_path: Path) -> None:
    flags = (
        "--resolution",
        "16",
        "--epochs",
        "40",
        "--batch-size",
        "32",
        "--lr",
        "0.025",
        "--threads",
        "1",
        "--device",
        "cpu",
    )
    result = command(tiny, "--data", "digits", *flags)
    folder = Path(result["run"])
    assert folder.parent == tmp_path / "trainings"
    assert result["test_accuracy"] >= 0.95
    assert result["seconds"] <= 60
    assert (result["status"], result["epochs"], result["preset"]) == ("done", 40, "cifar")
    assert result == read_json(folder / "result.json")
    # the files say the same: weights, log, ONNX
    digits, about = load_data("digits"), load_metadata(folder / "model.safetensors")
    inputs = InputTransform(**json.loads(about["input"]))
    module = build_module(NetworkSpec.from_dict(read_json(folder / "network.json")))
    weights = load_weights(folder / "model.safetensors")
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    assert evaluate(module, digits.test, inputs) == result["test_accuracy"]
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == list(range(1, 41))
    assert max(row["val_accuracy"] for row in rows) == result["val_accuracy"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    image = inputs(torch.tensor(digits.test.images[:1])).contiguous().numpy()
    (logits,) = session.run(None, {session.get_inputs()[0].name: image})
    with torch.no_grad():
        expected = module(torch.tensor(image)).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
    assert session.get_modelmeta().custom_metadata_map["weights"].startswith("trained 40 epochs on digits")
    # finished: nothing is trained again
    assert command("--resume", str(folder)) == result
    assert not list(folder.glob(".*.part"))


def test_killed_and_resumed_equals_uninterrupted(tiny: str, tmp_path: Path) -> None:
    flags = ("--epochs", "6", "--batch-size", "32", "--threads", "1", "--seed", "5", "--device", "cpu")
    recipe = tmp_path / "all.toml"
    recipe.write_text(
        '[recipe]\npreset = "imagenet-b0"\npolicy = "none"\ncrop = "pad"\nmixup = 0.2\nstages = 2\n'
    )
    flags += ("--recipe", str(recipe))
    whole = command(tiny, "--data", "digits", *flags, "--out", "whole")
    process = subprocess.Popen(
        child(tiny, "--data", "digits", *flags, "--out", "killed"),
        env=environment(),
        stderr=subprocess.DEVNULL,
    )
    log, deadline = tmp_path / "killed" / "log.jsonl", time.monotonic() + 60
    while time.monotonic() < deadline and not (log.is_file() and len(log.read_text().splitlines()) >= 2):
        assert process.poll() is None
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 2 <= len(log.read_text().splitlines()) < 6
    (tmp_path / "killed" / ".checkpoint.safetensors.abc.part").touch()  # a kill may leave one
    resumed = command("--resume", "killed")
    assert not list((tmp_path / "killed").glob(".*.part"))
    for name in ("model.safetensors", "checkpoint.safetensors"):
        one, other = (load_weights(tmp_path / folder / name) for folder in ("whole", "killed"))
        assert one.keys() == other.keys()
        for key, array in one.items():
            np.testing.assert_array_equal(other[key], array, err_msg=key)
    different = {"run", "seconds", "weights", "onnx"}
    assert {k: v for k, v in resumed.items() if k not in different} == {
        k: v for k, v in whole.items() if k not in different
    }


def test_killed_before_the_first_checkpoint_begins_again(tiny: str, tmp_path: Path) -> None:
    recipe = preset("cifar", epochs=1, batch_size=128)
    plan = Plan(source=tiny, data="digits", device="cpu")
    first = start_training(plan, recipe, tmp_path / "first", Quiet())
    (tmp_path / "again").mkdir()
    for name in ("recipe.toml", "network.json"):
        (tmp_path / "again" / name).write_bytes((tmp_path / "first" / name).read_bytes())
    again = resume_training(tmp_path / "again", Quiet())
    assert first is not None
    assert again is not None
    assert again["test_accuracy"] == first["test_accuracy"]


def test_two_processes_equal_one(tiny: str, tmp_path: Path) -> None:
    flags = ("--epochs", "2", "--batch-size", "128", "--threads", "1", "--device", "cpu")
    one = command(tiny, "--data", "digits", *flags, "--accumulate", "2", "--out", "one")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = ["-m", "mnas", "train", tiny, "--data", "digits", *flags, "--out", "two", "--json"]
    done = subprocess.run([*torchrun, *arguments], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one object: the first process alone speaks
    assert two["epochs"] == one["epochs"]
    weights = [load_weights(tmp_path / name / "checkpoint.safetensors") for name in ("one", "two")]
    module = build_module(replace(TINY, num_classes=10))
    initial = dict(module.named_parameters())
    for name, parameter in initial.items():
        np.testing.assert_allclose(
            weights[1][f"model.{name}"], weights[0][f"model.{name}"], atol=1e-4, err_msg=name
        )
        assert parameter.shape == weights[0][f"model.{name}"].shape


def test_a_run_is_trained_inside_its_folder(tiny: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.toml").write_text("format = 1\n")
    write_json(run / "baseline.json", replace(TINY, num_classes=10).to_dict())
    write_json(run / "scaled.json", replace(TINY, num_classes=10, head_channels=48).to_dict())
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "256", "--device", "cpu")
    assert command("run", *flags)["run"] == str(run / "train-1")
    scaled = command("run", *flags, "--network", "scaled")
    assert scaled["run"] == str(run / "train-2")
    assert read_json(run / "train-2" / "network.json")["head_channels"] == 48


def test_published_networks_take_the_images_size(tiny: str, tmp_path: Path) -> None:
    recipe = preset("cifar", epochs=1, batch_size=512)
    result = start_training(
        Plan(source="mnasnet_small", data="digits", device="cpu"), recipe, tmp_path / "p", Quiet()
    )
    assert result is not None
    assert result["resolution"] == 32
    spec = NetworkSpec.from_dict(read_json(tmp_path / "p" / "network.json"))
    assert spec == replace(published("mnasnet_small"), num_classes=10, resolution=32)


def test_photos_are_read_mirrored_and_skipped_by_choice(tiny: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for name, colour in (("red", (200, 30, 30)), ("green", (30, 200, 30))):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(generator.normal(colour, 30, (40, 36, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "red" / "broken.png").write_bytes(b"no image")
    arguments = (tiny, "--data", "photos", "--resolution", "32", "--epochs", "2", "--batch-size", "8")
    with pytest.raises(InputError, match=r"broken\.png"):
        command(*arguments, "--out", "t")
    result = command(*arguments, "--out", "t", "--skip-unreadable")
    assert result["resolution"] == 32
    assert "flip = true" in (tmp_path / "t" / "recipe.toml").read_text()
    (tmp_path / "t" / "result.json").unlink()
    assert command("--resume", "t")["test_accuracy"] == result["test_accuracy"]
    unmirrored = command(*arguments, "--out", "u", "--skip-unreadable", "--no-flip")
    assert "flip = false" in (Path(unmirrored["run"]) / "recipe.toml").read_text()


def test_digits_are_not_mirrored(tiny: str, tmp_path: Path) -> None:
    command(tiny, "--data", "digits", "--epochs", "1", "--batch-size", "512", "--out", "t")
    assert "flip = false" in (tmp_path / "t" / "recipe.toml").read_text()


def test_tensorboard_names_its_extra(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"pip install 'mnas\[tensorboard\]'"):
        command(tiny, "--data", "digits", "--tensorboard", "--out", "t")
    assert not Path("t").exists()


# Weights to begin with


def test_from_replaces_the_classifier_of_other_classes(tiny: str, tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build_module(TINY, seed=7))
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "256", "--lr", "1e-12", "--device", "cpu")
    command(tiny, *flags, "--from", "w.safetensors", "--out", "t")
    given, kept = load_weights(tmp_path / "w.safetensors"), load_weights(tmp_path / "t" / "model.safetensors")
    assert kept["classifier.weight"].shape == (10, 32)
    np.testing.assert_allclose(kept["conv_stem.weight"], given["conv_stem.weight"], atol=1e-6)


def test_from_a_network_of_the_same_classes_keeps_the_classifier(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", build_module(TINY, seed=7))
    weights, replaced = initial_weights(tmp_path / "w.safetensors", TINY)
    assert not replaced
    assert "classifier.bias" in weights


def test_every_other_mismatch_is_named(tmp_path: Path) -> None:
    state = dict(build_module(TINY).state_dict())
    del state["bn1.bias"]
    state |= {"extra.weight": torch.zeros(1), "conv_head.weight": torch.zeros(1)}
    state["conv_stem.weight"] = torch.full_like(state["conv_stem.weight"], float("nan"))
    save_weights(tmp_path / "w.safetensors", state)
    with pytest.raises(InputError) as caught:
        initial_weights(tmp_path / "w.safetensors", TINY)
    for part in (
        "bn1.bias is missing",
        "extra.weight is not in the network",
        "conv_head.weight is (1,), the network's (32, 16, 1, 1)",
        "conv_stem.weight holds NaN or infinity",
    ):
        assert part in str(caught.value)


def test_timm_weights_come_from_the_local_cache_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import timm

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"mnas downloads nothing.*hf download timm/mnasnet_small"):
        timm_weights("mnasnet_small")
    with pytest.raises(InputError, match="no pretrained network 'mnasnet'"):
        timm_weights("mnasnet")
    repository = tmp_path / "models--timm--mnasnet_small.lamb_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_weights(snapshot / "model.safetensors", timm.create_model("mnasnet_small"))
    path = timm_weights("mnasnet_small")
    assert path == snapshot / "model.safetensors"
    weights, replaced = initial_weights(path, replace(published("mnasnet_small"), num_classes=10))
    assert replaced
    assert len(weights) == len(load_weights(path)) - 2


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a network and its images: mnas train efficientnet_b0 --data"),
        (("tiny.json",), "name a network and its images"),
        (("tiny.json", "--data", "digit"), "did you mean 'digits'"),
        (("tiny.txt", "--data", "digits"), "neither a run directory, nor a network's JSON"),
        (("tiny.json", "--data", "digits", "--preset", "cifra"), "did you mean 'cifar'"),
        (("tiny.json", "--data", "digits", "--epochs", "0"), "epochs must be a whole number of at least 1"),
        (("tiny.json", "--data", "digits", "--network", "other"), "'tiny.json' is no run directory"),
        (
            ("tiny.json", "--data", "digits", "--network", "scaled"),
            "only a run has a network called 'scaled'",
        ),
        (
            ("tiny.json", "--data", "digits", "--resolution", "4"),
            "resolution must be at least 8 pixels, got 4",
        ),
        (("tiny.json", "--data", "digits", "--threads", "0"), "--threads must be at least 1, got 0"),
        (("tiny.json", "--data", "digits", "--device", "gpu"), "--device 'gpu' cannot be used"),
        (("tiny.json", "--data", "digits", "--from", "w.safetensors"), "cannot read w.safetensors"),
        (("tiny.json", "--data", "digits", "--out", "."), "exists and is not empty.*mnas train --resume"),
        (("--resume", "absent"), "is not a training: it has no recipe.toml"),
        (
            ("tiny.json", "--resume", "absent", "--lr", "1"),
            "only --data, --device and --threads.*not source, lr",
        ),
    ],
)
def test_bad_input_is_one_clear_message(tiny: str, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(Path().iterdir())
    with pytest.raises(MnasError, match=message) as caught:
        command(*arguments)
    assert caught.value.exit_code == 2
    assert sorted(Path().iterdir()) == before


def test_other_images_and_damaged_recipes_are_refused(tiny: str, tmp_path: Path) -> None:
    recipe, folder = preset("cifar", epochs=1, batch_size=512), tmp_path / "a"
    start_training(Plan(source=tiny, data="digits", device="cpu"), recipe, folder, Quiet())
    (folder / "result.json").unlink()
    file = folder / "recipe.toml"
    text = file.read_text()
    for old, new, message in [
        ("1078", "1077", "does not hold the images"),
        ("format = 1", "format = 2", "training format 2; this version of mnas reads 1"),
        ("momentum", "momentun", "did you mean 'momentum'"),
        ("amp = false", "amb = false", r"its \[run\] table does not fit this version"),
        ("[run]", "[ran]", "is damaged"),
    ]:
        assert old in text
        file.write_text(text.replace(old, new))
        with pytest.raises((InputError, RunDirectoryError), match=message):
            resume_training(folder, Quiet())
