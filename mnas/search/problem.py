"""From a configuration to the live parts of a search; everything that can be refused is refused here, first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnas.accuracy.checked import check_accuracies
from mnas.accuracy.made import make_accuracy, make_data, make_space, training_device
from mnas.config import SearchConfig
from mnas.errors import InputError, MnasError, SearchError
from mnas.latency import LOCAL, Conditions, Host, check_conditions, parse_host
from mnas.objective import Reward
from mnas.protocols import AccuracyModel, Controller, LatencyModel, is_expensive
from mnas.registry import BUILTIN, is_reference, make, required_arguments
from mnas.search.costing import Limits
from mnas.search.lanes import Lane
from mnas.search.objective import SearchCosts, SearchObjective
from mnas.search_space import SearchSpace
from mnas.seeds import derive_seed
from mnas.units import parse_count, parse_duration_s

if TYPE_CHECKING:
    from mnas.data import ImageData


@dataclass(frozen=True, slots=True)
class Goal:
    """A target of a search.

    Args:
        target: in ms or multiply-adds, as asked for.
        reward: its own target is the budget that is searched at: the same, or less where it lies above the range.
        label: as in the names of files; empty where the search has one target.
    """

    target: float
    reward: Reward
    label: str = ""

    @property
    def budget(self) -> float:
        """The cost that is searched at, in the unit of the target."""
        return self.reward.target


@dataclass(frozen=True, slots=True)
class Problem:
    """What is searched, and how a network is judged.

    `lanes` holds a controller for each goal, in the same order, then a baseline for each where one is asked for.
    `latency_plugin` is the user's own latency model, made; None where latency is known from `host`, which takes
    measuring and is prepared later. `data` is None where nothing is trained, else `device` is where that is done.
    `costs` is what controllers may plan with, once latency is known; None where each network is measured.
    """

    config: SearchConfig
    space: SearchSpace
    accuracy: AccuracyModel
    goals: tuple[Goal, ...]
    lanes: tuple[Lane, ...]
    limits: Limits
    conditions: Conditions
    latency_plugin: LatencyModel | None
    data: "ImageData | None" = None
    device: str = "cpu"
    host: Host = LOCAL
    costs: SearchCosts | None = None

    def at(self, budgets: Sequence[float]) -> "Problem":
        """The same, searched at these costs, one for each goal; what controllers plan with is aimed at them."""
        goals = tuple(
            replace(goal, reward=replace(goal.reward, target=budget))
            for goal, budget in zip(self.goals, budgets, strict=True)
        )
        lanes = tuple(replace(lane, reward=goals[n % len(goals)].reward) for n, lane in enumerate(self.lanes))
        for lane in lanes:
            if lane.objective is not None:
                lane.objective.aim(lane.reward)
        return replace(self, goals=goals, lanes=lanes)

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
    device = training_device(config)
    data = make_data(config)
    space = make_space(config, data, kept_file)
    measures = config.target_kind == "latency" and config.latency == "measure"
    costs = None if measures else SearchCosts()
    goals = tuple(_goals(config))
    lanes = tuple(_lanes(config, space, goals, costs))
    problem = Problem(
        config=config,
        space=space,
        accuracy=make_accuracy(config, space, data, device, lanes[0].objective),
        goals=goals,
        lanes=lanes,
        limits=_limits(config),
        conditions=conditions,
        latency_plugin=_latency_plugin(config, space, conditions),
        data=data,
        device=device,
        host=host,
        costs=costs,
    )
    _preflight(problem)
    return problem


def flags_needed(config: SearchConfig) -> str:
    """The flags that resuming this run needs again: what a stored run says never causes an import by itself."""
    flags = (
        ("space", config.space),
        ("controller", config.controller),
        ("baseline", config.baseline),
        ("latency", config.latency),
        ("accuracy", config.accuracy),
    )
    return "".join(f" --{flag} {name}" for flag, name in flags if name and is_reference(name))


def _goals(config: SearchConfig) -> Iterator[Goal]:
    """In the order asked for; only several have labels."""
    several = len(config.targets) > 1
    for label, value in config.targets:
        yield Goal(value, Reward(config.reward, value, config.quantile), label if several else "")


def _lanes(
    config: SearchConfig, space: SearchSpace, goals: Sequence[Goal], costs: SearchCosts | None
) -> Iterator[Lane]:
    """A controller for each goal, then a baseline for each where one is asked for."""
    assert config.controller is not None
    sides = [(config.controller, "controller", 1.0)]
    if config.baseline is not None:
        assert config.baseline_share is not None
        sides = [
            (config.controller, "controller", 1.0 - config.baseline_share),
            (config.baseline, "baseline", config.baseline_share),
        ]
    for name, flag, share in sides:
        for number, goal in enumerate(goals):
            objective = None if costs is None else SearchObjective(costs)
            seed = derive_seed(config.seed, flag, *([number] if number else []))
            yield Lane(
                controller=_controller(name, flag, space, seed, objective),
                reward=goal.reward,
                name=name,
                label=goal.label,
                share=share,
                baseline=flag == "baseline",
                objective=objective,
            )


def _controller(
    name: str, flag: str, space: SearchSpace, seed: int, objective: SearchObjective | None
) -> Controller:
    offered: dict[str, Any] = {"space": space, "seed": seed}
    if objective is not None:
        offered["objective"] = objective
    elif "objective" in required_arguments("controller", name):
        raise InputError(
            f"the controller {name!r} plans with costs that are known beforehand; with --latency measure each is known "
            f"only once it is measured. Use --latency calibrated, or --{flag} reinforce."
        )
    controller: Controller = make("controller", name, offered, "ask")
    if not getattr(controller, "exact_replay", True):
        raise InputError(
            f"the controller {name!r} does not come back to its state when it is asked and told the same again "
            f"(exact_replay is False), so that a search with it could not be resumed: it is for mnas bench alone."
        )
    return controller


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
    spec = space.decode(space.first)
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
