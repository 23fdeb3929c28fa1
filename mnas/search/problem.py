"""From a configuration to the live parts of a search; everything that can be refused is refused here, first."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnas.config import DEFAULT_RESOLUTION, PROXY, SearchConfig
from mnas.errors import InputError, MnasError, SearchError
from mnas.latency import LOCAL, Conditions, Host, check_conditions, parse_host
from mnas.objective import Reward
from mnas.protocols import AccuracyModel, Controller, LatencyModel, is_expensive
from mnas.registry import BUILTIN, Kind, is_reference, is_space_file, make, required_arguments
from mnas.search.accuracies import check_accuracies
from mnas.search.loop import Limits
from mnas.search.objective import SearchCosts, SearchObjective
from mnas.search_space import SearchSpace
from mnas.seeds import derive_seed
from mnas.units import parse_count, parse_duration_s

if TYPE_CHECKING:
    from mnas.data import ImageData

DEFAULT_CLASSES = 1000  # ImageNet's


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched, and how a network is judged.

    `latency_plugin` is the user's own latency model, made; None where latency is known from `host`, which takes
    measuring and is prepared later. `data` is None where nothing is trained, else `device` is where that is done.
    `costs` and `objective` are what the controller may plan with, once latency is known; None where each network is
    measured.
    """

    config: SearchConfig
    space: SearchSpace
    controller: Controller
    accuracy: AccuracyModel
    reward: Reward
    limits: Limits
    conditions: Conditions
    latency_plugin: LatencyModel | None
    data: "ImageData | None" = None
    device: str = "cpu"
    host: Host = LOCAL
    costs: SearchCosts | None = None
    objective: SearchObjective | None = None

    @property
    def accuracy_name(self) -> str:
        """As in the configuration."""
        assert self.config.accuracy is not None
        return self.config.accuracy


def make_problem(config: SearchConfig, kept_file: Path | None = None) -> Problem:
    """Loads space, data, accuracy model and controller, and tries the accuracy model where that is cheap.

    Args:
        config: `resolved`.
        kept_file: as of `make_space`.

    Raises:
        InputError: something named cannot be loaded, or the parts do not fit each other.
        SearchError: a factory or the accuracy model raised.
        MeasurementError: the device cannot be reached, or lacks what a measurement needs.
    """
    conditions = Conditions(threads=config.threads, batch=config.batch)
    host = parse_host(config.device)
    check_conditions(conditions, host)
    device = _device(config)
    data = make_data(config)
    space = make_space(config, data, kept_file)
    measures = config.target_kind == "latency" and config.latency == "measure"
    costs = None if measures else SearchCosts()
    objective = None if costs is None else SearchObjective(costs)
    problem = Problem(
        config=config,
        space=space,
        controller=_controller(config, space, objective),
        accuracy=_accuracy(config, data, device),
        reward=Reward(config.reward, config.target_value, config.quantile),
        limits=_limits(config),
        conditions=conditions,
        latency_plugin=_latency_plugin(config, space, conditions),
        data=data,
        device=device,
        host=host,
        costs=costs,
        objective=objective,
    )
    _preflight(problem)
    return problem


def flags_needed(config: SearchConfig) -> str:
    """The flags that resuming this run needs again: what a stored run says never causes an import by itself."""
    kinds: tuple[tuple[Kind, str | None], ...] = (
        ("space", config.space),
        ("controller", config.controller),
        ("latency", config.latency),
        ("accuracy", config.accuracy),
    )
    return "".join(f" --{kind} {name}" for kind, name in kinds if name and is_reference(name))


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


def _device(config: SearchConfig) -> str:
    """Where networks are trained; raises InputError where it is not there."""
    if config.train_device is None:
        return "cpu"
    from mnas.trainer.machine import usable_device

    return usable_device(config.train_device, "--train-device")


def _controller(config: SearchConfig, space: SearchSpace, objective: SearchObjective | None) -> Controller:
    assert config.controller is not None
    offered: dict[str, Any] = {"space": space, "seed": derive_seed(config.seed, "controller")}
    if objective is not None:
        offered["objective"] = objective
    elif "objective" in required_arguments("controller", config.controller):
        raise InputError(
            f"the controller {config.controller!r} plans with costs that are known beforehand; with --latency measure "
            "each is known only once it is measured. Use --latency calibrated, or --controller reinforce."
        )
    controller: Controller = make("controller", config.controller, offered, "ask")
    if not getattr(controller, "exact_replay", True):
        raise InputError(
            f"the controller {config.controller!r} does not come back to its state when it is asked and told the same "
            f"again (exact_replay is False), so that a search with it could not be resumed: it is for mnas bench alone."
        )
    return controller


def _accuracy(config: SearchConfig, data: "ImageData | None", device: str) -> AccuracyModel:
    offered: Mapping[str, Any] = {"seed": derive_seed(config.seed, "accuracy")}
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
    assert config.accuracy is not None
    model: AccuracyModel = make("accuracy", config.accuracy, offered, "evaluate")
    return model


def _latency_plugin(config: SearchConfig, space: SearchSpace, conditions: Conditions) -> LatencyModel | None:
    if config.latency in BUILTIN["latency"]:
        return None
    seed = derive_seed(config.seed, "latency")
    model: LatencyModel = make(
        "latency", config.latency, {"space": space, "conditions": conditions, "seed": seed}, "predict"
    )
    return model


def _limits(config: SearchConfig) -> Limits:
    assert config.trials is not None
    assert config.ask_batch is not None
    return Limits(
        trials=config.trials,
        ask_batch=config.ask_batch,
        max_seconds=parse_duration_s(config.max_time) if config.max_time else None,
        max_params=parse_count(config.max_params) if config.max_params else None,
        max_madds=parse_count(config.max_madds) if config.max_madds else None,
    )


def _preflight(problem: Problem) -> None:
    """Asks a cheap accuracy model about one network, so that a space it does not cover is refused now."""
    if is_expensive(problem.accuracy):
        return
    space, name = problem.space, problem.accuracy_name
    spec = space.decode(space.architecture([0] * len(space.choices)))
    try:
        check_accuracies(problem.accuracy.evaluate([spec], seed=0), 1, name)
    except InputError as error:
        raise InputError(
            f"the accuracy model {name!r} does not cover the space {space.name!r} as asked for: {error} "
            f"Train on images with --data (--data digits, for example), or bring your own --accuracy module:factory."
        ) from error
    except MnasError:
        raise
    except Exception as error:
        raise SearchError(f"the accuracy model {name!r} raised {type(error).__name__}: {error}.") from error
