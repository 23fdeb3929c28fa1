"""Recipes: published constants, values that are refused, and what changes from step to step."""

from dataclasses import replace
from pathlib import Path

import pytest

from mnas.errors import InputError, RunDirectoryError, UnknownNameError
from mnas.trainer import PRESETS, Recipe, preset
from mnas.trainer.plan import make_recipe
from mnas.trainer.schedule import learning_rate, ramped, stage_of, stage_resolution


def test_imagenet_b0_is_as_published() -> None:
    """arXiv 1905.11946, section 5.2: 0.256 for 4,096 images; 218,949 steps of 2,048 of 1,281,167 images."""
    b0 = PRESETS["imagenet-b0"]
    assert b0.lr / b0.batch_size == 0.256 / 4096
    assert round(218_949 * b0.batch_size / 1_281_167) == b0.epochs
    assert (b0.optimizer, b0.rms_decay, b0.momentum, b0.eps) == ("rmsprop", 0.9, 0.9, 0.001)
    assert (b0.weight_decay, b0.ema_decay, b0.label_smoothing) == (1e-5, 0.9999, 0.1)
    assert (b0.warmup_epochs, b0.decay_rate, b0.decay_epochs) == (5, 0.97, 2.4)
    assert (b0.dropout, b0.drop_path, b0.policy) == ((0.2, 0.2), 0.2, "autoaugment")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip(name: str) -> None:
    assert PRESETS[name].preset == name
    assert Recipe.from_dict(PRESETS[name].to_dict()) == PRESETS[name]


def test_the_rate_follows_the_batch_unless_it_is_given() -> None:
    assert preset("cifar", batch_size=64).lr == 0.025
    assert preset("cifar", batch_size=64, lr=0.2).lr == 0.2


def test_few_epochs_have_a_short_warm_up_and_no_more_stages_than_epochs() -> None:
    assert preset("imagenet-b0", epochs=10).warmup_epochs == 2
    assert preset("imagenet-b0", epochs=50).warmup_epochs == 5
    assert preset("modern", epochs=2).stages == 2


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(InputError) as caught:
        preset("cifar", epochs=0, lr=-1.0, optimizer="adam", dropout=(0.0, 1.0), flip=1, mixup=float("nan"))
    message = str(caught.value)
    for part in (
        "epochs must be a whole number of at least 1, got 0",
        "lr must be a number above 0, got -1.0",
        "optimizer must be one of sgd, adamw, rmsprop; got 'adam'",
        "dropout must be two numbers (first and last stage) of at least 0 and less than 1, got (0.0, 1.0)",
        "flip must be true or false, got 1",
        "mixup must be a number of at least 0, got nan",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 200.0}, "a warm-up of 200 epochs leaves none of 200"),
        ({"accumulate": 65}, "128 images in 65 parts leaves fewer than the 2"),
        ({"stages": 3, "epochs": 2}, "3 stages need at least as many epochs, got 2"),
        ({"epoch": 3}, "unknown field 'epoch' .did you mean 'epochs'"),
    ],
)
def test_values_that_do_not_go_together(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        preset("cifar", **changes)


def test_unknown_presets_and_missing_fields() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'cifar'"):
        preset("cifar10")
    with pytest.raises(InputError, match=r"missing field 'epochs'.*missing field 'lr'"):
        Recipe.from_dict({"preset": "cifar", "batch_size": 4})


def test_a_file_changes_a_preset_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[recipe]\npreset = "modern"\nmixup = 0.4\nepochs = 9\ndropout = [0.0, 0.1]\n')
    recipe = make_recipe(None, file, {"epochs": 7})
    expected = replace(preset("modern", epochs=7), mixup=0.4, dropout=(0.0, 0.1))
    assert recipe == expected
    assert make_recipe("cifar", file, {}).crop == "pad"
    file.write_text("[recipe\n")
    with pytest.raises(RunDirectoryError, match="is not TOML"):
        make_recipe(None, file, {})
    with pytest.raises(RunDirectoryError, match="cannot read"):
        make_recipe(None, tmp_path / "absent.toml", {})


@pytest.mark.parametrize(
    ("step", "factor"),
    [
        (1, 0.002),  # a 500th of the way up
        (250, 0.5),
        (500, 0.97**2),  # 4.99 of epochs are 2.08 periods of 2.4
        (720, 0.97**2),
        (721, 0.97**3),  # exactly 7.2 epochs before it
        (35_000, 0.97**145),  # 349.99 / 2.4 = 145.8
    ],
)
def test_step_decay(step: int, factor: float) -> None:
    recipe = PRESETS["imagenet-b0"]
    assert learning_rate(recipe, step, 100) == pytest.approx(0.128 * factor)


def test_cosine() -> None:
    recipe = preset("modern", epochs=25, warmup_epochs=5)
    rates = [learning_rate(recipe, step, 10) for step in (10, 50, 100, 150, 200, 250)]
    half_root = 0.5**0.5
    expected = [0.2, 1.0, (1 + half_root) / 2, 0.5, (1 - half_root) / 2, 0.0]
    assert rates == pytest.approx([0.1 * share for share in expected])


def test_stages_grow_images_and_regularisation() -> None:
    """EfficientNetV2 (arXiv 2104.00298), Table 6, column S: images of 128 to 300 pixels, dropout 0.1 to 0.3."""
    recipe = PRESETS["modern"]
    assert [stage_of(recipe, epoch) for epoch in (1, 50, 51, 100, 150, 151, 200)] == [0, 0, 1, 1, 2, 3, 3]
    assert [ramped(recipe.dropout, recipe, stage) for stage in range(4)] == pytest.approx(
        [0.1, 0.1 + 0.2 / 3, 0.1 + 0.4 / 3, 0.3]
    )
    # 128, 185.3, 242.7 and 300 pixels, to multiples of 32 but for the last
    assert [stage_resolution(recipe, stage, 300) for stage in range(4)] == [128, 192, 256, 300]
    assert [stage_resolution(recipe, stage, 32) for stage in range(4)] == [32, 32, 32, 32]
    assert [stage_resolution(recipe, stage, 8) for stage in range(4)] == [8, 8, 8, 8]
    assert stage_resolution(PRESETS["cifar"], 0, 224) == 224
