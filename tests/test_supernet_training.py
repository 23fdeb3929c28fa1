"""Training shared weights: it learns, goes on after a kill as if there had been none, and scores networks alike."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from mnas.data import ImageData, Split, load_data
from mnas.errors import InputError, RunDirectoryError, SearchError
from mnas.protocols import AccuracyModel, PreparedAccuracyModel, TimedAccuracyModel, is_expensive
from mnas.search_space import Architecture, NetworkSpec, SearchSpace, network_cost
from mnas.search_space.space_file import space_from_file
from mnas.supernet import Recipe, Supernet, SupernetAccuracy, train_supernet
from mnas.supernet.checkpoint import FILE
from mnas.supernet.recipe import ends_of
from mnas.supernet.sampling import PolicySampler, Uniform
from mnas.supernet.train import Training
from mnas.training import TrainingError
from mnas.weights import load_metadata, load_weights, save_weights

pytestmark = pytest.mark.usefixtures("one_thread")

SPACE_FILE = """
name = "tiny"
stem_channels = 8
head_channels = 32
stem_stride = 1

[[stages]]
op = ["mbconv", "conv"]
kernel = [3, 5]
stride = 2
out_channels = [8, 16]
repeats = [1, 2]
expansion = [2, 3]
se_ratio = [0.0, 0.25]

[[stages]]
op = "mbconv"
kernel = 3
stride = 2
out_channels = 16
repeats = [1, 2]
expansion = 2
"""


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> SearchSpace:
    file = tmp_path_factory.mktemp("space") / "tiny.toml"
    file.write_text(SPACE_FILE)
    return space_from_file(file, resolution=8, num_classes=10)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_data("digits")


@pytest.fixture(scope="module")
def few(digits: ImageData) -> ImageData:
    """The first 160 training images: 5 steps an epoch."""
    return replace(digits, train=Split(digits.train.images[:160], digits.train.labels[:160]))


def nothing(text: str) -> None:
    """Is told."""


def weights(net: Supernet) -> dict[str, Tensor]:
    return {key: weight.detach().clone() for key, weight in net.shared.items()}


def same(one: Supernet, other: Supernet) -> bool:
    theirs = weights(other)
    return all(torch.equal(weight, theirs[key]) for key, weight in weights(one).items())


def members(space: SearchSpace, count: int) -> list[NetworkSpec]:
    rng = random.Random(5)
    return [space.decode(space.sample(rng)) for _ in range(count)]


def test_networks_learn_together(space: SearchSpace, digits: ImageData, tmp_path: Path) -> None:
    """Ten classes; each of ten random networks, with the weights that it shares."""
    model = SupernetAccuracy(space, digits, supernet_epochs=3)
    told: list[str] = []
    model.prepare(tmp_path / "run" / "supernet", told.append)
    accuracies = [estimate.value for estimate in model.evaluate(members(space, 10), seed=0)]
    assert min(accuracies) >= 0.4
    assert np.mean(accuracies) >= 0.6
    assert told[0].startswith("shared weights: epoch 1 of 3, mean loss ")
    assert told[-1].startswith("shared weights: trained in ")


@pytest.mark.parametrize("sandwich", [True, False])
def test_a_training_that_was_killed_ends_as_one_that_was_not(
    space: SearchSpace, few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandwich: bool
) -> None:
    recipe = Recipe(2, seed=3, members=3 if sandwich else 1, sandwich=sandwich)
    whole = train_supernet(space, few, recipe)
    step = Training._step
    for killed_at in (3, 6):  # inside the first and the second epoch of 5 steps

        def dies(self: Training, x: Tensor, labels: Tensor, at: int = killed_at) -> float:
            if self.progress.step == at:
                raise KeyboardInterrupt
            return step(self, x, labels)

        monkeypatch.setattr(Training, "_step", dies)
        with pytest.raises(KeyboardInterrupt):
            train_supernet(space, few, recipe, folder=tmp_path, checkpoint_s=0)
        monkeypatch.undo()
    assert same(train_supernet(space, few, recipe, folder=tmp_path), whole)
    # a finished one is loaded, not trained again
    monkeypatch.setattr(Training, "_step", lambda *_: pytest.fail("a step"))
    assert same(train_supernet(space, few, recipe, folder=tmp_path), whole)


def test_another_seed_gives_other_weights(space: SearchSpace, few: ImageData) -> None:
    assert not same(
        train_supernet(space, few, Recipe(1, seed=0)), train_supernet(space, few, Recipe(1, seed=1))
    )


def test_the_networks_of_a_step(space: SearchSpace, few: ImageData) -> None:
    training = Training(space, few, Recipe(1, members=4))
    costs = [network_cost(spec).madds for spec in training.members(0)]
    every = [network_cost(space.decode(point)).madds for point in space.enumerate()]
    assert costs[:2] == [max(every), min(every)]
    assert len(costs) == 4
    assert training.members(0) == training.members(0)
    drawn = {training.members(step)[2] for step in range(20)}
    assert len(drawn) > 10
    assert len(Training(space, few, Recipe(1, members=1, sandwich=False)).members(0)) == 1


def test_the_others_learn_what_the_largest_says(
    space: SearchSpace, few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets: list[Tensor] = []
    plain = torch.nn.functional.cross_entropy

    def watched(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        targets.append(target)
        return plain(logits, target, label_smoothing=label_smoothing)

    monkeypatch.setattr("mnas.supernet.train.functional.cross_entropy", watched)
    labels = torch.tensor(few.train.labels[:8])
    x = torch.randn(8, 3, 8, 8)
    Training(space, few, Recipe(1))._step(x, labels)
    first, *others = targets
    assert torch.equal(first, labels)
    for target in others:
        assert target.shape == (8, 10)
        torch.testing.assert_close(target.sum(1), torch.ones(8))
        assert not target.requires_grad
    targets.clear()
    Training(space, few, Recipe(1, distil=False))._step(x, labels)
    assert all(torch.equal(target, labels) for target in targets)


def gradients(training: Training) -> dict[str, Tensor]:
    """A copy; of parameters that no member uses, nothing."""
    named = training.net.named_parameters()
    return {name: value.grad.clone() for name, value in named if value.grad is not None}


def test_a_batch_in_parts_has_the_mean_of_their_gradients(space: SearchSpace, few: ImageData) -> None:
    labels = torch.tensor(few.train.labels[:16])
    x = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    training = Training(space, few, Recipe(1))
    halves = []
    for part in (slice(8), slice(8, 16)):
        training._gradients(x[part], labels[part])
        halves.append(gradients(training))
    training.parts = 2
    training._gradients(x, labels)
    whole = gradients(training)
    assert len(whole) > 10
    for name, found in whole.items():
        torch.testing.assert_close(found, (halves[0][name] + halves[1][name]) / 2)


def leave_room(monkeypatch: pytest.MonkeyPatch, fits: int) -> None:
    """For so many images at once; torch's words for want of memory on the CPU."""
    plain = torch.nn.functional.cross_entropy

    def limited(logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if len(logits) > fits:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return plain(logits, target, label_smoothing=label_smoothing)

    monkeypatch.setattr("mnas.supernet.train.functional.cross_entropy", limited)


def test_out_of_memory_goes_on_in_parts(
    space: SearchSpace, few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room(monkeypatch, 16)
    told: list[str] = []
    train_supernet(space, few, Recipe(1, batch_size=54), say=told.append)  # 160 images, 53 and 54 at once
    assert [text for text in told if "memory" in text] == [
        f"shared weights: out of memory; going on with batches of 54 images in {parts} parts"
        for parts in (2, 4)
    ]


def test_memory_for_one_image_is_too_little(
    space: SearchSpace, few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_room(monkeypatch, 1)
    with pytest.raises(TrainingError, match=r"ran out with 2 images at once \(DefaultCPU.*Use a smaller"):
        train_supernet(space, few, Recipe(1, batch_size=4))


@pytest.fixture(scope="module")
def model(space: SearchSpace, few: ImageData, tmp_path_factory: pytest.TempPathFactory) -> SupernetAccuracy:
    """Prepared, of one epoch."""
    made = SupernetAccuracy(space, few, supernet_epochs=1, validation_images=100)
    made.prepare(tmp_path_factory.mktemp("model"), nothing)
    return made


def test_a_score_does_not_depend_on_who_was_scored_before(
    model: SupernetAccuracy, space: SearchSpace
) -> None:
    one, *others = members(space, 6)
    (alone,) = model.evaluate([one], seed=1)
    model.evaluate(others, seed=2)
    assert model.evaluate([one], seed=3) == [alone]


def test_what_an_estimate_says(model: SupernetAccuracy, space: SearchSpace) -> None:
    (estimate,) = model.evaluate(members(space, 1), seed=0)
    assert estimate.source == (
        "shared weights trained 1 epoch on digits (160 images), scored on 100 of 359 validation images"
    )
    hits = estimate.value * 100  # standard error of Agresti and Coull, as of any accuracy here
    share = (hits + 2) / 104
    assert estimate.std == pytest.approx((share * (1 - share) / 104) ** 0.5)
    assert np.bincount(model.val.labels).min() >= 9  # each class has its share of the 100


def test_it_is_what_the_search_expects(model: SupernetAccuracy, space: SearchSpace) -> None:
    for kind in (AccuracyModel, TimedAccuracyModel, PreparedAccuracyModel):
        assert isinstance(model, kind)
    assert is_expensive(model)
    assert model.seconds(space.decode(space.first)) > 0


def test_another_process_only_loads(
    space: SearchSpace, few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> SupernetAccuracy:
        return SupernetAccuracy(space, few, supernet_epochs=1)

    first, second = make(), make()
    assert second.preparation_seconds(tmp_path) > 0
    first.prepare(tmp_path, nothing)
    monkeypatch.setattr(Training, "_step", lambda *_: pytest.fail("a step"))
    assert second.preparation_seconds(tmp_path) == 0
    second.prepare(tmp_path, lambda text: pytest.fail(text))
    spec = members(space, 1)
    assert second.evaluate(spec, seed=0) == first.evaluate(spec, seed=0)


def test_the_estimate_is_of_what_is_left(
    space: SearchSpace, few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """.01 s an image and network: 160 images twice, for the largest, the smallest and two others."""
    monkeypatch.setattr("mnas.supernet.accuracy.seconds_an_image", lambda *_, **__: 0.01)
    model = SupernetAccuracy(space, few, supernet_epochs=2)
    assert model.preparation_seconds(tmp_path) == pytest.approx(12.8)

    def stop(text: str) -> None:
        """Before the second epoch is kept."""
        if "epoch 2" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.prepare(tmp_path, stop)
    again = SupernetAccuracy(space, few, supernet_epochs=2)
    assert again.preparation_seconds(tmp_path) == pytest.approx(6.4)
    told: list[str] = []
    again.prepare(tmp_path, told.append)
    assert told[0] == "shared weights: going on after step 5 of 10"


def test_a_proxys_smaller_images(space: SearchSpace, tmp_path: Path, digits: ImageData) -> None:
    larger = replace(space, build=lambda values: replace(space.build(values), resolution=16))
    model = SupernetAccuracy(larger, digits, supernet_epochs=1, proxy_images=100, proxy_resolution=8)
    model.prepare(tmp_path, nothing)
    spec = larger.decode(larger.first)
    assert spec.resolution == 16
    (estimate,) = model.evaluate([spec], seed=0)
    assert "(100 images of 8 pixels)" in estimate.source
    with pytest.raises(InputError, match="--proxy-resolution must be at most 16"):
        SupernetAccuracy(larger, digits, proxy_resolution=32)


def test_before_it_is_prepared(space: SearchSpace, few: ImageData) -> None:
    with pytest.raises(SearchError, match=r"not there yet: call prepare\(folder, say\)"):
        SupernetAccuracy(space, few).evaluate([space.decode(space.first)], seed=0)


def test_a_loss_that_is_not_finite_ends_it(
    space: SearchSpace, few: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnas.supernet.train.peak_rate", lambda size: 1e30)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) in epoch 1 of 1, step \d of 5"):
        train_supernet(space, few, Recipe(1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"members": 1}, "members must be at least 2, got 1"),
        ({"members": 0, "sandwich": False}, "members must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, int], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Recipe(**{"epochs": 1, **changes})  # type: ignore[arg-type]


def test_data_that_do_not_fit(few: ImageData, space: SearchSpace) -> None:
    other = replace(space, build=lambda values: replace(space.build(values), num_classes=4))
    with pytest.raises(InputError, match="it has 4 outputs for 10 classes"):
        SupernetAccuracy(other, few)


def _another_training(file: Path) -> None:
    """Nothing is changed: the file is of one epoch."""


def _not_whole(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def _no_supernet(file: Path) -> None:
    save_weights(file, {"a": torch.zeros(1)}, {"format": "other"})


def _no_progress(file: Path) -> None:
    texts = load_metadata(file)
    save_weights(file, {"a": torch.zeros(1)}, {**texts, "progress": "{}"})


def _a_tensor_is_missing(file: Path) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in load_weights(file).items()}
    del tensors["shared.head/classifier/bias"]
    save_weights(file, tensors, load_metadata(file))


@pytest.mark.parametrize(
    ("damage", "epochs", "reason"),
    [
        (_another_training, 2, "is of another training: epochs 1 instead of 2"),
        (_not_whole, 1, "is damaged: not a safetensors file"),
        (_no_supernet, 1, "holds no shared weights of this version"),
        (_no_progress, 1, "is damaged: KeyError"),
        (_a_tensor_is_missing, 1, "does not fit this space: .*head/classifier/bias"),
    ],
)
def test_a_checkpoint_that_is_not_ours(
    space: SearchSpace,
    few: ImageData,
    tmp_path: Path,
    damage: Callable[[Path], None],
    epochs: int,
    reason: str,
) -> None:
    train_supernet(space, few, Recipe(1), folder=tmp_path)
    damage(tmp_path / FILE)
    with pytest.raises(RunDirectoryError, match=reason):
        train_supernet(space, few, Recipe(epochs), folder=tmp_path)


def test_the_ends_are_those_of_most_and_fewest_multiply_adds(space: SearchSpace) -> None:
    largest, smallest = ends_of(space)
    assert [stage.repeats for stage in largest.stages] == [2, 2]
    assert [stage.repeats for stage in smallest.stages] == [1, 1]


class Worth:
    """An objective by which networks with a kernel of 5 in the first stage are worth nothing."""

    def __init__(self, space: SearchSpace) -> None:
        self.place = [choice.name for choice in space.choices].index("stage1.kernel")

    def cost(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        return np.array([float(architecture[self.place]) for architecture in architectures])

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(accuracy) * (1 - np.asarray(cost))


def test_a_policy_comes_to_draw_what_is_worth_most(space: SearchSpace) -> None:
    worth = Worth(space)
    sampler = PolicySampler(space, 0, worth, 800)
    uniform = Uniform(space, 0)
    for step in range(800):
        points = sampler.draw(step, 4)
        if step < 200:  # the first quarter
            assert not sampler.learns(step)
            assert points == uniform.draw(step, 4)
        else:
            sampler.learn(step, points, [0.5] * 4)
    policy = sampler.probabilities()
    assert policy[worth.place, 0] > 0.95
    assert all(0.2 < row[0] < 0.8 for n, row in enumerate(policy) if n != worth.place)


def test_what_has_no_finite_reward_teaches_nothing(space: SearchSpace) -> None:
    class Limits(Worth):
        def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
            return np.full(len(np.asarray(cost)), -np.inf)

    sampler = PolicySampler(space, 0, Limits(space), 4)
    before = sampler.probabilities()
    sampler.learn(3, sampler.draw(3, 2), [0.5, 0.5])
    assert np.array_equal(sampler.probabilities(), before)


def test_a_controlled_training_that_was_killed_ends_as_one_that_was_not(
    space: SearchSpace, few: ImageData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, worth = Recipe(3, seed=3, sampling="controller"), Worth(space)
    whole = Training(space, few, recipe, objective=worth)
    whole.run(None, nothing, 0)
    step = Training._step

    def dies(self: Training, x: Tensor, labels: Tensor) -> float:
        if self.progress.step == 7:  # of 15; from the fourth on the policy learns
            raise KeyboardInterrupt
        return step(self, x, labels)

    monkeypatch.setattr(Training, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train_supernet(space, few, recipe, objective=worth, folder=tmp_path, checkpoint_s=0)
    monkeypatch.undo()
    again = Training(space, few, recipe, objective=worth)
    again.resume(tmp_path)
    assert again.progress.step == 7
    again.run(None, nothing, 0)
    assert same(again.net, whole.net)
    assert isinstance(again.sampler, PolicySampler)
    assert isinstance(whole.sampler, PolicySampler)
    assert np.array_equal(again.sampler.probabilities(), whole.sampler.probabilities())
    assert not np.array_equal(
        again.sampler.probabilities(), PolicySampler(space, 0, worth, 1).probabilities()
    )


def test_a_controller_needs_an_objective(space: SearchSpace, few: ImageData) -> None:
    with pytest.raises(InputError, match="needs an objective"):
        train_supernet(space, few, Recipe(1, sampling="controller"))
