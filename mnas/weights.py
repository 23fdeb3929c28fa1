"""Weights as safetensors: arrays by name and a few lines of text, nothing that runs when it is read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mnas.errors import RunDirectoryError
from mnas.files import write_bytes


def save_weights(
    path: Path, weights: nn.Module | Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a module's state, parameters and buffers alike, atomically.

    Args:
        path: the file; its folder must exist.
        weights: a module or its state dict, on any device and in any memory format.
        metadata: texts to go with it, `{"trained": "6 epochs on digits"}` for example; None is no text.

    Raises:
        RunDirectoryError: the file cannot be written; an old one is untouched.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_bytes(path, safetensors.torch.save(plain, dict(metadata) if metadata else None))


def load_weights(path: Path) -> dict[str, NDArray[np.generic]]:
    """The arrays of a file by name, in their own types: float32, and int64 for the norms' counters.

    Raises:
        RunDirectoryError: missing, or not whole.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)


def load_metadata(path: Path) -> dict[str, str]:
    """The texts that were saved with the weights; raises as `load_weights` does."""
    with _opened(path) as file:
        return dict(file.metadata() or {})


def _opened(path: Path) -> "safetensors.safe_open":
    try:
        return safetensors.safe_open(path, framework="numpy")
    except OSError as error:
        raise RunDirectoryError(f"cannot read {path}: {error.strerror or error}.") from error
    except safetensors.SafetensorError as error:
        raise RunDirectoryError(f"{path} is damaged: not a safetensors file ({error}).") from error
