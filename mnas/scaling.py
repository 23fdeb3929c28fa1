"""Growing a network by compound scaling until it fills a budget: phi by bisection, then the resolution trimmed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from mnas.errors import InputError, SearchError
from mnas.search_space import Coefficients, NetworkSpec, compound_scale, network_cost

Evidence = TypeVar("Evidence")

PUBLISHED = Coefficients()
# The result lies within this share below the target.
SHORTFALL = 0.05
# Where in that band a trimmed resolution aims for: a measured interval of about 2 % has to fit below the target.
AIM = 0.98
# Bisection ends when phi is known this well or the cost is this near above the target (chosen here: half a step of
# the resolution that trimming then takes away).
PHI_TOLERANCE, NEAR = 0.02, 0.03
# Factor in multiply-adds for each phi: alpha x beta^2 x gamma^2 (EfficientNet, arXiv 1905.11946, eq. 3).
MOST_STEPS, MOST_TRIMS = 12, 5
RESOLUTION_STEP = 2
# Where no step of the resolution lands in the band, more depth and width are tried, trimmed further: another
# staircase (chosen here).
PHI_MORE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
# Bytes that measuring a network takes, per weight (graph, file, packed weights) and per activation (half of all
# live at once, at most), rounded up from what ONNX Runtime used for EfficientNet-B0 to B4; a bound, not a forecast.
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
    for more in PHI_MORE:
        grown = compound_scale(base, phi + more, coefficients)
        if more and memory is not None and memory_bytes(grown) > memory:
            break
        cost, spec = _step_below(grown, aim * target, quick)
        if cost < (1 - SHORTFALL) * target and (best is not None and cost <= best.verdict.cost):
            continue  # this staircase has no step that would be better
        judged = _judge(spec, grown.resolution, target, careful)
        if judged is not None and (best is None or judged[1].cost > best.verdict.cost):
            depth, width = coefficients.alpha ** (phi + more), coefficients.beta ** (phi + more)
            best = Scaled(judged[0], phi + more, depth, width, judged[1])
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


def _step_below(
    spec: NetworkSpec, aim: float, quick: Callable[[NetworkSpec], float]
) -> tuple[float, NetworkSpec]:
    """The spec at the greatest even resolution whose cost is at most `aim`, by bisection, with that cost.

    Cost is a staircase in the resolution too: at 32k + 2 pixels every stage needs one more row and column than at
    32k, so the step may lie well below the aim.
    """
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
        guess = _even(guess * math.sqrt(aim / found)) if guess == fits or fits == RESOLUTION_STEP else 0
        if not fits < guess < too_large:
            guess = _even((fits + too_large) / 2)
    return cost, replace(spec, resolution=fits)


def _judge(
    spec: NetworkSpec, most: int, target: float, careful: Callable[[NetworkSpec], Verdict[Evidence]]
) -> tuple[NetworkSpec, Verdict[Evidence]] | None:
    """The resolution near the spec's that fills the target best as judged with care, at most `most`, or None."""
    tried: dict[int, Verdict[Evidence]] = {}
    resolution = spec.resolution
    while len(tried) < MOST_TRIMS and resolution not in tried and RESOLUTION_STEP <= resolution <= most:
        tried[resolution] = verdict = careful(replace(spec, resolution=resolution))
        if verdict.upper > target:
            shrunk = _even(resolution * math.sqrt(target / verdict.upper))
            resolution = min(shrunk, resolution - RESOLUTION_STEP)
        elif verdict.cost < (1 - SHORTFALL) * target:
            resolution += RESOLUTION_STEP
        else:
            break
    fitting = {r: v for r, v in tried.items() if v.upper <= target}
    if not fitting:
        return None
    best = max(fitting, key=lambda r: fitting[r].cost)
    return replace(spec, resolution=best), fitting[best]


def _even(resolution: float) -> int:
    return max(RESOLUTION_STEP, math.floor(resolution / RESOLUTION_STEP) * RESOLUTION_STEP)
