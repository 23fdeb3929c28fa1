"""Parameters, multiply-adds and activations of the published networks, against the published integers."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mnas.counting import count_madds
from mnas.errors import InputError, UnknownNameError
from mnas.model import build_module
from mnas.search_space import layer_costs, network_cost
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

# Parameters and multiply-adds: timm's models of these names, counted by fvcore with norm and pooling at 0.
PUBLISHED = {
    "efficientnet_b0": (5_288_548, 385_814_752),
    "mnasnet_a1": (3_887_038, 311_579_072),
    "mnasnet_b1": (4_383_312, 314_415_872),
    "mnasnet_small": (2_030_264, 68_339_184),
    "mobilenetv2": (3_504_872, 300_774_272),
}
# Millions of activations, as timm's table of results has them; B0 to the unit by pycls.
TIMM_ACTIVATIONS_M = {
    "efficientnet_b0": 6.75,
    "mnasnet_a1": 6.23,
    "mnasnet_b1": 5.46,
    "mnasnet_small": 2.16,
}
IMAGE = (3, 224, 224)


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_madds_are_the_published_ones(name):
    params, madds = PUBLISHED[name]
    module = build_module(published(name))
    cost = network_cost(published(name))
    assert (cost.params, cost.madds) == (params, madds)
    assert sum(parameter.numel() for parameter in module.parameters()) == params
    assert count_madds(module, IMAGE) == madds


@pytest.mark.parametrize("name", PUBLISHED)
def test_torch_counts_two_flops_for_each_published_madd(name):
    module = build_module(published(name)).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, *IMAGE))
    assert counter.get_total_flops() == 2 * PUBLISHED[name][1]


@pytest.mark.parametrize("name", TIMM_ACTIVATIONS_M)
def test_activations_are_those_of_timms_table(name):
    assert network_cost(published(name)).activations / 1e6 == pytest.approx(
        TIMM_ACTIVATIONS_M[name], abs=0.005
    )


def test_activations_of_b0_are_those_of_pycls():
    assert network_cost(published("efficientnet_b0")).activations == 6_748_036


@pytest.mark.parametrize("name", PUBLISHED)
def test_activations_are_the_outputs_of_the_modules_convolutions_and_linear_layers(name):
    module, seen = build_module(published(name)).eval(), []
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _, __, output: seen.append(output.numel()))
    with torch.no_grad():
        module(torch.zeros(1, *IMAGE))
    assert sum(seen) == network_cost(published(name)).activations


def test_layers_add_up_to_the_network():
    rows = layer_costs(published("efficientnet_b0"))
    assert sum(row.cost.madds for row in rows) == 385_814_752
    # By hand: 3 x 3 x 3 x 32 weights at each of 112 x 112 pixels.
    assert (rows[0].name, rows[0].cost.madds) == ("conv_stem", 10_838_016)


def test_an_unknown_network_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet_b0'"):
        published("eficientnet_b0")


class Unknown(nn.Module):
    """Runs an operation that no count is known for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return torch.cumsum(self.conv(x), 1)


def test_counting_refuses_an_operation_that_it_does_not_know():
    with pytest.raises(InputError, match="aten::cumsum"):
        count_madds(Unknown(), (3, 4, 4))


def test_counting_knows_layers_by_hand_arithmetic():
    layers = nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=2),  # 9 x 2 x 8 weights x 6 x 5 pixels = 4320
        nn.BatchNorm2d(8),
        nn.SiLU(),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),  # 24
    )
    assert count_madds(layers, (4, 6, 5)) == 4344


def test_counting_leaves_the_module_as_it_was_and_says_nothing(capfd, caplog):
    module = build_module(published("mnasnet_small"))
    module.bn1.eval()
    before = {name: part.training for name, part in module.named_modules()}
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    count_madds(module, IMAGE)
    assert {name: part.training for name, part in module.named_modules()} == before
    torch.testing.assert_close(dict(module.state_dict()), state, rtol=0, atol=0)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
