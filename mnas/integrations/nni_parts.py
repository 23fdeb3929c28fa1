"""What of NNI 3 the bridges need, loaded without torch, Lightning or tianshou, and the classes made from it."""

import importlib
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

from mnas.integrations.bridge import library
from mnas.search_space import Architecture, NetworkSpec, SearchSpace

# `nni.nas.strategy` imports these where it can, and torch with them; no strategy here needs either.
_HEAVY = ("nni.nas.oneshot", "tianshou")


@cache
def parts() -> SimpleNamespace:
    """NNI's modules, and our `Engine` and `Space` on its base classes.

    Where the program has imported `nni.nas.strategy` already, that one is used. Else it is imported lightly: its
    one-shot strategies and `PolicyBasedRL` are then absent from it for the rest of the process, and NNI's shortcuts to
    a framework are not made; who needs them imports `nni.nas.strategy` first.

    Raises:
        InputError: NNI is not installed.
    """
    ours = "nni" not in sys.modules
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of another library's modules, as they are compiled
        nni = library("nni")
        with _light(nni):
            importlib.import_module("nni.nas.strategy")
        tpe_tuner = importlib.import_module("nni.algorithms.hpo.tpe_tuner")
    if ours:
        nni.silence_stdout()
        logger = logging.getLogger("nni")
        logger.addHandler(logging.NullHandler())  # without any, Python would print its warnings
        logger.setLevel(logging.WARNING)
    return SimpleNamespace(
        nas=nni.nas,
        tuner=tpe_tuner.TpeTuner,
        no_more=nni.NoMoreTrialError,
        engine=_engine_class(nni),
        space=_space_class(nni),
    )


@contextmanager
def _light(nni: Any) -> Iterator[None]:
    """While it lasts, what is heavy cannot be imported and no framework has shortcuts."""
    absent = [name for name in _HEAVY if name not in sys.modules]
    framework = nni.get_default_framework()
    nni.set_default_framework("none")
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None marks a module as absent
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        nni.set_default_framework(framework)


def _engine_class(nni: Any) -> Any:
    class Engine(nni.nas.execution.ExecutionEngine):  # type: ignore[misc]
        """Evaluates nothing: hands each model over, and lets the strategy go on when the next is wanted.

        `turns` says whether to go on, `proposed` carries models. Only one side runs at a time.
        """

        def __init__(self) -> None:
            super().__init__()
            self.turns: SimpleQueue[bool] = SimpleQueue()
            self.proposed: SimpleQueue[Any] = SimpleQueue()
            self._open = True

        def submit_models(self, *models: Any) -> None:
            for model in models:
                if not self._open:
                    raise RuntimeError("nothing is evaluated any more")
                self.proposed.put(model)
                self._open = self.turns.get()

        def budget_available(self) -> bool:
            return self._open

        def idle_worker_available(self) -> bool:
            return True  # else strategies sleep for a second at a time

        def wait_models(self, *models: Any) -> None:
            pass  # as above; results come when they are told

        def list_models(self, status: Any = None) -> Iterable[Any]:
            return []

    return Engine


def _space_class(nni: Any) -> Any:
    nas, mutable = nni.nas, nni.mutable

    class Space(nas.space.ExecutableModelSpace):  # type: ignore[misc, name-defined]
        """A search space as NNI's mutables; frozen, one network of it.

        A sample has a value for each choice, active or not. `architecture` is the point of a frozen one.
        """

        def __init__(
            self, space: SearchSpace, evaluate: Callable[[NetworkSpec], float] | None, mutables: Any = None
        ) -> None:
            super().__init__()
            self.space, self._evaluate = space, evaluate
            self.architecture: Architecture | None = None
            self.sample: Any = None
            self.evaluator = None
            self._mutables = mutables or mutable.MutableDict(
                {c.name: mutable.Categorical(list(c.options), label=c.name) for c in space.choices}
            )

        def leaf_mutables(self, is_leaf: Any) -> Iterable[Any]:
            yield from self._mutables.leaf_mutables(is_leaf)

        def check_contains(self, sample: Any) -> Any:
            return self._mutables.check_contains(sample)

        def freeze(self, sample: Any) -> Any:
            self.validate(sample)
            model = type(self)(self.space, self._evaluate, self._mutables)
            model.architecture = self.space.from_values(self._mutables.freeze(sample))
            model.sample, model.status = dict(sample), nas.space.ModelStatus.Frozen
            return model

        def execute(self) -> None:
            assert self._evaluate is not None
            assert self.architecture is not None
            nni.report_final_result(float(self._evaluate(self.space.decode(self.architecture))))

        def extra_repr(self) -> str:
            return f"{self.space.name!r}, sample={self.sample!r}, status={self.status!r}"

    return Space
