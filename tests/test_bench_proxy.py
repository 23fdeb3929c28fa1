"""`mnas bench proxy`: rankings against a truth, what they cost, going on after a kill, and what is refused."""

import json
import math
import re
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, mnas, mnas_process, result_of, write_photos

from mnas.accuracy.proxy import ProxyAccuracy
from mnas.bench.evaluators import Trained, make_evaluator, parse_training
from mnas.bench.proxies import bench_proxies
from mnas.bench.proxy_figures import best_within, figures
from mnas.bench.proxy_plan import ProxyWanted, draw
from mnas.bench.proxy_words import proxy_text
from mnas.bench.scores import Score, Scores
from mnas.bench.smooth import smoothed
from mnas.errors import InputError, UnknownNameError
from mnas.latency.scores import kendall
from mnas.protocols import AccuracyEstimate
from mnas.search.reporting import Quiet
from mnas.search_space import Architecture, SearchSpace, macro_space, network_cost
from mnas.store import EventStore
from mnas.testing import small_space

pytestmark = pytest.mark.usefixtures("one_thread")

MACRO = macro_space()
A, B, C, D = (Architecture(genes) for genes in ((0, 0), (1, 0), (1, 1), (1, 2)))
TRUTH = {A: 0.5, B: 0.7, C: 0.8, D: 0.9}
BENCH = ("bench", "proxy", "--benchmark", "nas-bench-macro", "--data-dir", ".")

# Accuracy models as a user may bring them: by multiply-adds, the wrong way round; one that works for a tenth of a
# second first, two that end early once, and one that fails.
MODELS = """
import os, signal, time
from pathlib import Path
from mnas.errors import SearchError
from mnas.protocols import AccuracyEstimate
from mnas.search_space import network_cost

class Backwards:
    def evaluate(self, specs, *, seed):
        with open("calls.txt", "a") as file:
            file.write(f"{seed}\\n")
        return [AccuracyEstimate(1 / (1 + network_cost(spec).madds), 0.0, "made up") for spec in specs]

class Ends(Backwards):
    def end(self):
        raise KeyboardInterrupt
    def evaluate(self, specs, *, seed):
        if not Path("ended").exists() and len(Path("calls.txt").read_text().split()) == 5:
            Path("ended").touch()
            self.end()
        return super().evaluate(specs, seed=seed)

class Prepares(Backwards):
    def preparation_seconds(self, folder):
        return 0.1
    def prepare(self, folder, say):
        folder.mkdir(parents=True, exist_ok=True)
        say(f"prepared in {folder.name}")
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass

class Killed(Ends):
    def end(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Fails(Backwards):
    def evaluate(self, specs, *, seed):
        if network_cost(specs[0]).madds < 4e7:
            raise SearchError("the loss is nan")
        return super().evaluate(specs, seed=seed)

class Wrong:
    def evaluate(self, specs, *, seed):
        return [] if seed % 2 else 1 / 0
"""


def scores_of(path: Path, **known: list[float]) -> Scores:
    """Of the small space's four networks, six seconds each."""
    scores = Scores.at(path, {})
    for name, values in known.items():
        for network, value in zip(TRUTH, values, strict=False):
            scores.add(name, network.key, Score(value, 6.0, 6.0, None if math.isfinite(value) else "no loss"))
    return scores


def row(text: str, path: Path, **known: list[float]) -> dict[str, Any]:
    with scores_of(path, **known) as scores:
        return figures(text, small_space(), TRUTH, scores, seed=0)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A made-up table in the benchmark's form, whose truth is that of the multiply-adds, and the models; the folder."""
    rows = {}
    costs: dict[Architecture, float] = {}
    for digits in product(range(3), repeat=8):
        point = MACRO.architecture(digits)
        if point not in costs:
            costs[point] = network_cost(MACRO.decode(point)).madds
        accuracy = 80 + costs[point] / 1e8
        rows["".join(map(str, digits))] = {"mean_acc": accuracy, "flops": 1, "test_acc": [accuracy]}
    (tmp_path / "nas-bench-macro_cifar10.json").write_text(json.dumps(rows))
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "calls.txt").touch()
    return tmp_path


def test_figures_by_hand(tmp_path: Path) -> None:
    found = row("one", tmp_path / "a.db", one=[1, 2, 4, 3])
    # Five of six pairs in order; four networks of 6 s are 0.4 minutes.
    assert found["tau"] == pytest.approx(4 / 6)
    assert (found["evaluated"], found["n"], found["failed"]) == (4, 4, 0)
    assert found["core_minutes"] == pytest.approx(0.4)
    assert found["tau_per_core_minute"] == pytest.approx(4 / 6 / 0.4)
    assert found["core_seconds_each"] == found["wall_minutes"] * 60 / 4 == 6.0


def test_preparation_counts_once_and_in_every_point(tmp_path: Path) -> None:
    with scores_of(tmp_path / "a.db", one=[1, 2, 3, 4]) as scores:
        scores.add_preparation("one", 60.0)
        found = figures("one", small_space(), TRUTH, scores, seed=0)
    assert found["preparation_core_minutes"] == 1.0
    assert found["core_minutes"] == pytest.approx(1.4)


def test_a_network_without_a_score_ranks_last(tmp_path: Path) -> None:
    found = row("one", tmp_path / "a.db", one=[2, 3, 4, -math.inf])
    assert (found["failed"], found["error"]) == (1, "no loss")
    assert found["tau"] == 0.0  # three pairs rightly, three wrongly


def test_the_mean_of_ranks(tmp_path: Path) -> None:
    # Ranks 1 2 4 3 and 2 1 3 4: means 1.5 1.5 3.5 3.5. Four pairs in order, two tied: 4 / sqrt(6 x 4).
    found = row("mean:one+two", tmp_path / "a.db", one=[1, 2, 4, 3], two=[0.2, 0.1, 0.3, 0.4])
    assert found["tau"] == pytest.approx(4 / 24**0.5)
    assert found["core_minutes"] == pytest.approx(0.8)


def test_too_few_networks_have_no_tau(tmp_path: Path) -> None:
    found = row("one", tmp_path / "a.db", one=[1, 2])
    assert (found["tau"], found["evaluated"], found["curve"]) == (None, 2, [])


def test_best_within_a_budget() -> None:
    def made(name: str, tau: float, spent: float, n: int = 200) -> dict[str, Any]:
        return {"name": name, "tau": tau, "n": n, "curve": [{"tau": tau, "n": n, "core_minutes": spent}]}

    rows = [made("cheap", 0.5, 0.01), made("dear", 0.8, 25.0), made("few", 0.9, 2.0, n=50)]
    best = {b["core_minutes"]: b["evaluator"] for b in best_within(rows)}
    assert best[0.1] == best[20.0] == "cheap"
    assert best[30.0] == best[120.0] == "dear"


def test_smoothing_takes_noise_out_and_answers_for_others() -> None:
    networks = draw(MACRO, 120, seed=1)
    # What options do adds up; noise of the same size beside.
    true = np.array([sum((place + 1) * gene for place, gene in enumerate(network)) for network in networks])
    noisy = true + np.random.default_rng(0).normal(0, true.std(), len(true))
    fitted = smoothed(MACRO, networks, noisy.tolist(), 120)
    assert kendall(true.tolist(), fitted) > kendall(true.tolist(), noisy.tolist()) + 0.1
    halfway = smoothed(MACRO, networks, noisy[:60].tolist(), 60)
    assert len(halfway) == 120
    assert kendall(true[60:].tolist(), halfway[60:]) > 0.4


def test_smoothing_of_equal_and_of_infinite_scores() -> None:
    assert smoothed(small_space(), list(TRUTH), [2.0] * 4, 4) == [0.0] * 4
    assert np.isfinite(smoothed(small_space(), list(TRUTH), [1.0, 2.0, 3.0, -math.inf], 4)).all()


def test_networks_drawn_are_different_and_begin_alike() -> None:
    assert len(set(draw(MACRO, 50, seed=3))) == 50
    assert draw(MACRO, 50, seed=3)[:20] == draw(MACRO, 20, seed=3)
    assert set(draw(small_space(), 50, seed=3)) == set(TRUTH)


def test_the_command(table: Path) -> None:
    evaluators = "madds,params,model:models:Backwards"
    options = ("--networks", "12", "--evaluators", evaluators, "--out", "proxy.json", "--json")
    result = result_of(mnas(table, *BENCH, *options))
    rows = {found["name"]: found for found in result["evaluators"]}
    assert (rows["madds"]["tau"], rows["model:models:Backwards"]["tau"]) == (1.0, -1.0)
    assert rows["params"]["n"] == 12
    assert result["best_within"][-1]["evaluator"] == "madds"
    assert json.loads((table / "proxy.json").read_text()) == result
    text = proxy_text(result, "proxy.json")
    assert "ranked worse than by multiply-adds alone, which cost nothing: params" in text
    # More networks go on from the scores that are kept.
    more = result_of(mnas(table, *BENCH, "--networks", "15", *options[2:]))
    assert more["networks"] == 15
    assert len((table / "calls.txt").read_text().split()) == 15


@pytest.mark.parametrize("ends", ["Ends", "Killed"])
def test_one_that_was_ended_goes_on_and_equals_one_that_was_not(table: Path, ends: str) -> None:
    def options(model: str, out: str) -> tuple[str, ...]:
        evaluators = f"madds,smooth:model:models:{model}"
        return (*BENCH, "--networks", "12", "--evaluators", evaluators, "--out", out, "--json")

    command = [sys.executable, "-m", "mnas", *options(ends, "ended.json")]
    first = subprocess.run(
        command, cwd=table, capture_output=True, text=True, timeout=300, env=environment(), check=False
    )
    assert first.returncode == (130 if ends == "Ends" else -9)
    resumed = result_of(mnas_process(table, *options(ends, "ended.json")))
    calls = (table / "calls.txt").read_text().split()
    # What was committed is not scored again: at most the second of work that a kill loses.
    assert len(calls) == 12 if ends == "Ends" else 12 <= len(calls) <= 17
    assert len(set(calls)) == 12
    whole = result_of(mnas(table, *options("Backwards", "whole.json")))
    for one, other in zip(resumed["evaluators"], whole["evaluators"], strict=True):
        assert [one[key] for key in ("n", "tau", "low", "high")] == [
            other[key] for key in ("n", "tau", "low", "high")
        ]


def test_one_that_fails_ranks_last_and_is_told(table: Path) -> None:
    options = ("--networks", "20", "--evaluators", "model:models:Fails")
    done = mnas(table, *BENCH, *options)
    assert "networks could not be evaluated and rank last (the loss is nan)" in done.stdout
    options = ("--networks", "20", "--evaluators", "model:models:Wrong", "--out", "wrong.json")
    result = result_of(mnas(table, *BENCH, *options, "--json"))
    (found,) = result["evaluators"]
    assert (found["failed"], found["tau"]) == (20, 0.0)
    with EventStore.open(table / "wrong.db") as store:
        errors = {event.payload["error"] for event in store.events() if event.kind == "result"}
    assert "ZeroDivisionError: division by zero" in errors
    assert any("Wrong" in error for error in errors)


def test_what_a_model_prepares_counts(table: Path) -> None:
    options = ("--networks", "5", "--evaluators", "model:models:Prepares", "--json")
    done = mnas(table, *BENCH, *options)
    (found,) = result_of(done)["evaluators"]
    assert "prepared in model-models-Prepares" in done.stderr
    assert (table / "bench-proxy" / "model-models-Prepares").is_dir()
    assert found["preparation_core_minutes"] >= 0.1 / 60
    assert found["core_minutes"] >= found["preparation_core_minutes"]
    # Nothing is left to do, so that nothing is prepared again.
    assert "prepared in" not in mnas(table, *BENCH, *options).stderr


def test_an_evaluator_stops_at_its_core_minutes(table: Path) -> None:
    options = ("--networks", "12", "--evaluators", "madds,model:models:Backwards", "--core-minutes", "1e-9")
    done = mnas(table, *BENCH, *options)
    assert "spent its 1e-09 core-minutes on" in done.stderr
    assert " of 12 " in done.stdout


def test_the_truth_may_be_a_longer_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[tuple[int, int]] = []

    def evaluate_staged(self: ProxyAccuracy, spec: Any, *, seed: int, go_on: Any = None) -> Any:
        trained.append((self.epochs, len(self.data.train)))
        return AccuracyEstimate(network_cost(spec).madds / 1e9, 0.0, "made up")

    monkeypatch.setattr(ProxyAccuracy, "evaluate_staged", evaluate_staged)
    monkeypatch.setattr(ProxyAccuracy, "seconds", lambda self, spec: 1.0)
    wanted = ProxyWanted(
        evaluators=("madds", "proxy:1x200"), data="digits", space="macro", networks=4, truth_epochs=3
    )
    result = bench_proxies(wanted, tmp_path / "own.json", Quiet())
    assert sorted(set(trained)) == [(1, 200), (3, 1078)]
    assert len(trained) == 8
    assert [found["tau"] for found in result["evaluators"]] == [1.0, 1.0]
    assert "validation accuracy after 3 epochs" in result["about"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--evaluators", "maddz"), "did you mean 'madds'"),
        (("--evaluators", "madds:5"), "madds takes nothing behind its name"),
        (("--evaluators", "proxy:0x10"), "proxy takes epochs.*proxy:1x2000@16; got 'proxy:0x10'"),
        (("--evaluators", "mean:smooth:madds+params"), "smooth: stands before anything else"),
        (("--evaluators", "naswot"), "naswot needs images.*--data"),
        (("--networks", "2"), "--networks must be at least 3"),
        (("--core-minutes", "0"), "--core-minutes must be above 0"),
        (("--truth-epochs", "3"), "either a benchmark's table.*Give one of them"),
        (("--space", "mbconv"), "--space is that of --benchmark"),
        (("--out", "nowhere/x.json"), "--out takes a file such as proxy.json"),
    ],
)
def test_bad_input(table: Path, options: tuple[str, ...], said: str) -> None:
    done = mnas(table, *BENCH, *options, code=2)
    assert re.search(said, " ".join(done.stderr.split())), done.stderr
    assert not list(table.glob("*.db"))


def test_no_table_and_other_benchmarks(tmp_path: Path) -> None:
    done = mnas(tmp_path, *BENCH[:-1], "nowhere", "--evaluators", "madds", code=2)
    assert "Put nas-bench-macro_cifar10.json (github.com/xiusu" in " ".join(done.stderr.split())
    done = mnas(tmp_path, "bench", "proxy", "--benchmark", "mbconv-additive", code=2)
    assert "Known: nas-bench-macro" in " ".join(done.stderr.split())


def test_scores_of_another_bench_are_refused(table: Path) -> None:
    options = ("--networks", "5", "--evaluators", "madds")
    mnas(table, *BENCH, *options)
    done = mnas(table, *BENCH, *options, "--seed", "1", code=2)
    assert "seed was 0 and is 1" in " ".join(done.stderr.split())


def test_images_of_another_kind_are_refused(table: Path) -> None:
    write_photos(table / "photos", 32, 32, "png")
    done = mnas(table, *BENCH, "--data", "photos", code=2)
    assert "have 10 classes, photos has 3" in " ".join(done.stderr.split())


def test_the_figure_is_one_command(table: Path) -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "proxies" / "rank.py"
    command = [sys.executable, str(script), "--table", ".", "--networks", "5", "--evaluators", "madds,params"]
    done = subprocess.run(
        command, cwd=table, capture_output=True, text=True, timeout=300, env=environment(), check=True
    )
    assert "madds" in done.stdout
    assert "no evaluator reaches tau 0.80" not in done.stdout
    assert json.loads((table / "proxies.json").read_text())["networks"] == 5


def test_what_a_proxy_is_named() -> None:
    assert parse_training("proxy", "2x500@16", "") == (2, 500, 16)
    assert parse_training("proxy", "2", "") == (2, None, None)
    with pytest.raises(UnknownNameError, match="Examples: madds"):
        make_evaluator("nothing", None)  # type: ignore[arg-type]


def test_a_model_that_says_its_time_is_believed() -> None:
    class Timed:
        def evaluate(self, specs: Any, *, seed: int) -> Any:
            raise AssertionError

        def seconds(self, spec: Any) -> float:
            return 7.0

    space: SearchSpace = small_space()
    assert Trained(Timed()).seconds(space.decode(A)) == 7.0
    with pytest.raises(InputError, match="at least 3"):
        ProxyWanted(benchmark="nas-bench-macro", networks=2)
