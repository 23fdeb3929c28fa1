"""Accuracy without data: models fitted to the networks that Accel-NASBench trained on ImageNet.

What they predict is top-1 under that benchmark's short proxy training (about 60 %), not under a full training
(EfficientNet-B0 reaches 77 %): good for ranking the networks of the `mbconv` space, wrong as a promise.
`benchmarks/accuracy/fit_surrogate.py` fits the coefficients and computes the held-out errors beside them.
Dropout, drop path, norm constants and padding are not looked at: the benchmark never varied them.

Reference: afzalxo/Accel-NASBench, commit 42603572, Apache-2.0 (the measured networks).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.protocols import AccuracyEstimate
from mnas.search_space import NetworkSpec, StageSpec, mbconv_space

FORMAT = "mnas.accuracy-surrogate/1"
STAGES = 7
CHANCE = 0.001  # top-1 of a guess among ImageNet's 1000 classes: the floor of every prediction
# What all covered networks share, beside their stages.
FRAME = ("stem_channels", "head_channels", "resolution", "num_classes", "in_channels", "style.activation")

Floats = NDArray[np.float64]
_frame = attrgetter(*FRAME)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Errors on networks not fitted: percentage points of top-1, R2, Kendall's tau-b, and how validated."""

    mae_points: float
    rmse_points: float
    r2: float
    kendall_tau: float
    validation: str


@cache
def covered() -> tuple[tuple[object, ...], tuple[dict[StageSpec, int], ...]]:
    """The values of `FRAME`, and each stage's variants with their positions: the product of its four choices."""
    space = mbconv_space()
    stages: list[dict[StageSpec, int]] = []
    for first in range(0, 4 * STAGES, 4):
        genes = [0] * len(space.choices)
        stages.append({})
        for options in product(*(range(len(choice.options)) for choice in space.choices[first : first + 4])):
            genes[first : first + 4] = options
            stages[-1][space.decode(genes).stages[first // 4]] = len(stages[-1])
    return _frame(space.decode([0] * len(space.choices))), tuple(stages)


def _differences(spec: NetworkSpec) -> list[str]:
    """What keeps `spec` out of the benchmark's space, with what is covered instead."""
    frame, stages = covered()
    values = zip(
        (*FRAME, "number of stages"), (*_frame(spec), len(spec.stages)), (*frame, STAGES), strict=True
    )
    found = [f"{name} is {value}, covered is {wanted}" for name, value, wanted in values if value != wanted]
    for number, (stage, known) in enumerate(zip(spec.stages, stages, strict=False), 1):
        # The expansion decides the op (1 is sepconv), so compare with the variants of the same expansion.
        near = [variant for variant in known if variant.expansion == stage.expansion] or list(known)
        for name in (field.name for field in fields(StageSpec)):
            options = sorted({getattr(variant, name) for variant in (known if name == "expansion" else near)})
            if getattr(stage, name) not in options:
                wanted = ", ".join(map(str, options))
                found.append(f"stage {number}: {name} is {getattr(stage, name)}, covered: {wanted}")
    return found


def stage_positions(specs: Sequence[NetworkSpec]) -> NDArray[np.intp]:
    """`(n, 7)` positions of the networks' stages among the `covered` ones.

    Raises:
        InputError: a network outside the benchmark's space; every difference of the first such is named.
    """
    frame, known = covered()
    rows = []
    for number, spec in enumerate(specs, 1):
        row = [variants.get(stage) for variants, stage in zip(known, spec.stages, strict=False)]
        if None in row or len(spec.stages) != STAGES or _frame(spec) != frame:
            raise InputError(
                f"network {number} is not one that the ImageNet surrogates cover (the mbconv space at 224 "
                f"pixels, 1000 classes): {'; '.join(_differences(spec))}. "
                "Train on your own data with --data, or name your own model with --accuracy."
            )
        rows.append(row)
    return np.array(rows, dtype=np.intp).reshape(-1, STAGES)


def _accuracy(score: Floats, ceiling: float) -> Floats:
    """The link: top-1 as a fraction, rising in the score, from chance (at the least) to below the ceiling."""
    # exp(5) exceeds any ceiling in percent: the bound changes no value above chance and cannot overflow.
    accuracy: Floats = np.maximum(CHANCE, (ceiling - np.exp(np.minimum(-score, 5.0))) / 100)
    return accuracy


def _estimates(score: Floats, ceiling: float, held_out: HeldOut) -> list[AccuracyEstimate]:
    error = f"held-out MAE {held_out.mae_points:.2f} points"
    source = f"predicted top-1 under Accel-NASBench's short proxy training ({error})"
    std = held_out.rmse_points / 100
    return [AccuracyEstimate(value, std, source) for value in _accuracy(score, ceiling).tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveSurrogate:
    """`accuracy = link(intercept + sum of the stages' scores)`: no stage knows of another, link is monotone.

    So the most accurate network under any additive cost is found exactly by dynamic programming over stages.

    Args:
        scores: for each stage, `(variants,)` in the order of `covered`.
        intercept: added to the sum.
        ceiling: of the link, top-1 in percent.
        held_out: errors on networks that were not fitted.
    """

    scores: tuple[Floats, ...]
    intercept: float
    ceiling: float
    held_out: HeldOut

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From the coefficient file's JSON.

        Raises:
            InputError: not this format and kind, or a field missing, unknown, misshapen or not finite.
        """
        return cls(**_checked(data, "additive", {}))

    @property
    def mae(self) -> float:
        """Mean absolute error on networks that were not fitted, as a fraction: the width of a tie."""
        return self.held_out.mae_points / 100

    def score(self, stage_number: int, stage: StageSpec) -> float:
        """What `stage` adds as stage `stage_number` (from 1), on the scale that `link` reads.

        Raises:
            InputError: no such stage number, or a stage that the benchmark's space does not have there.
        """
        if stage_number not in range(1, STAGES + 1) or stage not in covered()[1][stage_number - 1]:
            raise InputError(
                f"{stage} is not a stage {stage_number} of the mbconv space, which has stages 1 to {STAGES}; "
                "take stages from mnas.search_space.mbconv_space()."
            )
        return float(self.scores[stage_number - 1][covered()[1][stage_number - 1][stage]])

    def link(self, score: float) -> float:
        """Top-1 as a fraction for the intercept plus a sum of scores; strictly rising above chance."""
        return float(_accuracy(np.array(score), self.ceiling))

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """One estimate for each network, in order; nothing is random, so `seed` changes nothing.

        Raises:
            InputError: a network outside the benchmark's space.
        """
        total = np.full(len(specs), self.intercept)
        for scores, column in zip(self.scores, stage_positions(specs).T, strict=True):
            total += scores[column]
        return _estimates(total, self.ceiling, self.held_out)


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticSurrogate:
    """Every two choices of a network interact, and the stages' additive scores up to the third order.

    Args:
        unary: for each stage, `(variants,)`: what it adds by itself.
        pairs: for stages b < c, from 0, `(variants of b, variants of c)`: what the two add together.
        triples: `(7, 7, 7)`, zero but for b < c < d: the factor of the product of three stages' `scores`.
        scores: for each stage, `(variants,)`.
        intercept, ceiling, held_out: as in `AdditiveSurrogate`.
    """

    unary: tuple[Floats, ...]
    pairs: Mapping[tuple[int, int], Floats]
    triples: Floats
    scores: tuple[Floats, ...]
    intercept: float
    ceiling: float
    held_out: HeldOut

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From the coefficient file's JSON, tabulated by stage variant so that predicting is looking up.

        Raises:
            InputError: not this format and kind, or a field missing, unknown, misshapen or not finite.
        """
