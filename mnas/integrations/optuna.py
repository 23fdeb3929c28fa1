"""Optuna's samplers as controllers, through its ask and tell on a study in memory; needs `mnas[optuna]`.

Each choice is a categorical parameter, suggested where it is active; the study maximises the reward. A failed network
is a failed trial, which samplers leave aside; an infeasible one is a pruned trial, which TPE ranks below all others and
the rest leave aside as well. A network told without being asked becomes a finished trial with its parameters fixed;
NSGA-II, which breeds from what it proposed itself, makes no use of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mnas.integrations.bridge import SEEDS, BridgeController, library
from mnas.protocols import Status
from mnas.search_space import Architecture, SearchSpace


def sampler_controller(
    space: SearchSpace,
    *,
    seed: int,
    sampler: Callable[..., Any],
    distinct: bool = True,
    exact_replay: bool = True,
) -> BridgeController:
    """Any of Optuna's samplers as a controller.

    Args:
        space: what is searched.
        seed: of the sampler, modulo 2**32.
        sampler: called as `sampler(seed=...)`: a class of `optuna.samplers`, or a `functools.partial` of one.
        distinct: as `BridgeController`.
        exact_replay: False for a sampler that draws from more than its seed.

    Raises:
        InputError: Optuna is not installed.
    """
    peer = _Study(library("optuna"), space, sampler(seed=seed % SEEDS))
    return BridgeController(space, peer, seed=seed, distinct=distinct, exact_replay=exact_replay)


def tpe(space: SearchSpace, *, seed: int) -> BridgeController:
    """`optuna:tpe`: `TPESampler` as shipped. Raises InputError where Optuna is not installed."""
    return sampler_controller(space, seed=seed, sampler=library("optuna").samplers.TPESampler)


def nsga2(space: SearchSpace, *, seed: int) -> BridgeController:
    """`optuna:nsga2`: `NSGAIISampler` as shipped. Raises InputError where Optuna is not installed."""
    return sampler_controller(space, seed=seed, sampler=library("optuna").samplers.NSGAIISampler)


def gp(space: SearchSpace, *, seed: int) -> BridgeController:
    """`optuna:gp`: `GPSampler` as shipped, which loads torch. Raises InputError where Optuna is not installed."""
    samplers = library("optuna").samplers

    def quiet(seed: int) -> Any:
        return samplers.GPSampler(seed=seed, warn_independent_sampling=False)

    return sampler_controller(space, seed=seed, sampler=quiet)


def random(space: SearchSpace, *, seed: int) -> BridgeController:
    """`optuna:random`: `RandomSampler`. Raises InputError where Optuna is not installed."""
    return sampler_controller(space, seed=seed, sampler=library("optuna").samplers.RandomSampler)


class _Study:
    """A study in memory, one trial a proposal."""

    def __init__(self, optuna: Any, space: SearchSpace, sampler: Any) -> None:
        self._space = space
        with _quiet(optuna):
            self._study = optuna.create_study(direction="maximize", sampler=sampler)
        state = optuna.trial.TrialState
        self._states = {"done": state.COMPLETE, "failed": state.FAIL, "infeasible": state.PRUNED}

    def propose(self) -> tuple[Any, Architecture]:
        trial = self._study.ask()
        taken: dict[str, Any] = {}
        for choice in self._space.choices:
            if all(taken.get(other) in wanted for other, wanted in choice.active_if.items()):
                taken[choice.name] = trial.suggest_categorical(choice.name, choice.options)
        values = {choice.name: taken.get(choice.name, choice.options[0]) for choice in self._space.choices}
        return trial, self._space.from_values(values)

    def answer(self, token: Any, status: Status, reward: float | None) -> None:
        self._study.tell(token, reward, state=self._states[status])

    def learn(self, point: Architecture, status: Status, reward: float | None) -> None:
        self._study.enqueue_trial(self._space.values(point))
        self.answer(self.propose()[0], status, reward)


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's line about a new study; its verbosity is as before afterwards."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(max(level, optuna.logging.WARNING))
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
