"""NNI's strategies as controllers, and our spaces and controllers in NNI's own engines; needs `mnas[nni]`.

No experiment is started and neither torch nor Lightning is loaded (`nni_parts`). A strategy of NNI pushes models into
an engine and waits for nothing; here it runs in a thread of its own that stands still between asks, so that what it
does is a function of seed, asks and tells.

NNI's spaces have no conditions: each choice is sampled, active or not. A network told without being asked teaches
strategies nothing, since they listen for their own models alone; TPE imports it.
"""

import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

from mnas.errors import InputError, SearchError
from mnas.integrations.bridge import SEEDS, BridgeController
from mnas.integrations.nni_parts import parts
from mnas.protocols import Controller, Observation, Status
from mnas.search_space import Architecture, NetworkSpec, SearchSpace

# Of RegularizedEvolution in NNI 3.0, its default. With as many networks unanswered it would breed from none.
POPULATION = 100


def strategy_controller(
    space: SearchSpace,
    *,
    seed: int,
    strategy: Callable[..., Any],
    distinct: bool = True,
    waiting: int | None = None,
    exact_replay: bool = True,
) -> BridgeController:
    """Any of NNI's multi-trial strategies as a controller.

    Args:
        space: what is searched.
        seed: of the strategy, modulo 2**32.
        strategy: called as `strategy(seed=...)`: a class of `nni.nas.strategy`, or a `functools.partial` of one.
        distinct: as `BridgeController`.
        waiting: so many of its networks may wait to be told at once, then it proposes none; None is any number.
        exact_replay: False for a strategy that draws from more than its seed.

    Raises:
        InputError: NNI is not installed.
    """
    peer = _Strategy(space, strategy(seed=seed % SEEDS), waiting)
    return BridgeController(space, peer, seed=seed, distinct=distinct, exact_replay=exact_replay)


def regularized_evolution(space: SearchSpace, *, seed: int) -> BridgeController:
    """`nni:regularized_evolution`: as shipped, 100 in the population and 25 in a tournament.

    It has at most 100 networks untold; more that are asked for are drawn at random. Raises InputError where NNI is not
    installed.
    """
    strategy = parts().nas.strategy.RegularizedEvolution
    return strategy_controller(space, seed=seed, strategy=strategy, waiting=POPULATION)


def random(space: SearchSpace, *, seed: int) -> BridgeController:
    """`nni:random`: NNI's random strategy. Raises InputError where NNI is not installed."""
    return strategy_controller(space, seed=seed, strategy=parts().nas.strategy.Random)


def tpe(space: SearchSpace, *, seed: int) -> BridgeController:
    """`nni:tpe`: NNI's `TpeTuner`, maximising, with its deduplication as shipped.

    That replaces whatever was proposed before by the next point of a grid, so that a small space is soon scanned in
    order. Raises InputError where NNI is not installed.
    """
    return BridgeController(space, _Tuner(space, seed, deduplicate=True), seed=seed)


def tpe_without_deduplication(space: SearchSpace, *, seed: int) -> BridgeController:
    """NNI's `TpeTuner` without its grid: `--controller mnas.integrations.nni:tpe_without_deduplication`.

    Raises InputError where NNI is not installed.
    """
    return BridgeController(space, _Tuner(space, seed, deduplicate=False), seed=seed)


def model_space(space: SearchSpace, evaluate: Callable[[NetworkSpec], float]) -> Any:
    """A search space as NNI's mutables, for its strategies and the engines that run in this process.

    Args:
        space: each choice becomes a `Categorical` with the choice's name as its label.
        evaluate: the metric of a network, more is better; what NNI's engines run.

    Returns:
        An `nni.nas.space.ExecutableModelSpace`; a frozen one has its point in `architecture`.

    Raises:
        InputError: NNI is not installed.
    """
    return parts().space(space, evaluate)


def as_strategy(controller: Controller, *, batch: int = 1) -> Any:
    """A controller as an `nni.nas.strategy.Strategy`, for a space made by `model_space`.

    It asks for `batch` networks, submits them, waits for all and tells them together, until the engine's budget or the
    space ends. A model without a finite metric is told as failed.

    Args:
        controller: made for the same search space.
        batch: as many as the engine runs at once, or as the controller learns best from.

    Raises:
        InputError: NNI is not installed, or `batch` is below 1.
    """
    if batch < 1:
        raise InputError(f"batch must be at least 1, got {batch}.")
    base = parts().nas.strategy.Strategy

    class ControllerStrategy(base):  # type: ignore[misc, valid-type]
        def extra_repr(self) -> str:
            return f"{type(controller).__name__}, batch={batch}"

        def _run(self) -> None:
            while self.wait_for_resource():
                models = []
                for architecture in controller.ask(batch):
                    if not self.wait_for_resource():
                        break
                    values = self.model_space.space.values(architecture)
                    models.append(self.model_space.freeze(values))
                    self.engine.submit_models(models[-1])
                if not models:
                    return
                self.engine.wait_models(*models)
                controller.tell([_observed(model) for model in models])

    return ControllerStrategy()


def _observed(model: Any) -> Observation:
    if model.metric is None or not math.isfinite(model.metric):
        return Observation(model.architecture, "failed", None)
    return Observation(model.architecture, "done", model.metric)


class _Strategy:
    """A strategy in a thread that runs only while a proposal is waited for; it ends with this object."""

    def __init__(self, space: SearchSpace, strategy: Any, limit: int | None) -> None:
        made = parts()
        self._engine, self._ended = made.engine(), False
        self._running, self._limit = 0, math.inf if limit is None else limit
        self._events, self._status = made.nas.execution, made.nas.space.ModelStatus
        strategy.initialize(made.space(space, None), self._engine)
        # The thread knows the engine and not this object, which can so be dropped; then its last turn comes.
        threading.Thread(target=_drive, args=(strategy, self._engine), daemon=True).start()
        weakref.finalize(self, self._engine.turns.put, False).atexit = False

    def propose(self) -> tuple[Any, Architecture] | None:
        if self._ended or self._running >= self._limit:
            return None
        self._engine.turns.put(True)
        model = self._engine.proposed.get()
        self._ended = model is None or isinstance(model, Exception)
        if isinstance(model, Exception):
            raise SearchError(f"NNI's strategy failed: {type(model).__name__}: {model}.") from model
        if model is None:
            return None
        self._running += 1
        return model, model.architecture

    def answer(self, token: Any, status: Status, reward: float | None) -> None:
        self._running -= 1
        if status == "done":
            self._engine.dispatch_model_event(self._events.FinalMetricEvent(token, reward))
        ended = self._status.Trained if status == "done" else self._status.Failed
        self._engine.dispatch_model_event(self._events.TrainingEndEvent(token, ended))

    def learn(self, point: Architecture, status: Status, reward: float | None) -> None:
        pass


def _drive(strategy: Any, engine: Any) -> None:
    """Runs a strategy from its first turn on; what it ends with is its last proposal."""
    if not engine.turns.get():
        return
    try:
        strategy.run()
    except Exception as error:
        engine.proposed.put(error)
    else:
        engine.proposed.put(None)


class _Tuner:
    """NNI's TPE, which asks and tells already."""

    def __init__(self, space: SearchSpace, seed: int, *, deduplicate: bool) -> None:
        self._space, self._proposed = space, 0
        self._tuner = parts().tuner(optimize_mode="maximize", seed=seed % SEEDS)
        self._tuner.update_search_space(
            {c.name: {"_type": "choice", "_value": list(c.options)} for c in space.choices}
        )
        if not deduplicate:
            self._tuner.dedup = _Anything()

    def propose(self) -> tuple[Any, Architecture] | None:
        number = self._proposed
        try:
            values = self._tuner.generate_parameters(number)
        except parts().no_more:
            return None
        self._proposed += 1
        return number, self._space.from_values(values)

    def answer(self, token: Any, status: Status, reward: float | None) -> None:
        if status == "done":
            self._tuner.receive_trial_result(token, None, reward)
        self._tuner.trial_end(token, status == "done")

    def learn(self, point: Architecture, status: Status, reward: float | None) -> None:
        if status == "done":
            self._tuner.import_data([{"parameter": self._space.values(point), "value": reward}])


class _Anything:
    """In the place of NNI's `Deduplicator`: lets every proposal pass."""

    def __call__(self, parameters: Any) -> Any:
        return parameters

    def add_history(self, parameters: Any) -> None:
        pass
