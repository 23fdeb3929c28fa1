"""How far the best trial is from the best network of the whole space, where that can be proved or bounded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mnas.accuracy.surrogate import AdditiveSurrogate, QuadraticSurrogate, covered
from mnas.controllers.bound import upper_bound
from mnas.controllers.exact import SeparableModel, solve
from mnas.errors import InputError
from mnas.objective import Reward
from mnas.protocols import AccuracyModel
from mnas.search_space import SearchSpace, Segment, StageSpec, segment_cost, segments

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Optimum:
    """The best reward of a space.

    Args:
        kind: `exact`: a network has it; `bound`: none exceeds it; `unknown`.
        reward: that reward; None where it is unknown.
        reason: why it is not exact; None where it is.
        architecture: the key of the best network; None but for `exact`.
    """

    kind: Literal["exact", "bound", "unknown"]
    reward: float | None
    reason: str | None
    architecture: str | None = None

    def to_dict(self, best: float | None) -> dict[str, Any]:
        """For the result, with `gap`: the share of it that the best reward found falls short by."""
        gap = None if self.reward is None or best is None else max(0.0, 1 - best / self.reward)
        return {
            "kind": self.kind,
            "reward": self.reward,
            "gap": gap,
            "architecture": self.architecture,
            "reason": self.reason,
        }


def describe_optimum(found: Mapping[str, Any], best: float) -> str:
    """How far the best reward of a search is from the best of the whole space, in words.

    Args:
        found: as `Optimum.to_dict`.
        best: the greatest reward of any trial.
    """
    if found["kind"] == "unknown":
        return f"How far the best of all networks is cannot be said: {found['reason']}."
    if found["kind"] == "exact":
        whole = f"the greatest of all networks of the space, {found['reward']:.4f} (exact)"
    else:
        whole = f"what no network of the space exceeds, {found['reward']:.4f} (a bound: {found['reason']})"
    if found["gap"] < 1e-9:
        return f"The best reward found is {whole}."
    return f"The best reward found, {best:.4f}, is {100 * found['gap']:.2g} % below {whole}."


def find_optimum(
    space: SearchSpace, accuracy: AccuracyModel, reward: Reward, kind: Literal["latency", "madds"]
) -> Optimum:
    """Over every network of the space, explicit limits aside.

    Args:
        space: what was searched.
        accuracy: what judged the networks.
        reward: with the target of the search.
        kind: of the cost. Multiply-adds are sums over a network's parts; latencies, as predicted here, are not.
    """
    if kind == "latency":
        return _unknown("latencies are not sums over a network's parts, so no optimum can be proved")
    if reward.kind == "absolute":
        return _unknown("the absolute reward rises with the cost below its target")
    if reward.kind == "training-aware":
        return _unknown("a training-aware reward is no function of accuracy and cost alone")
    try:
        if isinstance(accuracy, AdditiveSurrogate):
            return _exact(space, accuracy, reward)
        if isinstance(accuracy, QuadraticSurrogate):
            return _bound(space, accuracy, reward)
    except InputError as error:
        return _unknown(str(error))
    return _unknown(
        "accuracies that are trained or come from a model of your own are not known of every network"
    )


def _unknown(reason: str) -> Optimum:
    return Optimum("unknown", None, reason)


def _madds(segment: Segment) -> float:
    return float(segment_cost(segment).madds)


def _exact(space: SearchSpace, accuracy: AdditiveSurrogate, reward: Reward) -> Optimum:
    def link(scores: Floats) -> Floats:
        return np.array([accuracy.link(accuracy.intercept + score) for score in scores.tolist()])

    front = solve(
        space, SeparableModel(lambda number, stages: accuracy.score(number, stages[0]), _madds, link)
    )
    architecture, best = front.best(reward.score)
    return Optimum("exact", best, None, architecture.key)


def _bound(space: SearchSpace, accuracy: QuadraticSurrogate, reward: Reward) -> Optimum:
    spec = space.decode(space.first)
    stem, *stages, head = segments(spec)
    costs = [_costs(stage, variants) for stage, variants in zip(stages, covered()[1], strict=True)]
    joint: dict[tuple[int, ...], Floats] = dict(accuracy.pairs.items())
    for factors, weight in accuracy.triples.items():
        b, c, d = (accuracy.scores[factor] for factor in factors)
        joint[factors] = weight * b[:, None, None] * c[:, None] * d
    bound = upper_bound(
        accuracy.unary,
        joint,
        costs,
        link=accuracy.link,
        score=reward.score,
        around=reward.target,
        fixed_cost=_madds(stem) + _madds(head),
    )
    return Optimum(
        "bound", bound, "the stages interact in this accuracy model, so only a bound can be proved"
    )


def _costs(stage: Segment, variants: Iterable[StageSpec]) -> Floats:
    """Of a stage's variants; all have the channels and the stride of the first, and so its input shape."""
    return np.array([_madds(Segment(stage.in_shape, stage.style, variant)) for variant in variants])
