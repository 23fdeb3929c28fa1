"""What each kernel takes, learned from profiles: a price by its work, and what its shape adds to that.

The price by work is linear with no negative coefficient, so that it holds for shapes far from any that was seen. What
remains, on the logarithm, is a Gaussian process over shapes, one for each kind: near kernels that were seen it follows
them, far from them it is nothing.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError
from mnas.latency.features import BLOCK, whole_blocks
from mnas.latency.gaussian import condition, squared_exponential
from mnas.latency.kernels import Kernel, segment_kernels
from mnas.latency.regression import fit
from mnas.search_space import NetworkSpec, Segment, segments

Array = NDArray[np.float64]

# A profile's times are whole microseconds, and of a few of them a ratio means nothing: this is added to every time
# before its logarithm is taken, and before prices by work are fitted to relative errors.
FLOOR_MS = 0.003
# Of what remains: standard deviations of what like shapes share, of what a shape has to itself, and of one profile's
# time (relative, and its resolution). The same kernel differs by 5 % (pointwise) to 15 % (gates) between networks.
SHARED, OWN, NOISE, RESOLUTION_MS = 0.25, 0.1, 0.1, 0.002
# Length scales of `_shapes`: octaves of channels and pixels; steps of the window, stride, addition and of whole blocks;
# shares of padding; octaves of groups; ReLU6. Chosen here with the standard deviations; halving or doubling them, tried
# with two calibrations of one machine, moved the share of networks within 5 % by less than another calibration does.
SCALES = np.array([1.5, 1.5, 1.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.3, 0.3, 1.0, 1.0])
# Ridge of the prices by work, relative to columns scaled to mean 1 (chosen here: next to none).
STRENGTH = 1e-4
# A kernel seen in many networks counts at most so often in the fit of prices, or the common ones would be all of it.
OFTEN = 5
# Kernels priced at once, which bounds memory (chosen here: some tens of MB).
_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class KindPrices:
    """Of one kind of kernel.

    Args:
        coefficients: ms a unit of `_work`, at least 0; with `FLOOR_MS` in the first, which is a call's own.
        kernels: that were seen.
        weights: of each in what is added to the logarithm, `(kernels,)`.
    """

    coefficients: tuple[float, ...]
    kernels: tuple[Kernel, ...]
    weights: tuple[float, ...]

    @classmethod
    def fit(cls, times: Mapping[Kernel, Sequence[float]]) -> Self:
        """From the times of kernels of this kind, ms, each in one or more networks."""
        kernels = tuple(times)
        counts = np.array([len(values) for values in times.values()])
        target = np.array([float(np.median(values)) for values in times.values()]) + FLOOR_MS
        work = np.array([_work(kernel) for kernel in kernels])
        often = np.repeat(np.arange(len(kernels)), np.minimum(counts, OFTEN))
        coefficients = fit(work[often], target[often], STRENGTH)
        remains = np.log(target) - np.log(np.maximum(work @ coefficients, FLOOR_MS))
        shapes = _shapes(kernels)
        gram = SHARED**2 * squared_exponential(shapes, shapes) + OWN**2 * np.eye(len(kernels))
        posterior = condition(gram, remains, (NOISE**2 + (RESOLUTION_MS / target) ** 2) / counts)
        return cls(tuple(coefficients.tolist()), kernels, tuple(posterior.weights.tolist()))

    def prices(self, kernels: Sequence[Kernel]) -> Array:
        """Milliseconds, `(kernels,)`, above 0."""
        work = np.array([_work(kernel) for kernel in kernels]) @ np.array(self.coefficients)
        cross = SHARED**2 * squared_exponential(_shapes(kernels), _shapes(self.kernels))
        index = {kernel: number for number, kernel in enumerate(self.kernels)}
        for row, kernel in enumerate(kernels):
            if kernel in index:
                cross[row, index[kernel]] += OWN**2
        priced = np.maximum(work, FLOOR_MS) * np.exp(cross @ np.array(self.weights)) - FLOOR_MS
        return np.asarray(np.maximum(priced, 0.01 * FLOOR_MS), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class KernelPrices:
    """Prices by kind; a network takes the sum of its kernels'. Make one with `fit` or `from_dict`.

    Args:
        kinds: by kind.
        level: what every price is multiplied by.
    """

    kinds: Mapping[str, KindPrices]
    level: float = 1.0
    _kernels: dict[Kernel, float] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(cls, networks: Sequence[Sequence[tuple[Kernel, float]]]) -> Self:
        """From (kernel, ms) of the kernels of each network; those of one network add up to its own milliseconds."""
        times: dict[str, dict[Kernel, list[float]]] = {}
        for network in networks:
            for kernel, ms in network:
                times.setdefault(kernel.kind, {}).setdefault(kernel, []).append(ms)
        return cls({kind: KindPrices.fit(found) for kind, found in times.items()})

    def scaled(self, factor: float) -> Self:
        """The same prices times a factor."""
        return type(self)(self.kinds, self.level * factor)

    def parts_ms(self, parts: Sequence[Segment]) -> list[float]:
        """Milliseconds of stems, stages and heads; those of a network's add up to its own.

        Raises:
            InputError: a kernel of a kind that no fitted network had.
        """
        self._price({kernel for segment in parts for kernel, _ in segment_kernels(segment)})
        return [sum(self._kernels[k] * count for k, count in segment_kernels(segment)) for segment in parts]

    def network_ms(self, specs: Sequence[NetworkSpec]) -> Array:
        """Milliseconds of networks, `(n,)`; errors as `parts_ms`."""
        return np.array([sum(self.parts_ms(segments(spec))) for spec in specs])

    def _price(self, kernels: Iterable[Kernel]) -> None:
        """Prices those that have no price yet."""
        new: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            if kernel not in self._kernels:
                new.setdefault(kernel.kind, []).append(kernel)
        for kind, found in sorted(new.items()):
            if kind not in self.kinds:
                raise InputError(
                    f"this predictor was fitted on networks without a kernel of kind {kind!r}, so it cannot price one. "
                    "Measure it (--latency measure), or search by multiply-adds (--target-madds)."
                )
            for start in range(0, len(found), _CHUNK):
                part = found[start : start + _CHUNK]
                ms = self.level * self.kinds[kind].prices(part)
                self._kernels.update(zip(part, ms.tolist(), strict=True))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        kinds = {
            kind: {
                "coefficients": list(item.coefficients),
                "kernels": [[*kernel[1:]] for kernel in item.kernels],
                "weights": list(item.weights),
            }
            for kind, item in self.kinds.items()
        }
        return {"level": self.level, "kinds": kinds}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: a field is missing, mistyped or of the wrong length.
        """
        kinds = {}
        for kind, item in data["kinds"].items():
            kernels = tuple(Kernel(kind, *row) for row in item["kernels"])
            weights = tuple(map(float, item["weights"]))
            coefficients = tuple(map(float, item["coefficients"]))
            numbers = (*weights, *coefficients)
            if len(weights) != len(kernels) or not kernels or not all(map(math.isfinite, numbers)):
                raise ValueError(f"prices of {kind!r} need kernels with a finite weight each")
            if len(coefficients) != len(_work(kernels[0])) or min(coefficients) < 0:
                raise ValueError(
                    f"prices of {kind!r} need {len(_work(kernels[0]))} coefficients of at least 0"
                )
            kinds[kind] = KindPrices(coefficients, kernels, weights)
        level = float(data["level"])
        if not 0 < level < math.inf:
            raise ValueError(f"the level of prices must be positive, got {level}")
        return cls(kinds, level)


def _work(kernel: Kernel) -> tuple[float, ...]:
    """What a price is asked for: a call, multiply-adds with padded channels, values read and written, weights."""
    kind, inputs, outputs, height, width, size, stride, added, groups, clipped = kernel
    pixels, window = height * width, size * size
    read = pixels * stride * stride
    full_in, full_out = whole_blocks(inputs), whole_blocks(outputs)
    match kind:
        case "pointwise" | "dense":
            # An image's three channels have a kernel of their own, which does not pad them.
            depth = inputs if kind == "dense" and inputs < BLOCK // 2 else full_in
            return (
                1.0,
                depth * full_out * window * pixels,
                inputs * outputs * window * pixels,
                full_in * read + full_out * pixels,
                inputs * outputs * window,
                full_out * pixels * added,
                full_out * pixels * clipped,
            )
        case "grouped":
            # Groups that do not fill their blocks leave the blocked layout: a matrix product for each group, of
            # windows that are laid out one after another first.
            madds = inputs * outputs // groups * window * pixels
            plain = bool(inputs // groups % BLOCK or outputs // groups % BLOCK)
            return (
                1.0,
                madds * (not plain),
                madds * plain,
                float(groups * plain),
                inputs * window * pixels * plain,
                inputs * read + outputs * pixels,
                outputs * pixels * added,
                outputs * pixels * clipped,
            )
        case "depthwise":
            madds = full_in * pixels * window
            moved = full_in * (pixels + read)
            return (
                1.0,
                madds * (size <= 3),
                madds * (size > 3),
                moved,
                full_in * pixels * (stride > 1),
                full_in * pixels * clipped,
            )
        case "concat":
            # Within the blocked layout, or out of it and back.
            whole = inputs % BLOCK == 0 and outputs % BLOCK == 0
            return 1.0, outputs * pixels * whole, outputs * pixels * (not whole)
        case "gate" | "pool":
            values, whole = inputs * pixels, inputs % BLOCK == 0
            return 1.0, values * whole, values * (not whole), float(inputs * outputs * (kind == "gate"))
        case "match":
            return 1.0, inputs * pixels, outputs * pixels
        case "linear":
            return 1.0, inputs * outputs
        case _:
            return 1.0, full_in * pixels


def _shapes(kernels: Sequence[Kernel]) -> Array:
    """What makes kernels of one kind alike, in length scales: `(kernels, 12)`."""
    rows = [
        (
            math.log2(kernel.inputs),
            math.log2(kernel.outputs),
            math.log2(kernel.height * kernel.width),
            kernel.size / 2,
            kernel.stride,
            kernel.added,
            kernel.inputs // kernel.groups % BLOCK == 0,
            kernel.outputs // kernel.groups % BLOCK == 0,
            whole_blocks(kernel.inputs) / kernel.inputs,
            whole_blocks(kernel.outputs) / kernel.outputs,
            math.log2(kernel.groups),
            kernel.clipped,
        )
        for kernel in kernels
    ]
    return np.asarray(np.array(rows) / SCALES, dtype=np.float64)
