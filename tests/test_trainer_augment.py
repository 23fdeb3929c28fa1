"""Augmentation: the same changes as torchvision makes, drawn for each image by itself."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from mnas.data import ImageData, Split, load_data
from mnas.inputs import input_transform
from mnas.search_space import NetworkSpec, StageSpec
from mnas.trainer import preset
from mnas.trainer.augment import (
    MATRIX_SIZE,
    Augmentation,
    flip_some,
    pad_and_crop,
    random_boxes,
    resized_crop,
)
from mnas.trainer.policies import AUTO_CHOICES, RAND_OPERATIONS, Policy, autoaugment, randaugment

TINY = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 16)), 32, 8, 10)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def few() -> ImageData:
    """The first 48 training images."""
    digits = load_data("digits")
    return replace(digits, train=Split(digits.train.images[:48], digits.train.labels[:48]))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def noise(count: int, height: int, width: int) -> Tensor:
    """Colour images, one of them of a single colour."""
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8)
    images[-1] = 100
    return images


def test_pad_and_crop_cuts_from_zeros_around_the_image() -> None:
    images = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(200, 2, 8, 8)
    cut = pad_and_crop(images)
    assert cut.shape == images.shape
    assert cut.dtype == torch.uint8
    padded = nn.functional.pad(images[:1], (1, 1, 1, 1))  # an eighth of 8 pixels
    windows = [padded[0, :, top : top + 8, left : left + 8] for top in range(3) for left in range(3)]
    which = {next(n for n, window in enumerate(windows) if torch.equal(window, image)) for image in cut}
    assert which == set(range(9))


def test_flip_mirrors_about_half_of_the_images() -> None:
    images = torch.tensor([1, 2], dtype=torch.uint8).reshape(1, 1, 1, 2).expand(1000, 1, 1, 2)
    flipped = flip_some(images)[:, 0, 0]
    mirrored = (flipped == torch.tensor([2, 1])).all(1).sum().item()
    assert mirrored + (flipped == torch.tensor([1, 2])).all(1).sum().item() == 1000
    assert 400 < mirrored < 600


def test_images_are_mirrored_only_where_the_recipe_says_so(few: ImageData) -> None:
    inputs = input_transform(TINY, few)
    images, labels = torch.tensor(few.train.images), torch.tensor(few.train.labels)
    as_they_are, mirrored = inputs(images), inputs(images.flip(3))
    x, _ = Augmentation(preset("cifar", crop="none", flip=False), inputs, 10, 0)(images, labels)
    torch.testing.assert_close(x, as_they_are, rtol=0, atol=0)
    x, _ = Augmentation(preset("cifar", crop="none", flip=True), inputs, 10, 0)(images, labels)
    kept = [torch.equal(one, other) for one, other in zip(x, as_they_are, strict=True)]
    turned = [torch.equal(one, other) for one, other in zip(x, mirrored, strict=True)]
    assert all(one or other for one, other in zip(kept, turned, strict=True))
    assert 12 < sum(turned) < 36


@pytest.mark.parametrize("mixing", [{"mixup": 0.8}, {"cutmix": 1.0}, {"mixup": 0.8, "cutmix": 1.0}])
def test_mixed_labels_sum_to_one_over_two_classes(few: ImageData, mixing: dict[str, float]) -> None:
    recipe = preset("cifar", crop="none", flip=False, **mixing)
    change = Augmentation(recipe, input_transform(TINY, few), 10, 0)
    labels = torch.arange(10)
    for _ in range(20):
        x, target = change(torch.tensor(few.train.images[:10]), labels)
        assert x.shape == (10, 3, 8, 8)
        assert x.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(target.sum(1), torch.ones(10))
        own, partner = target[labels, labels], target[labels, labels - 1]
        torch.testing.assert_close(own + partner, torch.ones(10))


@pytest.mark.parametrize("policy", ["autoaugment", "randaugment"])
def test_each_image_is_changed_by_itself_and_alike_for_a_seed(few: ImageData, policy: str) -> None:
    recipe = preset("cifar", crop="resized", flip=False, policy=policy, magnitude=(9, 9))
    change = Augmentation(recipe, replace(input_transform(TINY, few), resolution=16), 10, 0)
    same, labels = torch.tensor(few.train.images[:1]).expand(100, -1, -1, -1), torch.arange(100)
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        x, target = change(same, labels)
        assert x.shape == (100, 3, 16, 16)
        assert x.isfinite().all()
        assert torch.equal(target, labels)
        outcomes.append(x)
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    assert len({tuple(image.flatten().tolist()) for image in outcomes[0]}) > 80


# Crops


def test_boxes_are_drawn_as_torchvisions() -> None:
    from torchvision.transforms import v2

    count, height, width = 2000, 20, 32
    torch.manual_seed(0)
    ours = random_boxes(count, height, width)
    top, left, tall, wide = ours
    assert min(top.min(), left.min()) >= 0
    assert min(tall.min(), wide.min()) >= 1
    assert (top + tall).max() <= height
    assert (left + wide).max() <= width
    crop, image = v2.RandomResizedCrop(8), torch.zeros(1, height, width)
    drawn = [list(crop.make_params([image]).values()) for _ in range(count)]
    for mine, theirs in zip(ours, torch.tensor(drawn).T, strict=True):  # Kolmogorov and Smirnov, p = 0.001
        levels = torch.arange(33)[:, None]
        shares = ((values <= levels).double().mean(1) for values in (mine, theirs))
        assert (next(shares) - next(shares)).abs().max() < 1.95 * (2 / count) ** 0.5


def test_where_no_box_fits_the_middle_is_cut() -> None:
    # at least 8 of 100 pixels with a ratio of at most 4/3 are 2.4 high; 4/3 of the height of 1, rounded, is 1
    assert random_boxes(5, 1, 100).T.tolist() == [[0, 49, 1, 1]] * 5
    assert random_boxes(5, 100, 1).T.tolist() == [[49, 0, 1, 1]] * 5


@pytest.mark.parametrize("resolution", [8, 20, 32, MATRIX_SIZE + 1])
def test_crops_are_torchvisions(resolution: int) -> None:
    from torchvision.transforms.v2 import functional as vision

    images = noise(12, 20, 24)
    torch.manual_seed(0)
    boxes = random_boxes(12, 20, 24)
    torch.manual_seed(0)
    crops = resized_crop(images, resolution)
    assert crops.dtype == torch.uint8
    size = [resolution, resolution]
    for crop, image, box in zip(crops, images, boxes.T.tolist(), strict=True):
        if resolution > MATRIX_SIZE:
            assert torch.equal(crop, vision.resized_crop(image, *box, size, antialias=True))
            continue
        exact = vision.resized_crop(image.float(), *box, size, antialias=True)
        torch.testing.assert_close(crop.float(), exact, rtol=0, atol=0.501)  # rounded


# Policies


@pytest.mark.parametrize("name", ["autoaugment", "randaugment"])
def test_operations_are_torchvisions_for_that_image_alone(name: str) -> None:
    from torchvision.transforms import v2

    policy, theirs, levels = {
        "autoaugment": (autoaugment(), v2.AutoAugment(), 10),
        "randaugment": (randaugment(9), v2.RandAugment(2, 9), 31),
    }[name]
    height, width = 18, 24
    operations = list(policy.operations) * 2
    images = noise(len(operations), height, width)
    images[0] //= 3
    changed = policy.apply(images, torch.arange(len(operations)) % len(policy.operations))
    assert changed.dtype == torch.uint8
    for image, after, (operation, strength) in zip(images, changed, operations, strict=True):
        of, _ = theirs._AUGMENTATION_SPACE.get(operation, (lambda *_: None, False))
        values = of(levels, height, width)
        wanted = strength * {"TranslateX": width, "TranslateY": height}.get(operation, 1)
        sizes = [0.0] if values is None else [sign * float(value) for value in values for sign in (1, -1)]
        magnitude = min(sizes, key=lambda size: abs(size - wanted))
        if operation != "Posterize":  # which has whole bits
            assert magnitude == pytest.approx(wanted, abs=1e-5)
        expected = theirs._apply_image_or_video_transform(
            image, operation, magnitude, "nearest", theirs._fill
        )
        torch.testing.assert_close(after, expected, rtol=0, atol=0, msg=f"{operation} {strength}")


def test_choices_are_torchvisions() -> None:
    from torchvision.transforms import v2

    table = [
        [(name, chance, level or 0) for name, chance, level in row] for row in v2.AutoAugment()._policies
    ]
    assert [list(row) for row in AUTO_CHOICES] == table
    assert tuple(v2.RandAugment._AUGMENTATION_SPACE) == RAND_OPERATIONS
    assert len(randaugment(9).draw(1)) == 2


def test_steps_signs_and_chances_of_a_policy() -> None:
    policy = Policy(
        [(("Rotate", 0.5, 3), ("Invert", 1.0, 0)), (("Posterize", 0.0, 9), ("Identity", 1.0, 0))], 10, 1
    )
    first, second = policy.draw(8000)
    names = [(name, round(strength, 3)) for name, strength in policy.operations]
    plus, minus, identity, invert = (
        names.index(operation)
        for operation in (("Rotate", 10.0), ("Rotate", -10.0), ("Identity", 0.0), ("Invert", 0.0))
    )
    for step, expected in (
        (first, {plus: 1 / 8, minus: 1 / 8, identity: 3 / 4}),
        (second, {invert: 0.5, identity: 0.5}),
    ):
        shares = {number: (step == number).double().mean().item() for number in step.unique().tolist()}
        assert shares == pytest.approx(expected, abs=0.02)
    rotated = (first == plus) | (first == minus)
    assert (second[rotated] == invert).all()  # of one choice


def test_grey_images_have_a_policy_too() -> None:
    images = noise(64, 8, 8)[:, :1]
    for policy in (autoaugment(), randaugment(9)):
        assert policy(images).shape == images.shape
