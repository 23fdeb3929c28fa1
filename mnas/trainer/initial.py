"""Weights to begin with: a file of another training, or timm's where they are on this machine already."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mnas.errors import InputError
from mnas.model import build_module
from mnas.search_space import NetworkSpec
from mnas.search_space.timm_names import timm_names
from mnas.weights import load_weights

CLASSIFIER = "classifier."
TIMM = "timm:"
_SHOWN = 6  # problems that a message lists


def starting_weights(
    start: str | None, spec: NetworkSpec, note: Callable[[str], None]
) -> dict[str, Tensor] | None:
    """The entries of the state dict that a training begins with.

    Args:
        start: a safetensors file, or `timm:NAME`; None is none.
        spec: the network that is to be trained.
        note: told when the classifier is replaced.

    Raises:
        RunDirectoryError, InputError: as of `initial_weights` and `timm_weights`.
    """
    if start is None:
        return None
    path = timm_weights(start.removeprefix(TIMM)) if start.startswith(TIMM) else Path(start)
    weights, replaced = initial_weights(path, spec)
    if replaced:
        note(f"the classifier of {start} is replaced by a new one of {spec.num_classes} classes.")
    return weights


def initial_weights(path: Path, spec: NetworkSpec) -> tuple[dict[str, Tensor], bool]:
    """The entries of the network's state dict that a file holds.

    Args:
        path: safetensors, with our names or timm's.
        spec: the network that is to be trained.

    Returns:
        The entries, and whether the classifier is not among them as the file has another number of classes.

    Raises:
        RunDirectoryError: missing, or not safetensors.
        InputError: anything else that does not fit, named; NaN or infinity.
    """
    expected = build_module(spec).state_dict()
    found = {name: torch.from_numpy(array) for name, array in load_weights(path).items()}
    ours = {theirs: name for name, theirs in timm_names(spec, expected).items()}
    if len(found.keys() & ours.keys()) > len(found.keys() & expected.keys()):
        found = {ours.get(name, name): value for name, value in found.items()}
    weight = found.get(f"{CLASSIFIER}weight")
    other = weight is not None and weight.ndim == 2 and len(weight) != spec.num_classes
    if other:
        expected = {name: value for name, value in expected.items() if not name.startswith(CLASSIFIER)}
        found = {name: value for name, value in found.items() if not name.startswith(CLASSIFIER)}
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is not in the network" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name].shape != expected[name].shape:
            shapes = tuple(expected[name].shape), tuple(found[name].shape)
            problems.append(f"{name} is {shapes[1]}, the network's {shapes[0]}")
        elif not found[name].isfinite().all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise InputError(f"{path} does not fit the network: {'; '.join(sorted(problems)[:_SHOWN])}{more}.")
    return found, other


def timm_weights(name: str) -> Path:
    """The file of a pretrained network of timm in the local cache of the Hugging Face hub; nothing is downloaded.

    Args:
        name: as timm has it, `mnasnet_small` or `mnasnet_small.lamb_in1k`.

    Raises:
        InputError: timm is not installed, has no such network, or its weights are not on this machine.
    """
    try:
        import huggingface_hub
        import timm
    except ImportError as error:
        raise InputError(
            f"--from timm:{name} needs timm. Install it with: pip install 'mnas[timm]'"
        ) from error
    config = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None or not config.hf_hub_id:
        raise InputError(
            f"timm {timm.__version__} has no pretrained network {name!r}. Its names: timm.list_pretrained()."
        )
    file = config.hf_hub_filename or "model.safetensors"
    found = huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file)
    if not isinstance(found, str):
        raise InputError(
            f"the weights of timm's {name} are not on this machine, and mnas downloads nothing. Where there is a "
            f"network: hf download {config.hf_hub_id} {file} - or give a file: --from FILE.safetensors"
        )
    return Path(found)
