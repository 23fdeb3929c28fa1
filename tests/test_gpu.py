"""Training on a GPU: what it learns, what a resume gives, memory that runs out, autocast. Needs CUDA."""

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Said, environment

from mnas.config import make_config
from mnas.data import ImageData, load_data
from mnas.model import build_module
from mnas.search import start_search
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec
from mnas.trainer import (
    State,
    Task,
    fit,
    load_checkpoint,
    make_task,
    new_state,
    preset,
    save_checkpoint,
)
from mnas.trainer.machine import usable_device
from mnas.trainer.plan import Plan
from mnas.training import TrainedNetwork, TrainingError, train
from mnas.training_run import resume_training, start_training
from mnas.weights import load_weights
from mnas.zoo import published

if not torch.cuda.is_available():
    pytest.skip("needs a GPU: torch.cuda.is_available() is False", allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_thread")]

EPOCHS = 6


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def spec() -> NetworkSpec:
    """MnasNet-small, which has squeeze-and-excitation, for digits at 32 pixels."""
    return replace(published("mnasnet_small"), num_classes=10, resolution=32)


@pytest.fixture(scope="module")
def trained(spec: NetworkSpec, digits: ImageData) -> TrainedNetwork:
    return train(spec, digits, epochs=EPOCHS, seed=0, device="cuda")


def assert_same_files(one: Path, other: Path) -> None:
    for name in ("model.safetensors", "checkpoint.safetensors"):
        expected, found = load_weights(one / name), load_weights(other / name)
        assert found.keys() == expected.keys()
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array, err_msg=f"{name}: {key}")


def test_auto_is_the_gpu() -> None:
    assert usable_device("auto") == "cuda"


def test_it_learns_digits_as_well_as_on_the_cpu(trained: TrainedNetwork, digits: ImageData) -> None:
    cpu = train(trained.spec, digits, epochs=EPOCHS, seed=0, device="cpu")
    assert trained.accuracy >= 0.9
    assert trained.accuracy == pytest.approx(cpu.accuracy, abs=0.05)
    assert {value.device.type for value in trained.module.state_dict().values()} == {"cpu"}


@pytest.fixture
def full_precision() -> Iterator[None]:
    """Convolutions in float32; torch's own choice on a GPU is tf32."""
    convolutions = torch.backends.cudnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    yield
    convolutions.fp32_precision = before


@pytest.mark.usefixtures("full_precision")
def test_both_devices_give_the_same_logits(trained: TrainedNetwork, digits: ImageData) -> None:
    x = trained.inputs(torch.tensor(digits.test.images[:128]))
    module = build_module(trained.spec).eval()
    module.load_state_dict(trained.module.state_dict())
    with torch.inference_mode():
        cpu = module(x)
        gpu = module.to("cuda")(x.to("cuda")).cpu()
    torch.testing.assert_close(gpu, cpu, rtol=0, atol=1e-4 * cpu.abs().max().item())


# The same weights twice


def test_the_same_seed_gives_the_same_network(trained: TrainedNetwork, digits: ImageData) -> None:
    one, two = (train(trained.spec, digits, epochs=2, seed=3, device="cuda") for _ in range(2))
    states = [dict(network.module.state_dict()) for network in (one, two)]
    torch.testing.assert_close(states[1], states[0], rtol=0, atol=0)
    assert one.accuracy == two.accuracy


class StoppedError(Exception):
    """A training is stopped as a kill would stop it, at a step and not where it would save."""


class StopsAt(Quiet):
    def __init__(self, step: int) -> None:
        self.step = step

    def progress(self, done: int, total: int, text: str) -> None:
        if done == self.step:
            raise StoppedError


@pytest.mark.parametrize("name", ["cifar", "modern", "adamw", "imagenet-b0"])
def test_stopped_and_resumed_equals_uninterrupted(name: str, tmp_path: Path) -> None:
    """9 steps an epoch; the checkpoint after step 12 is in the second epoch, the stop is at step 13."""
    recipe = preset(name, epochs=3, batch_size=128)
    plan = Plan(source="mnasnet_small", data="digits", device="cuda", seed=5)
    whole = start_training(plan, recipe, tmp_path / "whole", Quiet())
    with pytest.raises(StoppedError):
        start_training(plan, recipe, tmp_path / "stopped", StopsAt(13), checkpoint_s=0.0)
    resumed = resume_training(tmp_path / "stopped", Quiet())
    assert whole is not None
    assert resumed is not None
    assert_same_files(tmp_path / "whole", tmp_path / "stopped")
    different = {"run", "seconds", "weights", "onnx"}
    assert {k: v for k, v in resumed.items() if k not in different} == {
        k: v for k, v in whole.items() if k not in different
    }


# Memory


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Lets torch take that many bytes of the GPU's memory and no more, until the test is over."""

    def set_limit(size: int) -> None:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(size / torch.cuda.mem_get_info()[1])

    yield set_limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def large_task(spec: NetworkSpec, digits: ImageData, accumulate: int = 1) -> Task:
    """Two steps of 539 images at 128 pixels: activations are nearly all that takes memory."""
    recipe = preset("cifar", epochs=1, batch_size=540, accumulate=accumulate, flip=False)
    return make_task(replace(spec, resolution=128), recipe, digits, seed=0, device="cuda")


def peak_bytes(task: Task) -> int:
    """Of torch's reserved memory while the task is trained."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    fit(task, lambda: new_state(task), save=lambda state: None, listener=Quiet())
    return torch.cuda.max_memory_reserved()


def test_out_of_memory_goes_on_with_smaller_parts_once(
    spec: NetworkSpec, digits: ImageData, limit: Callable[[int], None], tmp_path: Path
) -> None:
    path, told, task = tmp_path / "c.safetensors", Said(), large_task(spec, digits)

    def start() -> State:
        state = new_state(task)
        if path.is_file():
            load_checkpoint(path, state)
        return state

    whole, half = (peak_bytes(large_task(spec, digits, parts)) for parts in (1, 2))
    assert half < 0.8 * whole
    limit((whole + 2 * half) // 3)
    state = fit(task, start, save=lambda state: save_checkpoint(path, state), listener=told)
    assert told.warnings == [
        "out of memory: going on from the last checkpoint with batches of 540 images in 2 parts."
    ]
    assert (state.progress.accumulate, state.progress.step, state.progress.epoch) == (2, 2, 1)
    del state
    limit(half // 3)
    path.unlink()
    with pytest.raises(TrainingError, match=r"out of memory with 270 images at once.*smaller --batch-size"):
        fit(task, start, save=lambda state: save_checkpoint(path, state), listener=told)
    stored = new_state(task)
    load_checkpoint(path, stored)
    assert stored.progress.step == 0


# Autocast


def test_autocast_is_measured_and_then_decided(spec: NetworkSpec, digits: ImageData) -> None:
    told = Said()
    recipe = preset("cifar", epochs=1, batch_size=128, flip=False)
    task = make_task(spec, recipe, digits, seed=0, device="cuda", amp=True)
    state = fit(task, lambda: new_state(task), save=lambda state: None, listener=told)
    (text,) = told.notes
    assert min(map(float, re.findall(r"([\d.]+) ms", text))) > 0
    assert text.endswith(": used" if state.progress.autocast else ": not used")
    assert math.isfinite(state.progress.history[0]["loss"])


def test_a_network_learns_under_autocast(spec: NetworkSpec, digits: ImageData) -> None:
    recipe = preset("cifar", epochs=12, batch_size=32, lr=0.025, flip=False)
    task = make_task(spec, recipe, digits, seed=0, device="cuda", amp=True)
    states = []
    for autocast in (True, False):

        def start(autocast: bool = autocast) -> State:
            state = new_state(task)
            state.progress.autocast = autocast
            return state

        states.append(fit(task, start, save=lambda state: None, listener=Quiet()))
    with_it, without = (state.progress for state in states)
    assert with_it.history[0]["loss"] != without.history[0]["loss"]
    assert with_it.best_accuracy == pytest.approx(without.best_accuracy, abs=0.05)
    assert without.best_accuracy >= 0.9
    floating = {value.dtype for value in states[0].best.values() if value.is_floating_point()}
    assert floating == {torch.float32}


# Whole commands


def test_a_search_trains_its_candidates_on_the_gpu(tmp_path: Path) -> None:
    config = make_config(
        {
            "data": "digits",
            "target_madds": "4M",
            "trials": 4,
            "epochs": 3,
            "finals": 2,
            "final_epochs": 6,
            "train_device": "auto",
        }
    )
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = start_search(config, tmp_path / "run", Quiet())
    assert (result["status"], result["trials"]) == ("done", 4)
    assert torch.cuda.max_memory_allocated() > before
    assert result["baseline"]["madds"] <= 4_000_000
    assert result["baseline"]["test_accuracy"] >= 0.8


def test_one_process_of_torchrun(tmp_path: Path) -> None:
    flags = ("--data", "digits", "--epochs", "1", "--batch-size", "128", "--device", "cuda", "--json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"]
    arguments = ["-m", "mnas", "train", "mnasnet_small", *flags, "--out", "t"]
    done = subprocess.run(
        [*torchrun, *arguments], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["status"], result["device"]) == ("done", "cuda")
