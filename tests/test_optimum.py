"""The search against the exact optimum over all networks of the space, where accuracy and latency are separable."""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import pytest

from mnas.accuracy.surrogate import imagenet_surrogate_additive
from mnas.latency import StructuralPredictor, score
from mnas.search_space import layer_costs, mbconv_space

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def speed() -> ModuleType:
    """The benchmark, whose search and dynamic programming this test calls."""
    spec = importlib.util.spec_from_file_location("speed", ROOT / "benchmarks" / "speed.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def predictor() -> StructuralPredictor:
    """Fitted to made-up milliseconds: depthwise work is five times as dear as dense work, a layer costs 20 us."""
    space, rng = mbconv_space(), random.Random(0)
    specs = [space.decode(space.sample(rng)) for _ in range(40)]
    times = []
    for spec in specs:
        rows = [row for row in layer_costs(spec) if row.kind == "Conv"]
        depthwise = sum(row.cost.madds for row in rows if "conv_dw" in row.name)
        dense = sum(row.cost.madds for row in rows if "conv_dw" not in row.name)
        times.append((dense + 5 * depthwise) / 4e7 + 0.02 * len(rows))
    fitted, held_out = StructuralPredictor.fit(specs, times, device="made up", seed=0)
    assert score(times, held_out).mape < 0.01
    return fitted


@pytest.mark.parametrize("target", [6.0, 12.0, 20.0])
def test_the_best_reward_is_within_half_a_percent_of_the_optimum(
    speed: ModuleType, predictor: StructuralPredictor, target: float
) -> None:
    optimum = speed.exact_optimum(predictor, target)
    _, best = speed.search(predictor, imagenet_surrogate_additive(), target, 8000)
    assert 0.995 * optimum <= best <= optimum * (1 + 1e-9)
