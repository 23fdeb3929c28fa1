"""Latency predicted from the kernels that a network is run as, priced by profiles, and by another, rougher estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.latency.kernel_prices import KernelPrices
from mnas.latency.kernels import Kernel, kernel_times, named_kernels, segment_counts, segment_kernels
from mnas.latency.operators import Operator
from mnas.latency.predictor import SOURCE, StructuralPredictor
from mnas.latency.stacking import Estimates, Stack
from mnas.protocols import LatencyEstimate
from mnas.search_space import NetworkSpec, Segment, segments

Array = NDArray[np.float64]
Profiled = list[tuple[Kernel, float]]
Rough = StructuralPredictor | KernelPrices

FORMAT = "mnas.kernel_predictor/2"
# Folds of the kernels' held-out estimates (chosen here).
FOLDS = 8
# A profile counts if it took so many times its network's unprofiled run, give or take, relative to the usual
# (chosen here). One in thirty has an operator that took ten times what the same took elsewhere.
OFF = 0.12
# And if its operators last so long on average: times are whole microseconds, and profiling itself takes about one.
SHORTEST_MS = 0.01
# And if so much of its time belongs to operators of known names; less where a provider fuses in its own way.
NAMED = 0.7
# Fewest profiles of use to price kernels by, and fewest where another device's prices are at hand (chosen here).
FEWEST, FEWEST_LIKE = 20, 8


class TooFewProfilesError(InputError):
    """Profiles do not tell what kernels take: of too few networks, or too small ones, or by other names."""


@dataclass(frozen=True, slots=True)
class KernelPredictor:
    """Kernels and a rougher estimate together, stacked; with an interval. Make one with `fit` or `from_dict`.

    Args:
        rough: structural sums fitted to the networks' latencies, or another device's predictor at this one's level.
        kernels: prices from the networks' profiles.
        stack: what makes one of the two, from their held-out errors.
        device: what the estimates hold for, in words.
        factor: what everything is multiplied by.
    """

    rough: Rough
    kernels: KernelPrices
    stack: Stack
    device: str
    factor: float = 1.0
    # By segment: ms by the rough estimate, ms by kernels, and `segment_counts`.
    _rows: dict[Segment, Array] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        networks: Sequence[NetworkSpec],
        latencies_ms: Sequence[float],
        profiles: Sequence[Sequence[Operator]],
        *,
        device: str,
        seed: int,
        like: "KernelPredictor | StructuralPredictor | None" = None,
    ) -> tuple[Self, Array]:
        """The predictor fitted on all networks, and a prediction for each from fits that did not see it, ms.

        A kind of kernel that no profile of use has gets no price: networks with it are then predicted by the rougher
        estimate here, and refused later (`unpriced`).

        Args:
            networks: at least 20 with a usable profile, 8 of them with `like`.
            latencies_ms: of each, positive.
            profiles: of each, its operators in order with their times.
            device: what the estimates hold for, in words.
            seed: of the folds.
            like: of another device or other conditions; its estimates take the place of structural sums, which so few
                networks do not tell.

        Raises:
            TooFewProfilesError: too few of the profiles are of use.
            InputError: too few networks, or a latency that is not positive and finite.
        """
        measured = np.asarray(latencies_ms, dtype=np.float64)
        profiled = _usable(networks, measured, profiles, FEWEST if like is None else FEWEST_LIKE)
        rough: Rough
        if like is None:
            rough, rough_held = StructuralPredictor.fit(networks, latencies_ms, device=device, seed=seed)
        else:
            rough, rough_held = _at_level(like, networks, measured)
        # Networks with a kind of kernel that no profile of use has cannot be priced by kernels.
        priced = np.flatnonzero(_have_prices(networks, profiled, rough))
        kernels = _leveled(*_of(priced, profiled, networks, measured), rough)
        kernels_held = np.empty(measured.size)
        for fold in np.array_split(np.random.default_rng(seed).permutation(priced), FOLDS):
            rest = np.setdiff1d(priced, fold)
            prices = _leveled(*_of(rest, profiled, networks, measured), kernels)
            kernels_held[fold] = prices.network_ms([networks[number] for number in fold.tolist()])
        kept = [networks[number] for number in priced.tolist()]
        counts = np.array([_counts(spec) for spec in kept], dtype=np.float64)
        stack = Stack.fit(
            _estimates(kept, rough_held[priced], kernels_held[priced], *counts.T), measured[priced]
        )
        held_out = rough_held.copy()
        held_out[priced] = stack.held_out_ms
        return cls(rough, kernels, stack, device), held_out

    def predict(self, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order, with its 90 % interval.

        Raises:
            InputError: a network has an operation that no fitted network had.
        """
        if not specs:
            return []
        parts = [segments(spec) for spec in specs]
        new = list({segment for found in parts for segment in found if segment not in self._rows})
        both = zip(new, self.rough.parts_ms(new), self.kernels.parts_ms(new), strict=True)
        for segment, rough_ms, kernels_ms in both:
            self._rows[segment] = np.array([rough_ms, kernels_ms, *segment_counts(segment)])
        amounts = np.array([np.sum([self._rows[part] for part in found], axis=0) for found in parts])
        middle, half = self.stack.predict(_estimates(specs, *amounts.T))
        ms = self.factor * middle
        bounds = zip(ms.tolist(), (ms * np.exp(-half)).tolist(), (ms * np.exp(half)).tolist(), strict=True)
        return [LatencyEstimate(value, low, high, SOURCE, self.device) for value, low, high in bounds]

    def unpriced(self, networks: Sequence[NetworkSpec]) -> list[str]:
        """Kinds of kernels of these networks that have no price, in order of name."""
        return sorted(set().union(*map(_kinds, networks)) - set(self.kernels.kinds))

    def scaled(self, factor: float) -> Self:
        """The predictor for the same device when everything takes `factor` times as long."""
        return type(self)(self.rough, self.kernels, self.stack, self.device, self.factor * factor)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        return {
            "format": FORMAT,
            "rough": self.rough.to_dict(),
            "kernels": self.kernels.to_dict(),
            "stack": self.stack.to_dict(),
            "device": self.device,
            "factor": self.factor,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: not this format, or a field that is missing, mistyped or out of its domain.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise InputError(f"expected a predictor of format {FORMAT!r}.")
        try:
            factor = float(data["factor"])
            if not 0 < factor < np.inf:
                raise ValueError(f"factor must be positive, got {factor}")
            rough = data["rough"]
            return cls(
                StructuralPredictor.from_dict(rough) if "format" in rough else KernelPrices.from_dict(rough),
                KernelPrices.from_dict(data["kernels"]),
                Stack.from_dict(data["stack"]),
                str(data["device"]),
                factor,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"kernel predictor: a field is missing or mistyped: {error}.") from error


def _usable(
    networks: Sequence[NetworkSpec],
    measured_ms: Array,
    profiles: Sequence[Sequence[Operator]],
    fewest: int,
) -> list[Profiled | None]:
    """Of each network its kernels with their share of its unprofiled time, ms; None where its profile is of no use."""
    found: list[tuple[Profiled, float] | None] = []
    for spec, ms, operators in zip(networks, measured_ms.tolist(), profiles, strict=True):
        named = named_kernels(spec)
        times, known = kernel_times(named, operators)
        total = sum(times)
        if not operators or known < NAMED or total < SHORTEST_MS * len(operators):
            found.append(None)
            continue
        scale = ms / total
        rows = [(item.kernel, time * scale) for item, time in zip(named, times, strict=True)]
        found.append((rows, scale))
    scales = [item[1] for item in found if item is not None]
    usual = median(scales) if scales else 1.0
    usable = [item[0] if item is not None and abs(item[1] / usual - 1) <= OFF else None for item in found]
    count = sum(item is not None for item in usable)
    if count < fewest:
        raise TooFewProfilesError(
            f"kernels are priced by the profiles of at least {fewest} networks; {count} of {len(networks)} are of use."
        )
    return usable


def _have_prices(
    networks: Sequence[NetworkSpec], profiled: Sequence[Profiled | None], others: Rough
) -> list[bool]:
    """Whether each kind of kernel of a network is in a profile, or priced by `others`."""
    known: set[str] = {kernel.kind for rows in profiled if rows is not None for kernel, _ in rows}
    if isinstance(others, KernelPrices):
        known |= set(others.kinds)
    return [_kinds(spec) <= known for spec in networks]


def _kinds(spec: NetworkSpec) -> set[str]:
    """Of the kernels of a network."""
    return {kernel.kind for part in segments(spec) for kernel, _ in segment_kernels(part)}


def _of(
    numbers: NDArray[np.intp],
    profiled: Sequence[Profiled | None],
    networks: Sequence[NetworkSpec],
    measured_ms: Array,
) -> tuple[list[Profiled | None], list[NetworkSpec], Array]:
    """The rows of these numbers."""
    return [profiled[n] for n in numbers], [networks[n] for n in numbers], measured_ms[numbers]


def _leveled(
    profiled: Sequence[Profiled | None],
    networks: Sequence[NetworkSpec],
    measured_ms: Array,
    others: Rough,
) -> KernelPrices:
    """Prices from the profiles, at the level at which the median network takes what it was measured to take.

    `others` price the kinds of kernels that none of the profiles has, if they price kernels.
    """
    prices = KernelPrices.fit([rows for rows in profiled if rows is not None])
    if isinstance(others, KernelPrices):
        prices = KernelPrices({**others.kinds, **prices.kinds})
    return prices.scaled(float(np.median(measured_ms / prices.network_ms(networks))))


def _at_level(
    like: "KernelPredictor | StructuralPredictor", networks: Sequence[NetworkSpec], measured_ms: Array
) -> tuple[Rough, Array]:
    """Another device's prices times the median factor between the two; and what they are for the networks."""
    prices: Rough = like.kernels if isinstance(like, KernelPredictor) else like
    there_ms = prices.network_ms(networks)
    factor = float(np.median(measured_ms / there_ms))
    return prices.scaled(factor), there_ms * factor


def _estimates(
    specs: Sequence[NetworkSpec],
    rough_ms: Array,
    kernels_ms: Array,
    kernels: Array,
    unaligned: Array,
    rare: Array,
) -> Estimates:
    """The last three as `segment_counts` of whole networks."""
    resolution = np.array([spec.resolution for spec in specs], dtype=np.float64)
    return Estimates(rough_ms, kernels_ms, resolution, unaligned / kernels, rare / kernels)


def _counts(spec: NetworkSpec) -> list[int]:
    return [sum(column) for column in zip(*map(segment_counts, segments(spec)), strict=True)]
