"""Latency predicted from integer encodings alone: for networks that are known by their choices, on any device."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from mnas.errors import InputError
from mnas.latency.encoding_fit import FOLDS, Fit, Scale, fit_points
from mnas.latency.encoding_kernel import ALWAYS, NUMERIC, EncodingKernel, Points
from mnas.latency.gaussian import Array, condition
from mnas.latency.noise_mixture import NoiseMixture, best_factor
from mnas.protocols import LatencyEstimate

FORMAT = "mnas.encoding_predictor/1"
SOURCE = "calibrated predictor"
# Fewest networks to fit (chosen here: two in each of the folds that the interval rests on).
FEWEST = 2 * FOLDS
# Most effects, options x positions, and most options (chosen here: the covariance of the effects is held whole).
MOST_EFFECTS, MOST_OPTIONS = 2000, 64
# Shares left out below and above the 90 % interval. Above it, less: devices have slow spells, not fast ones, and the
# next may be longer than those that the fit saw (chosen here).
_BELOW, _ABOVE = 0.05, 0.03
# When a prediction holds, in lengths of the series of measurements: soon after its end (chosen here).
_SOON = 1.1
# Rows predicted at once, which bounds the memory.
_ROWS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class EncodingPredictor:
    """A Gaussian process over encodings; its estimate is the one of least expected relative error.

    Effects of options at positions, of neighbours and of numeric columns add up, in milliseconds or on log latency;
    scale, covariances and noise are chosen by the networks that are fitted, through marginal likelihood and
    cross-validation. Make one with `fit` or `from_dict`.

    Args:
        options: codes that fitted networks had, rising; index 0 of the kernel is "inactive".
        inactive: whether a fitted network had an inactive position.
        means, deviations: of the logs of the numeric columns over the fitted networks.
        process: the fitted process.
        factor: what its mean is multiplied by for the estimate.
        low, high: bounds of the interval of log latency, in standard deviations of prediction and noise together.
        device: what the estimates hold for, in words.
    """

    options: tuple[int, ...]
    inactive: bool
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    process: Fit
    factor: float
    low: float
    high: float
    device: str

    @classmethod
    def fit(
        cls,
        encodings: ArrayLike,
        latencies_ms: ArrayLike,
        *,
        device: str,
        active: ArrayLike | None = None,
        numeric: ArrayLike | None = None,
        measured_at: ArrayLike | None = None,
        seed: int = 0,
    ) -> Self:
        """Fitted on measured networks.

        Args:
            encodings: `(n, positions)` integers, one option for each position; at least 10 networks. Options mean the
                same at every position. The code at an inactive position is ignored.
            latencies_ms: `(n,)`, positive.
            device: what the estimates hold for, in words.
            active: `(n, positions)` booleans; None: all are.
            numeric: `(n, q)`, positive, such as the resolution; None: no such column. Their logs are used.
            measured_at: `(n,)`, a number that rises with the time of measurement; None: the rows are in that order.
                Drift and spells of the device are told from the networks by it; where the order says nothing, so will
                the fit find.
            seed: of folds and subsets.

        Raises:
            InputError: too few networks, shapes that do not agree, latencies or numbers that are not positive and
                finite, more options or positions than a fit can hold.
        """
        latencies = np.asarray(latencies_ms, dtype=np.float64)
        codes, mask, columns = _checked(encodings, active, numeric)
        if latencies.shape != (len(codes),) or len(codes) < FEWEST:
            raise InputError(
                f"a fit needs at least {FEWEST} networks with a latency each; got {len(codes)} networks and "
                f"latencies of shape {latencies.shape}. Measure more networks."
            )
        if not (np.isfinite(latencies).all() and (latencies > 0).all()):
            raise InputError("latencies to fit must be positive and finite, in ms.")
        times = np.arange(len(codes)) if measured_at is None else np.asarray(measured_at, dtype=np.float64)
        if times.shape != latencies.shape or not np.isfinite(times).all():
            raise InputError(f"measured_at must be finite and of shape {latencies.shape}; got {times.shape}.")
        options = tuple(int(code) for code in np.unique(codes[mask]))
        if len(options) > MOST_OPTIONS or (len(options) + 1) * codes.shape[1] > MOST_EFFECTS:
            raise InputError(
                f"got {len(options)} options at {codes.shape[1]} positions; a fit holds at most {MOST_OPTIONS} "
                f"options and {MOST_EFFECTS} effects, (options + 1) x positions. Give what has many values as a "
                "numeric column."
            )
        logs = np.log(columns)
        means, deviations = logs.mean(axis=0), logs.std(axis=0)
        deviations[deviations < 1e-9] = 1.0
        when = np.argsort(np.argsort(times, kind="stable")) / (len(codes) - 1)
        points = Points(_indices(codes, mask, options), (logs - means) / deviations, when)
        process, residuals, variances = fit_points(points, np.log(latencies), len(options), seed)
        scores = np.sort(residuals / np.sqrt(variances + process.noise.variance()))
        return cls(
            options,
            not mask.all(),
            tuple(means.tolist()),
            tuple(deviations.tolist()),
            process,
            best_factor(residuals),
            float(scores[max(1, math.floor(_BELOW * (scores.size + 1))) - 1]),
            float(scores[-max(1, math.floor(_ABOVE * (scores.size + 1)))]),
            device,
        )

    def predict(
        self, encodings: ArrayLike, *, active: ArrayLike | None = None, numeric: ArrayLike | None = None
    ) -> list[LatencyEstimate]:
        """One estimate for each network, in order, with its 90 % interval; wider the less the fit knows of it.

        Args:
            encodings, active, numeric: as for `fit`.

        Raises:
            InputError: another number of positions or columns, or an option that no fitted network had.
        """
        ms, low, high = self.predict_ms(encodings, active=active, numeric=numeric)
        return [
            LatencyEstimate(*row, SOURCE, self.device)
            for row in zip(ms.tolist(), low.tolist(), high.tolist(), strict=True)
        ]

    def predict_ms(
        self, encodings: ArrayLike, *, active: ArrayLike | None = None, numeric: ArrayLike | None = None
    ) -> tuple[Array, Array, Array]:
        """Estimates and the lower and upper ends of their 90 % intervals in ms, `(n,)` each; as `predict`."""
        points = self._points(*_checked(encodings, active, numeric))
        rows = np.arange(len(points.codes))
        parts = [
            self.process.predict(points.take(part))
            for part in np.array_split(rows, max(1, math.ceil(rows.size / _ROWS)))
        ]
        log_ms, variance = (np.concatenate(values) for values in zip(*parts, strict=True))
        spread = np.sqrt(variance + self.process.noise.variance())
        ms = self.factor * np.exp(log_ms)
        low, high = np.exp(log_ms + self.low * spread), np.exp(log_ms + self.high * spread)
        return ms, np.minimum(low, ms), np.maximum(high, ms)

    def _points(self, codes: Array, mask: Array, columns: Array) -> Points:
        expected = self.process.points.codes.shape[1], len(self.means)
        if (codes.shape[1], columns.shape[1]) != expected:
            raise InputError(
                f"this predictor was fitted on {expected[0]} positions and {expected[1]} numeric columns; got "
                f"{codes.shape[1]} and {columns.shape[1]}."
            )
        unknown = sorted({int(code) for code in np.unique(codes[mask])} - set(self.options))
        if unknown or (not self.inactive and not mask.all()):
            what = f"option {', '.join(map(str, unknown))}" if unknown else "an inactive position"
            raise InputError(
                f"no fitted network had {what}, so this predictor cannot price it (options it knows: "
                f"{', '.join(map(str, self.options))}). Measure a few networks with it and fit again."
            )
        scaled = (np.log(columns) - self.means) / self.deviations
        return Points(_indices(codes, mask, self.options), scaled, np.full(len(codes), _SOON))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        process = self.process
        return {
            "format": FORMAT,
            "device": self.device,
            "options": list(self.options),
            "inactive": self.inactive,
            "means": list(self.means),
            "deviations": list(self.deviations),
            "factor": self.factor,
            "low": self.low,
            "high": self.high,
            "scale": process.scale.kind,
            "centre_ms": process.scale.centre_ms,
            "places": process.kernel.places.tolist(),
            "option_covariance": process.kernel.options.tolist(),
            "amplitudes": process.kernel.amplitudes.tolist(),
            "noise": [
                process.noise.shares.tolist(),
                process.noise.shifts.tolist(),
                process.noise.variances.tolist(),
            ],
            "codes": [" ".join(map(str, row)) for row in process.points.codes.tolist()],
            "numeric": process.points.numeric.tolist() if self.means else [],
            "when": process.points.when.tolist(),
            "log_ms": process.log_ms.tolist(),
            "targets": process.posterior.targets.tolist(),
            "variances": process.posterior.noise.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; solves for the weights again, seconds for thousands of networks.

        Raises:
            InputError: not this format, fields that are missing, unknown or mistyped, shapes that do not agree.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise InputError(f"expected a predictor of format {FORMAT!r}.")
        try:
            predictor = cls._read(data)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(f"encoding predictor: a field is missing or mistyped: {error}.") from error
        unknown = sorted(set(data) - set(predictor.to_dict()))
        if unknown:
            raise InputError(f"encoding predictor: unknown fields {', '.join(unknown)}.")
        return predictor

    @classmethod
    def _read(cls, data: Mapping[str, Any]) -> Self:
        options, means = tuple(int(code) for code in data["options"]), _vector(data["means"])
        codes = np.array([[int(code) for code in row.split()] for row in data["codes"]], dtype=np.int64)
        count, size, columns = len(codes), len(options) + 1, means.size
        places = codes.shape[1]
        numeric = _array(data["numeric"] or np.zeros((count, 0)), (count, columns))
        points = Points(codes, numeric, _array(data["when"], (count,)))
        names = ALWAYS + (NUMERIC if columns else ())
        kernel = EncodingKernel(
            _array(data["places"], (places, places)),
            _array(data["option_covariance"], (size, size)),
            _array(data["amplitudes"], (len(names),)),
        )
        noise = NoiseMixture(*_array(data["noise"], (3, len(data["noise"][0]))))
        if data["scale"] not in ("ms", "log") or not isinstance(data["inactive"], bool):
            raise ValueError("scale or inactive")
        if codes.min() < 0 or codes.max() >= size or (kernel.amplitudes < 0).any():
            raise ValueError("codes or amplitudes out of range")
        centre, factor, low, high = _array(
            [data[name] for name in ("centre_ms", "factor", "low", "high")], (4,)
        )
        targets, variances = _array(data["targets"], (count,)), _array(data["variances"], (count,))
        if min(centre, factor, noise.shares.min(), noise.variances.min(), variances.min()) <= 0 or low > high:
            raise ValueError("centre_ms, factor, noise and variances must be positive, low at most high")
        process = Fit(
            Scale(data["scale"], float(centre)),
            kernel,
            noise,
            points,
            condition(kernel.gram(points, points), targets, variances),
            _array(data["log_ms"], (count,)),
        )
        deviations = tuple(_array(data["deviations"], (columns,)).tolist())
        ends = float(factor), float(low), float(high)
        return cls(
            options, data["inactive"], tuple(means.tolist()), deviations, process, *ends, str(data["device"])
        )


def _checked(
    encodings: ArrayLike, active: ArrayLike | None, numeric: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """Codes `(n, positions)`, mask `(n, positions)`, numeric `(n, q)`, as they came in, or a clear error."""
    codes = np.asarray(encodings)
    if codes.ndim != 2 or not codes.size or not np.issubdtype(codes.dtype, np.integer):
        raise InputError(
            f"encodings must be integers of shape (networks, positions); got {codes.dtype} of shape {codes.shape}."
        )
    mask = np.ones(codes.shape, dtype=bool) if active is None else np.asarray(active)
    if mask.shape != codes.shape or mask.dtype != np.bool_:
        raise InputError(
            f"active must be booleans of the encodings' shape {codes.shape}; got {mask.dtype} {mask.shape}."
        )
    columns = np.zeros((len(codes), 0)) if numeric is None else np.asarray(numeric, dtype=np.float64)
    if columns.ndim != 2 or len(columns) != len(codes):
        raise InputError(f"numeric columns must have shape ({len(codes)}, q); got {columns.shape}.")
    if not (np.isfinite(columns).all() and (columns > 0).all()):
        raise InputError("numeric columns must be positive and finite.")
    return codes, mask, columns


def _indices(codes: Array, mask: Array, options: tuple[int, ...]) -> Any:
    """0 where inactive, else 1 + the number of the option."""
    return np.where(mask, np.searchsorted(np.array(options, dtype=np.int64), codes) + 1, 0)


def _vector(values: Any) -> Array:
    return _array(values, (len(values),))


def _array(values: Any, shape: tuple[int, ...]) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"expected finite numbers of shape {shape}, got shape {array.shape}")
    return array
