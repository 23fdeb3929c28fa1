"""The state of a training of shared weights as one safetensors file, replaced atomically."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnas.errors import RunDirectoryError
from mnas.supernet.sampling import PolicySampler
from mnas.supernet.weights import Supernet
from mnas.weights import load_metadata, load_weights, save_weights

FORMAT = "mnas.supernet/1"
FILE = "supernet.safetensors"


@dataclass(slots=True)
class Progress:
    """How far a training is.

    Args:
        step: steps done.
        loss_sum: of this epoch's images so far.
        before: mean loss of the epoch before; infinite in the first.
        seconds: of training so far.
    """

    step: int = 0
    loss_sum: float = 0.0
    before: float = math.inf
    seconds: float = 0.0


def save_state(
    path: Path,
    net: Supernet,
    optimizer: torch.optim.Optimizer,
    policy: PolicySampler | None,
    progress: Progress,
    task: Mapping[str, Any],
) -> None:
    """Writes weights, momenta, the policy where there is one, progress, and what is trained (`task`, plain JSON).

    Raises:
        RunDirectoryError: the file cannot be written; an old one is untouched.
    """
    tensors = {f"shared.{key}": weight for key, weight in net.shared.items()}
    for key, weight in net.shared.items():
        momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
        if momentum is not None:
            tensors[f"momentum.{key}"] = momentum
    if policy is not None:
        tensors |= {f"policy.{name}": torch.from_numpy(array) for name, array in policy.state().items()}
    said = asdict(progress) | {"before": None if math.isinf(progress.before) else progress.before}
    texts = {"format": FORMAT, "task": _text(task), "progress": json.dumps(said, allow_nan=False)}
    save_weights(path, tensors, texts)


def load_state(
    path: Path,
    net: Supernet,
    optimizer: torch.optim.Optimizer,
    policy: PolicySampler | None,
    task: Mapping[str, Any],
) -> Progress:
    """Brings shared weights, optimizer and policy to where the file was.

    Raises:
        RunDirectoryError: missing, damaged, of another version or of another training.
    """
    progress = read_progress(path, task)
    arrays = load_weights(path)
    try:
        with torch.no_grad():
            for key, weight in net.shared.items():
                weight.copy_(_fitting(arrays[f"shared.{key}"], weight.shape))
                found = arrays.get(f"momentum.{key}")
                if found is not None:
                    momentum = torch.empty_like(weight).copy_(_fitting(found, weight.shape))
                    optimizer.state[weight]["momentum_buffer"] = momentum
        if policy is not None:
            start = "policy."
            policy.restore(
                {
                    name.removeprefix(start): a.astype(np.float64)
                    for name, a in arrays.items()
                    if name.startswith(start)
                }
            )
    except (KeyError, ValueError) as error:
        raise RunDirectoryError(f"{path} does not fit this space: {error}.") from error
    return progress


def read_progress(path: Path, task: Mapping[str, Any]) -> Progress:
    """How far the training in a file is; raises as `load_state`."""
    texts = load_metadata(path)
    if texts.get("format") != FORMAT:
        raise RunDirectoryError(
            f"{path} holds no shared weights of this version: expected the format {FORMAT!r}, "
            f"got {texts.get('format')!r}."
        )
    try:
        stored = json.loads(texts["task"])
        said = json.loads(texts["progress"])
        progress = Progress(
            **(said | {"before": math.inf if said["before"] is None else float(said["before"])})
        )
        step = int(progress.step)
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"{path} is damaged: {type(error).__name__}: {error}.") from error
    wanted = json.loads(_text(task))
    if stored != wanted:
        others = sorted(
            name for name in {*stored, *wanted} if stored.get(name, None) != wanted.get(name, None)
        )
        told = ", ".join(f"{name} {stored.get(name)!r} instead of {wanted.get(name)!r}" for name in others)
        raise RunDirectoryError(f"{path} is of another training: {told}. Choose another folder.")
    progress.step = step
    return progress


def _fitting(array: Any, shape: torch.Size) -> torch.Tensor:
    if array.shape != tuple(shape):
        raise ValueError(f"a tensor has the shape {array.shape}, expected {tuple(shape)}")
    return torch.from_numpy(array)


def _text(task: Mapping[str, Any]) -> str:
    return json.dumps(task, sort_keys=True, allow_nan=False)
