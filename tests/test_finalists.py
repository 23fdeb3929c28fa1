from types import SimpleNamespace

import pytest
from commands import Said

from mnas.objective import Reward
from mnas.search.final import judge_finalists
from mnas.search.finalists import Candidate, Measured, candidates, correction, decide, pareto_front, select
from mnas.search.history import Batch, History, Trial
from mnas.search.problem import Goal


def candidate(number: int, accuracy: float, ms: float, spread: float = 0.05) -> Candidate:
    return Candidate(Trial(number, str(number)), accuracy, 0.01, ms, ms * (1 - spread), ms * (1 + spread))


def measured(
    number: int, accuracy: float, ms: float, upper: float | None = None, status: str = "ok"
) -> Measured:
    return Measured(candidate(number, accuracy, ms), ms, ms if upper is None else upper, status)  # type: ignore[arg-type]


def test_the_front_holds_what_nothing_beats() -> None:
    pool = [
        candidate(0, 0.6, 10),
        candidate(1, 0.7, 20),
        candidate(2, 0.65, 21),
        candidate(3, 0.7, 19),
        candidate(4, 0.5, 12),
    ]
    assert [c.trial.number for c in pareto_front(pool)] == [3, 0]


def test_finalists_spread_from_just_possible_to_surely_within() -> None:
    # Costs 1..40 ms, the slower the more accurate; the interval is +-5 %: possible up to 21.05, sure up to 19.04.
    pool = [candidate(i, 0.5 + i / 1000, float(i)) for i in range(1, 41)]
    assert [c.cost for c in select(pool, target=20.0, count=3)] == [21.0, 20.0, 19.0]


def test_a_second_round_knows_by_how_much_predictions_were_off() -> None:
    """Regression: on a device that was 6 % slower than its predictor said, two rounds found nothing within."""
    pool = [candidate(i, 0.5 + i / 1000, float(i)) for i in range(1, 41)]
    first = [Measured(candidate(i, 0.5, float(i)), 1.2 * i, 1.25 * i) for i in (19, 20, 21)]
    assert correction(first) == 1.25
    assert correction([measured(0, 0.5, 9.0, status="noisy")]) == correction([]) == 1.0
    # Possible up to 20 / (1.25 x 0.95) = 16.8, sure up to 20 / (1.25 x 1.05) = 15.2.
    second = select(pool, target=20.0, count=3, factor=correction(first))
    assert [c.cost for c in second] == [16.0, 15.0, 14.0]


def test_finalists_are_at_most_eight_and_each_once() -> None:
    pool = [candidate(i, 0.5 + (i % 50) / 1000, 10 + (i % 37) / 5) for i in range(500)]
    chosen = select(pool, target=14.0)
    assert len({c.trial.number for c in chosen}) == len(chosen) == 8
    assert all(c.low <= 14.0 for c in chosen)


def test_nothing_possible_gives_no_finalists() -> None:
    assert select([candidate(0, 0.6, 30.0)], target=20.0) == []


def test_the_winner_is_the_most_accurate_within_the_target_as_measured() -> None:
    finalists = [measured(0, 0.70, 21.0), measured(1, 0.68, 19.0), measured(2, 0.60, 10.0)]
    winner = decide(finalists, 20.0, tie=0.003)
    assert winner is not None
    assert winner.candidate.trial.number == 1


def test_the_upper_end_of_the_interval_has_to_be_within() -> None:
    winner = decide([measured(0, 0.70, 19.9, upper=20.1), measured(1, 0.60, 19.0)], 20.0, tie=0.003)
    assert winner is not None
    assert winner.candidate.trial.number == 1


def test_of_ties_the_fastest_wins() -> None:
    finalists = [measured(0, 0.700, 19.0), measured(1, 0.698, 15.0), measured(2, 0.696, 10.0)]
    by_mae = decide(finalists, 20.0, tie=0.003)
    by_std = decide(finalists, 20.0, tie=None)  # one standard error of 0.01 reaches them all
    assert by_mae is not None
    assert by_std is not None
    assert (by_mae.candidate.trial.number, by_std.candidate.trial.number) == (1, 2)


@pytest.mark.parametrize(
    "finalists", [[], [measured(0, 0.7, 21.0)], [measured(0, 0.7, 10.0, status="noisy")]]
)
def test_without_a_network_surely_within_there_is_no_winner(finalists: list[Measured]) -> None:
    assert decide(finalists, 20.0, tie=0.003) is None


def test_candidates_are_the_done_trials_each_network_once() -> None:
    metrics = {"accuracy": 0.5, "accuracy_std": 0.0, "madds": 7.0}
    trials = [
        Trial(0, "a", "done", metrics, 0.5),
        Trial(1, "b", "failed"),
        Trial(2, "a", "done", metrics, 0.5),
        Trial(3, "c", "waiting"),
        Trial(4, "d", "done", metrics, 0.4),
    ]
    assert [c.trial.number for c in candidates(trials, "madds")] == [0, 4]


def test_candidates_stopped_early_are_judged_only_where_no_other_holds() -> None:
    def judge(*trials: Trial) -> tuple[int | None, list[int]]:
        problem = SimpleNamespace(
            config=SimpleNamespace(target_kind="latency"),
            accuracy=SimpleNamespace(mae=None),
        )
        timing = SimpleNamespace(
            ruler=SimpleNamespace(measures=False, source="made up"), calibration=None, steps=None
        )
        history = History([Batch([len(trials)], list(trials), told=True)])
        final = judge_finalists(problem, Goal(10.0, Reward("hard", 10.0)), timing, history, Said(), None)  # type: ignore[arg-type]
        winner = None if final.winner is None else final.winner.candidate.trial.number
        return winner, [row["trial"] for row in final.rows]

    def trial(number: int, high: float, **more: float) -> Trial:
        known = {"accuracy": 0.5, "accuracy_std": 0.0, "latency_ms": 9.0, "latency_low_ms": 8.0}
        return Trial(number, f"{number}", "done", {**known, "latency_high_ms": high, **more}, reward=0.5)

    stopped = trial(0, 9.5, accuracy=0.3, fidelity=0.5)
    assert judge(stopped, trial(1, 9.9)) == (1, [1])
    assert judge(stopped, trial(1, 10.1)) == (0, [1, 0])
