import pytest

from mnas.errors import InputError
from mnas.search_space import Coefficients, compound_scale, network_cost, released, scale
from mnas.search_space.scaling import RELEASED
from mnas.zoo import published

# pytorchcv's table (osmr/imgclsmob), 1000 classes.
PARAMS = (5_288_548, 7_794_184, 9_109_994, 12_233_232, 19_341_616, 30_389_784, 43_040_704, 66_347_960)
# pycls's model_complexity.json, without the bias adds of SE and classifier (B0: 9,340 + 1,000); B1 hook-counted.
MADDS = {"efficientnet_b0": 385_814_752, "efficientnet_b1": 686_802_832}
ACTIVATIONS = (6_748_036, 10_884_328, 13_832_834, 23_831_296, 49_489_032, 98_857_400)


def test_released_coefficients_give_the_published_parameters() -> None:
    b0 = published("efficientnet_b0")
    assert tuple(network_cost(released(b0, name)).params for name in RELEASED) == PARAMS


def test_released_coefficients_give_the_published_multiply_adds_and_activations() -> None:
    b0 = published("efficientnet_b0")
    for name, madds in MADDS.items():
        assert network_cost(released(b0, name)).madds == madds
    found = tuple(network_cost(released(b0, name)).activations for name in list(RELEASED)[: len(ACTIVATIONS)])
    assert found == ACTIVATIONS


@pytest.mark.parametrize(
    ("phi", "resolution"), [(0.5, 240), (1, 258), (2, 296), (3.5, 365), (5, 451), (7, 596)]
)
def test_the_pure_rule_gives_the_resolutions_of_its_formula(phi: float, resolution: int) -> None:
    assert compound_scale(published("efficientnet_b0"), phi).resolution == resolution


def test_phi_zero_changes_nothing_and_costs_double_with_phi() -> None:
    b0 = published("efficientnet_b0")
    assert compound_scale(b0, 0) == b0
    growth = network_cost(compound_scale(b0, 4)).madds / network_cost(b0).madds
    # alpha x beta^2 x gamma^2 = 1.92, so 1.92^4 = 13.6; rounding repeats up adds to it.
    assert 13.6 <= growth <= 13.6 * 1.35


def test_repeats_round_up_but_not_for_the_sake_of_the_last_bit() -> None:
    b0 = published("efficientnet_b0")
    assert [s.repeats for s in scale(b0, depth=1.1, width=1.0, resolution=240).stages] == [
        2,
        3,
        3,
        4,
        4,
        5,
        2,
    ]
    five = scale(scale(b0, depth=5.0, width=1.0, resolution=224), depth=1.2, width=1.0, resolution=224)
    assert [s.repeats for s in five.stages] == [6, 12, 12, 18, 18, 24, 6]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_coefficients_outside_their_domain_are_refused(value: float) -> None:
    b0 = published("efficientnet_b0")
    with pytest.raises(InputError):
        scale(b0, depth=value, width=1.0, resolution=224)
    with pytest.raises(InputError):
        Coefficients(alpha=value)


def test_unknown_members_and_phi_are_refused() -> None:
    with pytest.raises(InputError, match="efficientnet_b7"):
        released(published("efficientnet_b0"), "efficientnet_b99")
    with pytest.raises(InputError):
        compound_scale(published("efficientnet_b0"), float("nan"))
