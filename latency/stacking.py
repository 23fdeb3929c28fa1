"""Two estimates of a latency made one, from how wrong each was for networks that it did not see; with an interval.

Reference: Wolpert (1992), Stacked generalization: what combines estimates is fitted to held-out ones.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.latency.gaussian import GaussianProcess, Posterior, combine, condition, squared_exponential

Array = NDArray[np.float64]

# Networks whose errors decide how far each estimate is followed are weighted by their distance in size, the natural
# logarithm of milliseconds, in this unit (chosen here: a factor of 1.65).
NEAR = 0.5
# Where the two agree nothing tells them apart: as if one network more, whose two estimates lie 1 % apart, were right
# half-way (chosen here).
HALF_WAY = 0.01
# Length scales of what is left: of size as above, of the logarithm of resolution, of the shares of unaligned and of
# rare kernels (chosen here; the amplitudes are learned).
SCALES = np.array([1.0, 0.5, 0.3, 0.2])
# A residual beyond this counts as this (chosen here): one network measured wrongly must not set the scale of all.
LARGEST = 0.5
# What an interval holds of what is measured.
SHARE = 0.90
# What held-out errors do not show, since they share it: by how much a calibration is off as a whole, and the device's
# speed at the time of asking (standard deviation of the logarithm). Chosen here: two calibrations and four sets of
# unseen networks lay 0 to 1.7 % apart, and the speed rests on the reference's luck in a few processes, 1 to 2 %.
LEVEL_SD = 0.015
_END = NormalDist().inv_cdf((1 + SHARE) / 2)
PARTS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What is known of n networks before they are measured, `(n,)` each.

    Args:
        rough_ms: by structural sums, or by another device's predictor.
        kernels_ms: by the prices of kernels.
        resolution: in pixels.
        unaligned: share of kernels whose input channels do not fill their blocks, 0 to 1.
        rare: share of kernels of kinds that mobile networks lack, 0 to 1.
    """

    rough_ms: Array
    kernels_ms: Array
    resolution: Array
    unaligned: Array
    rare: Array

    @property
    def size(self) -> Array:
        """Natural logarithm of milliseconds, half-way between the two."""
        return np.asarray(np.log(self.rough_ms * self.kernels_ms) / 2, dtype=np.float64)

    @property
    def gap(self) -> Array:
        """How far the rough estimate is above the kernels, on the natural logarithm."""
        return np.asarray(np.log(self.rough_ms / self.kernels_ms), dtype=np.float64)

    @property
    def points(self) -> Array:
        """Size, resolution and shares of kernels in length scales, `(n, 4)`."""
        columns = np.column_stack([self.size, np.log(self.resolution), self.unaligned, self.rare])
        return np.asarray(columns / SCALES, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """log latency = log kernels + weight(size) x gap + what is left.

    The weight is that of the least held-out squared error among networks of like size. What is left is a Gaussian
    process: a constant, a smooth function of size, resolution and alignment, and noise of small networks alone. Make
    one with `fit`.

    Args:
        known: estimates of the fitted networks by fits that did not see them.
        measured_ms: of them, `(n,)`.
        amplitudes: of the three parts of what is left.
        noise: variance of the rest.
    """

    known: Estimates
    measured_ms: Array
    amplitudes: tuple[float, ...]
    noise: float
    _posterior: Posterior = field(init=False, repr=False, compare=False)
    _centre: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        left = np.log(self.measured_ms) - self._blend(self.known)
        centre = float(np.median(left))
        gram = combine(self.amplitudes, self._parts())
        left = np.clip(left - centre, -LARGEST, LARGEST)
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_posterior", condition(gram, left, np.full(left.size, self.noise)))

    @classmethod
    def fit(cls, known: Estimates, measured_ms: Array) -> Self:
        """Amplitudes by maximum marginal likelihood, on at least two networks."""
        plain = cls(known, measured_ms, (0.0,) * PARTS, 1.0)
        process = GaussianProcess.fit(plain._parts(), plain._posterior.targets)
        return cls(known, measured_ms, process.amplitudes, process.noise)

    @property
    def held_out_ms(self) -> Array:
        """Of each fitted network from all the others, `(n,)`."""
        return np.asarray(
            np.exp(self._blend(self.known) + self._centre + self._posterior.left_out()[0]), dtype=np.float64
        )

    def predict(self, new: Estimates) -> tuple[Array, Array]:
        """Milliseconds, and half of their 90 % interval on the natural logarithm, `(n,)` each.

        The half-width is the fitted networks' own quantile of held-out errors in standard deviations (as in split
        conformal prediction) times the standard deviation here. Outside the range of fitted sizes it grows by one of
        itself for each factor of e. What the level may be off is added as a square.
        """
        mean, variance = self._posterior.predict(
            combine(self.amplitudes, self._parts(new)), self._variance(new)
        )
        size, known = new.size, self.known.size
        outside = np.maximum(0.0, np.maximum(size - known.max(), known.min() - size))
        half = self._quantile() * np.sqrt(variance + self.noise) * (1 + outside)
        return np.exp(self._blend(new) + self._centre + mean), np.hypot(half, _END * LEVEL_SD)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        known = {item.name: getattr(self.known, item.name).tolist() for item in fields(Estimates)}
        return {
            "known": known,
            "measured_ms": self.measured_ms.tolist(),
            "amplitudes": list(self.amplitudes),
            "noise": self.noise,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, mistyped, or not as long as the others.
        """
        columns = {name: np.array(values, dtype=np.float64) for name, values in data["known"].items()}
        measured = np.array(data["measured_ms"], dtype=np.float64)
        amplitudes, noise = tuple(map(float, data["amplitudes"])), float(data["noise"])
        shapes = {column.shape for column in (*columns.values(), measured)}
        if shapes != {(measured.size,)} or not measured.size or len(amplitudes) != PARTS:
            raise ValueError(f"a stack needs {PARTS} amplitudes and rows of equal length")
        positive = (
            columns["rough_ms"],
            columns["kernels_ms"],
            columns["resolution"],
            measured,
            np.array([noise]),
        )
        if not all(np.isfinite(row).all() and (row > 0).all() for row in positive):
            raise ValueError("a stack needs positive, finite milliseconds, resolutions and noise")
        if not (np.isfinite(amplitudes).all() and min(amplitudes) >= 0):
            raise ValueError("a stack needs finite amplitudes of at least 0")
        return cls(Estimates(**columns), measured, amplitudes, noise)

    def _quantile(self) -> float:
        """Of the held-out errors in their standard deviations: the 90 % one, the outer where it falls between two."""
        mean, variance = self._posterior.left_out()
        errors = np.sort(np.abs(self._posterior.targets - mean) / np.sqrt(variance + self.noise))
        return float(errors[min(errors.size, math.ceil(SHARE * (errors.size + 1))) - 1])

    def _blend(self, new: Estimates) -> Array:
        """Natural logarithm of milliseconds from the two estimates alone."""
        near = squared_exponential(_alike(new), _alike(self.known))
        near = near / np.maximum(near.sum(axis=1, keepdims=True), 1e-300)
        gap = self.known.gap
        wanted = np.clip(np.log(self.measured_ms / self.known.kernels_ms), -LARGEST, LARGEST)
        weight = (near @ (wanted * gap) + HALF_WAY**2 / 2) / (near @ gap**2 + HALF_WAY**2)
        return np.asarray(np.log(new.kernels_ms) + np.clip(weight, 0.0, 1.0) * new.gap, dtype=np.float64)

    def _parts(self, new: Estimates | None = None) -> list[Array]:
        """Gram matrices of the parts between new networks and the fitted ones; None: between the fitted ones."""
        known = self.known
        rows = known if new is None else new
        smooth = squared_exponential(rows.points, known.points)
        small = np.diag(self._small(known)) if new is None else np.zeros_like(smooth)
        return [np.ones_like(smooth), smooth, small]

    def _variance(self, new: Estimates) -> Array:
        """Of what is left, before anything was measured."""
        constant, smooth, small = self.amplitudes
        return np.asarray(constant + smooth + small * self._small(new), dtype=np.float64)

    def _small(self, networks: Estimates) -> Array:
        """What grows towards small networks: (typical latency / latency)^2."""
        return np.asarray(np.exp(2 * (np.median(self.known.size) - networks.size)), dtype=np.float64)


def _alike(networks: Estimates) -> Array:
    """Size and share of rare kernels in the units of `NEAR`."""
    return np.column_stack([networks.size / NEAR, networks.rare / SCALES[-1]])
