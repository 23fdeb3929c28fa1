"""Proxy accuracy: candidates trained on less than they are for, stopped early, and what can go wrong."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mnas.accuracy import proxy as module
from mnas.accuracy.proxy import ProxyAccuracy
from mnas.data import ImageData, Split, load_data
from mnas.errors import InputError
from mnas.protocols import StagedAccuracyModel, TimedAccuracyModel
from mnas.search_space import NetworkSpec, StageSpec
from mnas.search_space.scaling import scale
from mnas.seeds import derive_seed
from mnas.training import TrainingError, train

TINY = NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, 1),), 8, 32, 10)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def few() -> ImageData:
    """The first 96 training images of digits."""
    digits = load_data("digits")
    return replace(digits, train=digits.train.take(np.arange(96)))


def test_estimates_say_what_they_are_and_equal_the_training(few: ImageData) -> None:
    proxy = ProxyAccuracy(few, epochs=2)
    (estimate,) = proxy.evaluate([TINY], seed=3)
    trained = train(TINY, few, epochs=2, seed=3)
    assert (estimate.value, estimate.std, estimate.fidelity) == (trained.accuracy, trained.std, 1.0)
    assert estimate.source == "trained 2 epochs on digits (96 images), scored on 359 validation images"
    assert isinstance(proxy, TimedAccuracyModel)
    assert isinstance(proxy, StagedAccuracyModel)
    assert proxy.expensive


def test_fewer_images_have_their_share_of_each_class_and_the_test_split_is_gone() -> None:
    digits = load_data("digits")
    data = ProxyAccuracy(digits, epochs=1, proxy_images=100).data
    shares = np.bincount(digits.train.labels) * 100 / len(digits.train)
    assert len(data.train) == 100
    assert np.abs(np.bincount(data.train.labels) - shares).max() < 1
    known = {image.tobytes() for image in digits.train.images}  # type: ignore[attr-defined]
    assert all(image.tobytes() in known for image in data.train.take(np.arange(100)).images)
    assert data.val is digits.val
    assert data.test is digits.val


@pytest.mark.parametrize(("images", "reason"), [(5, "from 10 "), (2000, "to 96"), (97, "got 97")])
def test_a_number_of_images_that_is_not_there_is_refused(few: ImageData, images: int, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        ProxyAccuracy(few, epochs=1, proxy_images=images)


def test_smaller_images_are_resized_once_as_torch_does(few: ImageData) -> None:
    large = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 48), np.uint8)
    split = Split(large, np.arange(20) % 10)
    data = ImageData("noise", tuple("abcdefghij"), 64, split, split, split)
    proxy = ProxyAccuracy(data, epochs=1, proxy_resolution=16)
    expected = torch.nn.functional.interpolate(
        torch.tensor(large).float(), size=(16, 16), mode="bilinear", antialias=True
    )
    found = proxy.data.val.take(np.arange(20)).images
    assert np.abs(found - expected.numpy()).max() <= 0.5  # rounded to whole levels
    (estimate,) = proxy.evaluate([replace(TINY, resolution=64)], seed=0)
    assert "(20 images of 16 pixels)" in estimate.source
    same = train(replace(TINY, resolution=16), proxy.data, epochs=1, seed=0)
    assert estimate.value == same.accuracy
    with pytest.raises(InputError, match="--proxy-resolution must be at most 8, the networks' own; got 16"):
        proxy.evaluate([replace(TINY, resolution=8)], seed=0)


def test_a_narrower_network_is_trained_in_its_place(few: ImageData) -> None:
    wide = scale(TINY, depth=1, width=4, resolution=32)
    (estimate,) = ProxyAccuracy(few, epochs=1, proxy_width=0.5).evaluate([wide], seed=0)
    half = scale(wide, depth=1, width=0.5, resolution=32)
    assert half.stages[0].out_channels == wide.stages[0].out_channels // 2
    assert estimate.value == train(half, few, epochs=1, seed=0).accuracy
    assert "with 0.5 of its channels" in estimate.source


def test_the_mean_of_seeds_counts_with_their_spread(few: ImageData) -> None:
    (estimate,) = ProxyAccuracy(few, epochs=1, proxy_seeds=2).evaluate([TINY], seed=3)
    one, two = (train(TINY, few, epochs=1, seed=seed) for seed in (3, derive_seed(3, "proxy", 1)))
    assert one.accuracy != two.accuracy
    assert estimate.value == pytest.approx((one.accuracy + two.accuracy) / 2)
    # of two numbers: variance (a - b)^2 / 2, of their mean half of that
    spread = (one.accuracy - two.accuracy) ** 2 / 4
    assert estimate.std == pytest.approx((((one.std + two.std) / 2) ** 2 + spread) ** 0.5)
    assert "mean of 2 seeds" in estimate.source


@pytest.mark.parametrize(
    ("epochs", "eta", "rungs"),
    [(9, 3, (1, 3)), (6, 3, (2,)), (6, 2, (1, 3)), (27, 3, (1, 3, 9)), (6, None, ())],
)
def test_rungs(few: ImageData, epochs: int, eta: int | None, rungs: tuple[int, ...]) -> None:
    assert ProxyAccuracy(few, epochs=epochs, halving=eta).rungs == rungs


def test_a_candidate_that_is_stopped_says_so(few: ImageData) -> None:
    proxy = ProxyAccuracy(few, epochs=4, halving=2)
    told: list[tuple[int, float]] = []
    estimate = proxy.evaluate_staged(
        TINY, seed=0, go_on=lambda epoch, a: told.append((epoch, a)) or epoch < 2
    )  # type: ignore[func-returns-value]
    assert [epoch for epoch, _ in told] == [1, 2]
    assert (estimate.value, estimate.fidelity) == (told[1][1], 0.5)
    assert "trained 2 epochs" in estimate.source
    assert "stopped by successive halving before epoch 4" in estimate.source


def memory_ends(monkeypatch: pytest.MonkeyPatch, times: int) -> list[Any]:
    """Trainings run out of memory so often before one succeeds; the sizes of their batches."""
    sizes: list[Any] = []

    def starved(*args: Any, batch_size: int | None, **kwargs: Any) -> Any:
        sizes.append(batch_size)
        if len(sizes) <= times:
            raise MemoryError("none left")
        return train(*args, batch_size=batch_size, **kwargs)

    monkeypatch.setattr(module, "train", starved)
    return sizes


def test_out_of_memory_is_tried_once_more_with_half_the_batch(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = memory_ends(monkeypatch, times=1)
    (estimate,) = ProxyAccuracy(few, epochs=1, proxy_seeds=2).evaluate([TINY], seed=0)
    assert sizes == [None, 16, 16]  # the usual 32, half of it, and the second seed at once with that
    assert "in batches of 16 after memory ran out" in estimate.source


def test_out_of_memory_twice_is_a_failure_that_says_what_to_do(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = memory_ends(monkeypatch, times=2)
    with pytest.raises(TrainingError, match=r"ran out again with batches of 16 images .* --proxy-resolution"):
        ProxyAccuracy(few, epochs=1).evaluate([TINY], seed=0)
    assert sizes == [None, 16]


def test_time_is_that_of_all_seeds(few: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = ProxyAccuracy(few, epochs=1, proxy_seeds=2, timeout_s=60)
    ticks = iter([0.0, 0.0, 61.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with pytest.raises(TrainingError, match="its time of 60 s was over"):
        proxy.evaluate([TINY], seed=0)


def test_epochs_are_at_least_one(few: ImageData) -> None:
    with pytest.raises(InputError, match="epochs must be at least 1, got 0"):
        ProxyAccuracy(few, epochs=0)
