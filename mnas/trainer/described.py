"""What goes with the weights of a trained network, in words and for a program."""

import json
from dataclasses import asdict

from mnas.trainer.state import Progress, Task


def how_trained(task: Task, progress: Progress) -> str:
    """How long, on what, and which epoch's weights these are."""
    recipe, data = task.recipe, task.data
    return (
        f"trained {recipe.epochs} epoch{'s' if recipe.epochs > 1 else ''} on {data.name} ({len(data.train):,} images, "
        f"preset {recipe.preset}), epoch {progress.best_epoch} kept, the best on {len(data.val):,} validation images"
    )


def weights_metadata(task: Task, progress: Progress) -> dict[str, str]:
    """The texts of a weights file: `trained`; and as JSON `input` (what is expected of an image) and `classes`."""
    return {
        "trained": how_trained(task, progress),
        "input": json.dumps(asdict(task.inputs)),
        "classes": json.dumps(task.data.classes),
    }
