"""A controller beside a baseline: which networks stand for them, and what the comparison comes to."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from commands import MODELS, mnas, result_of

from mnas.config import make_config
from mnas.errors import InputError
from mnas.search.against import Sides, equal_sides, front_slope, verdict
from mnas.search.finalists import Candidate, candidates
from mnas.search.history import Batch, History, Trial


def trial(number: int, lane: int, accuracy: float, ms: float, **more: float) -> Trial:
    metrics = {"accuracy": accuracy, "accuracy_std": 0.001, "madds": 1e6 * ms, "params": 1.0, **more}
    metrics |= {"latency_ms": ms, "latency_low_ms": 0.9 * ms, "latency_high_ms": 1.1 * ms}
    return Trial(number, f"key-{number}", "done", metrics, accuracy, lane=lane)


def history(*trials: Trial) -> History:
    return History([Batch([1], [t], told=True, lane=t.lane) for t in trials])


def sides_of(found: History, budget: float = 10.0, *, expensive: bool = False) -> Sides:
    return equal_sides(found, ({0}, {1}), "latency_ms", budget, expensive=expensive)


def test_each_side_counts_as_many_trials_as_the_smaller_and_the_best_within_the_budget_stands_for_it() -> (
    None
):
    found = sides_of(
        history(
            trial(0, 0, 0.60, 9.0),
            trial(1, 0, 0.62, 9.5),
            trial(2, 0, 0.99, 10.5),  # above the budget
            trial(3, 1, 0.58, 8.0),
            trial(4, 1, 0.61, 12.0),  # above the budget
            trial(5, 1, 0.57, 7.0),
            trial(6, 0, 0.90, 9.0),  # the fourth of the first side, the other has three
        )
    )
    assert found.trials == 3
    assert found.controller is not None
    assert found.baseline is not None
    assert (found.controller.trial.number, found.baseline.trial.number) == (1, 3)


def test_what_was_refused_or_stopped_early_does_not_stand_for_a_side() -> None:
    refused = trial(0, 0, 0.0, 20.0)
    refused.status, refused.reward = "infeasible", None
    trials = (
        refused,
        trial(1, 0, 0.7, 9.0, fidelity=0.3),
        trial(2, 0, 0.6, 9.0),
        trial(3, 1, 0.5, 9.0),
        trial(4, 1, 0.4, 9.0),
    )
    counted = sides_of(history(*trials), expensive=True)
    assert counted.trials == 2
    assert counted.controller is not None
    assert counted.controller.trial.number == 2
    assert sides_of(history(*trials)).trials == 2  # the refused one counts where none is expensive
    assert sides_of(history(*trials)).controller is None


def test_the_slope_of_the_front_is_that_of_accuracy_over_the_logarithm_of_cost() -> None:
    def points(*costs: float) -> list[Candidate]:
        rows = [trial(n, 0, 0.5 + 0.04 * math.log(ms), ms) for n, ms in enumerate(costs)]
        return candidates(rows, "latency_ms")

    assert front_slope(points(5.0, 6.0, 8.0, 10.0), 10.0) == pytest.approx(0.04)
    assert front_slope(points(1.0, 2.0, 8.0, 10.0, 20.0), 10.0) == 0.0  # two of them lie from 5 to 10


def judged(
    mine: tuple[float, float], theirs: tuple[float, float], slope: float = 0.0, **more: Any
) -> dict[str, Any]:
    """The verdict of networks of this accuracy and measured latency; all were predicted to take 10 ms."""
    ours, others = trial(0, 0, mine[0], 10.0), trial(1, 1, theirs[0], 10.0)
    sides = Sides(50, *(candidates([t], "latency_ms")[0] for t in (ours, others)), slope)
    latencies = {ours.key: {"latency_ms": mine[1]}, others.key: {"latency_ms": theirs[1]}}
    settings: dict[str, Any] = {"share": 0.5, "latencies": latencies, "timed": True, "mae": None}
    return verdict(sides, controllers=("guided", "random"), **{**settings, **more})


def test_better_worse_and_equal_are_told_by_two_standard_errors() -> None:
    better = judged((0.62, 10.0), (0.61, 10.0))  # two standard errors: 2 sqrt(2) x 0.001 = 0.0028
    assert better["verdict"] == "better"
    assert "guided earned its keep, +1.00 points" in better["text"]
    assert "62.00% and random's 61.00% at 10.00 and 10.00 ms as measured, of 50 trials each" in better["text"]
    worse = judged((0.61, 10.0), (0.62, 10.0))
    assert worse["verdict"] == "worse"
    assert "did not earn its keep" in worse["text"]
    equal = judged((0.6127, 10.0), (0.61, 10.0))
    assert equal["verdict"] == "equal"
    assert "within two standard errors (0.28)" in equal["text"]
    assert judged((0.62, 10.0), (0.61, 10.0), mae=0.02)["verdict"] == "equal"


def test_a_slower_network_has_to_be_more_accurate_by_what_the_front_gives_for_it() -> None:
    # 12 ms against 10 ms with 0.05 for e times the latency: 0.05 x ln 1.2 = 0.0091 of the gain of 0.01 are latency.
    found = judged((0.62, 12.0), (0.61, 10.0), slope=0.05)
    assert found["verdict"] == "equal"
    assert "+0.09 points" in found["text"]
    assert judged((0.61, 8.0), (0.61, 10.0), slope=0.05)["verdict"] == "better"
    unmeasured = judged((0.62, 12.0), (0.61, 10.0), slope=0.05, latencies={})
    assert unmeasured["verdict"] == "better"
    assert "not measured" in unmeasured["text"]


def test_a_side_that_found_nothing_within_the_target() -> None:
    one = candidates([trial(0, 0, 0.6, 9.0)], "latency_ms")[0]
    settings: dict[str, Any] = {"share": 0.5, "latencies": {}, "timed": True, "mae": None}
    for ours, others, expected in ((one, None, "better"), (None, one, "worse"), (None, None, "unknown")):
        found = verdict(Sides(9, ours, others), controllers=("guided", "random"), **settings)
        assert found["verdict"] == expected
        assert "within the target" in found["text"]


def test_a_search_says_whether_its_controller_earned_its_keep(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS.replace("score / 80, 0.002,", "score / 80, 0.0002,"))
    flags = ("--latency", "models:Latency", "--accuracy", "models:Accuracy", "--controller", "reinforce")
    search = ("search", "--target-latency", "20ms", *flags, "--baseline", "random", "--trials", "1280")
    shown = mnas(tmp_path, *search, "--out", "run").stdout
    against = json.loads((tmp_path / "run" / "result.json").read_text())["against"]
    assert against["trials_each"] == 640
    assert (
        against["verdict"] == "better"
    )  # 640 trials are enough for it: half a thousand of random ones are not
    assert against["ours"]["accuracy"] > against["theirs"]["accuracy"]
    assert against["text"] in shown
    assert "baseline_share = 0.5" in (tmp_path / "run" / "config.toml").read_text()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "reinforce earned its keep" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "best so far, of the baseline" in page


def test_a_share_of_a_fifth_compares_as_many_trials(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    flags = ("--latency", "models:Latency", "--accuracy", "models:Accuracy", "--baseline", "evolution")
    search = ("search", "--target-latency", "20ms", *flags, "--baseline-share", "0.2", "--trials", "640")
    result = result_of(mnas(tmp_path, *search, "--controller", "random", "--out", "run", "--json"))
    assert result["against"]["trials_each"] == 128
    assert (result["against"]["controller"], result["against"]["baseline"]) == ("random", "evolution")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"baseline_share": 0.3}, "goes with --baseline"),
        ({"baseline": "randm"}, "did you mean 'random'"),
        ({"baseline": "random", "baseline_share": 0.6}, "--baseline-share"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_config({"target_latency": "20ms", **values})


def test_a_baseline_of_ones_own_is_named_again_to_resume(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS + OWN)
    flags = ("--latency", "models:Latency", "--accuracy", "models:Accuracy")
    search = ("search", "--target-latency", "20ms", *flags, "--controller", "reinforce", "--trials", "256")
    mnas(tmp_path, *search, "--baseline", "models:own", "--out", "run")
    told = mnas(tmp_path, "resume", "run", *flags, code=2).stderr
    assert "--baseline models:own" in told
    mnas(tmp_path, "resume", "run", *flags, "--baseline", "models:own")


OWN = """
def own(space, seed):
    from mnas.controllers.random import RandomController
    return RandomController(space, seed=seed)
"""


@pytest.mark.parametrize(
    ("trials", "baseline", "share", "controller"),
    [
        (1000, None, None, "guided"),
        (1200, None, None, "reinforce"),
        (1200, "random", None, "guided"),  # 600 are its own
        (1200, "random", 0.1, "reinforce"),  # 1,080
        (2400, "random", None, "reinforce"),
    ],
)
def test_the_default_controller_is_chosen_by_the_trials_that_it_is_told(
    trials: int, baseline: str | None, share: float | None, controller: str
) -> None:
    values = {"target_latency": "20ms", "trials": trials, "baseline": baseline, "baseline_share": share}
    given = {name: value for name, value in values.items() if value is not None}
    assert make_config(given).resolved().controller == controller
