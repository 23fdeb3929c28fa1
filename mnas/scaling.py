"""Growing a network by compound scaling until it fills a budget: phi is solved, then the resolution is trimmed.

Cost is a staircase in phi (repeats and channels are whole numbers) and in the resolution (at 32k + 2 pixels every
stage needs one more row and column than at 32k). An estimate that knows these steps, brought to what is measured,
finds the steps that come near the target; measurements decide among them.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Generic, TypeVar

from mnas.errors import InputError, SearchError
from mnas.search_space import NetworkSpec, network_cost
from mnas.search_space.rules import FAR, RULES, Rule
from mnas.search_space.spec import LEAST_RESOLUTION

Evidence = TypeVar("Evidence")

COMPOUND = RULES["compound"]
# The result lies within this share below the target.
SHORTFALL = 0.05
# Shares of the target that the networks judged together aim for: a measured interval of about 2 % has to fit between
# the first and the target, and all lie within the shortfall. Where costs are exact, the target itself is aimed for.
AIMS, EXACT = (0.980, 0.965), (1.0,)
# Of the shares, once the intervals are known (chosen here).
MARGIN, STEP = 0.995, 0.015
# A network estimated this near below an aim is taken if it is less trimmed than others (chosen here).
CLOSE = 0.012
# Quick costs that bring the estimate to what is measured end when one is this near its aim, or are so many.
NEAR, MOST_PROBES = 0.04, 2
# Rounds of judging with care: each takes some fifteen seconds where latency is measured (chosen here).
MOST_ROUNDS = 3
RESOLUTION_STEP = 2
# Phi is solved to this step, and so much more and less of it is tried, at a lower or higher resolution: each depth and
# width has steps of its own in the resolution. It exceeds the rule's by one phi's worth at most (chosen here).
PHI_STEP, PHI_MORE, PHI_LESS = 0.02, 0.8, 0.6
# Bytes that measuring a network takes, chosen here as a bound, not a forecast: a float32 weight lives in the graph,
# its bytes, the file's bytes and ONNX Runtime's packed copy; activations, as if all were alive at once.
BYTES_PER_WEIGHT, BYTES_PER_ACTIVATION = 24, 4


@dataclass(frozen=True, slots=True)
class Verdict(Generic[Evidence]):
    """The cost of a network, judged with care.

    Args:
        cost: in the unit of the target.
        upper: the greatest that it may be; this has to be within the target.
        evidence: where the figures come from.
    """

    cost: float
    upper: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Scaled(Generic[Evidence]):
    """A network that fills a budget.

    Args:
        spec: the network.
        phi: compound coefficient; `depth` and `width` are the rule's. The resolution is what was left of its own
            after trimming.
        verdict: its cost.
    """

    spec: NetworkSpec
    phi: float
    depth: float
    width: float
    verdict: Verdict[Evidence]


def memory_bytes(spec: NetworkSpec) -> int:
    """A bound on the memory that measuring the network takes, in bytes."""
    cost = network_cost(spec)
    return BYTES_PER_WEIGHT * cost.params + BYTES_PER_ACTIVATION * cost.activations


# Networks -> their costs, in order; with care (True) or quickly, as one that only guides the search.
Judge = Callable[[Sequence[NetworkSpec], bool], Sequence[Verdict[Evidence]]]


def fill_budget(
    base: NetworkSpec,
    target: float,
    *,
    base_cost: float,
    estimate: Callable[[NetworkSpec], float],
    judge: Judge[Evidence],
    rule: Rule = COMPOUND,
    memory: int | None = None,
    exact: bool = False,
) -> Scaled[Evidence]:
    """The base grown by a rule so that its cost ends within 5 % below the target, never above it.

    Args:
        base: costs less than the target.
        target: in the unit of the costs.
        base_cost: of the base, as judged.
        estimate: cost of a network, cheaply; a constant factor does not matter, since it is brought to what is
            judged.
        judge: costs of networks with their upper bounds.
        rule: how it grows.
        memory: bytes that a network may take; None is no limit.
        exact: whether judged costs are certain and equal to the estimates.

    Returns:
        The network that fills the target best; within 5 % below it unless no step of the staircases judged was.

    Raises:
        InputError: the base costs more than the target, or the rule does not grow this network.
        SearchError: no network within memory reaches the target, or none is within it as judged.
    """
    if base_cost > target:
        raise InputError(
            f"the base network costs {base_cost:,.4g}, more than the target of {target:,.4g} to grow to."
        )
    rule.check(base)
    stairs = Staircases(base, rule, lru_cache(maxsize=None)(estimate), memory)
    factor = base_cost / stairs.estimate(base)
    aims: tuple[float, ...] = EXACT if exact else AIMS
    if not exact:
        factor = _probe(stairs, factor, aims[0] * target, judge)
    best: Scaled[Evidence] | None = None
    for _ in range(MOST_ROUNDS):
        steps = {step.spec: step for step in (stairs.below(aim * target / factor) for aim in aims)}
        verdicts = judge(list(steps), True)
        for step, verdict in zip(steps.values(), verdicts, strict=True):
            if verdict.upper <= target and (best is None or verdict.cost > best.verdict.cost):
                depth, width = rule.factors(base.resolution, step.phi)
                best = Scaled(step.spec, step.phi, depth, width, verdict)
        if best is not None and best.verdict.cost >= (1 - SHORTFALL) * target:
            return best
        factor = median(v.cost / stairs.estimate(spec) for spec, v in zip(steps, verdicts, strict=True))
        share = min(aims[0], MARGIN / median(verdict.upper / verdict.cost for verdict in verdicts))
        aims = tuple(share - number * STEP for number in range(len(AIMS)))
    if best is None:
        raise SearchError(
            f"no scaled network was within the target of {target:.4g} as judged: the figures are too uncertain. "
            f"Measure again on a quieter machine."
        )
    return best


def _probe(stairs: "Staircases", factor: float, aim: float, judge: Judge[Evidence]) -> float:
    """What an estimate is multiplied by to be a cost, at networks that cost about `aim`."""
    for _ in range(MOST_PROBES):
        step = stairs.below(aim / factor)
        (verdict,) = judge([step.spec], False)
        factor = verdict.cost / stairs.estimate(step.spec)
        if abs(verdict.cost / aim - 1) <= NEAR:
            break
    return factor


@dataclass(frozen=True, slots=True)
class Step:
    """A grown network, trimmed, the phi that it was grown by, and its estimated cost."""

    spec: NetworkSpec
    phi: float
    estimate: float

    def apart(self, aim: float) -> float:
        """How far the estimate is from `aim`, as a logarithm, on either side."""
        return abs(math.log(self.estimate / aim))


@dataclass(frozen=True, slots=True)
class Staircases:
    """The networks that a rule and trimming can make of a base, by estimated cost.

    Args:
        base: what is grown.
        rule: how.
        estimate: cost of a network, cheaply.
        memory: bytes that a network may take; None is no limit.
    """

    base: NetworkSpec
    rule: Rule
    estimate: Callable[[NetworkSpec], float]
    memory: int | None

    def near(self, aim: float, without: Collection[NetworkSpec] = ()) -> Step | None:
        """The rule's network estimated close to `aim`, on either side; else the closest.

        Its resolution is the rule's within two pixels: what is compared by how it grew has to have grown so.

        Args:
            aim: in the unit of the estimate.
            without: networks that are not wanted.

        Returns:
            None where the rule makes no other network about there within its greatest resolution.

        Raises:
            SearchError: no network within memory is estimated at `aim`.
        """
        best: Step | None = None
        most = self.rule.most_phi(self.base.resolution)
        for phi, grown in self._grown(min(self._solve(aim), most)):
            if phi > most:
                continue
            for resolution in self._beside(grown):
                step = self._step(grown, resolution, phi)
                if step.spec not in without and (best is None or step.apart(aim) < best.apart(aim)):
                    best = step
                if best is not None and best.apart(aim) <= CLOSE:
                    return best
        return best

    def below(self, aim: float) -> Step:
        """The network estimated close below `aim` that is nearest to the rule's; where none is close, the costliest."""
        best: Step | None = None
        for phi, grown in self._grown(self._solve(aim)):
            step = self._trimmed(grown, phi, aim)
            if best is None or best.estimate < step.estimate <= aim or best.estimate > aim:
                best = step
            if (1 - CLOSE) * aim <= step.estimate <= aim:
                return step
        assert best is not None
        return best

    def _grown(self, phi: float) -> Iterator[tuple[float, NetworkSpec]]:
        """The network of phi, then those of ever more and less; each depth and width once."""
        seen = set()
        for number in range(round(PHI_MORE / PHI_STEP) + 1):
            for other in (phi + number * PHI_STEP, phi - number * PHI_STEP):
                if other < max(0.0, phi - PHI_LESS):
                    continue
                grown = self.rule.grow(self.base, other)
                shape = replace(grown, resolution=LEAST_RESOLUTION)
                if shape not in seen and self._fits(grown):
                    seen.add(shape)
                    yield other, grown

    def _solve(self, aim: float) -> float:
        """The least phi found, in steps of `PHI_STEP`, whose network is estimated at `aim` or that grows no further."""

        def grown(steps: int) -> NetworkSpec:
            return self.rule.grow(self.base, steps * PHI_STEP)

        def reaches(steps: int) -> bool:
            spec = grown(steps)
            return not self._fits(spec) or self.estimate(spec) >= aim

        growth = max(aim / self.estimate(self.base), 1.0)
        low, high = 0, max(1, round(math.log(growth, self.rule.growth) / PHI_STEP))
        while not reaches(high):
            if grown(high) == grown(high + round(FAR / PHI_STEP)):
                return high * PHI_STEP  # a limit of the rule: it grows no further
            low, high = high, high + max(5, high // 4)
        while high - low > 1:
            middle = (low + high) // 2
            if reaches(middle):
                high = middle
            else:
                low = middle
        spec = grown(high)
        if not self._fits(spec):
            raise SearchError(
                f"the target cannot be reached: at phi {high * PHI_STEP:.2f} ({spec.resolution} pixels, "
                f"{network_cost(spec).params / 1e6:.0f}M parameters) a network no longer fits in this machine's "
                f"memory. Lower the target."
            )
        return high * PHI_STEP

    def _fits(self, spec: NetworkSpec) -> bool:
        return self.memory is None or memory_bytes(spec) <= self.memory

    def _trimmed(self, grown: NetworkSpec, phi: float, aim: float) -> Step:
        """At the greatest even resolution whose estimate is at most `aim`, within one phi of the rule's."""
        least, most = self._resolutions(grown)
        fits, too_large = least // RESOLUTION_STEP, most // RESOLUTION_STEP + 1
        while too_large - fits > 1:
            middle = (fits + too_large) // 2
            if self.estimate(replace(grown, resolution=middle * RESOLUTION_STEP)) <= aim:
                fits = middle
            else:
                too_large = middle
        return self._step(grown, fits * RESOLUTION_STEP, phi)

    def _beside(self, grown: NetworkSpec) -> list[int]:
        """The even resolution nearest to the rule's, then the next ones, where the rule allows them."""
        least, most = self._resolutions(grown)
        own = min(max(least, round(grown.resolution / RESOLUTION_STEP) * RESOLUTION_STEP), most)
        beside = (own - RESOLUTION_STEP, own + RESOLUTION_STEP) if self.rule.coefficients.gamma > 1 else ()
        return [own, *(resolution for resolution in beside if least <= resolution <= most)]

    def _step(self, grown: NetworkSpec, resolution: int, phi: float) -> Step:
        """What training follows is that of the network as it is trimmed."""
        spec = replace(grown, resolution=resolution)
        training = self.rule.training_of(self.base, spec)
        spec = replace(spec, dropout=training.dropout, drop_path=training.drop_path)
        return Step(spec, phi, self.estimate(spec))

    def _resolutions(self, grown: NetworkSpec) -> tuple[int, int]:
        """The least and the greatest even resolution that trimming may come to, in pixels.

        A rule that grows no resolution keeps the base's: what is to be grown by depth alone shrinks in nothing.
        """
        most = int(grown.resolution * self.rule.coefficients.gamma)
        if self.rule.most_resolution is not None:
            most = min(most, max(self.base.resolution, self.rule.most_resolution))
        least = self.rule.least_resolution
        if self.rule.coefficients.gamma == 1:
            least = max(least, self.base.resolution)
        least = -(-least // RESOLUTION_STEP) * RESOLUTION_STEP
        return least, max(least, most // RESOLUTION_STEP * RESOLUTION_STEP)
