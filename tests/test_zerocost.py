"""Zero-cost scores of networks small enough to be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mnas.data import load_data
from mnas.errors import InputError, UnknownNameError
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec
from mnas.zerocost import SCORES, ZeroCostError, naswot, snip, synflow, zero_cost_score

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 8, 1, 2.0),), 8, 32, 10)


def pointwise(*weights: float) -> nn.Conv2d:
    """From one channel to as many as there are weights."""
    layer = nn.Conv2d(1, len(weights), 1, bias=False)
    layer.weight.data = torch.tensor(weights).view(-1, 1, 1, 1)
    return layer


def linear(rows: list[list[float]]) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    layer.weight.data = torch.tensor(rows)
    return layer


def pixels(*values: float) -> torch.Tensor:
    """Images of a single pixel."""
    return torch.tensor(values).view(-1, 1, 1, 1)


@pytest.mark.parametrize("activation", [nn.ReLU(inplace=True), nn.SiLU(inplace=True), nn.Hardswish()])
def test_naswot_by_hand(activation: nn.Module) -> None:
    # Inputs of three units for the images 1 and -1: (1, -1, 0) and (-1, 1, 0), so codes 100 and 010. They agree on the
    # third unit alone: K = [[3, 1], [1, 3]], of determinant 8.
    module = nn.Sequential(pointwise(1.0, -1.0, 0.0), activation)
    assert naswot(module, pixels(1.0, -1.0)) == pytest.approx(math.log(8))


def test_naswot_adds_layers_and_leaves_gates_out() -> None:
    # Codes of a second layer of one unit, -x + 1: 0 and 1. K = [[4, 1], [1, 4]]: 15. The sigmoid has no code.
    second = pointwise(-1.0)
    second.bias = nn.Parameter(torch.tensor([1.0]))
    first = nn.Sequential(pointwise(1.0, -1.0, 0.0), nn.ReLU())

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.gate = first, nn.Sequential(second, nn.ReLU()), nn.Sigmoid()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.first(x)
            return torch.as_tensor(self.gate(self.second(x)))

    assert naswot(Both(), pixels(1.0, -1.0)) == pytest.approx(math.log(15))


def test_naswot_of_images_that_are_told_apart_by_nothing() -> None:
    assert naswot(nn.Sequential(pointwise(1.0, 2.0), nn.ReLU()), pixels(1.0, 2.0)) == -math.inf


def test_synflow_by_hand() -> None:
    # Absolute weights 1, 2 and then 1, 3: R = 1 x 1 + 2 x 3 = 7, the norm and the activation left out. Each layer's
    # sum of theta x dR / dtheta is R again: 14 in all.
    module = nn.Sequential(
        pointwise(-1.0, 2.0), nn.BatchNorm2d(2), nn.ReLU6(), nn.Flatten(), linear([[1.0, -3.0]])
    )
    module[1].weight.data.fill_(5.0)
    assert synflow(module, torch.ones(1, 1, 1, 1)) == pytest.approx(math.log(14))


def test_snip_by_hand() -> None:
    # Logits 1 and -1: p = 1 / (1 + e^-2) for the first. Of class 0 dL / dw is p - 1 and 1 - p; times 1 and -1.
    module = nn.Sequential(nn.Flatten(), linear([[1.0], [-1.0]]))
    p = 1 / (1 + math.exp(-2))
    assert snip(module, pixels(1.0), torch.tensor([0])) == pytest.approx(2 * (1 - p))


def test_synflow_of_a_spec_by_numpy() -> None:
    # Stem, depthwise, projection, head and classifier in a row: R is linear in the weights of each layer, so that each
    # layer's sum of theta x dR / dtheta is R (Euler), five times R in all.
    spec = NetworkSpec(4, (StageSpec("sepconv", 3, 2, 6, 1),), 8, 32, 10)
    module = build_module(spec, seed=1)
    weights = [
        layer.weight.detach().double().abs().numpy()
        for layer in module.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    stem, depthwise, project, head, classify = weights
    x = convolve(np.ones((3, 32, 32)), stem, 2)
    x = np.concatenate([convolve(x[c : c + 1], depthwise[c : c + 1], 2) for c in range(len(x))])
    x = np.einsum("oi,ihw->ohw", head[:, :, 0, 0] @ project[:, :, 0, 0], x)
    expected = 5 * (classify @ x.mean(axis=(1, 2))).sum()
    assert synflow(module, torch.ones(1, 3, 32, 32)) == pytest.approx(math.log(expected))


def convolve(x: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """3x3 with a pixel of zeros around."""
    channels, height, width = x.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = x
    out = np.zeros((len(weight), height // stride, width // stride))
    for row in range(height // stride):
        for column in range(width // stride):
            patch = padded[:, row * stride : row * stride + 3, column * stride : column * stride + 3]
            out[:, row, column] = (weight * patch).sum(axis=(1, 2, 3))
    return out


def test_a_score_is_its_seeds_and_leaves_global_state_alone() -> None:
    digits = load_data("digits")
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    for name in SCORES:
        first = zero_cost_score(name, SPEC, digits, seed=1)
        assert zero_cost_score(name, SPEC, digits, seed=1) == first
        assert zero_cost_score(name, SPEC, digits, seed=2) != first
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_what_cannot_be_scored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_data("digits")
    wrong = NetworkSpec(8, SPEC.stages, 8, 32, 7)
    with pytest.raises(InputError, match="7 outputs for 10 classes"):
        zero_cost_score("naswot", wrong, digits, seed=0)
    monkeypatch.setitem(SCORES, "naswot", lambda *_: -math.inf)  # type: ignore[arg-type]
    with pytest.raises(ZeroCostError, match="is -inf"):
        zero_cost_score("naswot", SPEC, digits, seed=0)
    with pytest.raises(UnknownNameError, match="naswot"):
        zero_cost_score("naswat", SPEC, digits, seed=0)
