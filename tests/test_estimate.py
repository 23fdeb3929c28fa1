"""What a search with training says of its cost before it begins."""

from types import SimpleNamespace
from typing import Any

import pytest
from commands import Said

from mnas.search.estimate import SAMPLE, say_estimate
from mnas.search.history import Batch, History, Trial
from mnas.testing import small_space


class Trains:
    """An accuracy model that trains; its networks take 3 s, the first one 9."""

    expensive = True

    def __init__(self) -> None:
        self.asked = 0

    def evaluate(self, specs: Any, *, seed: int) -> Any:
        raise AssertionError("an estimate evaluates nothing")

    train = test_accuracy = evaluate

    def seconds(self, spec: Any) -> float:
        self.asked += 1
        return 9.0 if self.asked == 1 else 3.0


class Predicts:
    """One that does not."""

    evaluate = Trains.evaluate


def said(accuracy: Any, done: int, trials: int = 100, max_time: str | None = None) -> list[str]:
    history = History([Batch(done, [Trial(n, f"{n}", "done") for n in range(done)], told=True)])
    problem = SimpleNamespace(
        accuracy=accuracy,
        space=small_space(),
        limits=SimpleNamespace(trials=trials),
        config=SimpleNamespace(seed=0, max_time=max_time),
    )
    reporter = Said()
    say_estimate(problem, history, reporter)  # type: ignore[arg-type]
    return reporter.notes


def test_time_a_candidate_and_in_all_are_said() -> None:
    accuracy = Trains()
    (note,) = said(accuracy, done=0, trials=9)
    assert accuracy.asked == SAMPLE == 6
    assert "takes 3 s to 9 s" in note
    assert "9 of them and the winner again about 40 s" in note  # 10 x (9 + 5 x 3) / 6


def test_a_resumed_search_counts_what_is_left_and_names_its_limit() -> None:
    (note,) = said(Trains(), done=91, max_time="30m")
    assert "9 of them" in note
    assert "what --max-time 30m allows" in note


@pytest.mark.parametrize(("accuracy", "done"), [(Predicts(), 0), (Trains(), 100)])
def test_nothing_is_said_where_nothing_will_be_trained(accuracy: Any, done: int) -> None:
    assert said(accuracy, done) == []
