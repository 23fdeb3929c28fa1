"""Growing a network by compound scaling until it fills a budget: phi by bisection, then the resolution trimmed."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeVar

from mnas.errors import InputError, SearchError
from mnas.search_space import Coefficients, NetworkSpec, compound_scale, network_cost

Evidence = TypeVar("Evidence")

PUBLISHED = Coefficients()
# The result lies within this share below the target.
SHORTFALL = 0.05
# Where in that band a trimmed resolution aims for: a measured interval of about 2 % has to fit below the target.
AIM = 0.98
# Bisection ends when phi is known this well or the cost is this near above the target (chosen here).
PHI_TOLERANCE, NEAR = 0.02, 0.03
# Steps of bisection, and careful judgements of one depth and width, at most (chosen here).
MOST_STEPS, MOST_TRIMS = 12, 3
# Staircases that are judged, at most: each judgement of a measured latency takes some ten seconds (chosen here).
MOST_TRIES = 4
RESOLUTION_STEP = 2
# Where no step of the resolution lands in the band, more depth and width are tried, trimmed further: another
# staircase (chosen here).
PHI_MORE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
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
        phi: compound coefficient; `depth` and `width` are alpha^phi and beta^phi. The resolution is what was left
            of gamma^phi after trimming.
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


def fill_budget(
    base: NetworkSpec,
    target: float,
    *,
    quick: Callable[[NetworkSpec], float],
    careful: Callable[[NetworkSpec], Verdict[Evidence]],
    coefficients: Coefficients = PUBLISHED,
    memory: int | None = None,
    aim: float = AIM,
) -> Scaled[Evidence]:
    """The base grown by the compound rule so that its cost ends within 5 % below the target, never above it.

    First phi is solved by bisection on `quick`, to the least network at or above the target; cost is a staircase in
    phi, since repeats and channels are whole numbers. Then only the resolution is trimmed, judged by `careful`.

    Args:
        base: costs less than the target.
        target: in the unit of the costs.
        quick: cost of a network, for bisection; a few per cent of error are fine.
        careful: cost of a network with its upper bound, for the result.
        coefficients: alpha, beta, gamma.
        memory: bytes that a network may take; None is no limit.
        aim: share of the target that bisection on `quick` aims for; 1 where costs are exact.

    Returns:
        The network that fills the target best; within 5 % below it unless the staircase has no such step.

    Raises:
        InputError: the base costs more than the target.
        SearchError: no network within memory reaches the target, or none is within it as judged.
    """
    start = quick(base)
    if start > target:
        raise InputError(
            f"the base network costs {start:.4g}, more than the target of {target:.4g} to grow to."
        )
    phi = _solve_phi(base, start, target, quick, coefficients, memory)
    best: Scaled[Evidence] | None = None
    staircases = _staircases(base, phi, target, aim, quick, coefficients, memory)
    for found_phi, grown, resolution in islice(staircases, MOST_TRIES):
        judged = _judge(grown, resolution, target, careful)
        if judged is not None and (best is None or judged[1].cost > best.verdict.cost):
            depth, width = coefficients.alpha**found_phi, coefficients.beta**found_phi
            best = Scaled(judged[0], found_phi, depth, width, judged[1])
        if best is not None and best.verdict.cost >= (1 - SHORTFALL) * target:
            return best
    if best is None:
        raise SearchError(
            f"no resolution of the scaled network was within the target of {target:.4g} as judged: the figures are "
            f"too uncertain. Measure again on a quieter machine."
        )
    return best


def _solve_phi(
    base: NetworkSpec,
    start: float,
    target: float,
    quick: Callable[[NetworkSpec], float],
    coefficients: Coefficients,
    memory: int | None,
) -> float:
    """The least phi found whose network costs at least the target."""
    # Factor in multiply-adds for each phi: EfficientNet (arXiv 1905.11946), eq. 3.
    growth = coefficients.alpha * coefficients.beta**2 * coefficients.gamma**2
    if growth <= 1:
        raise InputError("alpha, beta and gamma are all 1: such scaling never grows a network.")

    def cost_at(phi: float) -> float:
        spec = compound_scale(base, phi, coefficients)
        if memory is not None and memory_bytes(spec) > memory:
            raise SearchError(
                f"the target of {target:.4g} cannot be reached: at phi {phi:.2f} ({spec.resolution} pixels, "
                f"{network_cost(spec).params / 1e6:.0f}M parameters) a network no longer fits in this machine's "
                f"memory. Lower the target."
            )
        return quick(spec)

    low, high = 0.0, max(0.1, math.log(target / start, growth))
    cost = cost_at(high)
    while cost < target:
        low, high = high, high + max(0.25, 1.2 * math.log(target / cost, growth))
        cost = cost_at(high)
    for _ in range(MOST_STEPS):
        if high - low <= PHI_TOLERANCE or cost <= (1 + NEAR) * target:
            break
        middle = (low + high) / 2
        middle_cost = cost_at(middle)
        if middle_cost < target:
            low = middle
        else:
            high, cost = middle, middle_cost
    return high


def _staircases(
    base: NetworkSpec,
    phi: float,
    target: float,
    aim: float,
    quick: Callable[[NetworkSpec], float],
    coefficients: Coefficients,
    memory: int | None,
) -> Iterator[tuple[float, NetworkSpec, int]]:
    """Phi, the grown network and the resolution at which it nears the target: first those that come within 5 %.

    Cost is a staircase in the resolution: at 32k + 2 pixels every stage needs one more row and column than at 32k.
    A little more depth and width make another staircase, whose steps lie elsewhere. The best that falls short comes
    last.
    """
    short: list[tuple[float, float, NetworkSpec, int]] = []
    for more in PHI_MORE:
        grown = compound_scale(base, phi + more, coefficients)
        if more and memory is not None and memory_bytes(grown) > memory:
            break
        cost, resolution = _step_below(grown, aim * target, quick)
        if cost >= (1 - SHORTFALL) * target:
            yield phi + more, grown, resolution
        else:
            short.append((cost, phi + more, grown, resolution))
    if short:
        yield max(short, key=lambda step: step[0])[1:]


def _step_below(spec: NetworkSpec, aim: float, quick: Callable[[NetworkSpec], float]) -> tuple[float, int]:
    """The greatest even resolution at which the cost is at most `aim`, by bisection; the cost, then the resolution."""
    fits, too_large = RESOLUTION_STEP, _even(spec.resolution) + RESOLUTION_STEP
    cost = 0.0
    guess = _even(spec.resolution * math.sqrt(aim / quick(spec)))
    while too_large - fits > RESOLUTION_STEP:
        guess = min(max(guess, fits + RESOLUTION_STEP), too_large - RESOLUTION_STEP)
        found = quick(replace(spec, resolution=guess))
        if found <= aim:
            fits, cost = guess, found
            if cost >= (1 - NEAR / 2) * aim:
                break
        else:
            too_large = guess
        guess = _even(guess * math.sqrt(aim / found))
        if not fits < guess < too_large:
            guess = _even((fits + too_large) / 2)
    return cost, fits


def _judge(
    spec: NetworkSpec, resolution: int, target: float, careful: Callable[[NetworkSpec], Verdict[Evidence]]
) -> tuple[NetworkSpec, Verdict[Evidence]] | None:
    """The spec at the resolution, or at the first below it that is within the target as judged with care; or None."""
    for _ in range(MOST_TRIMS):
        trimmed = replace(spec, resolution=resolution)
        verdict = careful(trimmed)
        if verdict.upper <= target:
            return trimmed, verdict
        shrunk = _even(resolution * math.sqrt(target / verdict.upper))
        resolution = max(RESOLUTION_STEP, min(shrunk, resolution - RESOLUTION_STEP))
    return None


def _even(resolution: float) -> int:
    return max(RESOLUTION_STEP, math.floor(resolution / RESOLUTION_STEP) * RESOLUTION_STEP)
