import itertools
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mnas import testing
from mnas.controllers import EvolutionController, RandomController, ReinforceController
from mnas.controllers.exact import separable_front
from mnas.controllers.fresh import Known, uniform_share
from mnas.errors import InputError
from mnas.objective import Reward
from mnas.protocols import Objective, Observation
from mnas.registry import BUILTIN, resolve
from mnas.search_space import (
    Architecture,
    Choice,
    NetworkSpec,
    SearchSpace,
    StageSpec,
    mbconv_space,
    mnasnet_space,
)
from mnas.testing import CONTROLLER_CHECKS, check_controller, check_fresh_process, drive, make_controller

OURS = [
    name for name in BUILTIN["controller"] if ":" not in name
]  # others need packages: tests/test_bridges_*.py


def cube() -> SearchSpace:
    """27 networks, as far as the controllers can tell."""

    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, values["a"]),), 8, 32, 10)

    return SearchSpace("cube", tuple(Choice(name, (1, 2, 3)) for name in "abc"), build)


@pytest.mark.parametrize("name", [name for name in OURS if name != "ppo"])
@pytest.mark.parametrize("check", [*CONTROLLER_CHECKS, check_fresh_process], ids=lambda check: check.__name__)
def test_conformance(name: str, check: Callable[[object], None]) -> None:
    check(resolve("controller", name))


@pytest.mark.parametrize("name", OURS)
def test_no_network_is_asked_twice_and_small_spaces_are_exhausted(name: str) -> None:
    asked = drive(make_controller(resolve("controller", name), cube(), 0), 10, 4)
    assert len(asked) == len(set(asked)) == 27


# Controllers with one fault each; all else is as it should be.


class Nameless(RandomController):
    """Says points as it draws them, without asking the space for their name."""

    def ask(self, n: int = 1) -> list[Architecture]:
        options = [len(choice.options) for choice in self._space.choices]
        return [Architecture(self._rng.randrange(count) for count in options) for _ in range(n)]


class Outside(RandomController):
    def ask(self, n: int = 1) -> list[Architecture]:
        return [Architecture((9, *point[1:])) for point in super().ask(n)]


class Few(RandomController):
    def ask(self, n: int = 1) -> list[Architecture]:
        return super().ask(min(n, 63))


class LosesZero(RandomController):
    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed or 1)


class Unseeded(RandomController):
    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=random.randrange(2**32))


class Shared(RandomController):
    """Its generator is that of the class."""

    rng = random.Random(0)

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self._rng = self.rng


class Hangs(RandomController):
    def ask(self, n: int = 1) -> list[Architecture]:
        asked = super().ask(n)
        if not asked:
            time.sleep(1.0)
        return asked


class Mute(RandomController):
    def ask(self, n: int = 1) -> list[Architecture]:
        return []


class Credulous(RandomController):
    def tell(self, observations: Sequence[Observation]) -> None:
        pass


class Hasty(EvolutionController):
    """Learns one observation after the other, before it has looked at the next."""

    def tell(self, observations: Sequence[Observation]) -> None:
        for observation in observations:
            super().tell([observation])


class Possessive(RandomController):
    """Knows what it asked for, and nothing else."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed)
        self.waiting: set[Architecture] = set()

    def ask(self, n: int = 1) -> list[Architecture]:
        asked = super().ask(n)
        self.waiting.update(asked)
        return asked

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        for observation in observations:
            self.waiting.remove(observation.architecture)


class NeedsRewards(RandomController):
    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        sum(o.reward for o in observations)  # type: ignore[misc]


class Waits(RandomController):
    """Asks for nothing more until a network is done."""

    waiting = False

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        self.waiting = all(o.reward is None for o in observations)

    def ask(self, n: int = 1) -> list[Architecture]:
        return [] if self.waiting else super().ask(n)


class Recommends(RandomController):
    """The greatest accuracy, whatever became of the trial."""

    best: tuple[float, Architecture] | None = None

    def tell(self, observations: Sequence[Observation]) -> None:
        super().tell(observations)
        told = [(o.metrics["accuracy"], o.architecture) for o in observations if o.metrics]
        self.best = max([*told, *([self.best] if self.best else [])], default=None)

    def recommend(self) -> Architecture | None:
        return self.best[1] if self.best else None


class Hashing(RandomController):
    """Its seed hangs on the hash of a text, which each process has of its own."""

    def __init__(self, space: SearchSpace, *, seed: int) -> None:
        super().__init__(space, seed=seed + hash("mnas"))


class HashingHonestly(Hashing):
    exact_replay = False


@pytest.mark.parametrize(
    ("controller", "check", "error", "words"),
    [
        (Nameless, "asks_lie_in_the_space", AssertionError, "another name in conditional"),
        (Outside, "asks_lie_in_the_space", AssertionError, "no point of the space"),
        (Few, "asks_lie_in_the_space", AssertionError, "asked for 64 in conditional, got 63"),
        (LosesZero, "seeds", AssertionError, "seeds 0 and 1"),
        (Unseeded, "seeds", AssertionError, "two different sequences"),
        (Shared, "replay", AssertionError, "goes on otherwise"),
        (Hangs, "small_spaces_end", AssertionError, "hangs in the space one"),
        (Mute, "small_spaces_end", AssertionError, "nothing was asked for in the space one"),
        (Nameless, "small_spaces_end", AssertionError, "another name in small"),
        (Credulous, "foreign_points", AssertionError, "was accepted"),
        (Hasty, "foreign_points", AssertionError, "something was learned"),
        (Possessive, "unasked_points", KeyError, None),
        (NeedsRewards, "failed_trials", TypeError, None),
        (Waits, "failed_trials", AssertionError, "after 16 of 16 trials had failed"),
        (Recommends, "failed_trials", AssertionError, "is recommended"),
        (Hashing, "fresh_process", AssertionError, "other asks in a fresh process"),
    ],
)
def test_each_check_catches_what_it_is_for(
    controller: type, check: str, error: type[Exception], words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "HANG_S", 0.5)
    with pytest.raises(error, match=words):
        getattr(testing, f"check_{check}")(controller)


def test_a_controller_that_promises_no_exact_replay_is_not_held_to_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_controller(HashingHonestly)
    monkeypatch.setattr(Shared, "exact_replay", False, raising=False)
    testing.check_replay(Shared)


def test_a_controller_is_checked_by_its_name_or_reference() -> None:
    check_controller("random")
    with pytest.raises(AssertionError, match="fresh process"):
        check_controller(f"{__name__}:Hashing")


def test_what_another_process_cannot_import_is_checked_in_this_one() -> None:
    def local(space: SearchSpace, *, seed: int) -> RandomController:
        return RandomController(space, seed=seed)

    check_controller(local)
    with pytest.raises(InputError, match=r"package\.module:factory"):
        check_fresh_process(local)


def test_a_controller_that_plans_with_costs_is_given_an_objective() -> None:
    given = []

    def planning(space: SearchSpace, *, seed: int, objective: Objective) -> RandomController:
        given.append(objective)
        return RandomController(space, seed=seed)

    testing.check_seeds(planning)
    # genes 0 0 2: a share of 2 / 9 of the greatest sum; 1, 2, 0 adds up to 3
    costs = given[0].cost([Architecture((0, 0, 2)), Architecture((1, 2, 0))])
    assert costs.tolist() == [pytest.approx(1 + 2 / 9), float("inf")]
    assert given[0].score(0.6, 1.5) == pytest.approx(0.6 * 1.2 / 1.5)


def test_the_conditional_space_is_as_large_as_it_says() -> None:
    space = testing.conditional_space()
    assert space.size == 110_592 == (2 * 2 * 2 * 2 * 3) ** 3
    # per block: sepconv, or mbconv with 4, 6, or 6 and squeeze-and-excitation; two kernels; two widths
    block = [range(len(choice.options)) for choice in space.choices[:5]]
    first = {space.architecture((*genes, *(10 * [0]))) for genes in itertools.product(*block)}
    assert len(first) == 4 * 2 * 2
    assert len({space.decode(point) for point in first}) == 4 * 2 * 2


@pytest.mark.parametrize("options", [256, 257])
def test_what_is_known_comes_once_and_the_rest_in_order(options: int) -> None:
    space = SearchSpace("line", (Choice("a", tuple(range(options))),), lambda values: values)  # type: ignore[arg-type,return-value]
    known = Known(space)
    tries = []

    def draw(number: int, n: int) -> list[Architecture]:
        tries.append((number, n))
        return [Architecture((options - 1,)), Architecture((number % 2,))][:n]

    assert known.add(Architecture((2,)))
    assert not known.add(Architecture((2,)))
    # drawn in the first two tries: the last, 0 and 1; in order of the space: 3; 2 is known
    assert known.fresh(4, draw) == [(options - 1,), (0,), (1,), (3,)]
    assert tries[:3] == [(0, 4), (1, 2), (2, 1)]
    assert len(known) == 5
    assert Architecture((3,)) in known
    assert Architecture((4,)) not in known
    assert len(known.fresh(options, draw)) == options - 5
    asked = len(tries)
    assert known.fresh(3, draw) == []
    assert len(tries) == asked  # a space that is used up is not drawn from


def test_draws_become_uniform() -> None:
    shares = [uniform_share(number) for number in range(40)]
    assert shares[:3] == pytest.approx([0, 0.01, 0.013])
    assert shares == sorted(shares)
    assert shares[18] < 1 == shares[19]  # 0.01 x 1.3^17 = 0.865, x 1.3^18 = 1.12


def test_random_uses_every_option_about_equally() -> None:
    space = mnasnet_space()
    asked = np.array(RandomController(space, seed=0).ask(4000))
    for position, choice in enumerate(space.choices):
        if choice.name.endswith("skip"):
            continue  # options merge
        counts = np.bincount(asked[:, position], minlength=len(choice.options))
        # 4 standard deviations of a binomial count
        expected = 4000 / len(choice.options)
        assert np.abs(counts - expected).max() < 4 * expected**0.5


def test_reinforce_learns_a_single_good_option() -> None:
    space = mbconv_space()
    controller = ReinforceController(space, seed=0)
    for _ in range(40):
        asked = controller.ask(32)
        controller.tell([Observation(a, "done", 0.5 + 0.1 * (a[0] == 2)) for a in asked])
    assert controller.probabilities()[0, 2] > 0.9


def test_the_first_batch_of_reinforce_is_uniform_and_rewards_of_one_value_teach_nothing() -> None:
    controller = ReinforceController(mbconv_space(), seed=0, imitation_weight=0.0)
    before = controller.probabilities()
    assert before[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0])
    controller.tell([Observation(a, "done", 0.5) for a in controller.ask(16)])
    assert controller.probabilities() == pytest.approx(before)


def test_failed_trials_leave_the_policy_alone() -> None:
    controller = ReinforceController(mbconv_space(), seed=0)
    before = controller.probabilities()
    controller.tell([Observation(a, "failed", None) for a in controller.ask(16)])
    assert controller.probabilities() == pytest.approx(before)


def test_inactive_choices_get_no_gradient() -> None:
    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8),), 8, 32, 10)

    space = SearchSpace("own", (Choice("a", (0, 1)), Choice("b", (0, 1, 2), {"a": (1,)})), build)
    controller = ReinforceController(space, seed=0, entropy_weight=0.0)
    inactive = space.architecture((0, 0))
    controller.tell([Observation(inactive, "done", 0.9), Observation(inactive, "done", 0.1)])
    assert controller.probabilities()[1].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize(
    "options", [{"learning_rate": 0.0}, {"entropy_weight": -1.0}, {"learning_rate": float("nan")}]
)
def test_options_outside_their_domain_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError):
        ReinforceController(mbconv_space(), seed=0, **options)


def separable_problem(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Made-up accuracy scores and milliseconds for each option of each block, interactions inside a block included."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(len(c.options) for c in mbconv_space().choices[4 * b : 4 * b + 4]) for b in range(7)]
    scores, times = [], []
    for shape in shapes:
        expansion, kernel, layers, se = np.indices(shape)
        width = np.array([1, 4, 6])[expansion]
        score = 0.1 * np.log(width) + 0.05 * kernel + 0.12 * np.log(layers + 1) + 0.06 * se
        scores.append(score + rng.normal(0, 0.005, shape))
        times.append(rng.uniform(0.9, 1.1, shape) * ((layers + 1) * width * (0.3 + 0.1 * kernel) + 0.2 * se))
    return scores, times


def exact_best(scores: list[np.ndarray], times: list[np.ndarray], reward: Reward) -> float:
    front_scores, front_ms = separable_front([s.ravel() for s in scores], [t.ravel() for t in times])
    return float(reward.score(accuracy_of(front_scores), front_ms).max())


def accuracy_of(score: np.ndarray) -> np.ndarray:
    return 0.7 - np.exp(-1.6 - np.asarray(score))


@pytest.mark.parametrize("target", [12.0, 20.0, 32.0])
def test_reinforce_comes_within_half_a_percent_of_the_exact_optimum(target: float) -> None:
    scores, times = separable_problem(seed=7)
    reward = Reward("hard", target)
    optimum = exact_best(scores, times, reward)
    controller = ReinforceController(mbconv_space(), seed=0)
    best = 0.0
    for _ in range(125):
        asked = controller.ask(64)
        totals = [
            (
                sum(s[a[4 * b : 4 * b + 4]] for b, s in enumerate(scores)),
                sum(t[a[4 * b : 4 * b + 4]] for b, t in enumerate(times)),
            )
            for a in asked
        ]
        rewards = reward.score(accuracy_of(np.array([s for s, _ in totals])), [t for _, t in totals])
        best = max(best, float(rewards.max()))
        controller.tell([Observation(a, "done", float(r)) for a, r in zip(asked, rewards, strict=True)])
    assert 0.995 * optimum <= best <= optimum * (1 + 1e-9)
