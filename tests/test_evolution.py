"""`evolution` and `exhaustive`."""

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from mnas.controllers import EvolutionController, ExhaustiveController, RandomController
from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.search_space import Architecture, Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space
from mnas.testing import conditional_space


def plain(choices: int, options: int) -> SearchSpace:
    """Independent choices, as far as the controllers can tell."""

    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8),), 8, 32, 10)

    return SearchSpace("plain", tuple(Choice(f"c{i}", tuple(range(options))) for i in range(choices)), build)


def done(genes: Sequence[int], reward: float) -> Observation:
    return Observation(Architecture(genes), "done", reward)


def distance(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(a != b for a, b in zip(first, second, strict=True))


def test_the_best_of_the_living_leaves_the_children_and_the_oldest_dies() -> None:
    # A tournament of 50 among two members misses the better one once in 2^50.
    controller = EvolutionController(plain(6, 4), seed=0, population=2, sample=50)
    first, second, third = (0,) * 6, (1,) * 6, (2,) * 6
    controller.tell([done(first, 0.9), done(second, 0.5)])
    assert {distance(child, first) for child in controller.ask(6)} == {1}
    controller.tell([done(third, 0.6)])  # the first dies of age, though it is the best
    assert {distance(child, third) for child in controller.ask(6)} == {1}
    failed, infeasible = Architecture((3,) * 6), Architecture((3, 3, 3, 0, 0, 0))
    controller.tell([Observation(failed, "failed", None), Observation(infeasible, "infeasible", None)])
    assert {distance(child, third) for child in controller.ask(6)} == {1}  # nobody dies for these
    controller.tell([done((3, 3, 3, 3, 3, 0), 0.55)])  # the second dies
    controller.tell([done((3, 3, 0, 3, 3, 0), 0.52)])  # the third dies: the one before is the best
    assert {distance(child, (3, 3, 3, 3, 3, 0)) for child in controller.ask(6)} == {1}


def test_a_tournament_is_among_a_random_sample() -> None:
    # One of two drawn: each member is the parent of about half of 60 children; 4 standard deviations are 15.5.
    controller = EvolutionController(plain(30, 4), seed=0, population=2, sample=1)
    controller.tell([done((0,) * 30, 0.9), done((1,) * 30, 0.5)])
    of_the_worse = sum(distance(child, (1,) * 30) == 1 for child in controller.ask(60))
    assert abs(of_the_worse - 30) < 15.5


@pytest.mark.parametrize("seed", range(5))
def test_a_child_differs_in_one_choice_that_is_active_in_both(seed: int) -> None:
    space = conditional_space()
    (parent,) = RandomController(space, seed=seed).ask(1)
    controller = EvolutionController(space, seed=seed, population=1)
    controller.tell([Observation(parent, "done", 0.5)])
    for child in controller.ask(5):
        both = np.array(space.active(parent)) & np.array(space.active(child))
        assert (np.array(parent) != np.array(child))[both].sum() == 1


def test_choices_that_become_active_take_any_option() -> None:
    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8),), 8, 32, 10)

    space = SearchSpace("own", (Choice("a", (0, 1)), Choice("b", tuple(range(9)), {"a": (1,)})), build)
    children = set()
    for seed in range(60):
        controller = EvolutionController(space, seed=seed, population=1)
        controller.tell([done((0, 0), 0.5)])
        children.update(controller.ask(1))
    assert children == {(1, option) for option in range(9)}


def test_the_first_networks_are_those_of_random_and_warm_starts_count_among_them() -> None:
    space = mbconv_space()
    assert EvolutionController(space, seed=4, population=40).ask(40) == RandomController(space, seed=4).ask(
        40
    )
    controller = EvolutionController(space, seed=4, population=2)
    start = space.architecture((0,) * 28)
    controller.tell([Observation(start, "done", 0.5)])
    random_one, *children = controller.ask(9)
    assert distance(random_one, start) > 1
    assert {distance(child, start) for child in children} == {1}


def test_networks_of_infinite_cost_are_not_asked_for_while_others_are_to_be_had() -> None:
    class FirstOptionOnly:
        calls = 0

        def cost(self, architectures: Sequence[Architecture]) -> np.ndarray:
            self.calls += 1
            return np.array([1.0 if a[0] == 0 else np.inf for a in architectures])

        def score(self, accuracy, cost):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    space, objective = plain(3, 4), FirstOptionOnly()
    controller = EvolutionController(space, seed=0, population=4, objective=objective)
    inside = []
    for _ in range(4):
        inside += controller.ask(3)
        controller.tell([Observation(a, "done", 0.5) for a in inside[-3:]])
    assert {point[0] for point in inside} == {0}
    # 64 networks, 16 of finite cost: the others come as well in the end, and the search ends.
    rest = []
    while batch := controller.ask(8):
        rest += batch
    assert len({*inside, *rest}) == len(inside) + len(rest) == 64
    assert objective.calls < 1000


def test_it_finds_a_hidden_network() -> None:
    space = mbconv_space()
    (hidden,) = RandomController(space, seed=99).ask(1)
    controller = EvolutionController(space, seed=0)
    asked: list[Architecture] = []
    # 1e11 networks. With n of 28 choices wrong a child is better once in 28 / n x about 1.5 (the other options) tries:
    # 28 x 1.5 x (1 + 1/2 + ... + 1/18) = 147 from a random one on, if every child had the best as its parent.
    while hidden not in asked and len(asked) < 1000:
        batch = controller.ask(20)
        controller.tell([Observation(a, "done", 1 - distance(a, hidden) / 28) for a in batch])
        asked += batch
    assert hidden in asked[: 4 * 147]


@pytest.mark.parametrize("options", [{"population": 0}, {"sample": 0}])
def test_evolution_needs_a_population_and_a_sample(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match="at least 1, got"):
        EvolutionController(mbconv_space(), seed=0, **options)


def test_exhaustive_asks_for_every_network_once_and_for_no_warm_start() -> None:
    space = SearchSpace(
        "own", conditional_space().choices[:5], conditional_space().build, conditional_space().merge
    )
    controller = ExhaustiveController(space, seed=0)
    start = next(space.enumerate())
    controller.tell([Observation(start, "done", 0.5)])
    asked = list(itertools.chain.from_iterable(controller.ask(4) for _ in range(5)))
    assert len(asked) == 15  # of 16
    assert {start, *asked} == set(space.enumerate())
    assert asked != sorted(asked)
    assert controller.ask(1) == []


def test_the_order_of_exhaustive_is_a_uniform_permutation() -> None:
    orders = Counter(tuple(ExhaustiveController(plain(1, 3), seed=seed).ask(3)) for seed in range(600))
    assert len(orders) == 6
    # 100 each; 4 standard deviations of a binomial count
    assert all(abs(count - 100) < 4 * (600 / 6 * 5 / 6) ** 0.5 for count in orders.values())


def test_exhaustive_refuses_what_is_too_large() -> None:
    assert len(ExhaustiveController(plain(6, 10), seed=0).ask(3)) == 3  # a million points
    with pytest.raises(
        InputError, match=r"has 16,777,216 points; .* at most 1,000,000\. Use a controller that"
    ):
        ExhaustiveController(plain(12, 4), seed=0)
