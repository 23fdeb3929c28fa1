"""The trainer's parts: optimizer, average, the loop, checkpoints, what happens when it goes wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mnas.data import ImageData, Split, load_data
from mnas.errors import InputError, RunDirectoryError
from mnas.inputs import input_transform
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, StageSpec
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
from mnas.trainer import loop as trainer_loop
from mnas.trainer.augment import Augmentation
from mnas.trainer.autocast import time_autocast
from mnas.trainer.optim import Ema, RMSPropTF, make_optimizer
from mnas.trainer.parallel import Group
from mnas.trainer.state import Progress
from mnas.trainer.step import train_step
from mnas.training import TrainingError, evaluate

TINY = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 16)), 32, 8, 10)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: ImageData) -> ImageData:
    """The first 48 training images."""
    return replace(digits, train=Split(digits.train.images[:48], digits.train.labels[:48]))


def run(task: Task, save: Callable[[State], None] = lambda state: None, **more: Any) -> State:
    return fit(task, lambda: new_state(task), save=save, listener=more.pop("listener", Quiet()), **more)


def assert_same(one: nn.Module, other: nn.Module) -> None:
    torch.testing.assert_close(dict(one.state_dict()), dict(other.state_dict()), rtol=0, atol=0)


class Told(Quiet):
    """Keeps what was said."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, text: str) -> None:
        self.texts.append(text)

    def warn(self, text: str) -> None:
        self.texts.append(text)


# Optimizers


def test_two_steps_of_tensorflows_rmsprop_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RMSPropTF([weight], 0.1, decay=0.9, momentum=0.9, eps=0.001)
    weight.grad = torch.tensor([0.5])
    optimizer.step()
    # square 0.9 x 1 + 0.1 x 0.25 = 0.925; update 0.1 x 0.5 / sqrt(0.925 + 0.001)
    first = 0.05 / 0.926**0.5
    assert weight.item() == pytest.approx(2 - first, rel=1e-6)
    optimizer.step()
    # square 0.9 x 0.925 + 0.025 = 0.8575
    second = 0.9 * first + 0.05 / 0.8585**0.5
    assert weight.item() == pytest.approx(2 - first - second, rel=1e-6)


def test_weight_decay_joins_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = RMSPropTF([weight], 0.1, weight_decay=0.1)
    weight.grad = torch.tensor([0.5])
    optimizer.step()  # gradient 0.5 + 0.1 x 2 = 0.7; square 0.9 + 0.1 x 0.49 = 0.949
    assert weight.item() == pytest.approx(2 - 0.07 / 0.95**0.5, rel=1e-6)
    assert weight.grad.item() == 0.5


def test_norms_and_biases_are_not_decayed(few: ImageData) -> None:
    task = make_task(TINY, preset("cifar"), few, seed=0)
    module = new_state(task).module
    decayed, others = make_optimizer(module, task.recipe).param_groups
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert (decayed["weight_decay"], others["weight_decay"]) == (5e-4, 0.0)


def test_average_by_hand() -> None:
    module = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.constant_(module[0].weight, 1.0)
    ema = Ema(module, 0.9999)
    nn.init.constant_(module[0].weight, 12.0)
    module[1].running_mean.fill_(11.0)
    module[1].num_batches_tracked.fill_(7)
    ema.update(module, 1)  # decay (1 + 1) / (10 + 1)
    assert ema.module[0].weight.item() == pytest.approx(1 * 2 / 11 + 12 * 9 / 11)
    assert ema.module[1].running_mean.item() == pytest.approx(11 * 9 / 11)
    assert ema.module[1].num_batches_tracked.item() == 7
    before = ema.module[0].weight.item()
    ema.update(module, 10**6)  # decay 0.9999
    assert ema.module[0].weight.item() == pytest.approx(before + (12 - before) * 1e-4)


def test_branches_begin_at_zero_and_the_classifier_near_it(few: ImageData) -> None:
    module = new_state(make_task(TINY, preset("cifar"), few, seed=0)).module
    state = module.state_dict()
    assert (
        state["blocks.0.1.bn3.weight"].abs().max() == 0
    )  # the second layer of a stage has a skip, the first none
    assert state["blocks.0.0.bn3.weight"].min() == 1
    assert state["classifier.weight"].std().item() == pytest.approx(0.01, rel=0.15)


# The loop


class Plain(nn.Module):
    """Without a norm, the parts of a batch do not matter."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 8 * 8, 10)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x.flatten(1))


def test_accumulated_parts_equal_the_whole_batch(few: ImageData) -> None:
    weights = []
    for accumulate in (1, 4):
        recipe = preset(
            "cifar", batch_size=44, crop="none", flip=False, label_smoothing=0.1, accumulate=accumulate
        )
        task = make_task(TINY, recipe, few, seed=0)
        module = Plain()
        state = State(module, make_optimizer(module, recipe), None, {}, Progress(accumulate=accumulate))
        change = Augmentation(recipe, task.inputs, 10, 0)
        for _ in range(3):  # 43 images: parts of 11 and 10
            parts = [few.train.take(part.numpy()) for part in torch.arange(43).tensor_split(accumulate)]
            loaded = ((torch.tensor(part.images), torch.tensor(part.labels)) for part in parts)
            train_step(task, state, module, change, loaded, 43, Group())
        weights.append(module.layer.weight.detach().clone())
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-5, atol=1e-7)
    assert weights[0].abs().max() > 0.001


def test_shuffled_labels_teach_nothing(digits: ImageData) -> None:
    labels = np.random.default_rng(0).permutation(digits.train.labels)
    data = replace(digits, train=Split(digits.train.images, labels))
    recipe = preset("cifar", epochs=6, batch_size=32, flip=False)
    state = run(make_task(TINY, recipe, data, seed=0))
    assert evaluate(state.scored, data.test, input_transform(TINY, data)) <= 0.2


def test_validation_and_test_images_do_not_reach_training(few: ImageData) -> None:
    recipe = preset("cifar", epochs=2, batch_size=16)
    noise = np.random.default_rng(0)
    val, test = (
        Split(noise.integers(0, 256, split.images.shape, np.uint8), split.labels)
        for split in (few.val, few.test)
    )
    clean = run(make_task(TINY, recipe, few, seed=0))
    assert_same(run(make_task(TINY, recipe, replace(few, val=val, test=test), seed=0)).module, clean.module)


def test_the_best_epoch_is_kept_with_its_average(few: ImageData) -> None:
    recipe = preset("imagenet-b0", epochs=4, batch_size=16, policy="none")
    task = make_task(TINY, recipe, few, seed=0)
    state = run(task)
    history = [row["val_accuracy"] for row in state.progress.history]
    assert state.progress.best_accuracy == max(history)
    assert state.progress.best_epoch == 1 + history.index(max(history))
    kept = new_state(task).module
    kept.load_state_dict(state.best)
    assert evaluate(kept, few.val, task.inputs) == max(history)
    assert state.scored is not state.module


def test_global_random_state_is_left_alone(few: ImageData) -> None:
    before = torch.get_rng_state()
    run(make_task(TINY, preset("adamw", epochs=1, batch_size=24), few, seed=0))
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)


def test_progressive_training_grows_images_and_dropout(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = train_step

    def spy(task: Task, state: State, trained: nn.Module, change: Augmentation, *rest: Any) -> float:
        (rate,) = [layer.p for layer in state.module.modules() if isinstance(layer, nn.Dropout)]
        seen.append((change.inputs.resolution, round(rate, 3)))
        return original(task, state, trained, change, *rest)

    monkeypatch.setattr(trainer_loop, "train_step", spy)
    recipe = preset("modern", epochs=4, batch_size=48, policy="none")
    run(make_task(replace(TINY, resolution=96), recipe, few, seed=0))
    assert seen == [(32, 0.1), (64, 0.167), (64, 0.233), (96, 0.3)]  # 41, 59.3, 77.7 and 96 pixels


def test_autocast_is_timed_on_a_copy(few: ImageData) -> None:
    state = new_state(make_task(TINY, preset("cifar"), few, seed=0))
    before = {name: value.clone() for name, value in state.module.state_dict().items()}
    plain, autocast = time_autocast(state.module, torch.zeros(4, 3, 8, 8), torch.arange(4))
    assert min(plain, autocast) > 0
    torch.testing.assert_close(dict(state.module.state_dict()), before, rtol=0, atol=0)


@pytest.mark.parametrize(("times", "used"), [((1.0, 0.5), True), ((1.0, 0.98), False)])
def test_autocast_is_used_only_where_it_gains(
    few: ImageData, monkeypatch: pytest.MonkeyPatch, times: tuple[float, float], used: bool
) -> None:
    monkeypatch.setattr(trainer_loop, "time_autocast", lambda *arguments: times)
    told = Told()
    task = make_task(TINY, preset("cifar", epochs=1, batch_size=24), few, seed=0, amp=True)
    assert run(task, listener=told).progress.autocast is used
    assert told.texts[0].endswith(": used" if used else ": not used")


# What goes wrong


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(few: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    recipe = preset("cifar", epochs=3, batch_size=24, lr=1e30)
    task = make_task(TINY, recipe, few, seed=0)
    with pytest.raises(
        TrainingError, match=r"the loss is (nan|inf) in epoch 1 of 3, step 2 of 2.*--lr 2.5e\+29"
    ):
        run(task, lambda state: save_checkpoint(path, state))
    state = new_state(task)
    load_checkpoint(path, state)
    assert state.progress.epoch == 0
    assert all(value.isfinite().all() for value in state.module.state_dict().values())


def run_out_of_memory(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """The forward passes of these numbers, from 1, find no memory."""
    calls = 0
    original = nn.functional.cross_entropy

    def loss(*arguments: Any, **more: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls in steps:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(*arguments, **more)

    monkeypatch.setattr(nn.functional, "cross_entropy", loss)


def test_out_of_memory_goes_on_from_the_checkpoint_with_smaller_parts(
    few: ImageData, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, told = tmp_path / "c.safetensors", Told()
    task = make_task(TINY, preset("cifar", epochs=3, batch_size=24), few, seed=0)

    def start() -> State:
        state = new_state(task)
        if path.is_file():
            load_checkpoint(path, state)
        return state

    run_out_of_memory(monkeypatch, {4})  # the last step of epoch 2
    state = fit(task, start, save=lambda state: save_checkpoint(path, state), listener=told)
    assert told.texts == [
        "out of memory: going on from the last checkpoint with batches of 24 images in 2 parts."
    ]
    assert [row["step"] for row in state.progress.history] == [2, 4, 6]
    assert state.progress.accumulate == 2
    stored = new_state(task)
    load_checkpoint(path, stored)
    assert stored.progress.accumulate == 2


def test_out_of_memory_twice_is_the_end(few: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    run_out_of_memory(monkeypatch, {1, 2})
    with pytest.raises(TrainingError, match=r"out of memory with 12 images at once.*smaller --batch-size"):
        run(make_task(TINY, preset("cifar", epochs=1, batch_size=24), few, seed=0))


@pytest.mark.parametrize(
    ("recipe", "processes", "message"),
    [
        ({"batch_size": 24, "accumulate": 12}, 2, "in 24 parts, from 48 images, leave a part of 1"),
        ({"batch_size": 47, "accumulate": 13}, 1, "leave a part of 1; a batch norm needs 2"),
    ],
)
def test_parts_too_small_for_a_norm(
    few: ImageData, recipe: dict[str, int], processes: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_task(TINY, preset("cifar", **recipe), few, seed=0, processes=processes)


# Checkpoints


@pytest.mark.parametrize("name", ["cifar", "modern", "adamw", "imagenet-b0"])
def test_a_checkpoint_in_an_epoch_goes_on_exactly(few: ImageData, tmp_path: Path, name: str) -> None:
    recipe = preset(name, epochs=3, batch_size=16, accumulate=2)
    task = make_task(replace(TINY, resolution=32), recipe, few, seed=3)
    whole = run(task)
    number = 0

    def save(state: State) -> None:
        nonlocal number
        number += 1
        save_checkpoint(tmp_path / f"{number}.safetensors", state)

    assert_same(run(task, save, checkpoint_s=0.0).module, whole.module)
    assert number == 10  # at the start and after each of 9 steps
    for stopped in (1, 3, 5, 10):

        def start(stopped: int = stopped) -> State:
            state = new_state(replace(task, seed=99))
            load_checkpoint(tmp_path / f"{stopped}.safetensors", state)
            assert state.progress.step == stopped - 1
            return state

        resumed = fit(task, start, save=lambda state: None, listener=Quiet())
        assert_same(resumed.module, whole.module)
        assert_same(resumed.scored, whole.scored)
        torch.testing.assert_close(resumed.best, whole.best, rtol=0, atol=0)
        rows = [
            [{key: row[key] for key in row if key != "seconds"} for row in state.progress.history]
            for state in (resumed, whole)
        ]
        assert rows[0] == rows[1]


def test_checkpoints_that_do_not_fit_are_refused(few: ImageData, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    task = make_task(TINY, preset("cifar", epochs=1, batch_size=24), few, seed=0)
    save_checkpoint(path, run(task))
    other = make_task(replace(TINY, head_channels=16), task.recipe, few, seed=0)
    with pytest.raises(RunDirectoryError, match="does not fit this training"):
        load_checkpoint(path, new_state(other))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunDirectoryError, match="damaged"):
        load_checkpoint(path, new_state(task))
    from mnas.weights import save_weights

    save_weights(path, new_state(task).module)
    with pytest.raises(RunDirectoryError, match="no checkpoint of this version"):
        load_checkpoint(path, new_state(task))
