"""NNI's strategies as controllers, and ours in NNI's own engine; run by .ci/run in its second environment."""

import gc
import logging
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import MODELS, environment, mnas, mnas_process, result_of
from test_docs import ROOT, blocks
from test_search import stored_keys

from mnas import testing
from mnas.controllers import RandomController, ReinforceController
from mnas.errors import InputError, SearchError
from mnas.integrations.nni import (
    as_strategy,
    model_space,
    random,
    regularized_evolution,
    strategy_controller,
    tpe,
    tpe_without_deduplication,
)
from mnas.integrations.nni_parts import parts
from mnas.protocols import Observation
from mnas.registry import BUILTIN, resolve
from mnas.search_space import Architecture, SearchSpace, mbconv_space, mnasnet_space, network_cost

pytest.importorskip("nni")

NAMES = [name for name in BUILTIN["controller"] if name.startswith("nni:")]
WITHOUT = "mnas.integrations.nni:tpe_without_deduplication"
CHECKS = [*testing.CONTROLLER_CHECKS, testing.check_fresh_process]


@pytest.mark.parametrize("name", [*NAMES, WITHOUT])
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(name: str, check: Callable[[Any, int], None]) -> None:
    check(name if check is testing.check_fresh_process else resolve("controller", name), 2)


def play(controller: Any, asks: int) -> list[Architecture]:
    """One network at a time; its reward is the sum of its genes, one in five fails."""
    asked: list[Architecture] = []
    for number in range(asks):
        asked += controller.ask()
        failed = number % 5 == 4
        result = ("failed", None) if failed else ("done", float(sum(asked[-1])))
        controller.tell([Observation(asked[-1], *result)])  # type: ignore[arg-type]
    return asked


@pytest.mark.parametrize("name", ["RegularizedEvolution", "Random"])
def test_the_networks_are_those_that_nni_runs_in_its_own_engine(name: str) -> None:
    space = mbconv_space()
    asked = play(strategy_controller(space, seed=3, strategy=getattr(parts().nas.strategy, name)), 180)
    run: list[Architecture] = []
    points = {space.decode(architecture): architecture for architecture in asked}

    def evaluate(spec: Any) -> float:
        run.append(points[spec])  # KeyError: NNI runs a network that was not asked for
        if len(run) % 5 == 0:
            raise RuntimeError("out of memory")
        return float(sum(run[-1]))

    execution = parts().nas.execution
    engine = execution.SequentialExecutionEngine(max_model_count=180, continue_on_failure=True)
    getattr(parts().nas.strategy, name)(seed=3)(model_space(space, evaluate), engine)
    assert run == asked


def test_the_names_are_those_strategies_with_their_defaults() -> None:
    strategies = parts().nas.strategy
    for name, strategy in (
        ("regularized_evolution", strategies.RegularizedEvolution),
        ("random", strategies.Random),
    ):
        named = resolve("controller", f"nni:{name}")(mbconv_space(), seed=0)
        assert play(named, 130) == play(strategy_controller(mbconv_space(), seed=0, strategy=strategy), 130)


def test_tpe_is_the_tuner_by_itself_maximising() -> None:
    from nni.algorithms.hpo.tpe_tuner import TpeTuner

    space = mbconv_space()
    tuner = TpeTuner(optimize_mode="maximize", seed=11)
    tuner.update_search_space({c.name: {"_type": "choice", "_value": list(c.options)} for c in space.choices})
    run = []
    for number in range(60):
        values = tuner.generate_parameters(number)
        run.append(space.from_values(values))
        if number % 5 < 4:
            tuner.receive_trial_result(number, values, float(sum(run[-1])))
        tuner.trial_end(number, number % 5 < 4)
    assert play(tpe(space, seed=11), 60) == run


@pytest.mark.parametrize(("factory", "repeats"), [(tpe, False), (tpe_without_deduplication, True)])
def test_tpe_repeats_itself_only_without_its_deduplication(
    factory: Any, repeats: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = []
    generate = parts().tuner.generate_parameters

    def counted(self: Any, number: int) -> Any:
        generated.append(number)
        return generate(self, number)

    monkeypatch.setattr(parts().tuner, "generate_parameters", counted)
    space = testing.small_space()  # two choices of two and three options: four networks, six points
    asked = testing.drive(factory(space, seed=0), 6, 1)
    assert sorted(asked) == sorted(space.enumerate())
    # each point once, and two asks of nothing more; or what is good, again and again
    assert (len(generated) > 8) == repeats


def test_tpe_learns_from_networks_that_it_never_proposed() -> None:
    space = mbconv_space()
    good = [Architecture((2, *(number // 3**k % 2 for k in range(27)))) for number in range(40)]
    bad = [Architecture((0, *point[1:])) for point in good]
    controller = tpe(space, seed=0)
    controller.tell(
        [*(Observation(a, "done", 1.0) for a in good), *(Observation(a, "done", 0.0) for a in bad)]
    )
    assert (
        sum(architecture[0] == 2 for architecture in controller.ask(30)) >= 18
    )  # 10 by chance, give or take 2.6


def test_more_networks_than_a_population_may_be_asked_for_at_once() -> None:
    controller = regularized_evolution(mbconv_space(), seed=0)
    asked = controller.ask(150)
    assert len(set(asked)) == 150
    assert asked[:100] == random(mbconv_space(), seed=0).ask(100)  # the first population is random
    controller.tell([Observation(a, "failed", None) for a in asked])
    assert len(controller.ask(150)) == 150


def test_a_strategy_that_fails_says_so() -> None:
    class Broken(parts().nas.strategy.Strategy):  # type: ignore[misc, name-defined]
        def __init__(self, seed: int) -> None:
            super().__init__()

        def _run(self) -> None:
            raise ZeroDivisionError("of population")

    with pytest.raises(SearchError, match="ZeroDivisionError: of population"):
        strategy_controller(mbconv_space(), seed=0, strategy=Broken).ask()


def test_a_controller_that_is_dropped_ends_its_thread() -> None:
    class Endless(parts().nas.strategy.Strategy):  # type: ignore[misc, name-defined]
        """Does not look at the budget."""

        def __init__(self, seed: int) -> None:
            super().__init__()

        def _run(self) -> None:
            while True:
                self.engine.submit_models(self.model_space.random())

    before = threading.active_count()
    controllers = [regularized_evolution(mbconv_space(), seed=seed) for seed in range(4)]
    controllers.append(strategy_controller(mbconv_space(), seed=0, strategy=Endless))
    controllers[0].ask(3)
    controllers[4].ask(3)
    testing.drive(controllers[1], 3, 8)
    assert threading.active_count() == before + 5
    del controllers
    gc.collect()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def test_a_process_is_light_silent_starts_no_experiment_and_ends(tmp_path: Path) -> None:
    code = (
        "import sys; from mnas.registry import resolve; from mnas.search_space import mbconv_space;"
        "from mnas.testing import drive;"
        "kept = [resolve('controller', n)(mbconv_space(), seed=0) for n in sys.argv[1:]];"
        "[drive(c, 3, 8) for c in kept];"
        "heavy = 'torch pytorch_lightning lightning tianshou gym tensorflow'.split();"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *NAMES],
        env={"HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
    assert list(tmp_path.iterdir()) == []  # NNI keeps experiments in ~/nni-experiments


def test_what_was_kept_from_being_imported_can_be_imported_afterwards() -> None:
    parts()
    assert "nni.nas.oneshot" not in sys.modules
    assert sys.modules.get("tianshou", True) is not None
    import nni

    assert nni.get_default_framework() == "pytorch"
    assert logging.getLogger("nni").handlers


def test_a_space_is_nnis_product_of_choices() -> None:
    from nni.mutable import SampleValidationError

    space = testing.small_space()
    nnis = model_space(space, lambda spec: 0.0)
    labels = {label: mutable.values for label, mutable in nnis.simplify().items()}
    assert labels == {"kernel": [3, 5], "layers": [1, 2, 3]}
    points = [model.architecture for model in nnis.grid()]
    assert len(points) == space.size == 6
    assert set(points) == set(space.enumerate())
    frozen = nnis.freeze({"kernel": 3, "layers": 2})  # layers decide nothing at kernel 3
    assert (frozen.architecture, frozen.sample) == ((0, 0), {"kernel": 3, "layers": 2})
    with pytest.raises(SampleValidationError, match="7"):
        nnis.freeze({"kernel": 7, "layers": 2})


def test_a_space_in_a_scope_of_labels_is_the_same_space() -> None:
    from nni.mutable import label_scope

    with label_scope("backbone"):
        nnis = model_space(testing.small_space(), lambda spec: 0.0)
    assert list(nnis.simplify()) == ["backbone/kernel", "backbone/layers"]
    assert nnis.freeze({"backbone/kernel": 5, "backbone/layers": 3}).architecture == (1, 2)


def test_nnis_random_strategy_runs_over_our_space_in_nnis_engine() -> None:
    space = mnasnet_space()
    engine = parts().nas.execution.SequentialExecutionEngine(max_model_count=12)
    strategy = parts().nas.strategy.Random(seed=0)
    strategy(model_space(space, lambda spec: -network_cost(spec).madds), engine)
    madds = [network_cost(space.decode(model.architecture)).madds for model in engine.list_models()]
    assert len(set(madds)) > 6
    best = next(strategy.list_models(limit=1))
    assert -best.metric == min(madds)


class Notes:
    """A controller that writes down what another one is asked and told."""

    def __init__(self, controller: Any) -> None:
        self.controller = controller
        self.asked: list[Architecture] = []
        self.told: list[Observation] = []

    def ask(self, n: int = 1) -> list[Architecture]:
        asked: list[Architecture] = self.controller.ask(n)
        self.asked += asked
        return asked

    def tell(self, observations: Any) -> None:
        self.told += observations
        self.controller.tell(observations)


def run_in_nni(controller: Any, space: SearchSpace, models: int, batch: int, evaluate: Any) -> list[Any]:
    """NNI's own engine runs so many models at most, failures among them."""
    execution = parts().nas.execution
    engine = execution.SequentialExecutionEngine(max_model_count=models, continue_on_failure=True)
    as_strategy(controller, batch=batch)(model_space(space, evaluate), engine)
    return list(engine.list_models())


@pytest.mark.parametrize(("factory", "batch"), [(RandomController, 1), (ReinforceController, 8)])
def test_our_controller_is_a_strategy_of_nnis_engine(factory: Any, batch: int) -> None:
    space = mbconv_space()
    notes = Notes(factory(space, seed=0))
    models = run_in_nni(notes, space, 40, batch, lambda spec: network_cost(spec).madds / 1e9)
    assert [model.architecture for model in models] == notes.asked
    assert [o.architecture for o in notes.told] == notes.asked
    alone = factory(space, seed=0)
    asked = []
    for _ in range(40 // batch):
        asked += alone.ask(batch)
        costs = [network_cost(space.decode(a)).madds / 1e9 for a in asked[-batch:]]
        told = [Observation(a, "done", cost) for a, cost in zip(asked[-batch:], costs, strict=True)]
        assert told == notes.told[len(asked) - batch : len(asked)]
        alone.tell(told)
    assert asked == notes.asked


def test_a_model_that_fails_or_has_no_finite_metric_is_told_as_failed() -> None:
    space = testing.small_space()
    results = iter([0.5, None, float("nan"), 1.0])

    def evaluate(spec: Any) -> float:
        result = next(results)
        if result is None:
            raise RuntimeError("out of memory")
        return result

    notes = Notes(RandomController(space, seed=0))
    run_in_nni(notes, space, 100, 1, evaluate)  # ends with the space
    assert [(o.status, o.reward) for o in notes.told] == [
        ("done", 0.5),
        ("failed", None),
        ("failed", None),
        ("done", 1.0),
    ]


def test_the_budget_of_an_engine_ends_a_batch() -> None:
    notes = Notes(RandomController(mbconv_space(), seed=0))
    assert len(run_in_nni(notes, mbconv_space(), 10, 4, lambda spec: 0.5)) == 10
    assert len(notes.told) == 10


def test_the_example_of_the_documentation_runs() -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "plugins.md", "python") if "nni.nas" in block]
    code = f"{block}\nmodels = [m.architecture for m in strategy.engine.list_models()]\n"
    code += "costs = [network_cost(space.decode(a)).madds for a in models]\n"
    code += "print(len(set(models)), network_cost(space.decode(best)).madds == min(costs))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "80 True"


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="got 0"):
        as_strategy(RandomController(mbconv_space(), seed=0), batch=0)


@pytest.mark.parametrize(
    "name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)
def test_a_killed_search_resumes_to_the_same_trials(tmp_path: Path, name: str) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    models = ["--accuracy", "models:Accuracy", "--latency", "models:KillsItself"]
    arguments = ["search", "--target-latency", "20ms", *models, "--controller", name, "--json"]
    arguments += ["--trials", "200", "--ask-batch", "20"]
    (tmp_path / "died").touch()
    whole = result_of(mnas(tmp_path, *arguments, "--out", "whole"))
    (tmp_path / "died").unlink()
    mnas_process(tmp_path, *arguments, "--out", "killed", code=-signal.SIGKILL)
    assert 100 < len(stored_keys(tmp_path / "killed")) < 200  # the first population is over
    done = mnas(tmp_path, "resume", "killed", *models, "--json")
    assert "differ" not in done.stderr  # nothing that was stored is proposed otherwise now
    keys = stored_keys(tmp_path / "killed")
    assert keys == stored_keys(tmp_path / "whole")
    assert len(set(keys)) == 200
    assert result_of(done)["best_reward"] == whole["best_reward"]
