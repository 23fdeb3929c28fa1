"""The executor of a configuration."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnas.accuracy.made import training_device
from mnas.config import SearchConfig
from mnas.errors import InputError
from mnas.executors.dispatch import Crew, Dispatcher
from mnas.executors.inline import Inline
from mnas.executors.jobs import Executor
from mnas.executors.placing import Place, on_cores, on_gpus, visible_gpus
from mnas.executors.processes import Processes
from mnas.protocols import AccuracyModel, is_expensive
from mnas.units import parse_duration_s


def with_workers(config: SearchConfig) -> SearchConfig:
    """The same with the number of workers filled in: one for each GPU, or for each set of cores."""
    if config.executor == "inline" or config.workers is not None:
        return config
    return config.model_copy(update={"workers": len(_places(config)[0])})


def make_executor(
    config: SearchConfig, folder: Path, model: AccuracyModel, note: Callable[[str], None]
) -> Executor:
    """Nothing is started before it is first used.

    Args:
        config: `resolved`, of `with_workers`.
        folder: the run directory.
        model: of accuracy, as this process has it.
        note: told what a person should know.

    Raises:
        InputError: the model is not worth it, or Ray is not installed.
    """
    name = config.accuracy or ""
    if config.executor == "inline":
        return Inline(model, name)
    if not is_expensive(model):
        raise InputError(
            f"--executor {config.executor} is for accuracy models that take long; {name!r} does not say so "
            f"(expensive = True), and is asked about whole batches at once. Leave out --executor."
        )
    assert config.workers is not None
    places, notes = _places(config)
    for text in notes:
        note(text)
    setup: dict[str, Any] = {
        "config": config.to_toml(),
        "folder": str(folder.absolute()),
        "here": os.getcwd(),
        "path": [os.path.abspath(entry) for entry in sys.path],
    }
    timeout = None if config.candidate_timeout is None else parse_duration_s(config.candidate_timeout)
    crew: Crew = Processes(setup, places)
    if config.executor == "ray":
        from mnas.executors.ray import RayCrew, check_ray

        check_ray()
        crew = RayCrew(setup, places, config.train_threads or 1, bool(_gpus(config)), config.address)
    return Dispatcher(crew, config.workers, timeout, note)


def _places(config: SearchConfig) -> tuple[list[Place], list[str]]:
    """What each worker on this machine has to itself, and what a person should know of it."""
    if config.address is not None:
        assert config.workers is not None
        return [Place()] * config.workers, []
    if gpus := _gpus(config):
        return on_gpus(gpus, config.workers), []
    if config.data is not None and training_device(config) != "cpu":  # a certain one, such as cuda:1
        return [Place()] * (config.workers or 1), []
    measured_here = config.target_kind == "latency" and config.device == "local"
    return on_cores(config.workers, config.train_threads or 1, config.threads if measured_here else 0)


def _gpus(config: SearchConfig) -> list[str]:
    """Those that workers share out, as `CUDA_VISIBLE_DEVICES` names them; a model of the user's may use any."""
    return visible_gpus() if config.data is None or training_device(config) == "cuda" else []
