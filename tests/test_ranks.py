"""Kendall's tau by hand and by scipy, its interval, and how often chance ranks as well."""

from itertools import combinations, permutations
from math import inf

import numpy as np
import pytest
from scipy import stats

from mnas.errors import InputError
from mnas.ranks import chance_of, rank_quality


def test_perfect_reversed_and_tied_by_hand() -> None:
    truth = [0.1, 0.2, 0.3, 0.4]
    perfect, reverse = rank_quality(truth, [1, 5, 6, 70]), rank_quality(truth, [4, 3, 2, 1])
    assert (perfect.tau, perfect.low, perfect.high, perfect.n) == (1.0, 1.0, 1.0, 4)
    assert (reverse.tau, reverse.low, reverse.high) == (-1.0, -1.0, -1.0)
    # Of six pairs the guess ties two and orders four rightly: 4 / sqrt(6 x 4).
    assert rank_quality(truth, [1, 1, 2, 2]).tau == pytest.approx(4 / 24**0.5)
    assert rank_quality(truth, [3, 3, 3, 3]).tau == 0.0


def test_tau_is_scipys_with_ties_on_both_sides() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 9, 60).astype(float), rng.integers(0, 5, 60).astype(float)
    assert rank_quality(first, second).tau == pytest.approx(stats.kendalltau(first, second).statistic)


def test_networks_without_a_score_rank_last() -> None:
    assert rank_quality([1, 2, 3, 4], [-inf, -inf, 7, 8]).tau == rank_quality([1, 2, 3, 4], [0, 0, 7, 8]).tau


def test_the_interval_is_that_of_resampled_networks() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=40)
    guess = truth + rng.normal(size=40)
    drawn = [rng.integers(0, 40, 40) for _ in range(4000)]
    ends = np.quantile([stats.kendalltau(truth[rows], guess[rows]).statistic for rows in drawn], (0.05, 0.95))
    quality = rank_quality(truth.tolist(), guess.tolist())
    assert [quality.low, quality.high] == pytest.approx(ends.tolist(), abs=0.02)
    assert quality.low < quality.tau < quality.high


def test_chance_is_counted_over_all_rankings_of_five() -> None:
    def tau(order: tuple[int, ...]) -> float:
        return sum(1 if a < b else -1 for a, b in combinations(order, 2)) / 10

    taus = [tau(order) for order in permutations(range(5))]
    for least in (-1.0, -0.2, 0.0, 0.4, 0.8, 1.0):
        assert chance_of(5, least) == pytest.approx(sum(t >= least - 1e-9 for t in taus) / 120)


@pytest.mark.parametrize("rows", [([1.0, 2.0], [1.0, 2.0]), ([1.0, 2.0, 3.0], [1.0, 2.0])])
def test_too_few_or_unequal_rows_are_refused(rows: tuple[list[float], list[float]]) -> None:
    with pytest.raises(InputError, match="at least 3"):
        rank_quality(*rows)
