import numpy as np
import pytest

from mnas.errors import InputError
from mnas.objective import Reward, latency_quantile


def test_hard_reward_by_hand() -> None:
    rewards = Reward("hard", 80.0).score([0.7, 0.7, 0.7], [40.0, 80.0, 160.0])
    assert rewards.tolist() == pytest.approx([0.7, 0.7, 0.35])


def test_soft_reward_has_the_published_flatness() -> None:
    # MnasNet's derivation of -0.07: twice the latency costs about 5 % of the reward, on either side.
    rewards = Reward("soft", 80.0).score([1.0, 1.0, 1.0], [40.0, 80.0, 160.0])
    assert rewards[1] == 1.0
    assert rewards[2] == pytest.approx(0.9526, abs=1e-4)
    assert rewards[0] == pytest.approx(1 / 0.9526, abs=1e-4)


def test_absolute_reward_penalises_both_sides() -> None:
    rewards = Reward("absolute", 80.0).score([0.7, 0.7, 0.7], [40.0, 80.0, 120.0])
    assert rewards.tolist() == pytest.approx([0.65, 0.7, 0.65])


def test_with_soft_the_best_network_is_the_same_for_every_target_and_with_hard_it_is_not() -> None:
    accuracy, cost = np.array([0.5, 0.6, 0.66]), np.array([10.0, 20.0, 40.0])

    def best(kind: str) -> set[int]:
        return {int(Reward(kind, t).score(accuracy, cost).argmax()) for t in (8, 18, 25, 60)}  # type: ignore[arg-type]

    assert len(best("soft")) == 1
    assert best("hard") == {0, 1, 2}


@pytest.mark.parametrize(
    ("quantile", "ms"),
    [
        (0.5, 10.0),
        (0.95, 12.0),
        (0.05, 9.0),
        (0.9, 11.526),  # 10 x 1.2^(1.2816 / 1.6449)
        (0.25, 9.577),  # 10 x 0.9^(0.6745 / 1.6449)
    ],
)
def test_a_quantile_lies_on_a_normal_of_the_logarithm(quantile: float, ms: float) -> None:
    known = {"latency_ms": 10.0, "latency_low_ms": 9.0, "latency_high_ms": 12.0}
    assert latency_quantile(known, quantile) == pytest.approx(ms, abs=1e-3)


def test_a_measurement_s_interval_holds_95_per_cent_and_a_bare_number_is_certain() -> None:
    known = {"latency_ms": 10.0, "latency_low_ms": 9.0, "latency_high_ms": 12.0, "latency_raw_ms": 10.1}
    assert latency_quantile(known, 0.975) == pytest.approx(12.0)
    assert latency_quantile(known, 0.95) == pytest.approx(11.654, abs=1e-3)  # 10 x 1.2^(1.6449 / 1.9600)
    certain = {"latency_ms": 10.0, "latency_low_ms": 10.0, "latency_high_ms": 10.0}
    assert latency_quantile(certain, 0.9) == 10.0


@pytest.mark.parametrize("quantile", [0.0, 1.0, float("nan")])
def test_a_quantile_that_is_none_is_refused(quantile: float) -> None:
    with pytest.raises(InputError, match="quantile"):
        Reward("hard", 80.0, quantile)


@pytest.mark.parametrize(("kind", "target"), [("hard", 0.0), ("hard", float("nan")), ("gentle", 80.0)])
def test_rewards_that_make_no_sense_are_refused(kind: str, target: float) -> None:
    with pytest.raises(InputError):
        Reward(kind, target)  # type: ignore[arg-type]
