import itertools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from mnas.controllers import RandomController, ReinforceController
from mnas.errors import InputError
from mnas.objective import Reward
from mnas.protocols import Observation
from mnas.registry import BUILTIN, resolve
from mnas.search_space import Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space, mnasnet_space
from mnas.testing import CONTROLLER_CHECKS, drive, separable_front


@pytest.mark.parametrize("name", BUILTIN["controller"])
@pytest.mark.parametrize("check", CONTROLLER_CHECKS, ids=lambda check: check.__name__)
def test_conformance(name: str, check: Callable[[object], None]) -> None:
    check(resolve("controller", name))


@pytest.mark.parametrize("name", BUILTIN["controller"])
def test_the_same_seed_gives_the_same_asks_in_a_fresh_process(name: str) -> None:
    code = (
        "from mnas.registry import resolve; from mnas.search_space import mbconv_space; from mnas.testing import drive;"
        f"print(','.join(a.key for a in drive(resolve('controller', {name!r})(mbconv_space(), seed=5), 3, 8)))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = drive(resolve("controller", name)(mbconv_space(), seed=5), 3, 8)
    assert there.split(",") == [a.key for a in here]


@pytest.mark.parametrize("controller", [RandomController, ReinforceController])
def test_no_network_is_asked_twice_and_small_spaces_are_exhausted(controller: type) -> None:
    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, values["a"]),), 8, 32, 10)

    space = SearchSpace("own", tuple(Choice(name, (1, 2, 3)) for name in "abc"), build)
    asked = drive(controller(space, seed=0), 10, 4)
    assert len(asked) == len(set(asked)) == 27


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


def test_the_exact_front_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    scores, costs = [rng.random(4) for _ in range(4)], [rng.random(4) for _ in range(4)]
    points = [
        (
            sum(s[i] for s, i in zip(scores, pick, strict=True)),
            sum(c[i] for c, i in zip(costs, pick, strict=True)),
        )
        for pick in itertools.product(range(4), repeat=4)
    ]
    best = sorted(p for p in points if not any(q[0] >= p[0] and q[1] <= p[1] and q != p for q in points))
    front = separable_front(scores, costs)
    assert np.allclose(np.array(best), np.array(front).T)


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
