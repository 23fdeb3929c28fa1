"""From runs to figures: means with their intervals, hit rates, regrets."""

from collections.abc import Sequence
from math import inf, sqrt
from statistics import NormalDist, fmean, median, stdev
from typing import Any

from mnas.bench.drive import Run
from mnas.latency.intervals import student_quantile

# Numbers of evaluations that figures are given at, where there were so many.
MILESTONES = (50, 100, 200, 500)
# A reward this near the optimum, relative, is the optimum: sums in another order differ in the last digits.
EQUAL = 1e-9
NEAR = 0.999
CURVE_POINTS = 60
_Z = NormalDist().inv_cdf(0.975)


def mean_interval(values: Sequence[float]) -> tuple[float, list[float] | None]:
    """Mean and the ends of its 95 % interval by Student's t; None for fewer than three values.

    >>> mean, interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    >>> mean, [round(end, 2) for end in interval]  # 3 +- 2.776 x 1.5811 / sqrt(5)
    (3.0, [1.04, 4.96])
    """
    mean = fmean(values)
    if len(values) < 3:
        return mean, None
    half = student_quantile(len(values) - 1) * stdev(values) / sqrt(len(values))
    return mean, [mean - half, mean + half]


def wilson(hits: int, count: int) -> list[float]:
    """The ends of Wilson's 95 % interval of a share.

    >>> [round(end, 4) for end in wilson(29, 30)]
    [0.8333, 0.9941]
    """
    share, square = hits / count, _Z**2 / count
    centre = (share + square / 2) / (1 + square)
    half = _Z / (1 + square) * sqrt(share * (1 - share) / count + square / (4 * count))
    return [centre - half if hits else 0.0, centre + half if hits < count else 1.0]


def reached(reward: float, optimum: float) -> bool:
    """Whether a reward is the optimum's, but for rounding."""
    return reward >= optimum - EQUAL * abs(optimum)


def summarise(runs: Sequence[Run], optimum: float) -> dict[str, Any]:
    """The figures of one controller at one target, over its seeds.

    Args:
        runs: with equally many trials.
        optimum: greatest reward there is, or the greatest seen.

    Returns:
        Those at the end, at the `MILESTONES` below `at`, and the `curve`.
    """
    trials = len(runs[0].best)
    first = [next((n for n, best in enumerate(r.best, 1) if reached(best, optimum)), inf) for r in runs]
    middle = median(first)
    return {
        **_at(runs, trials, optimum),
        "evaluations": min(run.evaluations for run in runs),
        "evaluations_to_optimum_median": None if middle == inf else middle,
        "repeats": sum(run.repeats for run in runs),
        "seconds_per_ask": sum(run.seconds for run in runs) / sum(run.evaluations for run in runs),
        "at": {str(count): _at(runs, count, optimum) for count in MILESTONES if count <= trials},
        "curve": _curve(runs, trials),
    }


def _at(runs: Sequence[Run], count: int, optimum: float) -> dict[str, Any]:
    """After so many evaluations."""
    best = [run.best[count - 1] for run in runs]
    mean, interval = mean_interval(best)
    hits = sum(reached(reward, optimum) for reward in best)
    near = sum(reward >= optimum - (1 - NEAR) * abs(optimum) for reward in best)
    return {
        "mean_best": mean,
        "ci95": interval,
        "hit_rate": hits / len(runs),
        "hit_rate_ci95": wilson(hits, len(runs)),
        "regret": fmean(max(0.0, optimum - reward) for reward in best),
        "share_within_0.1_percent": near / len(runs),
    }


def _curve(runs: Sequence[Run], trials: int) -> dict[str, Any]:
    """The mean of the best so far, at numbers of evaluations that are even on a logarithmic axis."""
    even = {round(trials ** (step / (CURVE_POINTS - 1))) for step in range(CURVE_POINTS)}
    counts = sorted(even | {count for count in MILESTONES if count <= trials})
    found = [mean_interval([run.best[count - 1] for run in runs]) for count in counts]
    return {
        "evaluations": counts,
        "mean_best": [mean for mean, _ in found],
        "low": None if found[0][1] is None else [interval[0] for _, interval in found if interval],
        "high": None if found[0][1] is None else [interval[1] for _, interval in found if interval],
    }
