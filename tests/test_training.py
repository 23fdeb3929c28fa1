"""Training: it learns, from the training split only, repeatably, and stops where the loss does."""

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mnas import inputs, training
from mnas.config import DEFAULT_EPOCHS
from mnas.data import ImageData, Split, load_data
from mnas.errors import InputError, RunDirectoryError
from mnas.inputs import input_transform
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec, extremes, mbconv_space, network_cost
from mnas.training import TrainingError, evaluate, standard_error, train
from mnas.weights import load_metadata, load_weights, save_weights

TINY = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 16)), 32, 8, 10)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: ImageData) -> ImageData:
    """The first 96 training images."""
    return replace(digits, train=Split(digits.train.images[:96], digits.train.labels[:96]))


@pytest.fixture(scope="module")
def smallest() -> NetworkSpec:
    space = mbconv_space(resolution=32, num_classes=10)
    return space.decode(extremes(space, lambda spec: network_cost(spec).madds)[0])


def state(trained: training.TrainedNetwork) -> dict[str, torch.Tensor]:
    return dict(trained.module.state_dict())


def test_learns_digits(digits: ImageData, smallest: NetworkSpec) -> None:
    trained = train(smallest, digits, epochs=DEFAULT_EPOCHS, seed=0)
    assert trained.accuracy >= 0.9
    assert evaluate(trained.module, digits.test, trained.inputs) >= 0.9
    assert not trained.module.training


@pytest.mark.slow
def test_learns_nothing_from_shuffled_labels(digits: ImageData, smallest: NetworkSpec) -> None:
    """With labels that say nothing, accuracy above chance would mean that validation images leak."""
    labels = np.random.default_rng(0).permutation(digits.train.labels)
    data = replace(digits, train=Split(digits.train.images, labels))
    trained = train(smallest, data, epochs=DEFAULT_EPOCHS, seed=0)
    assert trained.accuracy <= 0.2
    assert evaluate(trained.module, data.test, trained.inputs) <= 0.2


def test_validation_and_test_images_never_reach_training(few: ImageData) -> None:
    noise = np.random.default_rng(0)
    poison = [
        Split(noise.integers(0, 256, split.images.shape, np.uint8), (split.labels + 1) % 10)
        for split in (few.val, few.test)
    ]
    clean = train(TINY, few, epochs=1, seed=0)
    poisoned = train(TINY, replace(few, val=poison[0], test=poison[1]), epochs=1, seed=0)
    torch.testing.assert_close(state(poisoned), state(clean), rtol=0, atol=0)


def test_the_same_seed_gives_the_same_network_and_another_seed_another(few: ImageData) -> None:
    spec = replace(TINY, dropout=0.5, drop_path=0.5)
    one, two, other = (train(spec, few, epochs=1, seed=seed) for seed in (0, 0, 1))
    torch.testing.assert_close(state(two), state(one), rtol=0, atol=0)
    assert one.accuracy == two.accuracy
    assert not torch.equal(state(other)["classifier.weight"], state(one)["classifier.weight"])


def test_global_random_state_is_left_alone(few: ImageData) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    train(TINY, few, epochs=1, seed=0)
    torch.testing.assert_close(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_the_network_keeps_the_norm_momentum_and_loads_where_it_came_from(few: ImageData) -> None:
    trained = train(TINY, few, epochs=1, seed=0)
    plain = build_module(TINY).eval()
    plain.load_state_dict(trained.module.state_dict())
    assert evaluate(plain, few.val, trained.inputs) == trained.accuracy
    norms = [layer for layer in trained.module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {TINY.style.norm_momentum}
    assert trained.spec == TINY


def test_norms_are_estimated_on_the_training_images(few: ImageData) -> None:
    trained = train(TINY, few, epochs=1, seed=0)
    stem = dict(trained.module.named_modules())["conv_stem"]
    with torch.no_grad():
        seen = stem(trained.inputs(torch.tensor(few.train.images)))
    mean = seen.mean((0, 2, 3))
    torch.testing.assert_close(state(trained)["bn1.running_mean"], mean, rtol=1e-4, atol=1e-5)


def test_a_rung_is_told_the_accuracy_there_and_changes_nothing(few: ImageData) -> None:
    told: list[tuple[int, float]] = []

    def go_on(epoch: int, accuracy: float) -> bool:
        told.append((epoch, accuracy))
        return True

    plain = train(TINY, few, epochs=3, seed=0)
    asked = train(TINY, few, epochs=3, seed=0, rungs=(1, 2, 3), go_on=go_on)
    assert [epoch for epoch, _ in told] == [1, 2]  # at the end there is nothing to ask
    torch.testing.assert_close(state(asked), state(plain), rtol=0, atol=0)
    assert asked.accuracy == plain.accuracy


def test_a_training_that_is_stopped_has_the_accuracy_of_its_rung(few: ImageData) -> None:
    told: list[float] = []
    stopped = train(
        TINY, few, epochs=3, seed=0, rungs=(1, 2), go_on=lambda epoch, a: not told.append(a) and epoch < 2
    )  # type: ignore[func-returns-value]
    assert stopped.epochs == 2
    assert stopped.accuracy == told[1]
    assert evaluate(stopped.module, few.val, stopped.inputs) == told[1]


@pytest.mark.parametrize(
    ("means", "ends"), [((1.0, 8.0), True), ((8.0, 7.5), False), ((5.0, 6.0), False)]
)  # guessing one of ten has log 10 = 2.30, three times that is 6.91
def test_a_loss_that_grows_far_above_guessing_is_a_divergence(
    few: ImageData, monkeypatch: pytest.MonkeyPatch, means: tuple[float, float], ends: bool
) -> None:
    losses = iter([mean for mean in means for _ in range(3)])  # three steps an epoch

    def scripted(logits: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return logits.sum() * 0 + next(losses)

    monkeypatch.setattr(training.functional, "cross_entropy", scripted)
    message = r"diverged: the mean loss grew from 1 to 8 in epoch 2 of 2; guessing has 2\.3"
    with pytest.raises(TrainingError, match=message) if ends else contextlib.nullcontext():
        train(TINY, few, epochs=2, seed=0)


def test_a_training_ends_when_its_time_is_over(few: ImageData) -> None:
    with pytest.raises(TrainingError, match=r"its time of under 1 s was over in epoch 1 of 2, step 1 of 3"):
        train(TINY, few, epochs=2, seed=0, timeout_s=1e-9)


def test_a_loss_that_is_not_finite_names_epoch_and_step(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "BASE_RATE", 1e30)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 1 of 2, step [23] of 3"):
        train(TINY, few, epochs=2, seed=0)


def test_outputs_that_are_not_finite_are_no_score(few: ImageData) -> None:
    module = build_module(TINY)
    torch.nn.init.constant_(dict(module.named_parameters())["classifier.bias"], float("nan"))
    with pytest.raises(TrainingError, match="NaN or infinite"):
        evaluate(module, few.val, input_transform(TINY, few))


def test_inputs_are_normalised_by_the_training_split_and_replicated(digits: ImageData) -> None:
    inputs = input_transform(TINY, digits)
    native = inputs(torch.tensor(digits.train.images))
    assert native.shape == (1078, 3, 8, 8)
    assert native.dtype == torch.float32
    assert native.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(native.mean((0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(native.std((0, 2, 3)), torch.ones(3), rtol=1e-4, atol=0)
    torch.testing.assert_close(native[:, 0], native[:, 2], rtol=0, atol=0)
    larger = replace(inputs, resolution=32)(torch.tensor(digits.train.images))
    assert larger.shape == (1078, 3, 32, 32)
    # half-pixel centres: the two outer rows and columns of 32 lie beyond the centre of the outermost of 8
    torch.testing.assert_close(larger[:, :, :2, :2], native[:, :, :1, :1].expand(-1, -1, 2, 2))


def test_mean_and_std_are_of_all_pixels() -> None:
    """A quarter is 255, the rest 0: 1/4 and sqrt(1/4 x 3/4); more images than are counted at once."""
    pixels = np.zeros((400, 2, 2), np.uint8)
    pixels[:100] = 255
    assert inputs._mean_and_std(pixels) == pytest.approx((0.25, 0.1875**0.5))
    assert inputs._mean_and_std(pixels[100:]) == (0.0, 1 / 255)


def test_colour_images(few: ImageData) -> None:
    def colour(split: Split) -> Split:
        return Split(np.concatenate([split.images, split.images // 2, 255 - split.images], 1), split.labels)

    data = replace(few, train=colour(few.train), val=colour(few.val), test=colour(few.test))
    assert len(train(TINY, data, epochs=1, seed=0).inputs.mean) == 3
    with pytest.raises(InputError, match="1 channels, the images have 3"):
        train(replace(TINY, in_channels=1), data, epochs=1, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda spec: replace(spec, num_classes=1000), "1000 outputs for 10 classes"),
        (lambda spec: replace(spec, resolution=7), "resolution must be at least 8 pixels"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    digits: ImageData, change: Callable[[NetworkSpec], NetworkSpec], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(change(TINY), digits, epochs=1, seed=0)


def test_epochs_are_at_least_one(digits: ImageData) -> None:
    with pytest.raises(InputError, match="epochs must be at least 1, got 0"):
        train(TINY, digits, epochs=0, seed=0)


def test_seconds_are_extrapolated_from_the_fastest_step(
    few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = iter([0.0, 5.0, 10.0, 10.1, 20.0, 20.3])  # three steps: 5, 0.1 and 0.3 s
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(ends))
    # 32 of the 96 images a step; 2 epochs, and a third of the cost for 96 images (norms) and 359 (validation).
    assert training.estimate_seconds(TINY, few, epochs=2) == pytest.approx(
        0.1 / 32 * (2 * 96 + (96 + 359) / 3)
    )


def test_standard_error() -> None:
    assert standard_error(0.5, 9996) == pytest.approx(0.005)  # 5,000 of 10,000: sqrt(0.25 / 10000)
    assert standard_error(1.0, 359) == pytest.approx((361 * 2 / 363**3) ** 0.5)  # not 0


@pytest.mark.parametrize(("count", "size"), [(2, 32), (1078, 32), (8191, 32), (10_000, 64), (50_000, 128)])
def test_batch_size(count: int, size: int) -> None:
    assert training.batch_size_of(count) == size


def test_rate_warms_up_and_ends_at_zero() -> None:
    rates = [training.learning_rate(step, 10, 2.0) for step in range(1, 11)]
    assert rates[:2] == pytest.approx([1.0, 2.0])  # a fifth of 10 steps
    assert rates[5] == pytest.approx(1.0)  # half-way down the cosine
    assert rates[9] == pytest.approx(0.0)


def test_weights_round_trip(tmp_path: Path) -> None:
    module, path = build_module(TINY), tmp_path / "w.safetensors"
    save_weights(path, module, {"trained": "6 epochs on digits"})
    loaded = load_weights(path)
    assert load_metadata(path) == {"trained": "6 epochs on digits"}
    assert {name: (array.dtype.name, array.shape) for name, array in loaded.items()} == {
        name: (str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        for name, tensor in module.state_dict().items()
    }
    for name, tensor in module.state_dict().items():
        np.testing.assert_array_equal(loaded[name], tensor.numpy())
    save_weights(path, module.state_dict())
    assert load_metadata(path) == {}


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(RunDirectoryError, match="cannot read"):
        load_weights(path)
    save_weights(path, build_module(TINY))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunDirectoryError, match="damaged"):
        load_weights(path)
    with pytest.raises(RunDirectoryError, match="cannot write"):
        save_weights(tmp_path / "absent" / "w.safetensors", build_module(TINY))
