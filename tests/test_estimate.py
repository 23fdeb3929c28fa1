"""What a search with training says of its cost before it begins."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Said

from mnas.search.estimate import say_estimate
from mnas.search.history import Batch, History, Trial
from mnas.testing import small_space


class Trains:
    """An accuracy model that trains; its networks take 3 s, the first one 9."""

    expensive = True

    def __init__(self) -> None:
        self.asked = 0

    def evaluate(self, specs: Any, *, seed: int) -> Any:
        raise AssertionError("an estimate evaluates nothing")

    def seconds(self, spec: Any) -> float:
        self.asked += 1
        return 9.0 if self.asked == 1 else 3.0


class Predicts:
    """One that does not."""

    evaluate = Trains.evaluate


class Staged(Trains):
    """One that may stop after 2 and 6 of 18 epochs."""

    epochs, rungs, eta = 18, (2, 6), 3
    evaluate_staged = Trains.evaluate


class Prepared(Trains):
    """One that prepares itself for a minute."""

    prepare = Trains.evaluate

    def preparation_seconds(self, folder: Path) -> float:
        return 60.0


def said(
    accuracy: Any,
    done: int,
    trials: int = 100,
    max_time: str | None = None,
    data: Any = None,
    workers: int | None = None,
) -> list[str]:
    tried = [Trial(n, f"{n}", "done") for n in range(done)]
    tried += [Trial(done + n, f"{n}", "infeasible") for n in range(20)]  # refused by their cost: no trials
    history = History([Batch([done + 20], tried, told=True)])
    problem = SimpleNamespace(
        accuracy=accuracy,
        accuracy_name="supernet",
        limits=SimpleNamespace(trials=trials),
        data=data,
        device="cpu",
        config=SimpleNamespace(
            max_time=max_time, finals=2, final_epochs=10, train_threads=1, workers=workers
        ),
    )
    reporter = Said()
    specs = [small_space().decode(small_space().architecture([0, 0]))] * 6
    say_estimate(problem, specs, history, reporter, Path("none"))  # type: ignore[arg-type]
    return reporter.notes


def test_time_a_candidate_and_in_all_are_said() -> None:
    (note,) = said(Trains(), done=0, trials=9)
    assert "takes 3 s to 9 s" in note
    assert "9 of them about 36 s: 36 s in all" in note  # 9 x (9 + 5 x 3) / 6


def test_workers_share_the_candidates() -> None:
    (note,) = said(Trains(), done=0, trials=9, workers=3)
    assert "9 of them by 3 workers about 12 s: 12 s in all" in note  # 36 s shared by three


def test_successive_halving_takes_less() -> None:
    (note,) = said(Staged(), done=0, trials=9)
    # all train 2 of 18 epochs, a third 4 more, a ninth the other 12: (2 + 4/3 + 12/9) / 18 = 0.259 of 36 s
    assert "9 of them (some stopped early) about 9 s" in note


def test_the_finalists_longer_training_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def estimate(spec: Any, data: Any, *, epochs: int, device: str, scorings: int) -> float:
        return float(epochs)

    monkeypatch.setattr("mnas.training.estimate_seconds", estimate)
    (note,) = said(Trains(), done=0, trials=9, data=object())
    assert "2 finalists for 10 epochs each about 20 s: 56 s in all" in note  # a second an epoch
    (note,) = said(Trains(), done=100, data=object())  # a resumed search whose candidates are done
    assert "2 finalists for 10 epochs each about 20 s: 20 s in all" in note


def test_a_resumed_search_counts_what_is_left_and_names_its_limit() -> None:
    (note,) = said(Trains(), done=91, max_time="30m")
    assert "9 of them" in note
    assert "what --max-time 30m allows" in note


def test_preparation_is_in_it_and_beside_the_limit() -> None:
    (note,) = said(Prepared(), done=0, trials=9)
    assert "preparing supernet once takes about 60 s; then scoring a candidate" in note
    assert "96 s in all" in note
    (note,) = said(Prepared(), done=0, trials=9, max_time="30m")
    assert "takes about 60 s, which --max-time does not count; then" in note


@pytest.mark.parametrize(("accuracy", "done"), [(Predicts(), 0), (Trains(), 100)])
def test_nothing_is_said_where_nothing_will_be_trained(accuracy: Any, done: int) -> None:
    assert said(accuracy, done) == []
