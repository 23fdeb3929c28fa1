"""Searches in the spaces `igcv3` and `ghost`, and their members in training."""

import random
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from commands import MODELS, mnas, result_of

from mnas.accuracy import imagenet_surrogate
from mnas.errors import InputError
from mnas.latency import calibration_networks
from mnas.latency.kernel_prices import KernelPrices
from mnas.latency.kernels import named_kernels
from mnas.latency.networks import OTHERS
from mnas.model import build_module
from mnas.registry import make
from mnas.search_space import NetworkSpec, SearchSpace, network_cost

pytestmark = pytest.mark.usefixtures("one_thread")

SPACES = ("igcv3", "ghost")
SHUFFLE_OR_CONCAT = {"igcv3": "Gather", "ghost": "Concat"}


def space_of(name: str, resolution: int) -> SearchSpace:
    space = make("space", name, {"resolution": resolution, "num_classes": 5}, "decode")
    assert isinstance(space, SearchSpace)
    return space


def member(name: str, seed: int = 0) -> NetworkSpec:
    space = space_of(name, 32)
    return space.decode(space.sample(random.Random(seed)))


@pytest.mark.parametrize("name", SPACES)
def test_a_search_ends_with_a_network_within_the_target(name: str, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    options = ("--resolution", "64", "--trials", "60", "--target-latency", "2ms", "--out", "run", "--json")
    models = ("--latency", "models:Latency", "--accuracy", "models:Accuracy")
    result = result_of(mnas(tmp_path, "search", "--space", name, *models, *options))
    baseline = result["baseline"]
    assert (result["status"], result["trials"], result["space"]) == ("done", 60, name)
    point = make("space", name, {"resolution": 64}, "decode").from_key(baseline["architecture"])
    spec = make("space", name, {"resolution": 64}, "decode").decode(point)
    # A tenth of a nanosecond a multiply-add: 2 ms are twenty million.
    assert baseline["madds"] == network_cost(spec).madds <= 20_000_000
    graph = onnx.load(tmp_path / "run" / "baseline.onnx").graph
    assert SHUFFLE_OR_CONCAT[name] in {node.op_type for node in graph.node}
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("name", SPACES)
def test_the_surrogates_say_that_they_do_not_cover_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"not one that the ImageNet surrogates cover.*op is {name}"):
        imagenet_surrogate().evaluate([replace(member(name), resolution=224)], seed=0)
    (tmp_path / "models.py").write_text(MODELS)
    search = ("search", "--space", name, "--target-latency", "2ms", "--latency", "models:Latency")
    refused = mnas(tmp_path, *search, "--out", "run", code=2)
    assert f"does not cover the space '{name}'" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", SPACES)
def test_a_calibration_of_other_spaces_says_what_it_lacks(name: str) -> None:
    every = calibration_networks(0)
    mobile = [item for item in every if item.group not in OTHERS]
    prices, priced = (
        KernelPrices.fit([[(kernel.kernel, 1.0) for kernel in named_kernels(item.spec)] for item in items])
        for items in (mobile, every)
    )
    assert priced.network_ms([member(name)]) > 0
    with pytest.raises(InputError, match=r"without a kernel of kind '(grouped|shuffle|concat)'"):
        prices.network_ms([member(name)])


@pytest.mark.parametrize("name", SPACES)
def test_every_parameter_learns(name: str) -> None:
    module = build_module(member(name, seed=3))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    module(images).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())
