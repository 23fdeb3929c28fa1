"""Every block and a network of each family on a GPU: the CPU's logits, a training step under autocast. Needs CUDA."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec
from mnas.search_space.blocks import BLOCKS
from mnas.search_space.spec import EXPANDING, GROUPED
from mnas.zoo import published

if not torch.cuda.is_available():
    pytest.skip("needs a GPU: torch.cuda.is_available() is False", allow_module_level=True)

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_thread")]

# The smallest member of each family.
NETWORKS = (
    *(
        "efficientnet_b0",
        "efficientnet_lite0",
        "efficientnetv2_b0",
        "mnasnet_a1",
        "mnasnet_small",
        "mobilenetv2",
    ),
    *("mobilenetv3_small", "ghostnet_050", "igcv3_025", "resnet_18", "resnet_50", "resnet_rs_50"),
    *("regnet_x_200mf", "regnet_y_200mf"),
)


def of_block(op: str, stride: int) -> NetworkSpec:
    expansion = 2 if op in EXPANDING else 1
    stage = StageSpec(op, 3, stride, 16, 2, expansion, groups=2 if op in GROUPED else 1)
    return NetworkSpec(16, (stage,), 24, resolution=17, num_classes=5)


def check(spec: NetworkSpec) -> None:
    """In evaluation as on the CPU (float32, no TF32); in training under bf16 autocast finite loss and gradients."""
    module = build_module(spec, seed=1)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, spec.in_channels, spec.resolution, spec.resolution, generator=generator)
    module.train()(images)  # statistics that are not 0 and 1
    there = copy.deepcopy(module).to("cuda").to(memory_format=torch.channels_last)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        expected = module.eval()(images)
        found = there.eval()(images.to("cuda", memory_format=torch.channels_last)).cpu()
    assert expected.std() > 0
    assert (found - expected).abs().max() <= 1e-3 * expected.std()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        logits = there.train()(images.to("cuda", memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, torch.arange(4, device="cuda") % spec.num_classes)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in there.parameters() if p.grad is not None)
    assert all(p.grad is not None for p in there.parameters())


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("op", BLOCKS)
def test_every_block(op: str, stride: int) -> None:
    check(of_block(op, stride))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_each_family(name: str) -> None:
    check(replace(published(name), resolution=64, num_classes=10))
