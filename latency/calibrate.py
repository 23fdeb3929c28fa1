"""A predictor for one space on this device, from about fifty measured networks, with its held-out error."""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from mnas.errors import InputError, MeasurementError
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device, this_device
from mnas.latency.measure import measure_each
from mnas.latency.predictor import StructuralPredictor
from mnas.latency.scores import PredictionError
from mnas.latency.session import Progress
from mnas.search_space import Architecture, NetworkSpec, SearchSpace, extremes, network_cost
from mnas.zoo import published

FORMAT = "mnas.calibration/1"
# Chosen here: fifty networks fit these sums as well as hundreds do, and take under a minute.
NETWORKS = 48
# Fewest members to measure and, of those, to be left when the noisy ones are gone (chosen here).
FEWEST, FEWEST_STEADY = 16, 10
# Seconds for one network with its session and warm-up (chosen here: 48 of them in 40 s).
BUDGET_S = 0.7
# Draws for each wanted member before a space counts as too small to give that many different ones.
_DRAWS = 50
_REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Point:
    """One measured member: its architecture's key, and its ratio to the reference with the 95 % interval."""

    key: str
    status: str
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is known of a space's latency on a device.

    Args:
        space: its name; `resolution` (pixels) and `num_classes` of its members.
        conditions: threads, batch, precision, provider.
        device: where.
        reference: the network that each member was paired with, and what its run took: `reference_ms`.
        reference_again: ratio of the reference to itself, measured like a member: 1 but for noise.
        fastest_ms: of the measured members, the smallest and largest by multiply-adds among them;
            `fastest_key` is the architecture's. Likewise slowest. The range of the space.
        predictor: fitted on all points that were not noisy.
        error: of the predictor, for members held out in cross-validation.
        points: every measured member.
        warnings: what a reader must know, in words.
        seed: of the members, their order and the folds.
        seconds: that it took.
    """

    space: str
    resolution: int
    num_classes: int
    conditions: Conditions
    device: Device
    reference: NetworkSpec
    reference_ms: float
    reference_again: float
    fastest_ms: float
    fastest_key: str
    slowest_ms: float
    slowest_key: str
    predictor: StructuralPredictor
    error: PredictionError
    points: tuple[Point, ...]
    warnings: tuple[str, ...]
    seed: int
    seconds: float

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
            values["predictor"] = StructuralPredictor.from_dict(values["predictor"])
            values["error"] = PredictionError.from_dict(values["error"])
            values["points"] = tuple(Point(**point) for point in values["points"])
            values["warnings"] = tuple(values["warnings"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise InputError(f"calibration: a field is missing, unknown or mistyped: {error}.") from error


def default_reference(space: SearchSpace) -> NetworkSpec:
    """EfficientNet-B0 at the resolution and class count of the space's members.

    It runs the kernels that mobile networks run: depthwise of 3 and 5, pointwise, squeeze-and-excitation. It
    holds no dense k x k convolution but its stem's, so it cancels drift less well for members that are mostly
    those (a mismatched reference left 2.7 to 5.6 % where a matching one left under 1 %).
    """
    member = space.decode([0] * len(space.choices))
    return replace(
        published("efficientnet_b0"),
        resolution=member.resolution,
        num_classes=member.num_classes,
        in_channels=member.in_channels,
    )


def calibrate(
    space: SearchSpace,
    conditions: Conditions,
    *,
    networks: int = NETWORKS,
    seed: int,
    on_progress: Progress | None = None,
    reference: NetworkSpec | None = None,
    reference_ms: float | None = None,
) -> Calibration:
    """Measures members of the space and fits a predictor to them.

    The members are the smallest and the largest by multiply-adds and random ones; each is paired with the
    reference in one process, warmed up lightly. The reference is measured like a member too, and fitted where
    it has the members' activation.

    Args:
        space: whose members share a resolution.
        conditions: threads, batch, precision, provider.
        networks: members to measure, at least 16.
        seed: of the members, their order and the folds.
        on_progress: told what is being done.
        reference: None is `default_reference`.
        reference_ms: what a ratio of 1 is in milliseconds, `reference_ms_of` for example; None is this run's own.

    Raises:
        InputError: too few networks, or a space with fewer different members.
        MeasurementError: a worker failed, another measurement holds the device, or it is too noisy.
    """
    start = time.perf_counter()
    if networks < FEWEST:
        raise InputError(f"a calibration needs at least {FEWEST} networks, got {networks}.")
    reference = reference or default_reference(space)
    members = {member.key: space.decode(member) for member in _members(space, networks, seed)}
    result = measure_each(
        {**members, _REFERENCE: reference},
        reference=reference,
        conditions=conditions,
        processes=1,
        reference_ms=reference_ms,
        budget_s=BUDGET_S,
        seed=seed,
        on_progress=on_progress,
    )
    steady = [item for item in result.measurements if item.status != "noisy" and item.name != _REFERENCE]
    if len(steady) < max(FEWEST_STEADY, networks // 2):
        raise MeasurementError(
            f"the device is too noisy to calibrate: only {len(steady)} of {networks} networks gave a steady "
            "ratio to the reference. End other work on it and try again."
        )
    specs = [members[item.name] for item in steady]
    latencies_ms = [item.latency_ms for item in steady]
    if reference.style.activation == specs[0].style.activation:
        specs.append(reference)
        latencies_ms.append(result.reference_ms)
    device = this_device()
    predictor, error = StructuralPredictor.fit(
        specs, latencies_ms, device=f"{device.describe()}; {conditions.describe()}", seed=seed
    )
    fastest = min(steady, key=lambda item: item.latency_ms)
    slowest = max(steady, key=lambda item: item.latency_ms)
    return Calibration(
        space=space.name,
        resolution=specs[0].resolution,
        num_classes=specs[0].num_classes,
        conditions=conditions,
        device=device,
        reference=reference,
        reference_ms=result.reference_ms,
        reference_again=result[_REFERENCE].ratio,
        fastest_ms=fastest.latency_ms,
        fastest_key=fastest.name,
        slowest_ms=slowest.latency_ms,
        slowest_key=slowest.name,
        predictor=predictor,
        error=error,
        points=tuple(
            Point(item.name, item.status, item.ratio, item.ratio_low, item.ratio_high)
            for item in result.measurements
            if item.name != _REFERENCE
        ),
        warnings=result.warnings,
        seed=seed,
        seconds=time.perf_counter() - start,
    )


def _members(space: SearchSpace, count: int, seed: int) -> list[Architecture]:
    """The smallest, the largest and different random members, `count` together, in random order."""
    rng = random.Random(seed)
    chosen = dict.fromkeys(extremes(space, lambda spec: float(network_cost(spec).madds)))
    for _ in range(_DRAWS * count):
        if len(chosen) >= count:
            break
        chosen[space.sample(rng)] = None
    if len(chosen) < count:
        raise InputError(
            f"space {space.name!r} gave only {len(chosen)} different members in {_DRAWS * count} draws, "
            f"{count} are wanted: ask for fewer networks."
        )
    members = list(chosen)
    rng.shuffle(members)
    return members
