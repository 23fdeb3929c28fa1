"""Data, space and accuracy model of a run, made from its configuration: by the search, and by each of its workers."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnas.config import DEFAULT_RESOLUTION, PROXY, SearchConfig
from mnas.errors import InputError
from mnas.protocols import AccuracyModel, Objective
from mnas.registry import is_space_file, make
from mnas.search_space import SearchSpace
from mnas.seeds import derive_seed
from mnas.units import parse_duration_s

if TYPE_CHECKING:
    from mnas.data import ImageData


DEFAULT_CLASSES = 1000  # ImageNet's


def make_data(config: SearchConfig) -> "ImageData | None":
    """The data of a configuration, None without; raises InputError where it cannot be read."""
    if config.data is None:
        return None
    from mnas.data import load_data

    return load_data(config.data, resolution=config.resolution, skip_unreadable=config.skip_unreadable)


def make_space(config: SearchConfig, data: "ImageData | None", kept_file: Path | None = None) -> SearchSpace:
    """The space of a configuration, in the shape of its data where it has any.

    Args:
        config: whose.
        data: None is none.
        kept_file: a run's copy of the space's file, where the space is one; None is the file itself.

    Raises:
        InputError: it cannot be loaded, or is no space.
        SearchError: its factory raised.
    """
    if data is None:
        resolution, classes = config.resolution or DEFAULT_RESOLUTION, config.classes or DEFAULT_CLASSES
    else:
        from mnas.data import search_resolution

        resolution, classes = config.resolution or search_resolution(data), len(data.classes)
    name = str(kept_file) if kept_file is not None and is_space_file(config.space) else config.space
    space = make("space", name, {"resolution": resolution, "num_classes": classes}, "decode")
    if not isinstance(space, SearchSpace):
        raise InputError(f"the space {config.space!r} made a {type(space).__name__}, expected a SearchSpace.")
    return space


def training_device(config: SearchConfig) -> str:
    """Where networks are trained; raises InputError where it is not there."""
    if config.train_device is None:
        return "cpu"
    from mnas.trainer.machine import usable_device

    return usable_device(config.train_device, "--train-device")


def make_accuracy(
    config: SearchConfig,
    space: SearchSpace,
    data: "ImageData | None",
    device: str,
    objective: Objective | None = None,
) -> AccuracyModel:
    """The accuracy model of a configuration.

    Args:
        config: `resolved`.
        space: of `make_space`.
        data: of `make_data`.
        device: of `training_device`.
        objective: what accuracies are worth, for a model that trains by it; None where costs are not known beforehand.

    Raises:
        InputError: it cannot be loaded, needs what is not there, or is no accuracy model.
        SearchError: its factory raised.
    """
    offered: Mapping[str, Any] = {"space": space, "seed": derive_seed(config.seed, "accuracy")}
    if data is not None:
        timeout = config.candidate_timeout
        offered = {
            **offered,
            "data": data,
            "device": device,
            "threads": config.train_threads,
            "timeout_s": None if timeout is None else parse_duration_s(timeout),
            **{name: getattr(config, name) for name in PROXY if name != "candidate_timeout"},
            "epochs": config.epochs,
        }
    names = ("supernet_epochs", "supernet_sampling")
    offered = {
        **offered,
        **{name: getattr(config, name) for name in names if getattr(config, name) is not None},
    }
    if objective is not None:
        offered = {**offered, "objective": objective}
    assert config.accuracy is not None
    model: AccuracyModel = make("accuracy", config.accuracy, offered, "evaluate")
    return model
