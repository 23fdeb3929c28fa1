import itertools
from collections import Counter

import pytest
import torch

from mnas.controllers.lstm import LstmPolicy
from mnas.controllers.ppo import BATCH, PpoController, advantages, clipped_gain
from mnas.errors import InputError
from mnas.protocols import Observation
from mnas.registry import resolve
from mnas.search_space import Architecture, Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space
from mnas.testing import CONTROLLER_CHECKS, check_fresh_process, conditional_space

pytestmark = pytest.mark.usefixtures("one_thread")


def space_of(*choices: Choice) -> SearchSpace:
    """Of choices that build one and the same, as far as the controller can tell."""

    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8),), 8, 32, 10)

    return SearchSpace("own", choices, build)


COIN = space_of(Choice("a", (0, 1)))


def probability(controller: PpoController, option: int) -> float:
    """Of an option of the first choice."""
    with torch.no_grad():
        return float(controller.policy(torch.zeros(1, 1, dtype=torch.int64))[0, 0, option].exp())


def told(*rewards: float) -> list[Observation]:
    """Option 0 and option 1 in turn."""
    return [Observation(Architecture((i % 2,)), "done", reward) for i, reward in enumerate(rewards)]


@pytest.mark.parametrize("check", CONTROLLER_CHECKS, ids=lambda check: check.__name__)
def test_conformance(check) -> None:  # type: ignore[no-untyped-def]
    check(resolve("controller", "ppo"), batches=3)


@pytest.mark.slow
def test_conformance_after_more_updates_and_in_a_fresh_process() -> None:
    for check in (*CONTROLLER_CHECKS, check_fresh_process):
        check(resolve("controller", "ppo"))


def test_the_gain_is_clipped() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.1, 1.5, 0.5, 0.9])
    advantage = torch.tensor([2.0, 2.0, 2.0, -2.0, -2.0, -2.0])
    # arXiv 1707.06347, figure 1: only a gain is clipped, a loss is felt in full. 1.2 x 2; 0.5 x 2; ...; 0.8 x -2
    expected = torch.tensor([2.4, 1.0, 2.2, -3.0, -1.6, -1.8])
    torch.testing.assert_close(clipped_gain(ratio, advantage, 0.2), expected)


def test_the_baseline_is_a_moving_average_of_past_rewards() -> None:
    above, baseline = advantages([1.0, 0.0], None)
    assert (above, baseline) == ([0.5, -0.5], 0.5)
    above, baseline = advantages([1.0, 1.0], baseline)
    assert above == [0.5, 0.5]
    assert baseline == pytest.approx(0.95 * (0.95 * 0.5 + 0.05 * 1) + 0.05 * 1)


def test_an_update_goes_as_far_as_the_clip_lets_it() -> None:
    found = {}
    for clip in (0.2, 1e9):
        controller = PpoController(
            COIN, seed=0, clip=clip, epochs=200, learning_rate=0.0002, entropy_weight=0.0
        )
        before = probability(controller, 0)
        controller.tell(told(*[1.0, 0.0] * 10))
        found[clip] = probability(controller, 0) / before
    # Option 0 gains up to 1.2 p, and at the expense of option 1 until that has 0.8 (1 - p); then Adam comes to a stop.
    assert before == pytest.approx(0.477, abs=0.001)
    assert 1.2 < (1 - 0.8 * (1 - before)) / before < found[0.2] < 1.25
    assert found[1e9] > 1.5


def test_entropy_draws_the_policy_together() -> None:
    controller = PpoController(COIN, seed=0, entropy_weight=1.0, epochs=200, learning_rate=0.001)
    before = probability(controller, 0)
    controller.tell(told(*[0.5] * BATCH))
    assert abs(before - 0.5) > 0.01
    assert probability(controller, 0) == pytest.approx(0.5, abs=0.001)


def test_it_waits_for_a_batch_that_is_done_and_rewards_of_one_value_teach_nothing() -> None:
    controller = PpoController(COIN, seed=0, entropy_weight=0.0)
    before = probability(controller, 0)
    for reward in (0.7, 0.3):
        controller.tell([Observation(Architecture((0,)), "failed", None)] * BATCH)
        controller.tell(told(*[reward] * (BATCH - 1)))
        assert probability(controller, 0) == before
        controller.tell(told(0.7))  # a batch of .7 at first, then one that is almost all of .3 against .7
        assert (probability(controller, 0) == before) == (reward == 0.7)


def test_the_policy_is_a_distribution_of_active_choices_and_samples_follow_it() -> None:
    space = space_of(
        Choice("a", (0, 1)), Choice("b", (0, 1, 2), {"a": (1,)}), Choice("c", (0, 1), {"b": (1, 2)})
    )
    generator = torch.Generator().manual_seed(3)
    policy = LstmPolicy(space, generator)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(8)  # far from uniform
    points = list(space.enumerate())
    assert points == [(0, 0, 0), (1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 2, 0), (1, 2, 1)]
    genes = torch.tensor(points)
    assert policy.active(genes).tolist() == [list(space.active(point)) for point in points]
    with torch.no_grad():
        taken = policy(genes).gather(2, genes[:, :, None])[:, :, 0] * policy.active(genes)
    probabilities = taken.sum(dim=1).exp()
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-6)
    assert float(probabilities.max()) > 2 * float(probabilities.min())
    n = 20_000
    for share in (0.0, 1.0):
        counts = Counter(map(tuple, policy.sample(n, share, generator).tolist()))
        # uniform: 1/2 for a, then 1/3 for each b, then 1/2 for c where b lets it be
        expected = probabilities.tolist() if share == 0 else [1 / 2, 1 / 6, 1 / 12, 1 / 12, 1 / 12, 1 / 12]
        for point, p in zip(points, expected, strict=True):
            assert abs(counts[point] - n * p) < 4 * (n * p * (1 - p)) ** 0.5


def test_it_learns_a_single_good_option_with_the_settings_of_the_paper() -> None:
    controller = PpoController(conditional_space(), seed=0)
    for _ in range(15):
        asked = controller.ask(40)
        controller.tell([Observation(a, "done", 0.5 + 0.1 * (a[4] == 2)) for a in asked])
    assert sum(a[4] == 2 for a in asked) > 0.8 * 40  # of three options, two of which merge


def test_every_network_of_a_small_space_is_asked_once() -> None:
    controller = PpoController(space_of(*(Choice(name, (0, 1, 2)) for name in "abc")), seed=0)
    asked = []
    while batch := controller.ask(4):
        asked += batch
        controller.tell([Observation(a, "done", float(a[0])) for a in batch])
    assert sorted(asked) == list(itertools.product(range(3), repeat=3))


def test_nothing_global_is_touched() -> None:
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    controller = PpoController(mbconv_space(), seed=0)
    controller.tell([Observation(a, "done", float(i)) for i, a in enumerate(controller.ask(BATCH))])
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"entropy_weight": -1.0},
        {"clip": 0.0},
        {"epochs": 0},
        {"batch": 0},
    ],
)
def test_options_outside_their_domain_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be positive"):
        PpoController(mbconv_space(), seed=0, **options)  # type: ignore[arg-type]
