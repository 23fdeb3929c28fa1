"""Optuna's samplers as controllers; run by .ci/run in its second environment, which has the extra."""

import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from commands import MODELS, mnas, mnas_process, result_of
from test_docs import ROOT, blocks
from test_search import stored_keys

from mnas import testing
from mnas.integrations.optuna import gp, sampler_controller, tpe
from mnas.protocols import Observation
from mnas.registry import BUILTIN, resolve
from mnas.search_space import Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space

optuna = pytest.importorskip("optuna")

NAMES = [name for name in BUILTIN["controller"] if name.startswith("optuna:")]
FAST = [name for name in NAMES if name != "optuna:gp"]
CHECKS = [*testing.CONTROLLER_CHECKS, testing.check_fresh_process]


@pytest.mark.parametrize("name", FAST)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(name: str, check: Callable[[Any, int], None]) -> None:
    check(name if check is testing.check_fresh_process else resolve("controller", name), 2)


# Not that as many come as were wanted: to plan 64 networks of mnasnet with each other takes a Gaussian process minutes.
@pytest.mark.slow
@pytest.mark.parametrize("check", [c for c in CHECKS if c is not testing.check_asks_lie_in_the_space])
def test_conformance_of_gp(check: Callable[[Any, int], None]) -> None:
    check("optuna:gp" if check is testing.check_fresh_process else gp, 2)


def wide(choices: int, **active_if: dict[str, tuple[int, ...]]) -> SearchSpace:
    """Choices a, b, ... of three options each."""

    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, 1 + values["a"]),), 8, 32, 10)

    names = "abcdefgh"[:choices]
    return SearchSpace(
        "wide", tuple(Choice(name, (0, 1, 2), active_if.get(name, {})) for name in names), build
    )


def play(controller: Any, asks: int) -> list[tuple[int, ...]]:
    """One network at a time; its reward is the sum of its genes."""
    asked = []
    for _ in range(asks):
        (architecture,) = controller.ask()
        controller.tell([Observation(architecture, "done", float(sum(architecture)))])
        asked.append(tuple(architecture))
    return asked


@pytest.mark.parametrize(
    ("name", "sampler", "asks"),
    [
        ("tpe", "TPESampler", 60),
        ("nsga2", "NSGAIISampler", 80),
        ("gp", "GPSampler", 16),
        ("random", "RandomSampler", 30),
    ],
)
def test_the_networks_are_those_that_optuna_proposes_by_itself(name: str, sampler: str, asks: int) -> None:
    space = mbconv_space()
    study = optuna.create_study(direction="maximize", sampler=getattr(optuna.samplers, sampler)(seed=7))
    proposed: list[tuple[int, ...]] = []
    while len(proposed) < asks:
        trial = study.ask()
        values = {c.name: trial.suggest_categorical(c.name, c.options) for c in space.choices}
        network = tuple(space.from_values(values))
        study.tell(trial, float(sum(network)))
        if network not in proposed:
            proposed.append(network)
    assert play(resolve("controller", f"optuna:{name}")(space, seed=7), asks) == proposed


def test_gp_goes_on_as_before_once_its_model_has_taken_over() -> None:
    """After ten trials that are done; also in a fresh process."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_bridges_optuna import *;"
        "print(testing.drive(gp(wide(4), seed=0), 5, 4))"
    )
    here = testing.drive(gp(wide(4), seed=0), 5, 4, space=wide(4))
    there = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert there.stdout.strip() == str(here)
    assert here != testing.drive(gp(wide(4), seed=1), 5, 4)


def test_a_large_seed_is_taken_modulo_what_numpy_knows() -> None:
    assert play(tpe(wide(6), seed=2**62 + 5), 20) == play(tpe(wide(6), seed=5), 20)


class Recorder(optuna.samplers.RandomSampler):  # type: ignore[misc, name-defined]
    """Notes what each trial was asked about, and what came of it."""

    notes: list[Any]

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        self.notes.append((param_name, param_distribution.choices))
        return super().sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self.notes.append((dict(trial.params), state.name, values))


def recorded(space: SearchSpace, **options: Any) -> tuple[Any, list[Any]]:
    notes: list[Any] = []

    def made(seed: int) -> Recorder:
        sampler = Recorder(seed=seed)
        sampler.notes = notes
        return sampler

    return sampler_controller(space, seed=0, sampler=made, **options), notes


def test_only_active_choices_are_suggested() -> None:
    controller, notes = recorded(wide(3, b={"a": (2,)}, c={"b": (1, 2)}), distinct=False)
    seen = set()
    for _ in range(40):
        notes.clear()
        ((a, b, c),) = controller.ask()
        expected = ["a", *(["b"] if a == 2 else []), *(["c"] if b > 0 else [])]
        assert notes == [(name, (0, 1, 2)) for name in expected]
        assert b == 0 or a == 2
        assert c == 0 or b > 0
        seen.add((a, b, c))
    assert len(seen) == 9  # a is 0 or 1, or a 2 and b 0, or b 1 or 2 with three of c


def test_what_becomes_of_a_network_is_the_state_of_its_trial() -> None:
    controller, notes = recorded(wide(4))
    asked = controller.ask(3)
    notes.clear()
    values = [dict(zip("abcd", architecture, strict=True)) for architecture in asked]
    controller.tell(
        [
            Observation(asked[2], "infeasible", None),
            Observation(asked[0], "done", 0.25),
            Observation(asked[1], "failed", None),
        ]
    )
    assert notes == [
        (values[2], "PRUNED", None),
        (values[0], "COMPLETE", [0.25]),
        (values[1], "FAIL", None),
    ]


def test_a_network_that_was_never_asked_is_a_finished_trial_of_its_own() -> None:
    controller, notes = recorded(wide(3, b={"a": (2,)}))
    space = wide(3, b={"a": (2,)})
    controller.tell([Observation(space.architecture((1, 0, 2)), "done", 0.5)])
    assert notes == [({"a": 1, "c": 2}, "COMPLETE", [0.5])]


def test_repeats_are_evaluated_again_where_networks_need_not_be_distinct() -> None:
    controller, notes = recorded(wide(1), distinct=False)
    asked = controller.ask(12)
    assert len(asked) == 12
    assert len(set(asked)) == 3
    notes.clear()
    controller.tell([Observation(a, "done", number / 12) for number, a in enumerate(asked)])
    assert [values for _, _, values in notes] == [[number / 12] for number in range(12)]


def test_tpe_learns_from_networks_that_it_never_proposed() -> None:
    space = wide(8)
    controller = tpe(space, seed=0)
    for gene in (0, 1, 2):
        points = [(gene, *(number // 3**k % 3 for k in range(7))) for number in range(20)]
        controller.tell([Observation(space.architecture(p), "done", float(gene == 2)) for p in points])
    assert sum(architecture[0] == 2 for architecture in controller.ask(30)) >= 25  # 10 by chance


def test_tpe_maximises() -> None:
    last = play(tpe(wide(8), seed=0), 100)[-50:]
    # the sum of genes is 8 in the mean of random networks, with a standard deviation of 2.3
    assert sum(map(sum, last)) / 50 > 12


def test_options_of_a_sampler_go_through_partial() -> None:
    sampler = partial(optuna.samplers.TPESampler, n_startup_trials=1)
    controller = sampler_controller(wide(8), seed=0, sampler=sampler)
    assert play(controller, 30) != play(tpe(wide(8), seed=0), 30)


def test_the_sampler_of_the_documentation_is_a_controller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = [block for block in blocks(ROOT / "docs" / "plugins.md", "python") if "optuna" in block]
    (tmp_path / "mine.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    theirs = resolve("controller", "mine:tpe_by_choice")(wide(8), seed=0)
    sampler = partial(optuna.samplers.TPESampler, multivariate=False)
    assert play(theirs, 30) == play(sampler_controller(wide(8), seed=0, sampler=sampler), 30)


def test_nothing_is_said_and_the_verbosity_stays() -> None:
    """In a process of its own: a handler of Optuna's writes to the stderr that was there when it was loaded."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_bridges_optuna import *;"
        "before = optuna.logging.get_verbosity();"
        "testing.drive(gp(wide(3, b={'a': (2,)}), seed=0), 5, 3);"
        "print(optuna.logging.get_verbosity() == before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_only_gp_loads_torch() -> None:
    code = (
        "import sys; from mnas.registry import resolve; from mnas.search_space import mbconv_space;"
        "from mnas.testing import drive;"
        "made = [drive(resolve('controller', n)(mbconv_space(), seed=0), 3, 8) for n in sys.argv[1:]];"
        "print('torch' in sys.modules)"
    )
    for names, loaded in ((FAST, "False"), (["optuna:gp"], "True")):
        done = subprocess.run(
            [sys.executable, "-c", code, *names], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == loaded


@pytest.mark.parametrize(
    "name", ["optuna:tpe", *(pytest.param(name, marks=pytest.mark.slow) for name in NAMES[1:])]
)
def test_a_killed_search_resumes_to_the_same_trials(tmp_path: Path, name: str) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    models = ["--accuracy", "models:Accuracy", "--latency", "models:KillsItself"]
    arguments = ["search", "--target-latency", "20ms", *models, "--controller", name, "--json"]
    trials, batch = (48, 4) if name == "optuna:gp" else (96, 8)
    arguments += ["--trials", str(trials), "--ask-batch", str(batch)]
    (tmp_path / "died").touch()
    whole = result_of(mnas(tmp_path, *arguments, "--out", "whole"))
    (tmp_path / "died").unlink()
    mnas_process(tmp_path, *arguments, "--out", "killed", code=-signal.SIGKILL)
    assert 0 < len(stored_keys(tmp_path / "killed")) < trials
    done = mnas(tmp_path, "resume", "killed", *models, "--json")
    assert "differ" not in done.stderr  # nothing that was stored is proposed otherwise now
    keys = stored_keys(tmp_path / "killed")
    assert keys == stored_keys(tmp_path / "whole")
    assert len(set(keys)) == trials
    assert result_of(done)["best_reward"] == whole["best_reward"]
