"""A predictor for a device from some hundred measured networks, with its error for networks that it did not see."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date
from typing import Any, Literal, Self

from mnas.errors import InputError, MeasurementError
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device
from mnas.latency.host import LOCAL, Host
from mnas.latency.kernel_predictor import KernelPredictor, TooFewProfilesError
from mnas.latency.measure import measure_spread, reference_ms_of
from mnas.latency.measurement import Measurement
from mnas.latency.networks import CalibrationNetwork, calibration_networks
from mnas.latency.predictor import StructuralPredictor
from mnas.latency.predictors import Predictor, predictor_from_dict
from mnas.latency.references import reference_like
from mnas.latency.scores import PredictionError, score
from mnas.latency.session import Progress
from mnas.search_space import NetworkSpec, SearchSpace, network_cost
from mnas.zoo import published

FORMAT = "mnas.calibration/5"
# Seconds for one network in each of two processes, its session and warm-up included (chosen here).
BUDGET_S = 0.22
# Runs of each network with ONNX Runtime's profiler on, in one process (chosen here: a second process, tried with 96
# networks, changed no error by more than a new calibration does).
PROFILE_RUNS = 5
_REFERENCE = "efficientnet_b0"
# Processes that tell the device's speed before, and as many after (chosen here).
SPEED_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Point:
    """One measured network.

    Args:
        name: of the network; `group`: what it stands for.
        status: of the measurement; a noisy one was not fitted.
        resolution: in pixels; with `params` and `madds` what it is.
        measured_ms: with its 95 % interval, `low_ms` to `high_ms`.
        predicted_ms: by a fit that did not see this network; None where it was noisy.
    """

    name: str
    group: str
    status: Literal["ok", "unresolved", "noisy"]
    resolution: int
    params: int
    madds: int
    measured_ms: float
    low_ms: float
    high_ms: float
    predicted_ms: float | None


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a device's latency under its conditions, for networks of every space.

    Args:
        conditions: threads, batch, precision, provider.
        device: where.
        reference: the network that each was paired with.
        reference_ms: what it took beside itself (`reference_ms_of`) in those minutes: the device's speed. In the
            company of larger networks it takes some 5 % longer.
        spread_ms: what it took between these networks, for other networks measured as these were (`measure_spread`).
        predictor: fitted on all points that were not noisy.
        error: of the predictor, for networks held out in cross-validation.
        points: every measured network.
        warnings: what a reader must know, in words.
        made: the day, in ISO format.
        seed: of the networks, their order and the folds.
        seconds: that it took.
        like: the device and conditions whose calibration this one was told from; None where it stands for itself.
    """

    conditions: Conditions
    device: Device
    reference: NetworkSpec
    reference_ms: float
    spread_ms: float
    predictor: Predictor
    error: PredictionError
    points: tuple[Point, ...]
    warnings: tuple[str, ...]
    made: str
    seed: int
    seconds: float
    like: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the format's name and version first."""
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        for name in ("conditions", "device", "reference", "predictor", "error"):
            plain[name] = plain[name].to_dict()
        points = [{item.name: getattr(point, item.name) for item in fields(point)} for point in self.points]
        return {"format": FORMAT, **plain, "points": points, "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: not this format, or a field that is missing, unknown or mistyped.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise InputError(f"expected a calibration of format {FORMAT!r}.")
        values = {name: value for name, value in data.items() if name != "format"}
        try:
            values["conditions"] = Conditions.from_dict(values["conditions"])
            values["device"] = Device.from_dict(values["device"])
            values["reference"] = NetworkSpec.from_dict(values["reference"])
            values["predictor"] = predictor_from_dict(values["predictor"])
            values["error"] = PredictionError.from_dict(values["error"])
            values["points"] = tuple(Point(**point) for point in values["points"])
            values["warnings"] = tuple(values["warnings"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise InputError(f"calibration: a field is missing, unknown or mistyped: {error}.") from error


def default_reference(space: SearchSpace) -> NetworkSpec:
    """EfficientNet-B0 in the shape of the space's members; see `reference_for`."""
    return reference_for(space.decode(space.first))


def reference_for(spec: NetworkSpec) -> NetworkSpec:
    """EfficientNet-B0 at the resolution, class count and channels of a network.

    It runs the kernels that mobile networks run: depthwise of 3 and 5, pointwise, squeeze-and-excitation. It
    holds no dense k x k convolution but its stem's, so it cancels drift less well for members that are mostly
    those (a mismatched reference left 2.7 to 5.6 % where a matching one left under 1 %).
    """
    return reference_like(spec, _REFERENCE)


def calibrate(
    conditions: Conditions,
    *,
    seed: int = 0,
    networks: Sequence[CalibrationNetwork] | None = None,
    like: "Calibration | None" = None,
    host: Host = LOCAL,
    on_progress: Progress | None = None,
) -> Calibration:
    """Measures networks on a device and fits a predictor to them.

    Each is interleaved with EfficientNet-B0 and eleven others in two processes, in other company in each; see
    `measure_spread`.

    Args:
        conditions: threads, batch, precision, provider.
        seed: of the networks, their order and the folds.
        networks: to measure; None is `calibration_networks(seed)`, which stand for every space.
        like: of another device or other conditions. Its prices at this device's level take the place of structural
            sums, so that ten or twenty networks are enough (`few_networks`).
        host: where.
        on_progress: told what is being done.

    Raises:
        InputError: too few networks, or, with `like`, profiles that do not tell what kernels take.
        MeasurementError: a worker failed, another measurement holds the device, or it is too noisy.
    """
    start, reference = time.perf_counter(), published(_REFERENCE)
    networks = calibration_networks(seed) if networks is None else networks

    def speed_ms() -> float:
        return reference_ms_of(
            reference, conditions=conditions, processes=SPEED_PROCESSES, seed=seed, host=host
        )

    before_ms = speed_ms()
    result = measure_spread(
        {network.name: network.spec for network in networks},
        reference=reference,
        conditions=conditions,
        budget_s=BUDGET_S,
        seed=seed,
        profile_runs=PROFILE_RUNS,
        host=host,
        on_progress=on_progress,
    )
    steady = [network for network in networks if result[network.name].status != "noisy"]
    if 2 * len(steady) < len(networks):
        raise MeasurementError(
            f"the device is too noisy to calibrate: only {len(steady)} of {len(networks)} networks gave a steady "
            "ratio to the reference. End other work on it and try again; `mnas doctor` measures the noise."
        )
    measured = [result[network.name].latency_ms for network in steady]
    device, specs = host.device, [network.spec for network in steady]
    about = f"{device.describe()}; {conditions.describe(device)}"
    warnings = list(result.warnings)
    predictor: Predictor
    try:
        profiles = [result[network.name].operators for network in steady]
        known = None if like is None else like.predictor
        predictor, held_out = KernelPredictor.fit(
            specs, measured, profiles, device=about, seed=seed, like=known
        )
        unpriced = predictor.unpriced([network.spec for network in networks])
        if unpriced:
            warnings.append(
                f"no network with kernels of kind {' or '.join(unpriced)} was profiled steadily, so networks with them "
                "cannot be predicted: calibrate again when the machine is quieter."
            )
    except TooFewProfilesError as error:
        if like is not None:
            raise InputError(f"{error} Calibrate without --like.") from error
        warnings.append(f"{error} Latencies are predicted from structural sums alone, less surely.")
        predictor, held_out = StructuralPredictor.fit(specs, measured, device=about, seed=seed)
    predicted = {network.name: float(ms) for network, ms in zip(steady, held_out, strict=True)}
    return Calibration(
        conditions=conditions,
        device=device,
        reference=result.reference,
        reference_ms=(before_ms + speed_ms()) / 2,
        spread_ms=result.reference_ms,
        predictor=predictor,
        error=score(measured, held_out),
        points=tuple(_point(n, result[n.name], predicted.get(n.name)) for n in networks),
        warnings=tuple(warnings),
        made=date.today().isoformat(),
        seed=seed,
        seconds=time.perf_counter() - start,
        like=None if like is None else like.predictor.device,
    )


def _point(network: CalibrationNetwork, measured: Measurement, predicted_ms: float | None) -> Point:
    cost = network_cost(network.spec)
    return Point(
        name=network.name,
        group=network.group,
        status=measured.status,
        resolution=network.spec.resolution,
        params=cost.params,
        madds=cost.madds,
        measured_ms=measured.latency_ms,
        low_ms=measured.low_ms,
        high_ms=measured.high_ms,
        predicted_ms=predicted_ms,
    )
