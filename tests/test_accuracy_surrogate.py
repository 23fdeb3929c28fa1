import json
import os
import random
import runpy
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mnas.accuracy import (
    AdditiveSurrogate,
    QuadraticSurrogate,
    imagenet_surrogate,
    imagenet_surrogate_additive,
)
from mnas.errors import InputError
from mnas.protocols import AccuracyModel
from mnas.search_space import NetworkSpec, mbconv_space
from mnas.zoo import published

SPACE = mbconv_space()
FACTORIES = [imagenet_surrogate, imagenet_surrogate_additive]
ROOT = Path(__file__).parent.parent
# afzalxo/Accel-NASBench, commit 42603572: the rows at quantiles 0, 1, 25, 50, 75, 99 and 100 % of top-1.
# Seven blocks, each expansion, kernel, layers, SE; then the measured top-1 in percent.
MEASURED = {
    "1330 1310 1520 1510 4310 1310 1310": 42.85,
    "1310 6520 6510 1510 1330 1520 1520": 50.674,
    "4311 6310 6520 1530 1521 4340 1520": 58.308,
    "1530 4320 1320 1520 6510 4320 6530": 60.73,
    "6530 6320 1320 6320 6320 1520 6530": 62.644,
    "6520 4321 4311 6520 4530 4331 6531": 65.578,
    "4330 4530 6331 6511 6531 6530 6521": 67.052,
}


def network(row: str) -> NetworkSpec:
    # The space's order of choices is the row's; SE stands for a ratio of 0.25.
    numbers = [int(digit) for digit in row.replace(" ", "")]
    values = [0.25 * number if place % 4 == 3 else number for place, number in enumerate(numbers)]
    names = (choice.name for choice in SPACE.choices)
    return SPACE.decode(SPACE.from_values(dict(zip(names, values, strict=True))))


def sampled(n: int, seed: int = 0) -> list[NetworkSpec]:
    rng = random.Random(seed)
    return [SPACE.decode(SPACE.sample(rng)) for _ in range(n)]


def accuracies(model: AccuracyModel, specs: list[NetworkSpec]) -> np.ndarray:
    return np.array([estimate.value for estimate in model.evaluate(specs, seed=0)])


def coefficients(name: str) -> dict[str, Any]:
    return json.loads((files("mnas.accuracy") / name).read_bytes())


# Three held-out root mean square errors; the wrong model for a network is off by the spread, 3.3 points.
@pytest.mark.parametrize(
    ("factory", "points"), [(imagenet_surrogate, 1.1), (imagenet_surrogate_additive, 1.6)]
)
def test_measured_networks_are_predicted_and_ranked(factory: Any, points: float) -> None:
    predicted = accuracies(factory(), [network(row) for row in MEASURED])
    assert 100 * predicted == pytest.approx(list(MEASURED.values()), abs=points)
    assert (np.diff(predicted) > 0).all()


@pytest.mark.parametrize("factory", FACTORIES)
def test_estimates_say_what_they_are(factory: Any) -> None:
    model = factory()
    assert isinstance(model, AccuracyModel)
    (estimate,) = model.evaluate([published("efficientnet_b0")], seed=0)
    assert 0.62 < estimate.value < 0.67  # the proxy training's scale, not the 77 % of a full training
    assert estimate.std == model.rmse > model.mae > 0
    assert "Accel-NASBench's short proxy training" in estimate.source
    assert f"{100 * model.mae:.2f} points" in estimate.source


@pytest.mark.parametrize("factory", FACTORIES)
def test_a_batch_equals_one_by_one_and_no_seed_matters(factory: Any) -> None:
    specs = sampled(200)
    together = factory().evaluate(specs, seed=0)
    assert together == [factory().evaluate([spec], seed=7)[0] for spec in specs]
    assert len(set(accuracies(factory(), specs))) == 200
    assert factory().evaluate([], seed=0) == []


def swap_effect(transformed: Any, stage: int) -> float:
    """How far swapping one stage between two networks moves the sum of their transformed accuracies."""
    left, right = sampled(100, seed=1), sampled(100, seed=2)

    def graft(a: NetworkSpec, b: NetworkSpec) -> NetworkSpec:
        return replace(a, stages=(*a.stages[:stage], b.stages[stage], *a.stages[stage + 1 :]))

    swapped = transformed([*map(graft, left, right)]) + transformed([*map(graft, right, left)])
    return float(np.abs(swapped - transformed(left) - transformed(right)).max())


@pytest.mark.parametrize("stage", range(7))
def test_only_the_additive_model_is_separable(stage: int) -> None:
    additive, quadratic = imagenet_surrogate_additive(), imagenet_surrogate()
    assert swap_effect(lambda s: -np.log(0.685 - accuracies(additive, s)), stage) < 1e-9
    assert swap_effect(lambda s: -np.log(0.71 - accuracies(quadratic, s)), stage) > 0.01


def test_stage_scores_and_link_give_the_additive_models_accuracy() -> None:
    model, specs = imagenet_surrogate_additive(), sampled(100)
    totals = [
        model.intercept + sum(model.score(n, s) for n, s in enumerate(spec.stages, 1)) for spec in specs
    ]
    assert [model.link(total) for total in totals] == pytest.approx(accuracies(model, specs), abs=1e-12)


def test_the_link_rises_and_stays_between_chance_and_the_ceiling() -> None:
    model = imagenet_surrogate_additive()
    assert (np.diff([model.link(score) for score in np.linspace(-4.2, 5.0, 200)]) > 0).all()
    assert model.link(-1e9) == 0.001
    assert model.link(1e9) == pytest.approx(0.685)
    assert model.link(-np.log(8.5)) == pytest.approx(0.6)  # 68.5 % - 8.5 %


def test_the_best_stages_make_the_additive_models_best_network() -> None:
    model, specs = imagenet_surrogate_additive(), sampled(3000)
    best = tuple(
        max({spec.stages[b] for spec in specs}, key=lambda stage, b=b: model.score(b + 1, stage))
        for b in range(7)
    )
    assert accuracies(model, [replace(specs[0], stages=best)])[0] > accuracies(model, specs).max()


def test_the_quadratic_model_equals_its_file_evaluated_by_the_formula() -> None:
    data, rng = coefficients("imagenet_surrogate.json"), random.Random(3)
    for genes in [SPACE.sample(rng) for _ in range(20)]:
        code = []
        for b in range(7):
            e, k, layers, se = genes[4 * b : 4 * b + 4]
            code.append(data["codes"][b][((e * 2 + k) * (4 if b == 5 else 3) + layers) * 2 + se])
        u = [numbers[7] for numbers in code]
        score = data["intercept"] + np.sum(np.multiply(code, data["linear"]))
        score += np.einsum("bi,bicj,cj->", code, data["quadratic"], code)
        score += np.einsum("b,c,d,bcd->", u, u, u, data["triples"])
        (value,) = accuracies(imagenet_surrogate(), [SPACE.decode(genes)])
        assert value == pytest.approx((data["ceiling"] - np.exp(-score)) / 100, abs=1e-9)


B0 = published("efficientnet_b0")
RELU = replace(B0, style=replace(B0.style, activation="relu"))


def stage3(**changes: Any) -> NetworkSpec:
    return replace(B0, stages=(*B0.stages[:2], replace(B0.stages[2], **changes), *B0.stages[3:]))


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        (replace(B0, resolution=192), "resolution is 192, covered is 224"),
        (replace(B0, num_classes=10), "num_classes is 10, covered is 1000"),
        (replace(B0, stem_channels=16), "stem_channels is 16, covered is 32"),
        (replace(B0, head_channels=640), "head_channels is 640, covered is 1280"),
        (replace(B0, in_channels=1), "in_channels is 1, covered is 3"),
        (RELU, "style.activation is relu, covered is silu"),
        (replace(B0, stages=B0.stages[:6]), "number of stages is 6, covered is 7"),
        (replace(B0, stages=B0.stages * 2), "number of stages is 14, covered is 7"),
        (stage3(kernel=7), "stage 3: kernel is 7, covered: 3, 5"),
        (stage3(expansion=3), "stage 3: expansion is 3, covered: 1, 4, 6"),
        (stage3(expansion=1), "stage 3: op is mbconv, covered: sepconv"),
        (stage3(repeats=4), "stage 3: repeats is 4, covered: 1, 2, 3"),
        (stage3(se_ratio=0.5), "stage 3: se_ratio is 0.5, covered: 0.0, 0.25"),
        (stage3(out_channels=48), "stage 3: out_channels is 48, covered: 40"),
        (stage3(stride=1), "stage 3: stride is 1, covered: 2"),
        (stage3(skip="none"), "stage 3: skip is none, covered: identity"),
    ],
)
@pytest.mark.parametrize("factory", FACTORIES)
def test_uncovered_networks_are_refused_by_name(factory: Any, spec: NetworkSpec, named: str) -> None:
    with pytest.raises(InputError) as caught:
        factory().evaluate([B0, spec], seed=0)
    assert [part in str(caught.value) for part in ("network 2 ", named, "--data", "--accuracy")] == [True] * 4
    assert str(caught.value).count("covered") == 1  # nothing else is blamed


def test_all_differences_are_named_at_once() -> None:
    spec = replace(stage3(kernel=7, repeats=9), resolution=192)
    with pytest.raises(InputError, match=r"resolution is 192.*stage 3: kernel is 7.*stage 3: repeats is 9"):
        imagenet_surrogate().evaluate([spec], seed=0)


@pytest.mark.parametrize("number", [0, 2, 8])
def test_scores_of_foreign_stages_are_refused(number: int) -> None:
    with pytest.raises(InputError, match=f"not a stage {number} of the mbconv space"):
        imagenet_surrogate_additive().score(number, B0.stages[0])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "mnas.accuracy-surrogate/2"}, "accuracy-surrogate/2"),
        ({"extra": 1}, "extra"),
        ({"intercept": float("nan")}, "intercept"),
        ({"intercept": "a lot"}, "wrong field"),
        ({"ceiling": 101.0}, "ceiling"),
        ({"scores": [[0.0] * 36] * 7}, "scores"),
        ({"held_out": {"mae_points": 0.4}}, "rmse_points"),
    ],
)
def test_damaged_coefficients_are_refused(change: dict[str, Any], named: str) -> None:
    data = coefficients("imagenet_surrogate_additive.json")
    AdditiveSurrogate.from_dict(data)
    with pytest.raises(InputError, match=named):
        AdditiveSurrogate.from_dict(data | change)
    with pytest.raises(InputError, match="quadratic"):
        QuadraticSurrogate.from_dict(data)


def test_the_package_needs_numpy_alone() -> None:
    code = "import sys, mnas.accuracy as a; a.imagenet_surrogate(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "scipy", "onnx"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("kind", "factory", "bar"),
    [
        # The bar of the quadratic model: the benchmark authors' XGBoost, .317 points, R2 .984, tau .917.
        ("quadratic", imagenet_surrogate, {"mae_points": 0.317, "r2": 0.984, "kendall_tau": 0.917}),
        ("additive", imagenet_surrogate_additive, {"mae_points": 0.45, "r2": 0.969, "kendall_tau": 0.893}),
    ],
)
def test_the_shipped_errors_hold_on_a_split(kind: str, factory: Any, bar: dict[str, float]) -> None:
    fitting = SimpleNamespace(**runpy.run_path(str(ROOT / "benchmarks/accuracy/fit_surrogate.py")))
    folder = Path(os.environ.get("MNAS_BENCH_DATA", ""))
    if not (folder / fitting.CSV).is_file():
        pytest.skip(f"no {fitting.CSV}: set MNAS_BENCH_DATA to the folder that holds it")
    data, shipped = fitting.read(folder), coefficients(fitting.FILES[kind])["held_out"]
    fold = fitting.folds(data, 5)  # neither the folds of the choices (0) nor those of the report (1)
    inside, outside = data.part(np.flatnonzero(fold > 2)), data.part(np.flatnonzero(fold <= 2))
    found = fitting.errors(fitting.predicted_percent(kind, inside, outside.specs), outside.top1)
    assert found["rmse_points"] == pytest.approx(shipped["rmse_points"], rel=0.15)
    assert found["mae_points"] < bar["mae_points"]
    assert min(found["r2"] - bar["r2"], found["kendall_tau"] - bar["kendall_tau"]) > 0
    refitted = fitting.predicted_percent(kind, data, data.specs)
    assert refitted == pytest.approx(100 * accuracies(factory(), data.specs), abs=1e-3)
