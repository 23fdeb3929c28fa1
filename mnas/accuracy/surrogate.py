"""Accuracy without data: models fitted to the networks that Accel-NASBench trained on ImageNet.

What they predict is top-1 under that benchmark's short proxy training (about 60 %), not under a full training
(EfficientNet-B0 reaches 77 %): good for ranking the networks of the `mbconv` space, wrong as a promise.
`benchmarks/accuracy/fit_surrogate.py` fits the coefficients and computes the held-out errors beside them.
Dropout, drop path, norm constants and padding are not looked at: the benchmark never varied them.

Reference: afzalxo/Accel-NASBench, commit 42603572, Apache-2.0 (the measured networks).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from itertools import combinations, product
from operator import attrgetter
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.protocols import AccuracyEstimate
from mnas.search_space import NetworkSpec, StageSpec, mbconv_space

FORMAT = "mnas.accuracy-surrogate/1"
STAGES = 7
CODES = 10  # numbers for each variant of a stage in the quadratic model: 7 contrasts, score, score^2, score^3
CHANCE = 0.001  # top-1 of a guess among ImageNet's 1000 classes: the floor of every prediction
# What all covered networks share, beside their stages.
FRAME = (
    "stem_channels",
    "stem_stride",
    "stem",
    "head_channels",
    "head",
    "resolution",
    "num_classes",
    "in_channels",
    "style.activation",
)

Floats = NDArray[np.float64]
_frame = attrgetter(*FRAME)


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
    return _frame(space.decode(space.first)), tuple(stages)


def _differences(spec: NetworkSpec) -> list[str]:
    """What keeps `spec` out of the benchmark's space, with what is covered instead."""
    frame, stages = covered()
    names, own = (*FRAME, "number of stages"), (*_frame(spec), len(spec.stages))
    shared = zip(names, own, (*frame, STAGES), strict=True)
    found = [f"{name} is {value}, covered is {wanted}" for name, value, wanted in shared if value != wanted]
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
    """The link: top-1 as a fraction, rising in the score, from chance (at the least) to the ceiling."""
    # exp(5) exceeds any ceiling in percent: the bound changes no value above chance and cannot overflow.
    return np.asarray(np.maximum(CHANCE, (ceiling - np.exp(np.minimum(-score, 5.0))) / 100))


def _estimates(score: Floats, ceiling: float, mae: float, rmse: float) -> list[AccuracyEstimate]:
    trained = "predicted top-1 under Accel-NASBench's short proxy training"
    source = f"{trained} (held-out MAE {100 * mae:.2f} points)"
    return [AccuracyEstimate(value, rmse, source) for value in _accuracy(score, ceiling).tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class AdditiveSurrogate:
    """`accuracy = link(intercept + sum of the stages' scores)`: no stage knows of another, link is monotone.

    So the most accurate network under any additive cost is found exactly by dynamic programming over stages.

    Args:
        scores: for each stage, `(variants,)` in the order of `covered`.
        intercept: added to the sum.
        ceiling: of the link, top-1 in percent.
        mae: mean absolute error on networks not fitted, as a fraction: the width of a tie.
        rmse: root mean square error on them, as a fraction: the standard error of an estimate.
    """

    scores: tuple[Floats, ...]
    intercept: float
    ceiling: float
    mae: float
    rmse: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """From the coefficient file's JSON.

        Raises:
            InputError: not this format and kind, or a field missing, unknown, misshapen or not finite.
        """
        return cls(**_checked(data, "additive", {}))

    def score(self, stage_number: int, stage: StageSpec) -> float:
        """What `stage` adds as stage `stage_number` (from 1), on the scale that `link` reads.

        Raises:
            InputError: no such stage number, or a stage that the benchmark's space does not have there.
        """
        variants = covered()[1][stage_number - 1] if 1 <= stage_number <= STAGES else {}
        if stage not in variants:
            raise InputError(
                f"{stage} is not a stage {stage_number} of the mbconv space, which has stages 1 to {STAGES}; "
                "take stages from mnas.search_space.mbconv_space()."
            )
        return float(self.scores[stage_number - 1][variants[stage]])

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
        return _estimates(total, self.ceiling, self.mae, self.rmse)


@dataclass(frozen=True, slots=True, eq=False)
class QuadraticSurrogate:
    """Every two choices of a network interact, and the stages' additive scores up to the third order.

    Args:
        unary: for each stage, `(variants,)`: what it adds by itself.
        pairs: for stages b < c, from 0, `(variants of b, variants of c)`: what the two add together.
        triples: for stages b < c < d, the factor of the product of their `scores`.
        scores: for each stage, `(variants,)`.
        intercept, ceiling, mae, rmse: as in `AdditiveSurrogate`.
    """

    unary: tuple[Floats, ...]
    pairs: Mapping[tuple[int, int], Floats]
    triples: Mapping[tuple[int, int, int], float]
    scores: tuple[Floats, ...]
    intercept: float
    ceiling: float
    mae: float
    rmse: float

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As `AdditiveSurrogate.from_dict`; tabulated by stage variant, so that predicting is looking up."""
        n, k = STAGES, CODES
        widths = {"codes": (k,), "linear": (k,), "quadratic": (k, n, k), "triples": (n, n)}
        checked = _checked(data, "quadratic", widths)
        codes, linear, weight, factors = (checked.pop(name) for name in widths)
        unary = tuple(
            code @ linear[b] + ((code @ weight[b][:, b]) * code).sum(axis=1) for b, code in enumerate(codes)
        )
        pairs = {(b, c): codes[b] @ weight[b][:, c] @ codes[c].T for b, c in combinations(range(n), 2)}
        triples = {(b, c, d): float(factors[b][c, d]) for b, c, d in combinations(range(n), 3)}
        return cls(unary, pairs, triples, **checked)

    def link(self, scores: Floats) -> Floats:
        """Top-1 as fractions for sums of all tables, `(n,)`; strictly rising above chance."""
        return _accuracy(self.intercept + scores, self.ceiling)

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """As `AdditiveSurrogate.evaluate`, with the same errors."""
        columns = stage_positions(specs).T
        total = np.full(len(specs), self.intercept)
        for table, column in zip(self.unary, columns, strict=True):
            total += table[column]
        for (b, c), square in self.pairs.items():
            total += square[columns[b], columns[c]]
        scores = [table[column] for table, column in zip(self.scores, columns, strict=True)]
        for (b, c, d), factor in self.triples.items():
            total += factor * scores[b] * scores[c] * scores[d]
        return _estimates(total, self.ceiling, self.mae, self.rmse)


def _checked(data: Mapping[str, Any], kind: str, widths: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The numbers of a coefficient file; `widths`: the shape, for each stage, of what only this kind has."""
    names = {"format", "kind", "source", "fit", "held_out", "ceiling", "intercept", "scores", *widths}
    if (data.get("format"), data.get("kind"), set(data)) != (FORMAT, kind, names):
        raise InputError(
            f"expected accuracy coefficients {FORMAT!r} of kind {kind!r} with {', '.join(sorted(names))}; "
            f"got {data.get('format')!r} of kind {data.get('kind')!r} with {', '.join(sorted(data))}."
        )
    try:
        lists = {key: tuple(np.array(part, np.float64) for part in data[key]) for key in ("scores", *widths)}
        numbers = {key: float(data[key]) for key in ("ceiling", "intercept")}
        numbers |= {key: float(data["held_out"][f"{key}_points"]) / 100 for key in ("mae", "rmse")}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"the {kind} accuracy coefficients have a wrong field: {error!r}.") from error
    sizes = [len(variants) for variants in covered()[1]]
    wrong = [key for key, number in numbers.items() if not np.isfinite(number)]
    wrong += [] if 0 < numbers["ceiling"] <= 100 else ["ceiling (wanted percent)"]
    for key, parts in lists.items():
        shapes = [(*[size] * (key in ("scores", "codes")), *widths.get(key, ())) for size in sizes]
        fits = [part.shape for part in parts] == shapes and all(np.isfinite(part).all() for part in parts)
        wrong += [] if fits else [f"{key} (wanted {shapes})"]
    if wrong:
        raise InputError(f"not finite, not in range or misshapen {kind} coefficients: {'; '.join(wrong)}.")
    return {**lists, **numbers}


def imagenet_surrogate() -> QuadraticSurrogate:
    """The default without data: the more accurate of the two."""
    return QuadraticSurrogate.from_dict(
        json.loads((files("mnas.accuracy") / "imagenet_surrogate.json").read_bytes())
    )


def imagenet_surrogate_additive() -> AdditiveSurrogate:
    """The separable one: less accurate, but its best network under an additive cost can be found exactly."""
    return AdditiveSurrogate.from_dict(
        json.loads((files("mnas.accuracy") / "imagenet_surrogate_additive.json").read_bytes())
    )
