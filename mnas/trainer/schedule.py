"""What changes while a network is trained: learning rate, stage, and what a stage sets. All functions of the step."""

import math

from mnas.trainer.recipe import Ramp, Recipe

RESOLUTION_STEP = 32  # the total stride of the networks here: five layers of stride 2


def learning_rate(recipe: Recipe, step: int, steps_per_epoch: int) -> float:
    """The rate of step 1, 2, ...: linear warm-up to the peak, then a cosine to zero, or steps down.

    Steps down are counted from the beginning, warm-up included, as `build_learning_rate` does in the code of
    EfficientNet (tensorflow/tpu, models/official/efficientnet/utils.py); its warm-up is one step behind this one.
    The cosine is that of arXiv 1608.03983, eq. 5, without restarts.

    Args:
        recipe: peak rate, warm-up, schedule.
        step: from 1.
        steps_per_epoch: at least 1.
    """
    done = step / steps_per_epoch
    if done < recipe.warmup_epochs:
        return recipe.lr * done / recipe.warmup_epochs
    if recipe.schedule == "step":
        decays = math.floor(
            round((step - 1) / steps_per_epoch / recipe.decay_epochs, 9)
        )  # 7.2 / 2.4 is not 3
        return recipe.lr * recipe.decay_rate**decays
    share = (done - recipe.warmup_epochs) / (recipe.epochs - recipe.warmup_epochs)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * share))


def stage_of(recipe: Recipe, epoch: int) -> int:
    """The stage, from 0, of an epoch, from 1; stages have equal lengths to within one epoch."""
    return (epoch - 1) * recipe.stages // recipe.epochs


def ramped(ramp: Ramp, recipe: Recipe, stage: int) -> float:
    """The value of a ramp at a stage: first + (last - first) x stage / (stages - 1); the last where there is one stage.

    Reference: EfficientNetV2 (arXiv 2104.00298), Algorithm 1.
    """
    first, last = ramp
    return last if recipe.stages == 1 else first + (last - first) * stage / (recipe.stages - 1)


def stage_resolution(recipe: Recipe, stage: int, resolution: int) -> int:
    """Height and width in pixels at a stage: a multiple of 32, at least 32, at most the network's own."""
    wanted = ramped(recipe.resolution, recipe, stage) * resolution
    rounded = max(RESOLUTION_STEP, RESOLUTION_STEP * round(wanted / RESOLUTION_STEP))
    return resolution if stage == recipe.stages - 1 else min(rounded, resolution)
