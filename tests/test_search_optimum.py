"""The optimum of a search's own models: proved, bounded, or said to be unknown."""

import random

import pytest

from mnas.accuracy.surrogate import imagenet_surrogate, imagenet_surrogate_additive
from mnas.objective import Reward
from mnas.search.optimum import Optimum, find_optimum
from mnas.search_space import mbconv_space, mnasnet_space, network_cost

SPACE = mbconv_space()


def test_the_additive_surrogate_has_an_exact_optimum_with_its_network() -> None:
    surrogate, reward = imagenet_surrogate_additive(), Reward("hard", 200e6)
    found = find_optimum(SPACE, surrogate, reward, "madds")
    assert found.kind == "exact"
    assert found.architecture is not None
    spec = SPACE.decode(SPACE.from_key(found.architecture))
    value = surrogate.evaluate([spec], seed=0)[0].value
    assert float(reward.score(value, network_cost(spec).madds)) == pytest.approx(found.reward)


def test_the_quadratic_surrogate_has_a_bound_that_is_tight_and_holds() -> None:
    surrogate, reward = imagenet_surrogate(), Reward("hard", 300e6)
    found = find_optimum(SPACE, surrogate, reward, "madds")
    assert found.kind == "bound"
    assert found.reward is not None
    rng = random.Random(0)
    best, best_reward = SPACE.sample(rng), 0.0
    for step in range(3000):  # a plain local search, two choices at a time
        genes = list(best)
        for place in rng.sample(range(len(genes)), 2):
            genes[place] = rng.randrange(len(SPACE.choices[place].options))
        spec = SPACE.decode(genes)
        value = surrogate.evaluate([spec], seed=0)[0].value
        worth = float(reward.score(value, network_cost(spec).madds))
        assert worth <= found.reward, step
        if worth > best_reward:
            best, best_reward = SPACE.architecture(genes), worth
    assert 0 <= 1 - best_reward / found.reward < 0.04
    assert found.to_dict(best_reward)["gap"] == pytest.approx(1 - best_reward / found.reward)


def test_what_cannot_be_known_says_why() -> None:
    additive = imagenet_surrogate_additive()
    assert "not sums" in str(find_optimum(SPACE, additive, Reward("hard", 10.0), "latency").reason)
    assert "absolute" in str(find_optimum(SPACE, additive, Reward("absolute", 3e8), "madds").reason)
    assert "not a stage 1" in str(
        find_optimum(mnasnet_space(), additive, Reward("hard", 3e8), "madds").reason
    )

    class Own:
        def evaluate(self, specs, *, seed):  # type: ignore[no-untyped-def]
            raise AssertionError

    found = find_optimum(SPACE, Own(), Reward("hard", 3e8), "madds")
    assert "model of your own" in str(found.reason)
    assert found.to_dict(0.5) == Optimum("unknown", None, found.reason).to_dict(None)
