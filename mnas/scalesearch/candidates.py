"""A network for each point of the grid, all of one cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.data import ImageData
from mnas.errors import InputError, MnasError, SearchError
from mnas.scalesearch.fit import TERMS
from mnas.scalesearch.grid import GROWTH, shares_of
from mnas.search.grow import fill_latency, fill_madds
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler
from mnas.search_space import Coefficients, NetworkSpec, network_cost
from mnas.search_space.rules import compound
from mnas.search_space.spec import LEAST_RESOLUTION

# A point that misses so much of the budget is not compared with the others (chosen here).
SHORT = 0.1


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


def candidates_of(
    base: NetworkSpec,
    points: Sequence[Coefficients],
    native: int,
    *,
    budget: float | None,
    base_ms: float | None,
    ruler: Ruler | None,
    seed: int,
    reporter: Reporter,
    known: Mapping[int, Candidate],
) -> Iterator[Candidate]:
    """A candidate for each point, those that are known as they are; none where the device is too noisy to tell.

    Args:
        base: fitted to the data.
        points: of the grid.
        native: size of the images in pixels, which no candidate's exceeds.
        budget: milliseconds; None is 1.92 times the base's multiply-adds.
        base_ms: what the base takes, where the budget is in ms.
        ruler: how latency is known, likewise.
        seed: of measurements.
        reporter: told of progress.
        known: candidates of an earlier part, by number.

    Raises:
        InputError: the budget is less than the base's cost.
        SearchError: coefficients that cannot fill it; a measurement of the published ones failed.
    """
    target = GROWTH * network_cost(base).madds
    for number, point in enumerate(points):
        if number in known:
            yield known[number]
            continue
        rule = replace(compound(point), most_resolution=native, least_resolution=base.resolution)
        reporter.progress(number, len(points), f"growing to the budget by {_share_text(point)}")
        try:
            if budget is None:
                scaled = fill_madds(base, target, rule)
            else:
                assert ruler is not None
                assert base_ms is not None
                scaled = fill_latency(base, budget, base_ms, ruler, seed, reporter, rule)
        except MnasError as error:
            published = number == 0  # what all others are compared with
            if budget is not None and isinstance(error, SearchError) and not published:
                reporter.warn(f"{_share_text(point)} is left out: {error} --resume tries it again.")
                continue
            error.add_note(f"This was the point that grows by {_share_text(point)}.")
            raise
        latency = {} if budget is None else dict(scaled.verdict.evidence)
        yield Candidate(number, point, scaled.spec, scaled.phi, latency)


def fitted(
    candidates: Sequence[Candidate], budget: float | None, base: NetworkSpec, wanted: int
) -> tuple[list[bool], list[str]]:
    """Whether each candidate counts in the surface, and what has to be said of the others.

    One that costs more than 10 % less than the budget would look worse for it; one that is the network of an earlier
    point would count twice, with the same accuracies.

    Args:
        candidates: of all points that could be grown.
        budget: milliseconds; None is 1.92 times the base's multiply-adds.
        base: what was grown.
        wanted: points of the grid.

    Raises:
        InputError: too few are left.
    """
    target = GROWTH * network_cost(base).madds if budget is None else budget
    counts, said = [], []
    seen: set[NetworkSpec] = set()
    for candidate in candidates:
        cost = network_cost(candidate.spec).madds if budget is None else candidate.latency["latency_ms"]
        shape = replace(candidate.spec, dropout=0.0)
        if cost < (1 - SHORT) * target:
            said.append(f"{_share_text(candidate.coefficients)} reaches {cost / target:.0%} of the budget")
        elif shape in seen:
            said.append(
                f"{_share_text(candidate.coefficients)} comes to the same network as an earlier point"
            )
        counts.append(cost >= (1 - SHORT) * target and shape not in seen)
        seen.add(shape)
    if lost := wanted - len(candidates):
        said.append(f"{lost} could not be measured")
    if sum(counts) <= TERMS:
        raise InputError(
            f"only {sum(counts)} points are of use, and a surface needs {TERMS + 1}: the network or its images are so "
            f"small that it grows in steps too large for the budget, or the device is too noisy. Left out: "
            f"{'; '.join(said)}. Take a larger network, larger images, or more --points."
        )
    if not said:
        return counts, []
    return counts, [f"left out of the surface: {'; '.join(said)}"]


def _share_text(point: Coefficients) -> str:
    depth, width, resolution = (f"{share:.0%}" for share in shares_of(point))
    return f"{depth} depth, {width} width, {resolution} resolution"
