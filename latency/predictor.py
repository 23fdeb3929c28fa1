"""Latency predicted from structural sums, in microseconds a network, with an interval from held-out errors."""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.latency.features import FEATURES, network_features, segment_features
from mnas.latency.regression import fit_best, nested_held_out
from mnas.protocols import LatencyEstimate
from mnas.search_space import NetworkSpec, Segment, segments

FORMAT = "mnas.structural_predictor/2"
SOURCE = "calibrated predictor"
# Fewest networks to fit (chosen here: with ten folds, each network is then held out alone).
FEWEST = 10
# The share that an interval leaves out at each end.
_TAIL = 0.05
# Residuals that an interval rests on: those of the fitted networks nearest in latency, by ratio. Relative errors differ
# between networks of half a millisecond and of fifty. Chosen here: two fifths of a calibration.
NEAREST = 30


@dataclass(frozen=True, slots=True)
class StructuralPredictor:
    """latency_ms = the sum over features of coefficient x amount; additive over the segments of a network.

    Make one with `fit` or `from_dict`. Predicts what it was fitted on: one device, its conditions, networks of
    the same operations. Other resolutions and class counts follow from the sums, less surely.

    Args:
        coefficients: ms per unit by feature, at least 0, for every feature that a fitted network had.
        residuals: (predicted ms, measured / predicted - 1) of networks held out from the fit that predicted them.
        device: what the estimates hold for, in words.

    Raises:
        InputError: unknown features, negative or infinite coefficients, no residuals.
    """

    coefficients: Mapping[str, float]
    residuals: tuple[tuple[float, float], ...]
    device: str
    _cache: dict[Segment, float] = field(default_factory=dict, repr=False, compare=False)
    _factors: dict[int, tuple[float, float]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.coefficients) - set(FEATURES))
        values = self.coefficients.values()
        priced = all(math.isfinite(value) and value >= 0 for value in values)
        held = all(ms > 0 and residual > -1 and math.isfinite(residual) for ms, residual in self.residuals)
        if unknown or not priced or not held or not self.residuals:
            raise InputError(
                f"a structural predictor needs finite, non-negative coefficients of known features (unknown: "
                f"{unknown}) and at least one residual (got {len(self.residuals)})."
            )

    @classmethod
    def fit(
        cls, networks: Sequence[NetworkSpec], latencies_ms: Sequence[float], *, device: str, seed: int
    ) -> tuple[Self, NDArray[np.float64]]:
        """The predictor fitted on all networks, and a prediction for each from a fit that did not see it, ms.

        Args:
            networks: at least 10.
            latencies_ms: of each, positive.
            device: what the estimates hold for, in words.
            seed: of the folds.

        Raises:
            InputError: too few networks, or a latency that is not positive and finite.
        """
        targets = np.asarray(latencies_ms, dtype=np.float64)
        if len(networks) != targets.size or targets.size < FEWEST:
            raise InputError(
                f"a fit needs at least {FEWEST} networks with a latency each; got {len(networks)} networks "
                f"and {targets.size} latencies."
            )
        if not (np.isfinite(targets).all() and (targets > 0).all()):
            raise InputError("latencies to fit must be positive and finite, in ms.")
        features = np.array([network_features(spec) for spec in networks])
        coefficients = fit_best(features, targets, seed)
        seen = features.sum(axis=0) > 0
        predicted = nested_held_out(features, targets, seed)
        predictor = cls(
            coefficients={
                name: float(value)
                for name, value, known in zip(FEATURES, coefficients, seen, strict=True)
                if known
            },
            residuals=tuple(sorted(zip(predicted.tolist(), (targets / predicted - 1).tolist(), strict=True))),
            device=device,
        )
        return predictor, predicted

    def segment_ms(self, segment: Segment) -> float:
        """Milliseconds of the stem, one stage or the head; they sum to the network's.

        Raises:
            InputError: the segment has an operation that no fitted network had.
        """
        known = self._cache.get(segment)
        if known is not None:
            return known
        total = 0.0
        for name, amount in zip(FEATURES, segment_features(segment), strict=True):
            if amount:
                if name not in self.coefficients:
                    raise InputError(
                        f"this predictor was fitted on networks without {name}, so it cannot price them. "
                        "Measure it (--latency measure), or search by multiply-adds (--target-madds)."
                    )
                total += self.coefficients[name] * amount
        self._cache[segment] = total
        return total

    def parts_ms(self, parts: Sequence[Segment]) -> list[float]:
        """Milliseconds of stems, stages and heads; errors as `segment_ms`."""
        return [self.segment_ms(segment) for segment in parts]

    def network_ms(self, specs: Sequence[NetworkSpec]) -> NDArray[np.float64]:
        """Milliseconds of networks, `(n,)`; errors as `segment_ms`."""
        return np.array([sum(self.parts_ms(segments(spec))) for spec in specs])

    def interval_factors(self, ms: float) -> tuple[float, float]:
        """What an estimate of `ms` is multiplied by for the bounds of its 90 % interval; low <= 1 <= high.

        The 5 % and 95 % order statistics of the held-out residuals nearest in latency, the outer ones where a rank
        falls between two (as in split conformal prediction), so that few residuals give a wide interval, not a
        narrow one.
        """
        # Of two networks at the edges of the window the one outside is further off, in the ratio of latencies.
        first = bisect.bisect_left(
            range(len(self.residuals) - NEAREST),
            ms * ms,
            key=lambda index: self.residuals[index][0] * self.residuals[index + NEAREST][0],
        )
        return self._window_factors(first)

    def _window_factors(self, first: int) -> tuple[float, float]:
        """Of the `NEAREST` residuals from number `first` on; kept, since a search asks thousands of times."""
        if first not in self._factors:
            ordered = sorted(residual for _, residual in self.residuals[first : first + NEAREST])
            rank = max(1, math.floor(_TAIL * (len(ordered) + 1)))
            self._factors[first] = min(1.0, 1 + ordered[rank - 1]), max(1.0, 1 + ordered[-rank])
        return self._factors[first]

    def scaled(self, factor: float) -> Self:
        """The predictor for the same device when everything takes `factor` times as long."""
        return type(self)(
            {name: value * factor for name, value in self.coefficients.items()},
            tuple((ms * factor, residual) for ms, residual in self.residuals),
            self.device,
        )

    def predict(self, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order, with its 90 % interval.

        Raises:
            InputError: a network has an operation that no fitted network had.
        """
        estimates = []
        for ms in self.network_ms(specs).tolist():
            low, high = self.interval_factors(ms)
            estimates.append(LatencyEstimate(ms, ms * low, ms * high, SOURCE, self.device))
        return estimates

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        return {
            "format": FORMAT,
            "coefficients": dict(self.coefficients),
            "residuals": [list(pair) for pair in self.residuals],
            "device": self.device,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: not this format, or a field that is missing.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise InputError(f"expected a predictor of format {FORMAT!r}.")
        try:
            residuals = tuple(sorted((float(ms), float(residual)) for ms, residual in data["residuals"]))
            return cls(dict(data["coefficients"]), residuals, data["device"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"structural predictor: a field is missing or mistyped: {error}.") from error
