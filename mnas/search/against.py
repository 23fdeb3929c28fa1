"""Whether the controller earned its keep: its best network beside a baseline's, of as many trials, as measured.

Each side is represented by its most accurate network within the target. Both are compared at the same latency, since a
faster network that is a little less accurate comes of no worse search: what lies between the two as measured is made
up along the Pareto front, by what accuracy a little more latency buys there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mnas.search.finalists import Candidate, candidates, pareto_front
from mnas.search.history import History, Trial
from mnas.units import format_count

# Of two accuracies with standard errors; for a model's predictions, its own mean absolute error stands instead.
STANDARD_ERRORS = 2.0
# How much less than the budget a network of the front may cost to say what latency buys near it (chosen here).
NEAR = 0.5


@dataclass(frozen=True, slots=True)
class Sides:
    """The networks that stand for controller and baseline; None where a side has none within the budget.

    Args:
        trials: how many of each side counted: as many as the side with fewer had.
        controller: the controller's network.
        baseline: the baseline's.
        slope: accuracy (a fraction) that a network of the front gains with e times the cost, near the budget.
    """

    trials: int
    controller: Candidate | None
    baseline: Candidate | None
    slope: float = 0.0

    @property
    def found(self) -> list[Candidate]:
        """Those that there are."""
        return [side for side in (self.controller, self.baseline) if side is not None]


def equal_sides(
    history: History,
    lanes: tuple[set[int], set[int]],
    cost: Literal["latency_ms", "madds"],
    budget: float,
    *,
    expensive: bool,
) -> Sides:
    """The best network of each side among its first trials, by costs as the search knew them.

    Args:
        history: all trials.
        lanes: numbers of the controllers' lanes and of the baselines'.
        cost: that decides.
        budget: that it has to be within.
        expensive: whether trials that were refused before they were evaluated do not count.
    """
    mine, theirs = (
        [t for t in history.known_now() if t.lane in side and t.counts(expensive=expensive)] for side in lanes
    )
    count = min(len(mine), len(theirs))
    first, second = (candidates(side[:count], cost) for side in (mine, theirs))
    slope = front_slope([*first, *second], budget)
    return Sides(count, _best(first, budget), _best(second, budget), slope)


def front_slope(pool: Sequence[Candidate], budget: float) -> float:
    """Accuracy that a network of the Pareto front gains with e times the cost, just below a budget; 0 where unknown.

    Args:
        pool: networks with their costs.
        budget: in the unit of the costs.
    """
    front = [c for c in pareto_front(pool) if NEAR * budget <= c.cost <= budget]
    if len(front) < 3:
        return 0.0
    slope, _ = np.polyfit([math.log(c.cost) for c in front], [c.accuracy for c in front], 1)
    return max(0.0, float(slope))


def _best(pool: Sequence[Candidate], budget: float) -> Candidate | None:
    """The most accurate within the budget that was trained to the end, of equals the cheapest."""
    within = [candidate for candidate in pool if candidate.cost <= budget and candidate.whole]
    return min(within, key=lambda c: (-c.accuracy, c.cost, c.trial.number), default=None)


def verdict(
    sides: Sides,
    *,
    controllers: tuple[str, str],
    share: float,
    latencies: Mapping[str, Mapping[str, Any]],
    timed: bool,
    mae: float | None,
) -> dict[str, Any]:
    """The comparison as a JSON object, with what it comes to in words.

    Args:
        sides: what stands for each side.
        controllers: names of the controller and of the baseline.
        share: of the trials that the baseline was given.
        latencies: latency fields by architecture, where they were measured.
        timed: whether the cost is latency.
        mae: of a model's predicted accuracies, a fraction; None where they have standard errors of their own.
    """
    rows = [
        None if side is None else _row(name, side, latencies.get(side.trial.key, {}))
        for name, side in zip(controllers, (sides.controller, sides.baseline), strict=True)
    ]
    won, text = _judge(sides, controllers, rows, timed, mae)
    return {
        "controller": controllers[0],
        "baseline": controllers[1],
        "share": share,
        "trials_each": sides.trials,
        "verdict": won,
        "text": text,
        "ours": rows[0],
        "theirs": rows[1],
    }


def _row(name: str, side: Candidate, latency: Mapping[str, Any]) -> dict[str, Any]:
    trial: Trial = side.trial
    return {
        "controller": name,
        "trial": trial.number,
        "architecture": trial.key,
        "accuracy": side.accuracy,
        "accuracy_std": side.accuracy_std,
        "cost": side.cost,
        **latency,
    }


def _judge(
    sides: Sides,
    controllers: tuple[str, str],
    rows: Sequence[Mapping[str, Any] | None],
    timed: bool,
    mae: float | None,
) -> tuple[Literal["better", "worse", "equal", "unknown"], str]:
    """`better`: the controller's is; `equal`: not distinguishable; `unknown`: nothing to compare."""
    name, other = controllers
    of = f"of {sides.trials:,} trials each"
    mine, theirs = sides.controller, sides.baseline
    if mine is None and theirs is None:
        return "unknown", f"Neither {name} nor {other} found a network within the target, {of}."
    if theirs is None:
        return "better", f"{name} found a network within the target and {other} found none, {of}."
    if mine is None:
        return "worse", f"{other} found a network within the target and {name} found none, {of}."
    costs, at = _costs(mine, theirs, rows, timed)
    gain = mine.accuracy - theirs.accuracy - sides.slope * math.log(costs[0] / costs[1])
    error = STANDARD_ERRORS * math.hypot(mine.accuracy_std, theirs.accuracy_std)
    least, what = (error, "two standard errors") if mae is None else (mae, "the accuracy model's mean error")
    found = f"{name}'s network has {mine.accuracy:.2%} and {other}'s {theirs.accuracy:.2%} {at}, {of}"
    points = f"{100 * gain:+.2f} points once both are brought to the same cost"
    if abs(gain) <= least:
        return "equal", f"{found}: {points}, which is within {what} ({100 * least:.2f}) and so no difference."
    earned = f"{name} earned its keep" if gain > 0 else f"{name} did not earn its keep"
    return ("better" if gain > 0 else "worse"), f"{found}: {earned}, {points}."


def _costs(
    mine: Candidate, theirs: Candidate, rows: Sequence[Mapping[str, Any] | None], timed: bool
) -> tuple[tuple[float, float], str]:
    """What the two cost, as measured where the search is for a latency and both were timed; and in words."""
    if not timed:
        return (mine.cost, theirs.cost), f"at {format_count(mine.cost)} and {format_count(theirs.cost)} MAdds"
    ours, others = (None if row is None else row.get("latency_ms") for row in rows)
    if ours is None or others is None:
        return (mine.cost, theirs.cost), f"at {mine.cost:.2f} and {theirs.cost:.2f} ms, not measured"
    return (ours, others), f"at {ours:.2f} and {others:.2f} ms as measured"
