"""A training's state as one safetensors file: replaced atomically, read without running anything."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mnas.errors import InputError, RunDirectoryError
from mnas.trainer.state import Progress, State, Task, new_state
from mnas.weights import load_metadata, load_weights, save_weights

FORMAT = "mnas.checkpoint/1"


def save_checkpoint(path: Path, state: State) -> None:
    """Writes weights, averages, the optimizer's state, the best epoch's weights and the progress.

    There is no state of a random generator in it: every step draws from a seed of its own.

    Raises:
        RunDirectoryError: the file cannot be written; an old one is untouched.
    """
    tensors = _prefixed("model", state.module.state_dict()) | _prefixed("best", state.best)
    if state.ema is not None:
        tensors |= _prefixed("ema", state.ema.module.state_dict())
    for number, slots in state.optimizer.state_dict()["state"].items():
        tensors |= _prefixed(f"optimizer.{number}", slots)
    texts = {"format": FORMAT, "progress": json.dumps(state.progress.to_dict(), allow_nan=False)}
    save_weights(path, tensors, texts)


def load_checkpoint(path: Path, state: State) -> None:
    """Brings a new state of the same task to where the checkpoint was.

    Args:
        path: the file.
        state: as `new_state` makes it; changed in place, in part where the file is refused.

    Raises:
        RunDirectoryError: missing, damaged, of another version, or of another network or recipe.
    """
    texts, arrays = load_metadata(path), load_weights(path)
    if texts.get("format") != FORMAT:
        raise RunDirectoryError(
            f"{path} is no checkpoint of this version: expected the format {FORMAT!r}, got {texts.get('format')!r}."
        )
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    try:
        state.progress = Progress.from_dict(json.loads(texts["progress"]))
        _fill(state.module, _of("model", tensors))
        if state.ema is not None:
            _fill(state.ema.module, _of("ema", tensors))
        _fill_optimizer(state.optimizer, _of("optimizer", tensors))
    except (KeyError, ValueError, RuntimeError) as error:  # InputError is a ValueError
        raise RunDirectoryError(f"{path} does not fit this training: {error}") from error
    state.best = {name: tensor.clone() for name, tensor in _of("best", tensors).items()}


def begin(task: Task, path: Path | None, initial: dict[str, Tensor] | None = None) -> State:
    """The checkpoint's state where there is one, else a new one with the `initial` weights; raises as loading does."""
    state = new_state(task, initial)
    if path is not None and path.is_file():
        load_checkpoint(path, state)
    return state


def _prefixed(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): t for name, t in tensors.items() if name.startswith(start)}


def _fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    module.load_state_dict(tensors, strict=True)


def _fill_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Its slots in the memory format of their parameters, as training left them: steps stay as fast as they were."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, slot = name.partition(".")
        if not number.isdecimal() or int(number) >= len(parameters):
            raise InputError(f"it holds an optimizer's state of a parameter {number} that is not there")
        parameter = parameters[int(number)]
        if tensor.shape == parameter.shape:
            tensor = torch.empty_like(parameter).copy_(tensor)
        elif tensor.ndim:
            raise InputError(
                f"the optimizer's {name} has the shape {tuple(tensor.shape)}, expected {tuple(parameter.shape)}"
            )
        slots.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
