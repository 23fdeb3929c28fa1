"""From scores to figures: tau with its interval, core-minutes, and the curve of one against the other."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnas.bench.scores import Score, Scores, cpu_seconds
from mnas.bench.smooth import smoothed
from mnas.latency.scores import mean_ranks
from mnas.ranks import LEAST, rank_quality
from mnas.search_space import Architecture, SearchSpace

SMOOTH, MEAN = "smooth:", "mean:"
# Chosen here: shares of an evaluator's networks where its curve is taken; core-minutes at which the best is told.
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
BUDGETS = (0.1, 1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True)
class Scored:
    """A network's scores by the evaluators of one row, the processor time and wall clock of all, the first error."""

    values: tuple[float, ...]
    cpu_s: float
    wall_s: float
    error: str | None


def figures(
    text: str, space: SearchSpace, truth: Mapping[Architecture, float], scores: Scores, seed: int
) -> dict[str, Any]:
    """One evaluator's row.

    A plain one is compared on the networks that it reached, `smooth:` on all, since its model answers for the others.
    `mean:A+B` ranks by the mean of the ranks that A and B give.

    Args:
        text: as typed, `smooth:` and `mean:` included.
        space: whose networks.
        truth: accuracies of the networks, in the order drawn.
        scores: of everything.
        seed: of the bootstrap.
    """
    bases = bases_of(text)
    known = {
        network: _together([scores.of(base)[network.key] for base in bases])
        for network in truth
        if all(network.key in scores.of(base) for base in bases)
    }
    reached = list(known.values())
    prepared = sum(scores.prepared.get(base, 0.0) for base in bases)
    curve = [_point(text, space, truth, known, count, prepared, seed) for count in _counts(len(reached))]
    failed = [score for score in reached if score.error is not None]
    return {
        "name": text,
        "evaluated": len(reached),
        "failed": len(failed),
        "error": failed[0].error if failed else None,
        "preparation_core_minutes": prepared / 60,
        "core_seconds_each": sum(score.cpu_s for score in reached) / len(reached) if reached else None,
        "wall_minutes": sum(score.wall_s for score in reached) / 60,
        **(curve[-1] if curve else {"tau": None, "core_minutes": prepared / 60, "tau_per_core_minute": None}),
        "curve": curve,
    }


def bases_of(text: str) -> list[str]:
    """The evaluators whose scores a text is made of.

    >>> bases_of("smooth:mean:naswot+proxy:1x2000@16"), bases_of("madds")
    (['naswot', 'proxy:1x2000@16'], ['madds'])
    """
    text = text.removeprefix(SMOOTH)
    return text.removeprefix(MEAN).split("+") if text.startswith(MEAN) else [text]


def _together(scores: Sequence[Score]) -> Scored:
    """What evaluators said of one network, and what that took in all."""
    errors = [score.error for score in scores if score.error is not None]
    values = tuple(score.value for score in scores)
    cpu_s, wall_s = sum(score.cpu_s for score in scores), sum(score.wall_s for score in scores)
    return Scored(values, cpu_s, wall_s, errors[0] if errors else None)


def _counts(reached: int) -> list[int]:
    """Numbers of networks where a curve is taken."""
    return sorted({count for share in SHARES if (count := round(share * reached)) >= LEAST})


def _point(
    text: str,
    space: SearchSpace,
    truth: Mapping[Architecture, float],
    known: Mapping[Architecture, Scored],
    count: int,
    prepared: float,
    seed: int,
) -> dict[str, Any]:
    """What is known from the first `count` networks that have scores."""
    networks = list(known)[:count]
    spent = prepared + sum(known[network].cpu_s for network in networks)
    columns = list(zip(*(known[network].values for network in networks), strict=True))
    if text.startswith(SMOOTH):
        before = cpu_seconds()
        networks += [network for network in truth if network not in set(networks)]
        columns = [tuple(smoothed(space, networks, column, count)) for column in columns]
        spent += cpu_seconds() - before
    values = columns[0] if len(columns) == 1 else np.mean([mean_ranks(column) for column in columns], axis=0)
    quality = rank_quality([truth[network] for network in networks], values, seed=seed)
    return {
        "scored": count,
        **quality.to_dict(),
        "core_minutes": spent / 60,
        "tau_per_core_minute": quality.tau / (spent / 60) if spent > 0 else None,
    }


def best_within(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each budget of core-minutes the evaluator of greatest tau over all networks that keeps it; the frontier.

    A row counts at what it spent on all of its networks; a curve's points over fewer networks do not.
    """
    most = max((row["n"] for row in rows if row["tau"] is not None), default=0)
    found = []
    for budget in BUDGETS:
        points = [
            (point["tau"], -point["core_minutes"], row["name"])
            for row in rows
            for point in row["curve"]
            if point["n"] == most and point["core_minutes"] <= budget and math.isfinite(point["tau"])
        ]
        if points:
            tau, spent, name = max(points)
            found.append({"core_minutes": budget, "evaluator": name, "tau": tau, "spent": -spent})
    return found
