"""A certified bound on the best reward where parts of a network interact, so that no optimum can be proved.

The score is a sum of tables, some over one factor's options, some over those of several. Moving numbers between the
tables changes no network's score; it can make the sum of their separate maxima smaller, and that sum bounds every
network. With what is left of the joint tables replaced by its maximum the model is separable, and dominance dynamic
programming over it gives a reward that no network of the space exceeds.

Reference: Globerson and Jaakkola (2007), Fixing max-product: convergent message passing algorithms for MAP
LP-relaxations, NIPS 20.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.controllers.exact import check_falls_with_cost, separable_front
from mnas.errors import InputError

Floats = NDArray[np.float64]

# Chosen here: shares of the front's slope that are tried as the price of cost, and for how many rounds. Each bounds.
PRICES, TRIAL_ROUNDS = (0.25, 0.5, 1.0, 2.0, 4.0), 20
# Chosen here: the bound of the quadratic surrogate at 300M on `mbconv` is .6597 after 100 rounds, .6589 after 300, and
# the best network known has .6584.
ROUNDS = 300


def upper_bound(
    unary: Sequence[Floats],
    joint: Mapping[tuple[int, ...], Floats],
    costs: Sequence[Floats],
    *,
    link: Callable[[Floats], Floats],
    score: Callable[[ArrayLike, ArrayLike], Floats],
    around: float,
    fixed_cost: float = 0.0,
    rounds: int = ROUNDS,
) -> float:
    """A reward that no network of the space exceeds.

    Args:
        unary: for each factor, `(options,)`: what an option adds to the score by itself.
        joint: for some tuples of factors (from 0), what their options add together, one axis for each.
        costs: for each factor, `(options,)`, positive.
        link: from scores `(n,)` to accuracies, rising.
        score: rewards of accuracies and costs; never rising with the cost.
        around: the cost near which the bound is made tight, the target for example; it holds whatever is given.
        fixed_cost: of every network.
        rounds: of moving numbers between tables; each takes time in proportion to the tables' sizes.

    Raises:
        InputError: tables whose shapes do not fit each other, or a reward that rises with the cost.
    """
    shapes = [table.shape for table in unary]
    wrong = [k for k, table in joint.items() if table.shape != tuple(shapes[f][0] for f in k)]
    if wrong or shapes != [table.shape for table in costs]:
        raise InputError(
            f"one score and one cost is needed for each option of each factor, and joint tables of those sizes; got "
            f"{shapes}, costs of {[table.shape for table in costs]} and joint tables that differ for {wrong}."
        )

    def certified(own: Sequence[Floats], tables: Mapping[tuple[int, ...], Floats]) -> float:
        spare = float(sum(table.max() for table in tables.values()))
        scores, front_costs = separable_front(own, costs)
        accuracy, total = np.asarray(link(scores + spare)), front_costs + fixed_cost
        check_falls_with_cost(score, accuracy, total)
        return float(np.max(score(accuracy, total)))

    def moved(price: float, rounds: int) -> float:
        priced = [table - price * cost for table, cost in zip(unary, costs, strict=True)]
        tables = {k: table.astype(np.float64) for k, table in joint.items()}
        for _ in range(rounds):
            for factors, table in tables.items():
                _share(priced, factors, table)
        return certified([t + price * cost for t, cost in zip(priced, costs, strict=True)], tables)

    slope = _slope(unary, costs, around - fixed_cost)
    found = {share: moved(share * slope, min(rounds, TRIAL_ROUNDS)) for share in PRICES}
    best = min(found, key=lambda share: found[share])
    return min(certified(unary, joint), *found.values(), moved(best * slope, rounds))


def _slope(unary: Sequence[Floats], costs: Sequence[Floats], around: float) -> float:
    """Score for a unit of cost: the slope there of the front without interactions."""
    scores, front = separable_front(unary, costs)
    near = int(np.searchsorted(front, around))
    width = max(1, len(front) // 50)
    low, high = max(0, min(near, len(front) - 1) - width), min(len(front) - 1, near + width)
    return float((scores[high] - scores[low]) / (front[high] - front[low])) if high > low else 0.0


def _share(own: list[Floats], factors: tuple[int, ...], table: Floats) -> None:
    """Gives each factor of a joint table an equal part of its best, in place; no network's sum changes."""

    def along(axis: int) -> Floats:
        return own[factors[axis]].reshape([-1 if a == axis else 1 for a in range(len(factors))])

    for axis in range(len(factors)):
        table += along(axis)
    for axis, factor in enumerate(factors):
        own[factor] = table.max(axis=tuple(a for a in range(len(factors)) if a != axis)) / len(factors)
    for axis in range(len(factors)):
        table -= along(axis)
