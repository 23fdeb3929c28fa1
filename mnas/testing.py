"""Conformance suites: what any controller or latency model must do, ours or yours; and an exact optimum to hold it to.

Each check raises AssertionError.

from mnas.testing import check_controller, check_latency_model
check_controller(MyController)
check_latency_model(MyModel())
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnas.errors import InputError, SearchError
from mnas.latency.check import check_estimates
from mnas.protocols import Controller, LatencyEstimate, LatencyModel, Observation
from mnas.search_space import Architecture, Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space

Factory = Callable[..., Controller]


def _build(values: Any) -> NetworkSpec:
    return NetworkSpec(8, (StageSpec("sepconv", values["kernel"], 1, 8, values["layers"]),), 8, 32, 10)


def small_space() -> SearchSpace:
    """Four networks, two of three points of which merge: small enough to be exhausted."""
    choices = (Choice("kernel", (3, 5)), Choice("layers", (1, 2, 3), {"kernel": (5,)}))
    return SearchSpace("small", choices, _build)


def one_network() -> SearchSpace:
    """A space of a single network."""
    return SearchSpace("one", (Choice("kernel", (3,)), Choice("layers", (1,))), _build)


def reward_of(architecture: Architecture) -> float:
    """A made-up reward in 0..1, greatest for the last option of each choice."""
    return sum(architecture) / (3.0 * len(architecture))


def drive(controller: Controller, batches: int, size: int) -> list[Architecture]:
    """Asks and tells; every fifth trial fails, every seventh is infeasible. Returns the asks in order."""
    asked: list[Architecture] = []
    for _ in range(batches):
        batch = controller.ask(size)
        asked += batch
        controller.tell([_observe(a, len(asked) + i) for i, a in enumerate(batch)])
    return asked


def _observe(architecture: Architecture, number: int) -> Observation:
    if number % 5 == 0:
        return Observation(architecture, "failed", None)
    if number % 7 == 0:
        return Observation(architecture, "infeasible", None)
    return Observation(architecture, "done", reward_of(architecture))


def check_asks_lie_in_the_space(factory: Factory) -> None:
    """Every ask is a canonical point, and no more come than were wanted."""
    space = mbconv_space()
    controller = factory(space, seed=1)
    for size in (1, 7, 64):
        asked = controller.ask(size)
        assert len(asked) == size, f"asked for {size}, got {len(asked)}"
        assert all(space.architecture(a) == a for a in asked), "an ask is not a canonical point of the space"


def check_seeds(factory: Factory) -> None:
    """The same seed gives the same asks, 0 is a seed like any other, and seeds differ."""
    space = mbconv_space()
    runs = [drive(factory(space, seed=seed), 4, 16) for seed in (0, 0, 1)]
    assert runs[0] == runs[1], "seed 0 gave two different sequences"
    assert runs[0] != runs[2], "seeds 0 and 1 gave the same sequence"


def check_replay(factory: Factory) -> None:
    """A new controller that is asked and told the same goes on as the old one would have."""
    space = mbconv_space()
    first, second = factory(space, seed=3), factory(space, seed=3)
    drive(first, 5, 8)
    drive(second, 5, 8)
    assert first.ask(32) == second.ask(32), "a replayed controller goes on otherwise"


def check_small_spaces_end(factory: Factory) -> None:
    """A space that is used up ends the search or repeats it; it never hangs and never leaves the space."""
    for space, networks in ((one_network(), 1), (small_space(), 4)):
        asked = drive(factory(space, seed=0), 6, 4)
        assert 1 <= len(set(asked)) <= networks
        assert all(space.architecture(a) == a for a in asked)


def check_foreign_points(factory: Factory) -> None:
    """A told point outside the space raises; one of the space that was never asked is accepted."""
    space = mbconv_space()
    controller = factory(space, seed=0)
    try:
        controller.tell([Observation(Architecture((9,) * len(space.choices)), "done", 0.5)])
    except InputError:
        pass
    else:
        raise AssertionError("a point outside the space was accepted")
    controller.tell([Observation(space.architecture([0] * len(space.choices)), "done", 0.5)])
    assert len(controller.ask(3)) == 3


CONTROLLER_CHECKS: Sequence[Callable[[Factory], None]] = (
    check_asks_lie_in_the_space,
    check_seeds,
    check_replay,
    check_small_spaces_end,
    check_foreign_points,
)


def check_controller(factory: Factory) -> None:
    """Every check of this module on `factory(space, *, seed)`."""
    for check in CONTROLLER_CHECKS:
        check(factory)


def check_latency_model(
    model: LatencyModel, space: SearchSpace | None = None, *, networks: int = 8, tolerance: float = 1e-9
) -> None:
    """What a search asks of a latency model: its form, and that a network has one latency.

    Args:
        model: ours or yours, made already.
        space: whose members it is asked about; None is `mbconv`.
        networks: how many random members.
        tolerance: by how much two answers for one network may differ, relative; 0.1 for a model that measures anew.
    """
    space = space or mbconv_space()
    rng = random.Random(0)
    specs = [space.decode(space.sample(rng)) for _ in range(networks)]
    estimates = _estimates(model, specs)
    assert _estimates(model, []) == [], "no networks have no estimates"
    for what, again in (
        ("asked one by one", [_estimates(model, [spec])[0] for spec in specs]),
        ("asked in reverse order", _estimates(model, specs[::-1])[::-1]),
        ("asked twice", _estimates(model, [*specs, *specs])[networks:]),
    ):
        for number, (first, second) in enumerate(zip(estimates, again, strict=True)):
            assert abs(second.ms / first.ms - 1) <= tolerance, (
                f"network {number} has {first.ms} ms, and {second.ms} ms {what}"
            )
    assert len({estimate.ms for estimate in estimates}) > 1, "every network has the same latency"


def _estimates(model: LatencyModel, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
    """Checked as a search checks them."""
    try:
        return check_estimates(model.predict(specs), len(specs), type(model).__name__)
    except SearchError as error:
        raise AssertionError(str(error)) from error


def separable_front(
    scores: Sequence[NDArray[np.float64]], costs: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The exact Pareto front of a sum of scores against a sum of costs, one option taken from each block.

    Dominance dynamic programming: after each block only sums are kept that no other beats in both.

    Args:
        scores: for each block, `(options,)`; more is better.
        costs: for each block, `(options,)`, positive; less is better.

    Returns:
        Total scores and total costs of the front, `(n,)` each, both rising.
    """
    total_score, total_cost = np.zeros(1), np.zeros(1)
    for score, cost in zip(scores, costs, strict=True):
        grown_score = (total_score[:, None] + score[None, :]).ravel()
        grown_cost = (total_cost[:, None] + cost[None, :]).ravel()
        order = np.lexsort((-grown_score, grown_cost))
        grown_score, grown_cost = grown_score[order], grown_cost[order]
        best_before = np.concatenate([[-np.inf], np.maximum.accumulate(grown_score)[:-1]])
        kept = grown_score > best_before
        total_score, total_cost = grown_score[kept], grown_cost[kept]
    return total_score, total_cost
