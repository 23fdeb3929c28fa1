"""Full training: published recipes, exact resume, atomic checkpoints. `mnas.training` is the short proxy training."""

from mnas.trainer.checkpoint import begin, load_checkpoint, save_checkpoint
from mnas.trainer.initial import initial_weights, starting_weights, timm_weights
from mnas.trainer.loop import fit
from mnas.trainer.presets import PRESETS, preset
from mnas.trainer.recipe import Recipe
from mnas.trainer.state import State, Task, make_task, new_state

__all__ = [
    "PRESETS",
    "Recipe",
    "State",
    "Task",
    "begin",
    "fit",
    "initial_weights",
    "load_checkpoint",
    "make_task",
    "new_state",
    "preset",
    "save_checkpoint",
    "starting_weights",
    "timm_weights",
]
