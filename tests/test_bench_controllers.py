"""`mnas bench controllers`: what counts as an evaluation, what is scored, the optima, the figures and the page."""

import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import environment, mnas, result_of
from scipy import stats

from mnas.accuracy import imagenet_surrogate_additive
from mnas.bench.benchmark import Benchmark, Judge
from mnas.bench.drive import IDLE_ASKS, Run, Task, drive, run
from mnas.bench.figures import mean_interval, reached, summarise, wilson
from mnas.bench.named import MACRO_FILE, additive_front, load
from mnas.bench.page import render
from mnas.bench.pool import run_all
from mnas.bench.stage_latency import FILE, StageLatency, zcu102
from mnas.bench.words import optimum_text
from mnas.config import DEFAULT_CONTROLLER
from mnas.errors import InputError, SearchError
from mnas.objective import Reward
from mnas.protocols import Observation
from mnas.search_space import Architecture, SearchSpace, mbconv_space, network_cost
from mnas.testing import small_space

# The small space's networks: kernel 3, and kernel 5 with one to three layers.
A, B, C, D = (Architecture(genes) for genes in ((0, 0), (1, 0), (1, 1), (1, 2)))
ACCURACY = {A: 0.5, B: 0.7, C: 0.8, D: 0.9}
COST = {A: 1e6, B: 2e6, C: 4e6, D: 8e6}
# Single trainings that mislead: B looks better than C in each, and C better than D.
TRAININGS = {A: (0.5,), B: (0.95,), C: (0.85,), D: (0.8,)}


def benchmark(trainings: Mapping[Architecture, Sequence[float]] | None = None) -> Benchmark:
    return Benchmark(
        name="made up",
        space=small_space(),
        cost_kind="madds",
        accuracy=ACCURACY.__getitem__,
        cost=COST.__getitem__,
        cost_range=(1e6, 8e6),
        targets=(4e6,),
        optimum=lambda judge: 0.8,
        bound=lambda judge: None,
        about="made up for a test",
        trainings=None if trainings is None else trainings.__getitem__,
    )


class Scripted:
    """Asks as written, whatever is wanted, and notes what it is told; then it asks the last for ever."""

    def __init__(self, *asks: list[Architecture]) -> None:
        self.asks, self.told = list(asks), list[list[Observation]]()
        self.wanted = list[int]()

    def ask(self, n: int = 1) -> list[Architecture]:
        self.wanted.append(n)
        return self.asks.pop(0) if len(self.asks) > 1 else self.asks[0]

    def tell(self, observations: Sequence[Observation]) -> None:
        self.told.append(list(observations))


class Believer(Scripted):
    """Recommends the last network that it was told of, once it knows two."""

    def recommend(self) -> Architecture | None:
        known = list(itertools.chain(*self.told))
        return known[-1].architecture if len(known) > 1 else None


def task(**changed: Any) -> Task:
    plain = Task("made up", None, "scripted", "hard", 4e6, seed=0, trials=4, batch=1, noisy=False)
    return replace(plain, **changed)


def test_only_new_networks_count() -> None:
    controller = Scripted([A, A], [A, B], [B], [D, C])
    found = drive(controller, Judge.of(benchmark(), "hard", 4e6), task(batch=2))
    # Rewards at 4M: .5, .7, then D's .9 x 4 / 8 = .45, then C's .8.
    assert found.best == (0.5, 0.7, 0.7, 0.8)
    assert (found.evaluations, found.repeats, found.greatest, found.stopped) == (4, 3, 0.8, None)
    assert controller.wanted == [2, 2, 2, 2]
    told = [[(o.architecture, o.reward) for o in batch] for batch in controller.told]
    assert told == [[(A, 0.5), (A, 0.5)], [(A, 0.5), (B, 0.7)], [(B, 0.7)], [(D, 0.45), (C, 0.8)]]
    assert controller.told[3][0].metrics == {"accuracy": 0.9, "madds": 8e6}


def test_a_batch_asks_for_no_more_than_is_left() -> None:
    controller = Scripted([A, B], [C])
    drive(controller, Judge.of(benchmark(), "hard", 4e6), task(trials=3, batch=2))
    assert controller.wanted == [2, 1]
    with pytest.raises(SearchError, match="asked for 1 networks, it gave 2"):
        drive(Scripted([A, B]), Judge.of(benchmark(), "hard", 4e6), task())


def test_a_controller_that_asks_nothing_new_is_stopped_and_its_curve_goes_on_flat() -> None:
    controller = Scripted([A], [C])
    found = drive(controller, Judge.of(benchmark(), "hard", 4e6), task())
    assert found.best == (0.5, 0.8, 0.8, 0.8)
    assert (found.evaluations, found.repeats) == (2, IDLE_ASKS)
    assert found.stopped == "asked for nothing new 200 times in a row"
    found = drive(Scripted([D], []), Judge.of(benchmark(), "hard", 4e6), task())
    assert (found.best, found.stopped) == ((0.45,) * 4, "asked for nothing more")


def test_accuracy_alone_where_there_is_no_target() -> None:
    found = drive(Scripted([A], [D], [B], [C]), Judge.of(benchmark(), "hard", None), task(target=None))
    assert found.best == (0.5, 0.9, 0.9, 0.9)


def test_with_noise_the_truth_of_what_would_be_handed_over_is_scored() -> None:
    judge = Judge.of(benchmark(TRAININGS), "hard", None)
    order = ([D], [C], [B], [A])
    controller = Scripted(*order)
    # As observed .8, .85, .95, .5: the network of the greatest is handed over, and in truth it is ever worse.
    assert drive(controller, judge, task(target=None, noisy=True)).best == (0.9, 0.8, 0.7, 0.7)
    assert [batch[0].metrics["accuracy"] for batch in controller.told] == [0.8, 0.85, 0.95, 0.5]
    # The believer's own word, from the second network on.
    assert drive(Believer(*order), judge, task(target=None, noisy=True)).best == (0.9, 0.8, 0.7, 0.5)
    assert drive(Believer(*order), judge, task(target=None, noisy=False)).best == (0.9,) * 4
    # Inside a batch it is not asked again: what it said before stands until the batch ends.
    batches = Believer([D, C], [A, B])
    assert drive(batches, judge, task(target=None, noisy=True, batch=2)).best == (0.9, 0.8, 0.8, 0.7)


def test_the_noise_is_of_seed_and_network_alone() -> None:
    trainings = {point: (accuracy - 0.01, accuracy, accuracy + 0.01) for point, accuracy in ACCURACY.items()}
    judge = Judge.of(benchmark(trainings), "hard", None)

    def drawn(seed: int, order: Sequence[Architecture]) -> dict[Architecture, float]:
        controller = Scripted(*([point] for point in order))
        drive(controller, judge, task(target=None, noisy=True, seed=seed))
        return {o.architecture: o.metrics["accuracy"] for batch in controller.told for o in batch}

    assert drawn(3, (A, B, C, D)) == drawn(3, (D, C, B, A))
    for point in ACCURACY:
        assert {drawn(seed, (A, B, C, D))[point] for seed in range(30)} == set(trainings[point])


def test_means_and_shares_have_the_intervals_of_scipy() -> None:
    values = [0.91, 0.92, 0.925, 0.93, 0.94, 0.9]
    mean, interval = mean_interval(values)
    expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert mean == pytest.approx(np.mean(values))
    assert interval == pytest.approx(expected, rel=1e-4)
    assert mean_interval([0.5, 0.7]) == (0.6, None)
    for hits in (0, 8, 10):
        expected = stats.binomtest(hits, 10).proportion_ci(method="wilson")
        assert wilson(hits, 10) == pytest.approx(list(expected), abs=1e-9)


def test_figures_by_hand() -> None:
    runs = [
        Run((0.5, 0.8, 0.8, 0.8), 0.8, 4, 1, 0.4, None),
        Run((0.8, 0.8, 0.8, 0.8), 0.8, 4, 0, 0.2, None),
        Run((0.5, 0.6, 0.7995, 0.7995), 0.7995, 3, 0, 0.5, "asked for nothing more"),
        Run((0.5, 0.6, 0.6, 0.7), 0.7, 4, 0, 0.4, None),
    ]
    found = summarise(runs, 0.8)
    assert found["mean_best"] == pytest.approx(0.774875)  # (.8 + .8 + .7995 + .7) / 4
    assert found["regret"] == pytest.approx(0.025125)
    assert found["hit_rate"] == 0.5
    assert found["share_within_0.1_percent"] == 0.75  # .7995 is more than .7992
    assert found["seconds_per_ask"] == pytest.approx(0.1)  # 1.5 s / 15
    assert (found["evaluations"], found["repeats"]) == (3, 1)
    assert found["evaluations_to_optimum_median"] is None  # 2, 1, never, never
    assert summarise(runs[:3], 0.8)["evaluations_to_optimum_median"] == 2
    assert found["at"] == {}
    assert found["curve"]["evaluations"] == [1, 2, 3, 4]
    assert found["curve"]["mean_best"] == pytest.approx([0.575, 0.7, 0.749875, 0.774875])
    long = Run((0.5,) * 60 + (0.8,) * 60, 0.8, 120, 0, 1.0, None)
    at = summarise([long] * 3, 0.8)["at"]
    assert {count: (at[count]["mean_best"], at[count]["hit_rate"]) for count in at} == {
        "50": (pytest.approx(0.5), 0.0),
        "100": (pytest.approx(0.8), 1.0),
    }
    assert reached(0.8 - 1e-12, 0.8)
    assert not reached(0.8 - 1e-7, 0.8)


def test_the_optimum_of_a_shrunken_mbconv_is_that_of_brute_force() -> None:
    space, accuracy, latency = mbconv_space(), imagenet_surrogate_additive(), zcu102()
    free = ("block3.", "block6.")
    choices = tuple(
        choice if choice.name.startswith(free) else replace(choice, options=choice.options[-1:])
        for choice in space.choices
    )
    part = SearchSpace("part", choices, space.build, factors=space.factors)
    specs = [part.decode(point) for point in part.enumerate()]
    assert len(specs) == 36 * 48
    top1 = np.array([estimate.value for estimate in accuracy.evaluate(specs, seed=0)])
    ms = np.array([latency.ms(spec) for spec in specs])
    front = additive_front(part, accuracy, latency)
    for target in np.quantile(ms, (0.05, 0.4, 0.8)).tolist():
        best, reward = front.best(Reward("hard", target).score)
        assert reward == pytest.approx(Reward("hard", target).score(top1, ms).max(), rel=1e-12)
        assert latency.ms(part.decode(best)) in ms


def test_the_optimum_of_mbconv_additive_cannot_be_bettered_by_another_stage() -> None:
    found, target = load("mbconv-additive", None), 8.0
    judge = Judge.of(found, "hard", target)
    optimum = found.optimum(judge)
    assert optimum is not None
    accuracy, latency = imagenet_surrogate_additive(), zcu102()
    best, reward = additive_front(found.space, accuracy, latency).best(judge.score)
    assert reward == optimum
    assert judge.score(found.accuracy(best), judge.cost([best]))[0] == pytest.approx(optimum, rel=1e-12)
    for first in range(0, 28, 4):
        for options in itertools.product(
            *(range(len(c.options)) for c in found.space.choices[first : first + 4])
        ):
            other = found.space.architecture([*best[:first], *options, *best[first + 4 :]])
            assert judge.score(found.accuracy(other), found.cost(other)) <= optimum + 1e-12
    # Below its target `absolute` rises with the cost, so that its best network may lie beside the front.
    assert found.optimum(Judge.of(found, "absolute", target)) is None
    assert found.optimum(Judge.of(found, "absolute", None)) == pytest.approx(front_end(accuracy, latency))


def front_end(accuracy: Any, latency: StageLatency) -> float:
    """The accuracy of the best stage of each number."""
    return float(accuracy.link(accuracy.intercept + sum(scores.max() for scores in accuracy.scores)))


def test_default_targets_are_shares_of_the_range_of_costs() -> None:
    found = load("mbconv-additive", None)
    least, greatest = found.cost_range
    assert found.targets == pytest.approx([least + s * (greatest - least) for s in (0.1, 0.3, 0.6)], rel=5e-3)
    space = mbconv_space()
    costs = [
        found.cost(space.architecture(genes))
        for genes in ([0] * 28, [len(c.options) - 1 for c in space.choices])
    ]
    assert least <= min(costs) < max(costs) <= greatest
    found = load("imagenet-surrogate", None)
    ends = [space.decode([0] * 28), space.decode([len(choice.options) - 1 for choice in space.choices])]
    assert found.cost_range == tuple(float(network_cost(spec).madds) for spec in ends)
    assert found.optimum(Judge.of(found, "hard", 3e8)) is None
    assert found.bound(Judge.of(found, "absolute", 3e8)) is None


def test_what_is_said_of_an_optimum() -> None:
    known = {"optimum": 0.8, "optimum_is": "exact", "bound": 0.8}
    assert optimum_text(known) == "the exact optimum is 0.80000"
    seen = {"optimum": 0.8, "optimum_is": "best seen", "bound": 0.81}
    assert optimum_text(seen).endswith("in these runs is 0.80000; no network can have more than 0.81000")
    assert optimum_text({**seen, "bound": None}).endswith("; nothing proves it to be the optimum")


def test_what_ships_says_where_it_is_from() -> None:
    shipped = json.loads((Path(load.__code__.co_filename).parent / "latency_zcu102.json").read_text())
    assert shipped["source"] == {
        "repository": "afzalxo/Accel-NASBench",
        "commit": "42603572",
        "licence": "Apache-2.0",
    }
    assert 0 < shipped["held_out"]["mape"] < 0.01
    for field, value in (
        ("format", "other/1"),
        ("fixed_ms", "much"),
        ("fixed_ms", -1.0),
        ("stages_ms", shipped["stages_ms"][:6]),
        ("stages_ms", [[0.0] * 35, *shipped["stages_ms"][1:]]),
        ("held_out", {}),
    ):
        with pytest.raises(InputError, match="stage latencies"):
            StageLatency.from_dict({**shipped, field: value})


def test_the_shipped_latency_is_what_its_script_fits(tmp_path: Path) -> None:
    if not Path(os.environ.get("MNAS_BENCH_DATA", ""), "accel_nasbench.csv").is_file():
        pytest.skip("MNAS_BENCH_DATA names no folder with Accel-NASBench's table")
    script = Path(__file__).parent.parent / "benchmarks" / "accuracy" / "fit_latency.py"
    subprocess.run(
        [sys.executable, script, "--out", tmp_path], env=environment(), check=True, capture_output=True
    )
    shipped = Path(load.__code__.co_filename).parent / FILE
    fitted, kept = (json.loads((folder / FILE).read_text()) for folder in (tmp_path, shipped.parent))
    assert fitted["fixed_ms"] == pytest.approx(kept["fixed_ms"], abs=1e-5)
    for ours, theirs in zip(fitted["stages_ms"], kept["stages_ms"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert fitted["held_out"]["mape"] == pytest.approx(kept["held_out"]["mape"], abs=1e-5)


SHORT = ("--controllers", "evolution", "--seeds", "3", "--trials", "40", "--target", "8ms,none")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """A short bench in one process at a time: its JSON, folder, and what it said."""
    work = tmp_path_factory.mktemp("bench")
    done = mnas(
        work, "bench", "controllers", "--benchmark", "mbconv-additive", *SHORT, "--processes", "1", "--json"
    )
    return result_of(done), work, done.stderr


def test_one_object_for_each_controller_and_target(short: tuple[dict[str, Any], Path, str]) -> None:
    result, _, said = short
    assert {key: result[key] for key in ("benchmark", "seeds", "trials", "batch", "noisy", "optimum_is")} == {
        "benchmark": "mbconv-additive",
        "seeds": 3,
        "trials": 40,
        "batch": 1,
        "noisy": False,
        "optimum_is": "exact",
    }
    assert result["default"] == DEFAULT_CONTROLLER
    assert "random and reinforce are always compared" in said
    assert [(entry["controller"], entry["target"]) for entry in result["results"]] == [
        (name, target) for name in ("evolution", "random", "reinforce") for target in (8.0, None)
    ]
    optimum = {target["target"]: target["optimum"] for target in result["targets"]}
    for entry in result["results"]:
        assert entry["trials"] == 40
        assert 0 < entry["mean_best"] < optimum[entry["target"]]
        assert entry["regret"] == pytest.approx(optimum[entry["target"]] - entry["mean_best"])
        assert entry["hit_rate"] == 0
        assert 0 < entry["seconds_per_ask"] < 1
        assert entry["curve"]["mean_best"] == sorted(entry["curve"]["mean_best"])
    assert result["environment"]["cores"] >= 1


def test_figures_are_the_same_in_any_number_of_processes(
    short: tuple[dict[str, Any], Path, str], tmp_path: Path
) -> None:
    done = mnas(
        tmp_path,
        "bench",
        "controllers",
        "--benchmark",
        "mbconv-additive",
        *SHORT,
        "--processes",
        "3",
        "--json",
    )
    again = result_of(done)
    for first, second in zip(short[0]["results"], again["results"], strict=True):
        assert {**first, "seconds_per_ask": 0} == {**second, "seconds_per_ask": 0}


def test_the_page_shows_every_controller_and_loads_nothing(short: tuple[dict[str, Any], Path, str]) -> None:
    result, work, _ = short
    page = (work / result["plot"]).read_text()
    for name in result["controllers"]:
        assert f"<th>{name}</th>" in page
        assert f'"name":"{name}"' in page
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", page) == []
    assert 'content="default-src &#39;none&#39;' in page
    assert page.count('data-figure="') == 4


def test_a_controllers_name_cannot_become_a_part_of_the_page(short: tuple[dict[str, Any], Path, str]) -> None:
    name = "</script><img src=x onerror=alert(1)>"
    result = json.loads(json.dumps(short[0]))
    result["controllers"][0] = name
    for entry in result["results"]:
        if entry["controller"] == "evolution":
            entry["controller"] = name
    page = render(result)
    assert "<img" not in page
    assert "&lt;img" in page


PLUGIN = """
import os
from mnas.controllers import RandomController

class Fails(RandomController):
    def tell(self, observations):
        raise ValueError("no memory of that")

class Dies(RandomController):
    def tell(self, observations):
        os._exit(3)
"""


def test_a_controller_that_fails_is_named_with_its_seed(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(PLUGIN)
    arguments = ("--benchmark", "mbconv-additive", "--target", "8ms", "--seeds", "1", "--trials", "5")
    done = mnas(tmp_path, "bench", "controllers", *arguments, "--controllers", "failing:Fails", code=1)
    assert (
        "'failing:Fails' failed on mbconv-additive at 8 ms, seed 0: ValueError: no memory of that"
        in done.stderr
    )
    done = mnas(tmp_path, "bench", "controllers", *arguments, "--controllers", "failing:Dies", code=1)
    assert "was ended from outside" in done.stderr
    assert not (tmp_path / "bench-controllers.html").exists()


def test_no_process_is_left_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    quick = task(benchmark="mbconv-additive", controller="random", target=8.0)
    tasks = [replace(quick, seed=seed, trials=4 if seed == 0 else 100_000) for seed in range(4)]

    def interrupt(count: int, done: Task) -> None:
        assert (count, done.seed) == (1, 0)
        raise KeyboardInterrupt

    before = set(multiprocessing.active_children())  # of other tests
    with pytest.raises(KeyboardInterrupt):
        run_all(tasks, 2, interrupt)
    deadline = time.monotonic() + 10  # the pool's own thread may still be noting that they have ended
    while (left := set(multiprocessing.active_children()) - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert (os.environ["OMP_NUM_THREADS"], "MKL_NUM_THREADS" in os.environ) == ("7", False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--benchmark", "nas-bench-makro"), "did you mean 'nas-bench-macro'"),
        (("--controllers", "guidet"), "unknown controller 'guidet'; did you mean 'guided'"),
        (("--controllers", "exhaustive"), "exhaustive takes at most 1,000,000"),
        (("--controllers", "evolution,,random"), "--controllers takes values separated by commas"),
        (("--target", "60M"), r"mbconv-additive \(milliseconds, .* unknown unit 'M'"),
        (("--target", "8"), "has no unit"),
        (("--target", "1ms"), "its networks cost 1.247 ms to"),
        (("--benchmark", "imagenet-surrogate", "--target", "8ms"), r"\(multiply-adds, .* unknown unit 'ms'"),
        (("--seeds", "0"), "--seeds must be at least 1, got 0"),
        (("--trials", "-3"), "--trials must be at least 1, got -3"),
        (("--batch", "0"), "--batch must be at least 1"),
        (("--processes", "0"), "--processes must be at least 1"),
        (("--reward", "hart"), "unknown reward 'hart'; did you mean 'hard'"),
        (("--noisy",), "Use --benchmark nas-bench-macro"),
        (("--out", "nowhere/page.html"), "a file in a folder that is there"),
        (("--benchmark", "nas-bench-macro"), f"Put {MACRO_FILE} .*xiusu/NAS-Bench-Macro.*--data-dir"),
        (("--benchmark", "nas-bench-macro", "--data-dir", "empty"), f"there is no empty/{MACRO_FILE}"),
        (("--benchmark", "nas-bench-macro", "--data-dir", "wrong"), "is not the benchmark's table"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.delenv("MNAS_BENCH_DATA", raising=False)
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / MACRO_FILE).write_text(
        '{"00000000": {"mean_acc": 90, "flops": 1, "test_acc": [90]}}'
    )
    given = arguments if "--benchmark" in arguments else ("--benchmark", "mbconv-additive", *arguments)
    done = mnas(tmp_path, "bench", "controllers", *given, code=2)
    assert re.search(message, done.stderr)
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "bench-controllers.html").exists()


@pytest.fixture(scope="module")
def macro() -> Benchmark:
    if "MNAS_BENCH_DATA" not in os.environ:
        pytest.skip("MNAS_BENCH_DATA names no folder with NAS-Bench-Macro's table")
    return load("nas-bench-macro", None)


def test_the_optima_of_nas_bench_macro(macro: Benchmark) -> None:
    assert macro.space.distinct == 3969
    # Found beforehand by a look at all rows of the table.
    for target, expected in ((50e6, 0.921667), (60e6, 0.925667), (70e6, 0.929433), (None, 0.931267)):
        assert macro.optimum(Judge.of(macro, "hard", target)) == pytest.approx(expected, abs=5e-7)
    assert [macro.parse_target(text) for text in ("60M", "0.06G", "none", "Accuracy")] == [
        6e7,
        6e7,
        None,
        None,
    ]


def test_a_network_of_nas_bench_macro(macro: Benchmark) -> None:
    point = macro.space.architecture([int(digit) for digit in "00120220"])
    assert macro.accuracy(point) == pytest.approx(0.8903666)  # the table's row 00120220
    assert macro.trainings is not None
    assert macro.trainings(point) == pytest.approx((0.8919, 0.8867, 0.8925))
    assert macro.cost(point) == network_cost(macro.space.decode(point)).madds == 48_247_296


def test_a_run_on_nas_bench_macro_finds_nothing_beyond_the_optimum(macro: Benchmark) -> None:
    plain = task(benchmark="nas-bench-macro", controller="random", target=60e6, trials=4000, batch=64)
    found = run(plain)
    assert (found.evaluations, found.stopped) == (3969, "asked for nothing more")
    assert found.best[-1] == macro.optimum(Judge.of(macro, "hard", 60e6))
