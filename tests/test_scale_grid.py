"""The grid of scaling coefficients, and the surface fitted to it."""

from math import log

import numpy as np
import pytest

from mnas.errors import InputError
from mnas.scalesearch.fit import Surface, between, chance_of, is_between, judge
from mnas.scalesearch.grid import GROWTH, PUBLISHED, coefficients_of, grid, shares_of
from mnas.search_space import Coefficients


@pytest.mark.parametrize(("asked", "points"), [(10, 10), (11, 15), (15, 15), (16, 21), (28, 28)])
def test_the_grid_is_an_even_net_and_the_published_point(asked: int, points: int) -> None:
    found = grid(asked)
    assert found[0] == PUBLISHED == Coefficients(1.2, 1.1, 1.15)
    assert len(found) == len(set(found)) == points + 1
    for c in found:
        assert min(c.alpha, c.beta, c.gamma) >= 1
        # Within a tenth of 2, as the issue and the paper want: 1.2 x 1.21 x 1.3225 = 1.920.
        assert c.alpha * c.beta**2 * c.gamma**2 == pytest.approx(1.92027)
    ends = {tuple(round(value, 4) for value in (c.alpha, c.beta, c.gamma)) for c in found}
    # One dimension alone: 1.92027, or its root 1.38574.
    assert {(1.9203, 1.0, 1.0), (1.0, 1.3857, 1.0), (1.0, 1.0, 1.3857)} <= ends


def test_shares_by_hand() -> None:
    depth, width, resolution = shares_of(Coefficients(2.0, 2**0.5, 1.0))
    assert (depth, width, resolution) == pytest.approx((0.5, 0.5, 0.0))
    half = coefficients_of(0.5, 0.25, 0.25)
    assert half.alpha == pytest.approx(GROWTH**0.5)
    assert half.beta == half.gamma == pytest.approx(GROWTH**0.125)
    assert shares_of(half) == pytest.approx((0.5, 0.25, 0.25))
    assert log(GROWTH) == pytest.approx(log(1.2) + 2 * log(1.1) + 2 * log(1.15))


@pytest.mark.parametrize("points", [9, 121, -1])
def test_too_few_or_too_many_points_are_refused(points: int) -> None:
    with pytest.raises(InputError, match=rf"10 to 120 points, got {points} \(--points\)"):
        grid(points)


def made_up(depth: float, width: float, height: float, top: tuple[float, float] = (0.6, 0.2)) -> float:
    """A hill of that height above the far corners, its top at these shares of depth and width."""
    return 0.7 - height * ((depth - top[0]) ** 2 + (width - top[1]) ** 2)


def accuracies(height: float, noise: float, seed: int = 0) -> tuple[list[Coefficients], list[float]]:
    points, rng = grid(21), np.random.default_rng(seed)
    return points, [made_up(*shares_of(p)[:2], height) + noise * rng.normal() for p in points]


def test_a_surface_without_noise_is_found_exactly() -> None:
    surface = Surface.fit(*accuracies(0.1, 0.0))
    assert surface.residual == pytest.approx(0.0, abs=1e-9)
    for c in grid(45):
        assert surface.accuracy(c) == pytest.approx(made_up(*shares_of(c)[:2], 0.1))
    found = judge(surface, grid(21))
    assert shares_of(found.best) == pytest.approx((0.6, 0.2, 0.2))
    d, w, _ = shares_of(PUBLISHED)
    assert found.gain == pytest.approx(0.1 * ((d - 0.6) ** 2 + (w - 0.2) ** 2))
    assert found.verdict == "better"
    assert found.recommended == found.best


def test_nothing_is_recommended_beyond_the_points_that_count() -> None:
    """A hill whose top is at resolution alone, where no point could be grown: the best of the rest is next to it."""
    points = [c for c in grid(21) if shares_of(c)[2] < 0.75]
    values = [made_up(*shares_of(c)[:2], 0.1, (0.0, 0.0)) for c in points]
    found = judge(Surface.fit(points, values), points)
    most = max(shares_of(c)[2] for c in points)
    assert most < 0.75
    assert shares_of(found.best)[2] == pytest.approx(most, abs=0.021)
    assert found.gain > 0
    whole = grid(21)
    far = judge(Surface.fit(whole, [made_up(*shares_of(c)[:2], 0.1, (0.0, 0.0)) for c in whole]), whole)
    assert shares_of(far.best) == pytest.approx((0.0, 0.0, 1.0))
    assert len(between(points)) < len(between(whole))


def test_a_place_is_between_others_within_their_hull() -> None:
    square = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4], [0.4, 0.4]])
    for place, inside in (((0.2, 0.1), True), ((0.4, 0.2), True), ((0.4, 0.4), True), ((0.41, 0.2), False)):
        assert is_between(place, square) == inside
    line = np.array([[0.0, 0.0], [0.2, 0.2], [0.4, 0.4]])
    assert is_between((0.1, 0.1), line)
    assert not is_between((0.1, 0.2), line)
    assert not is_between((0.5, 0.5), line)


def test_standard_errors_are_those_of_many_draws() -> None:
    """The gain of one point over 400 draws spreads as the fit says it does."""
    point, gains, stds = coefficients_of(0.8, 0.1, 0.1), [], []
    for seed in range(400):
        gain, std = Surface.fit(*accuracies(0.05, 0.01, seed)).gain(point)
        gains.append(gain)
        stds.append(std)
    true = made_up(0.8, 0.1, 0.05) - made_up(*shares_of(PUBLISHED)[:2], 0.05)
    assert np.mean(gains) == pytest.approx(true, abs=3 * np.std(gains) / 20)
    assert np.sqrt(np.mean(np.square(stds))) == pytest.approx(np.std(gains), rel=0.1)


def test_a_flat_surface_is_not_distinguishable_and_the_published_ones_stay() -> None:
    found = [judge(Surface.fit(*accuracies(0.0, 0.01, seed)), grid(21)) for seed in range(100)]
    # The top is the best of many places, so that two standard errors are passed more often than in one of forty.
    assert sum(item.verdict == "better" for item in found) <= 25
    kept = next(item for item in found if item.verdict == "not distinguishable")
    assert kept.recommended == PUBLISHED
    assert kept.gain > 0
    # Chances are what they say: a tenth of searches without any difference has one below a tenth, half one below half.
    chances = np.array([item.chance for item in found])
    assert np.mean(chances < 0.1) == pytest.approx(0.1, abs=0.09)  # three standard errors of a hundred
    assert np.mean(chances < 0.5) == pytest.approx(0.5, abs=0.15)


def test_fewer_points_than_terms_are_refused() -> None:
    points, values = accuracies(0.1, 0.0)
    with pytest.raises(InputError, match="more than 6 different points, got 6"):
        Surface.fit(points[:6], values[:6])
    with pytest.raises(InputError, match="different points"):
        Surface.fit([PUBLISHED] * 10, [0.5] * 10)


def test_the_chance_of_two_standard_errors_is_that_of_the_best_of_many_places() -> None:
    """Of one comparison it is 4.5 % / 2 with normal errors, somewhat more with few degrees of freedom."""
    assert 0.1 < chance_of(2.0, grid(15)) < 0.25
    assert chance_of(6.0, grid(15)) < 0.02
    assert chance_of(-100.0, grid(15)) == 1.0
