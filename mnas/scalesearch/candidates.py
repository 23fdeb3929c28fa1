"""A network for each point of the grid, all of one cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from mnas.data import ImageData
from mnas.errors import InputError, SearchError
from mnas.scalesearch.fit import TERMS
from mnas.scalesearch.grid import shares_of
from mnas.scalesearch.together import NOISY, Gauge, grow_together
from mnas.search.grow import measured_memory
from mnas.search.reporting import Reporter
from mnas.search_space import Coefficients, NetworkSpec, network_cost
from mnas.search_space.rules import Rule, compound
from mnas.search_space.spec import LEAST_RESOLUTION

# A point that misses the budget by so much is not compared with the others (chosen here).
SHORT = 0.1
# Half of the phi that a factor of 1.92 takes in multiply-adds, before anything is rounded (chosen here).
LITTLE = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """The base grown by coefficients to the budget.

    Args:
        number: of the point.
        coefficients: of the point.
        spec: the network.
        phi: that fills the budget, near 1.
        latency: fields of its measurement; empty where the budget is in multiply-adds.
    """

    number: int
    coefficients: Coefficients
    spec: NetworkSpec
    phi: float
    latency: Mapping[str, Any]

    @property
    def cost(self) -> float:
        """In the unit of the budget."""
        return float(self.latency["latency_ms"] if self.latency else network_cost(self.spec).madds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        c = self.coefficients
        return {
            "point": self.number,
            "coefficients": {"alpha": c.alpha, "beta": c.beta, "gamma": c.gamma},
            "spec": self.spec.to_dict(),
            "phi": self.phi,
            "latency": dict(self.latency),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Candidate":
        """The inverse of `to_dict`; raises KeyError, TypeError or InputError for what is none."""
        spec, coefficients = NetworkSpec.from_dict(data["spec"]), Coefficients(**data["coefficients"])
        return cls(int(data["point"]), coefficients, spec, float(data["phi"]), dict(data["latency"]))


def fitted_base(spec: NetworkSpec, data: ImageData, points: Sequence[Coefficients]) -> NetworkSpec:
    """The base with the data's classes, at a resolution that leaves every point within the images' own size.

    Larger inputs would show nothing more of the images: resolution would look worthless.

    Raises:
        InputError: images too small for that.
    """
    most = max(point.gamma for point in points)
    fits = int(data.native_size / most) // 2 * 2  # resolutions are trimmed in steps of two
    if fits < LEAST_RESOLUTION:
        raise InputError(
            f"images of {data.native_size} pixels are too small: a base at {LEAST_RESOLUTION} pixels would be grown to "
            f"{LEAST_RESOLUTION * most:.0f}, where they show nothing more. Use images of at least "
            f"{-(-LEAST_RESOLUTION * most // 1):.0f} pixels."
        )
    return replace(spec, num_classes=len(data.classes), resolution=min(spec.resolution // 2 * 2, fits))


def grow_candidates(
    base: NetworkSpec,
    points: Mapping[int, Coefficients],
    native: int,
    budget: float,
    gauge: Gauge,
    *,
    taken: Collection[NetworkSpec],
    reporter: Reporter,
) -> list[Candidate]:
    """A candidate for each point that costs about as much as the budget; all are measured together at the end.

    A point whose network does not fit into memory, or cannot be measured, is left out, which is said.

    Args:
        base: fitted to the data; the gauge knows its cost.
        points: of the grid, by number.
        native: size of the images in pixels, which no candidate's exceeds.
        budget: to be filled, in the gauge's unit.
        gauge: how costs are known.
        taken: networks of other points.
        reporter: told of points that are left out.

    Raises:
        SearchError: there is no network for the published point.
        MeasurementError: a measurement failed.
    """
    rules = {number: rule_of(point, base, native) for number, point in points.items()}
    steps, missed = grow_together(base, rules, budget, gauge, taken=taken, memory=measured_memory())
    final = gauge.measure([step.spec for step in steps.values()], True) if steps else {}
    missed |= {number: NOISY for number, step in steps.items() if step.spec not in final}
    for number, why in sorted(missed.items()):
        if number == 0:  # what all others are compared with
            raise SearchError(f"there is no network for the published coefficients: {why}")
        reporter.warn(f"{_share_text(points[number])} is left out: {why}")
    return [
        Candidate(number, points[number], step.spec, step.phi, final[step.spec])
        for number, step in steps.items()
        if step.spec in final
    ]


def rule_of(point: Coefficients, base: NetworkSpec, native: int) -> Rule:
    """The compound rule of these coefficients, within the images' size, that shrinks no dimension of the base."""
    return replace(compound(point), most_resolution=native, least_resolution=base.resolution)


def fitted(candidates: Sequence[Candidate], budget: float, wanted: int) -> tuple[list[bool], list[str]]:
    """Whether each candidate counts in the surface, and what has to be said of the others.

    One that costs over 10 % more or less than the budget would look better or worse for it.

    Args:
        candidates: of all points that have a network.
        budget: multiply-adds or ms.
        wanted: points of the grid.

    Raises:
        InputError: too few are left.
    """
    counts, said = [], []
    for candidate in candidates:
        share = candidate.cost / budget
        counts.append(abs(share - 1) <= SHORT)
        if not counts[-1]:
            said.append(f"{_share_text(candidate.coefficients)} reaches {share:.0%} of the budget")
    if lost := wanted - len(candidates):
        said.append(f"{lost} have no network")
    if sum(counts) <= TERMS:
        raise InputError(
            f"only {sum(counts)} points are of use, and a surface needs {TERMS + 1}: the network or its images are so "
            f"small that it grows in steps too large for the budget, or not that far, or the device is too noisy. Left "
            f"out: {'; '.join(said)}. Take a larger network, larger images, a smaller --resolution, another budget, or "
            "more --points."
        )
    told = [f"left out of the surface: {'; '.join(said)}"] if said else []
    grown = median(candidate.phi for candidate, counted in zip(candidates, counts, strict=True) if counted)
    if grown < LITTLE:
        told.append(
            f"half of the points grew by a phi of at most {grown:.2f}: rounding depths up takes most of the budget, "
            "and little is left in which coefficients could differ. A larger budget tells more."
        )
    return counts, told


def _share_text(point: Coefficients) -> str:
    depth, width, resolution = (f"{share:.0%}" for share in shares_of(point))
    return f"{depth} depth, {width} width, {resolution} resolution"
