"""Conformance suites: what any controller or latency model must do, ours or yours.

Each check raises AssertionError, or what the controller raised.

from mnas.testing import check_controller, check_latency_model
check_controller("my_package.my_module:MyController")
check_latency_model(MyModel())
"""

import inspect
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from threading import Thread
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnas.errors import InputError, SearchError
from mnas.latency.check import check_estimates
from mnas.objective import Reward
from mnas.protocols import Controller, LatencyEstimate, LatencyModel, Observation
from mnas.registry import resolve
from mnas.search_space import (
    Architecture,
    Choice,
    NetworkSpec,
    SearchSpace,
    StageSpec,
    mbconv_space,
    mnasnet_space,
)
from mnas.search_space.space import Values

Factory = Callable[..., Controller]

# Trials in a check: so many batches of this size let a controller that samples at random at first begin to learn.
BATCHES, SIZE = 10, 16
HANG_S = 60.0  # a controller that has not answered on a tiny space by then never will


def _build(values: Any) -> NetworkSpec:
    return NetworkSpec(8, (StageSpec("sepconv", values["kernel"], 1, 8, values["layers"]),), 8, 32, 10)


def small_space() -> SearchSpace:
    """Four networks, two of three points of which merge: small enough to be exhausted."""
    choices = (Choice("kernel", (3, 5)), Choice("layers", (1, 2, 3), {"kernel": (5,)}))
    return SearchSpace("small", choices, _build)


def one_network() -> SearchSpace:
    """A space of a single network."""
    return SearchSpace("one", (Choice("kernel", (3,)), Choice("layers", (1,))), _build)


def conditional_space() -> SearchSpace:
    """4,096 networks, 110,592 points: choices that depend on choices that depend on others, and options that merge."""

    def choices(block: str) -> tuple[Choice, ...]:
        return (
            Choice(f"{block}.op", ("sepconv", "mbconv")),
            Choice(f"{block}.expansion", (4, 6), {f"{block}.op": ("mbconv",)}),
            Choice(f"{block}.se_ratio", (0.0, 0.25), {f"{block}.expansion": (6,)}),
            Choice(f"{block}.kernel", (3, 5)),
            Choice(f"{block}.filters", (8, 10, 16)),
        )

    blocks = ("block1", "block2", "block3")

    def stage(block: str, values: Values) -> StageSpec:
        op, expansion, se_ratio, kernel, filters = (values[choice.name] for choice in choices(block))
        return StageSpec(op, kernel, 1, filters, 1, 1 if op == "sepconv" else expansion, se_ratio)  # type: ignore[arg-type]

    def build(values: Values) -> NetworkSpec:
        return NetworkSpec(8, tuple(stage(block, values) for block in blocks), 8, 32, 10)

    def merge(values: dict[str, Any]) -> dict[str, Any]:
        return {name: 8 if value == 10 else value for name, value in values.items()}

    return SearchSpace("conditional", tuple(c for block in blocks for c in choices(block)), build, merge)


def reward_of(architecture: Architecture) -> float:
    """A made-up accuracy in 0..1, greatest for the last option of each choice."""
    return sum(architecture) / (3.0 * len(architecture))


class MadeUpObjective:
    """Costs that rise with `reward_of`, the hard reward, and a seventh of the networks refused: an `Objective`."""

    def cost(self, architectures: Sequence[Architecture]) -> NDArray[np.float64]:
        """1 to 2; infinite where the genes add up to 3 more than a multiple of 7."""
        return np.array([np.inf if sum(a) % 7 == 3 else 1 + reward_of(a) for a in architectures])

    def score(self, accuracy: ArrayLike, cost: ArrayLike) -> NDArray[np.float64]:
        """Hard reward at a cost of 1.2."""
        return Reward("hard", 1.2).score(accuracy, cost)


def make_controller(factory: Factory, space: SearchSpace, seed: int) -> Controller:
    """As a search makes one: with an objective where the factory's signature names it."""
    if "objective" in inspect.signature(factory).parameters:
        return factory(space, seed=seed, objective=MadeUpObjective())
    return factory(space, seed=seed)


def drive(
    controller: Controller, batches: int = BATCHES, size: int = SIZE, space: SearchSpace | None = None
) -> list[Architecture]:
    """Asks and tells; every fifth trial fails, every seventh and what `MadeUpObjective` refuses is infeasible.

    Args:
        controller: is left in the state after the last tell.
        batches: how many asks.
        size: of each.
        space: that each ask has to lie in; None looks at no ask.

    Returns:
        The asks in order.
    """
    asked: list[Architecture] = []
    for _ in range(batches):
        batch = controller.ask(size)
        if space is not None:
            _check_points(space, batch)
        asked += batch
        controller.tell([_observe(a, len(asked) + i) for i, a in enumerate(batch)])
    return asked


def _observe(architecture: Architecture, number: int) -> Observation:
    objective = MadeUpObjective()
    cost = objective.cost([architecture])
    if number % 5 == 0:
        return Observation(architecture, "failed", None)
    if number % 7 == 0 or np.isinf(cost[0]):
        return Observation(architecture, "infeasible", None)
    return _done(architecture, float(objective.score(reward_of(architecture), cost)[0]))


def _done(architecture: Architecture, reward: float) -> Observation:
    return Observation(architecture, "done", reward, {"accuracy": reward_of(architecture)})


def _replays(controller: Controller) -> bool:
    """Whether the same asks and tells lead to the same state; one that says `exact_replay = False` promises none."""
    return bool(getattr(controller, "exact_replay", True))


def _check_points(space: SearchSpace, asked: Sequence[Architecture]) -> None:
    for architecture in asked:
        try:
            canonical = space.architecture(architecture)
        except InputError as error:
            raise AssertionError(f"an ask is no point of the space {space.name}: {error}") from error
        assert canonical == architecture, (
            f"{architecture!r}, asked for, has another name in {space.name}: {canonical!r}"
        )


def check_asks_lie_in_the_space(factory: Factory, batches: int = BATCHES) -> None:
    """Every ask is a canonical point, also once it has learned, and as many come as were wanted.

    A controller for small spaces may refuse `mbconv` and `mnasnet` with an InputError.
    """
    for space in (conditional_space(), mbconv_space(), mnasnet_space()):
        try:
            controller = make_controller(factory, space, seed=1)
        except InputError:
            if space.name == "conditional":
                raise
            continue
        drive(controller, batches, space=space)
        for size in (1, 7, 64):
            asked = drive(controller, 1, size, space)
            assert len(asked) == size, f"asked for {size} in {space.name}, got {len(asked)}"


def check_seeds(factory: Factory, batches: int = BATCHES) -> None:
    """The same seed gives the same asks, 0 is a seed like any other, and seeds differ."""
    space = conditional_space()
    runs = [drive(make_controller(factory, space, seed), batches) for seed in (0, 0, 1)]
    assert runs[0] == runs[1], "seed 0 gave two different sequences"
    assert runs[0] != runs[2], "seeds 0 and 1 gave the same sequence"


def check_replay(factory: Factory, batches: int = BATCHES) -> None:
    """A new controller that is asked and told the same goes on as the old one would have.

    Not demanded of a controller with `exact_replay = False`.
    """
    space = conditional_space()
    first, second = (make_controller(factory, space, seed=3) for _ in range(2))
    drive(first, batches)
    if not _replays(first):
        return
    drive(second, batches)
    assert first.ask(32) == second.ask(32), "a replayed controller goes on otherwise"


def check_small_spaces_end(factory: Factory, batches: int = BATCHES) -> None:
    """A space that is used up ends the search or repeats it; it never hangs and never leaves the space."""
    for space, networks in ((one_network(), 1), (small_space(), 4)):
        controller = make_controller(factory, space, seed=0)
        asked = _within(HANG_S, space.name, partial(drive, controller, batches, 4, space))
        assert asked, f"nothing was asked for in the space {space.name}"
        assert len(set(asked)) <= networks


def _within(seconds: float, where: str, action: Callable[[], list[Architecture]]) -> list[Architecture]:
    """What an action returns or raises; it runs in a thread of its own, which is given up after a time."""
    results: list[list[Architecture] | Exception] = []

    def run() -> None:
        try:
            results.append(action())
        except Exception as error:
            results.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"the controller hangs in the space {where}: no end after {seconds:.0f} s"
    if isinstance(results[0], Exception):
        raise results[0]
    return results[0]


def check_foreign_points(factory: Factory, batches: int = BATCHES) -> None:
    """A told point outside the space raises InputError, and nothing of what came with it is learned."""
    space = conditional_space()
    first, second = (make_controller(factory, space, seed=0) for _ in range(2))
    drive(first, batches)
    drive(second, batches)
    rng = random.Random(0)
    good = [_done(space.sample(rng), 1.0) for _ in range(2 * SIZE)]
    zeros = (0,) * len(space.choices)
    for genes in ((9, *zeros[1:]), (-1, *zeros[1:]), (*zeros, 0), zeros[1:]):
        try:
            second.tell([*good, Observation(Architecture(genes), "done", 1.0)])
        except InputError:
            continue
        raise AssertionError(f"{genes} was accepted, which is no point of the space")
    if _replays(first):
        same = drive(first, batches) == drive(second, batches)
        assert same, "something was learned from a batch with a point outside the space"


def check_unasked_points(factory: Factory, batches: int = BATCHES) -> None:
    """Points of the space that were never asked for may be told, before the first ask and later."""
    space = conditional_space()
    controller = make_controller(factory, space, seed=0)
    rng = random.Random(0)
    for _ in range(2):
        points = [space.sample(rng) for _ in range(SIZE)]
        controller.tell([_observe(point, number) for number, point in enumerate(points)])
        drive(controller, batches, space=space)
    assert controller.ask(3), "nothing more was asked for"


def check_failed_trials(factory: Factory, batches: int = BATCHES) -> None:
    """Failed trials are accepted, even if all fail, and never recommended, though they look best in their metrics."""
    space = conditional_space()
    for failing in (SIZE // 2, SIZE):
        controller = make_controller(factory, space, seed=0)
        done: set[Architecture] = set()
        for _ in range(batches):
            asked = sorted(controller.ask(SIZE), key=reward_of, reverse=True)
            assert asked, f"nothing was asked for after {failing} of {SIZE} trials had failed"
            _check_points(space, asked)
            failed = [Observation(a, "failed", None, {"accuracy": 1.0}) for a in asked[:failing]]
            controller.tell([*failed, *(_done(a, reward_of(a)) for a in asked[failing:])])
            done.update(asked[failing:])
        recommend = getattr(controller, "recommend", lambda: None)
        recommended = recommend()
        assert recommended is None or recommended in done, (
            f"{recommended!r} is recommended, which is not done"
        )


def check_fresh_process(factory: Factory | str, batches: int = BATCHES) -> None:
    """The same seed gives the same asks in a fresh process, where strings hash to other numbers.

    Not demanded of a controller with `exact_replay = False`.

    Args:
        factory: a name that the registry knows, `module:factory`, or a factory that has such a reference.
        batches: of trials that are compared.

    Raises:
        InputError: a factory that another process cannot import: a lambda, or a class of `__main__`.
    """
    name = factory if isinstance(factory, str) else _reference(factory)
    if name is None:
        raise InputError(
            f"{factory!r} cannot be imported elsewhere; give its name, or package.module:factory."
        )
    if not _replays(make_controller(resolve("controller", name), conditional_space(), seed=0)):
        return
    code = "import sys; from mnas.testing import _asked; print(_asked(sys.argv[1], int(sys.argv[2])))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, name, str(batches)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"the controller {name} fails in a fresh process: {done.stderr}"
    last = done.stdout.split()[-1]
    assert last == _asked(name, batches), "the same seed gives other asks in a fresh process"


def _asked(name: str, batches: int) -> str:
    """The asks of a controller that is named, as text."""
    controller = make_controller(resolve("controller", name), conditional_space(), seed=5)
    return ",".join(architecture.key for architecture in drive(controller, batches))


def _reference(factory: Factory) -> str | None:
    """`module:factory`, where another process finds the same there."""
    module, name = getattr(factory, "__module__", "__main__"), getattr(factory, "__qualname__", "")
    if module == "__main__":
        return None
    try:
        return f"{module}:{name}" if resolve("controller", f"{module}:{name}") is factory else None
    except InputError:
        return None


CONTROLLER_CHECKS: Sequence[Callable[..., None]] = (
    check_asks_lie_in_the_space,
    check_seeds,
    check_replay,
    check_small_spaces_end,
    check_foreign_points,
    check_unasked_points,
    check_failed_trials,
)


def check_controller(factory: Factory | str, batches: int = BATCHES) -> None:
    """Every check of this module on a controller.

    Args:
        factory: `factory(space, *, seed)` or a reference to one, as for `check_fresh_process`. One that no other
            process can import is checked in this process alone.
        batches: of 16 trials in each check; fewer for a controller that takes long to ask.
    """
    made = resolve("controller", factory) if isinstance(factory, str) else factory
    for check in CONTROLLER_CHECKS:
        check(made, batches)
    if isinstance(factory, str) or _reference(factory) is not None:
        check_fresh_process(factory, batches)


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
