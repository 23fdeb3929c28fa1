"""The provable optimum over every network of a factorised space, where accuracy and cost are sums over its parts.

Dominance dynamic programming from stem to head: after each factor only those partial networks are kept that no other
with the same output shape beats in both score and cost. What a stage costs may depend on the shape it is given, so
models that chain one block to the next (filters in, filters out) are solved as exactly as separable ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError
from mnas.search_space import (
    Architecture,
    Factor,
    SearchSpace,
    Segment,
    StageSpec,
    Style,
    segments,
    stage_segments,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Shape = tuple[int, int, int]

# Chosen here: what a factor may offer, and what is held at once in a step (some 2 GB); beyond it the answer is no.
MAX_OPTIONS, MAX_PARTIAL = 100_000, 30_000_000


@dataclass(frozen=True, slots=True)
class SeparableModel:
    """Accuracy and cost as sums over a network's parts.

    Args:
        score: what the stages of a factor add to the score: `(number of the factor from 1, its stages) -> number`.
            Stages that a space merges, since they build the same network, must have one score.
        cost: what a segment (stem, one stage with its input shape, head) adds to the cost, not negative.
        link: from sums of scores `(n,)` to accuracies (fractions), rising.
        fixed_cost: of every network, beside its segments.
    """

    score: Callable[[int, tuple[StageSpec, ...]], float]
    cost: Callable[[Segment], float]
    link: Callable[[Floats], Floats] = field(default=lambda scores: scores)
    fixed_cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Front:
    """Every network that no other beats in accuracy at no more cost; of equals one.

    Args:
        accuracy: fractions, `(n,)`, strictly rising.
        cost: `(n,)`, strictly rising.
        architectures: `(n,)`, of those.
    """

    accuracy: Floats
    cost: Floats
    architectures: tuple[Architecture, ...]

    def best(self, score: Callable[[ArrayLike, ArrayLike], Floats]) -> tuple[Architecture, float]:
        """The network of greatest reward in the whole space, and that reward.

        Args:
            score: rewards of accuracies and costs, element by element.

        Raises:
            InputError: a reward that rises with the cost somewhere on the front: its best network may lie beside it.
        """
        check_falls_with_cost(score, self.accuracy, self.cost)
        rewards = np.asarray(score(self.accuracy, self.cost), dtype=np.float64)
        row = int(rewards.argmax())
        return self.architectures[row], float(rewards[row])


@dataclass(frozen=True, slots=True)
class _Options:
    """What a factor offers for one shape in: `(options,)` each; `out` numbers shapes, `genes` its choices."""

    scores: Floats
    costs: Floats
    out: list[Shape]
    genes: list[tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Partial:
    """Undominated beginnings of networks that end in one shape, and where each came from."""

    scores: Floats
    costs: Floats
    before: "tuple[_Partial, ...]" = ()
    from_partial: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    from_row: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    option: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    genes: tuple[list[tuple[int, ...]], ...] = ()

    def genes_of(self, row: int) -> list[int]:
        """Option indexes of all choices so far."""
        if not self.before:
            return []
        source = int(self.from_partial[row])
        own = self.genes[source][int(self.option[row])]
        return [*self.before[source].genes_of(int(self.from_row[row])), *own]


def solve(space: SearchSpace, model: SeparableModel) -> Front:
    """The exact Pareto front of accuracy against cost over every network of `space`.

    Args:
        space: with `factors`.
        model: sums over its parts.

    Raises:
        InputError: a space that does not say what its factors are, a factor with too many options, more undominated
            beginnings than fit in memory, or a cost or score that is not a finite number or is negative.

    Reference: dominance in dynamic programming for the multi-objective knapsack problem: Nemhauser and Ullmann (1969),
    Discrete dynamic programming and capital allocation, Management Science 15(9).
    """
    if space.factors is None:
        raise InputError(
            f"space {space.name!r} does not say what its factors are, so nothing is known of how its networks are put "
            "together and no optimum can be proved. Give SearchSpace its factors."
        )
    first = space.decode(space.first)
    stem, second, *_, head = segments(first)
    fixed = model.fixed_cost + _cost(model, stem)
    partials = {second.in_shape: _Partial(np.zeros(1), np.array([fixed]))}
    for number, factor in enumerate(space.factors, 1):
        partials = _grow(space, model, number, factor, partials, first.style)
    ends = []
    for shape, partial in partials.items():
        last = _cost(model, Segment(shape, head.style, None, head.channels, head.num_classes))
        ends.append((partial, partial.costs + last))
    scores = np.concatenate([partial.scores for partial, _ in ends])
    costs = np.concatenate([cost for _, cost in ends])
    which = np.repeat(np.arange(len(ends)), [len(cost) for _, cost in ends])
    row_in = np.concatenate([np.arange(len(cost)) for _, cost in ends])
    kept = undominated(scores, costs)
    architectures = tuple(
        space.architecture(ends[int(which[row])][0].genes_of(int(row_in[row]))) for row in kept
    )
    return Front(np.asarray(model.link(scores[kept]), dtype=np.float64), costs[kept], architectures)


def separable_front(scores: Sequence[Floats], costs: Sequence[Floats]) -> tuple[Floats, Floats]:
    """The exact Pareto front of a sum of scores against a sum of costs, one option taken from each block.

    Args:
        scores: for each block, `(options,)`; more is better.
        costs: for each block, `(options,)`, positive; less is better.

    Returns:
        Total scores and total costs of the front, `(n,)` each, both rising.
    """
    total_score, total_cost = np.zeros(1), np.zeros(1)
    for score, cost in zip(scores, costs, strict=True):
        grown_score = (total_score[:, None] + score[None, :]).ravel()
        grown_cost = (total_cost[:, None] + cost[None, :]).ravel()
        kept = undominated(grown_score, grown_cost)
        total_score, total_cost = grown_score[kept], grown_cost[kept]
    return total_score, total_cost


def check_falls_with_cost(
    score: Callable[[ArrayLike, ArrayLike], Floats], accuracy: Floats, cost: Floats
) -> None:
    """Refuses a reward whose best network need not be on the Pareto front.

    Raises:
        InputError: some accuracy is worth more at a greater cost.
    """
    rewards = np.asarray(score(accuracy, cost), dtype=np.float64)
    for dearer in (1.001, 1.1, 2.0):
        if (np.asarray(score(accuracy, cost * dearer)) > rewards).any():
            raise InputError(
                "this reward rises with the cost somewhere, as `absolute` does below its target: its best network "
                "need not be on the Pareto front. Expected one that never does: hard or soft."
            )


def undominated(scores: Floats, costs: Floats) -> Ints:
    """Rows that no other beats (more score for no more cost, or as much for less), by rising cost; one of equals."""
    order = np.lexsort((-scores, costs))
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(scores[order])[:-1]])
    return np.asarray(order[scores[order] > best_before], dtype=np.intp)


def _cost(model: SeparableModel, segment: Segment) -> float:
    cost = float(model.cost(segment))
    if not (np.isfinite(cost) and cost >= 0):
        raise InputError(f"a segment's cost must be finite and not negative, got {cost} for {segment}.")
    return cost


def _grow(
    space: SearchSpace,
    model: SeparableModel,
    number: int,
    factor: Factor,
    partials: dict[Shape, _Partial],
    style: Style,
) -> dict[Shape, _Partial]:
    """The undominated beginnings with one factor more, by the shape they end in."""
    before = tuple(partials.values())
    offers = [_options(space, model, number, factor, shape, style) for shape in partials]
    wanted = sum(len(p.scores) * len(o.scores) for p, o in zip(before, offers, strict=True))
    if wanted > MAX_PARTIAL:
        raise InputError(
            f"space {space.name!r}: {wanted} undominated beginnings after factor {number} are more than the "
            f"{MAX_PARTIAL} that are held at once. Round the model's costs, so that more of them tie."
        )
    genes = tuple(offer.genes for offer in offers)
    pieces: dict[Shape, list[tuple[Floats, Floats, Ints, Ints, Ints]]] = {}
    for source, (partial, offer) in enumerate(zip(before, offers, strict=True)):
        for shape in dict.fromkeys(offer.out):
            options = np.array([i for i, out in enumerate(offer.out) if out == shape], dtype=np.intp)
            rows, columns = len(partial.scores), len(options)
            pieces.setdefault(shape, []).append(
                (
                    (partial.scores[:, None] + offer.scores[options]).ravel(),
                    (partial.costs[:, None] + offer.costs[options]).ravel(),
                    np.full(rows * columns, source, dtype=np.intp),
                    np.repeat(np.arange(rows), columns),
                    np.tile(options, rows),
                )
            )
    grown = {}
    for shape, parts in pieces.items():
        scores, costs, source_of, row_of, option_of = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        kept = undominated(scores, costs)
        grown[shape] = _Partial(
            scores[kept], costs[kept], before, source_of[kept], row_of[kept], option_of[kept], genes
        )
    return grown


def _options(
    space: SearchSpace, model: SeparableModel, number: int, factor: Factor, in_shape: Shape, style: Style
) -> _Options:
    """What a factor offers for a shape in; of options with one shape out only those that no other beats."""
    own = [choice for choice in space.choices if choice.name in factor.choices]
    count = prod(len(choice.options) for choice in own)
    if count > MAX_OPTIONS:
        raise InputError(
            f"space {space.name!r}: factor {number} has {count} options, more than {MAX_OPTIONS}; split its choices "
            "into more factors."
        )
    values = space.values(space.first)
    offered: dict[Shape, dict[tuple[int, ...], tuple[float, float]]] = {}
    for genes in product(*(range(len(choice.options)) for choice in own)):
        values.update((c.name, c.options[gene]) for c, gene in zip(own, genes, strict=True))
        stages = factor.stages(values)
        parts, shape = stage_segments(in_shape, style, stages)
        score = float(model.score(number, stages))
        if not np.isfinite(score):
            raise InputError(f"the score of factor {number} must be finite, got {score} for {stages}.")
        offered.setdefault(shape, {})[genes] = score, sum(_cost(model, part) for part in parts)
    found = _Options(np.zeros(0), np.zeros(0), [], [])
    for shape, options in offered.items():
        scores, costs = (np.array(column) for column in zip(*options.values(), strict=True))
        kept = undominated(scores, costs)
        names = list(options)
        found = _Options(
            np.concatenate([found.scores, scores[kept]]),
            np.concatenate([found.costs, costs[kept]]),
            found.out + [shape] * len(kept),
            found.genes + [names[row] for row in kept],
        )
    return found
