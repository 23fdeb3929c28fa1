"""Fits the no-data accuracy models to Accel-NASBench and prints their held-out errors as JSON.

    python benchmarks/accuracy/fit_surrogate.py --data-dir DIR     # DIR holds accel_nasbench.csv
    ... --check                                                    # prints the errors, writes nothing

Both models predict s = -log(ceiling - top1), which straightens the saturation of top-1, by ridge regression.
Additive: s is a sum over stages; inside a stage, all products of its four choices.
Quadratic: every choice and every pair of choices of the network, and all products of up to three of the
additive model's stage scores. The penalty of a pair falls with the main effects of its two choices (heredity).
The folder may be given by MNAS_BENCH_DATA. Nothing of the measurements is copied but what the fit derives.
"""

import argparse
import csv
import json
import os
import sys
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement, product
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

import mnas.accuracy
from mnas.accuracy import AdditiveSurrogate, QuadraticSurrogate
from mnas.accuracy.surrogate import CODES, FORMAT, STAGES, stage_positions
from mnas.errors import InputError
from mnas.files import write_bytes
from mnas.search_space import NetworkSpec, mbconv_space, network_cost

CSV = "accel_nasbench.csv"
SOURCE = {"repository": "afzalxo/Accel-NASBench", "commit": "42603572", "licence": "Apache-2.0"}
# Orthogonal polynomial contrasts of a choice with 2, 3 or 4 options: mean 0, variance 1 over the options.
A, B, C = 1.5**0.5, 0.5**0.5, 5**-0.5
CONTRASTS = {
    2: ((-1.0,), (1.0,)),
    3: ((-A, B), (0.0, -2 * B), (A, B)),
    4: ((-3 * C, 1.0, -C), (-C, -1.0, 3 * C), (C, -1.0, -3 * C), (3 * C, 1.0, C)),
}
# Ceilings, weights and penalties: chosen here by 10-fold cross-validation (folds of generator 0; the errors
# reported are from the folds of generator 1). `order_penalties`: of products of 1, 2, 3, 4 choices of a stage.
ADDITIVE = {"ceiling": 68.5, "weight_power": 1.0, "order_penalties": [2.0, 40.0, 80.0, 160.0]}
QUADRATIC = {
    "ceiling": 71.0,
    "weight_power": 0.5,
    "linear_penalty": 1.0,
    "pair_penalty": 2500.0,  # of a pair whose choices have the median effect
    "effect_floor": 0.15,  # in median effects; keeps the penalty of a pair of weak choices finite
    "score_penalties": [10.0, 30.0, 90.0],  # of one score, and products of two and three
}
METHODS = {
    "additive": "weighted ridge of -log(ceiling - top1) on the products of the four choices of each stage",
    "quadratic": "the same on choices, pairs of choices and products of up to three additive stage scores",
}
FILES = {"additive": "imagenet_surrogate_additive.json", "quadratic": "imagenet_surrogate.json"}
FOLDS = 10
TERMS = [term for n in (1, 2, 3) for term in combinations_with_replacement(range(STAGES), n)]


@dataclass(frozen=True)
class Measured:
    """Networks, `(n, 7)` positions of their stages' variants, `(n,)` top-1 in percent."""

    specs: list[NetworkSpec]
    positions: np.ndarray
    top1: np.ndarray

    def part(self, rows: np.ndarray) -> "Measured":
        """The rows of these numbers."""
        return Measured([self.specs[row] for row in rows], self.positions[rows], self.top1[rows])


def read(folder: Path) -> Measured:
    """The benchmark, each row's parameters held against our own count."""
    with open(folder / CSV, newline="") as file:
        rows = list(csv.DictReader(file))
    specs = [network(row) for row in rows]
    for row, spec in zip(rows, specs, strict=True):
        # The file prints millions to six decimals, so the count of parameters is exact.
        if round(float(row["params_million"]) * 1e6) != (ours := network_cost(spec).params):
            raise InputError(f"row {row['id']}: {row['params_million']} M parameters, we count {ours}.")
    return Measured(specs, stage_positions(specs), np.array([float(row["top1_percent"]) for row in rows]))


def network(row: dict[str, str]) -> NetworkSpec:
    """A row's network; the file counts blocks from 0 and says SE as 0 or 1 (a ratio of 0.25)."""
    values: dict[str, int | float | str] = {}
    for block in range(STAGES):
        e, k, layers, se = (int(row[f"block{block}_{letter}"]) for letter in ("e", "k", "l", "se"))
        names = (f"block{block + 1}.{name}" for name in ("expansion", "kernel", "layers", "se_ratio"))
        values |= dict(zip(names, (e, k, layers, 0.25 * se), strict=True))
    space = mbconv_space()
    return space.decode(space.from_values(values))


def contrasts() -> tuple[list[np.ndarray], list[int]]:
    """Each stage's `(variants, 7)` contrasts, zero where it has 6; and the choice (0 to 3) of each column."""
    choices, stages = mbconv_space().choices, []
    columns = [0, 0, 1, 2, 2, 2, 3]
    for first in range(0, 4 * STAGES, 4):
        tables = [np.array(CONTRASTS[len(choice.options)]) for choice in choices[first : first + 4]]
        wide = [np.pad(t, ((0, 0), (0, columns.count(i) - t.shape[1]))) for i, t in enumerate(tables)]
        stages.append(np.array([np.concatenate(rows) for rows in product(*wide)]))
    return stages, columns


def ridge(x: np.ndarray, s: np.ndarray, weight: np.ndarray, penalty: np.ndarray) -> tuple[np.ndarray, float]:
    """Weighted ridge with a free intercept."""
    weight = weight / weight.mean()
    mean, level = weight @ x / weight.sum(), weight @ s / weight.sum()
    x = x - mean
    beta = np.linalg.solve((x.T * weight) @ x + np.diag(penalty), x.T @ (weight * (s - level)))
    return beta, float(level - mean @ beta)


def fit_additive(data: Measured) -> tuple[list[np.ndarray], float, np.ndarray]:
    """Scores `(variants,)` of each stage, the intercept, and the `(7, 7)` main effects (stage, contrast)."""
    codes, choice = contrasts()
    sets = [c for n in (1, 2, 3, 4) for c in combinations(range(7), n) if len({choice[i] for i in c}) == n]
    designs = [np.array([code[:, list(c)].prod(axis=1) for c in sets]).T for code in codes]
    penalty = np.tile([ADDITIVE["order_penalties"][len(c) - 1] for c in sets], STAGES)
    x = np.hstack([design[data.positions[:, b]] for b, design in enumerate(designs)])
    room = ADDITIVE["ceiling"] - data.top1
    beta, intercept = ridge(x, -np.log(room), room ** ADDITIVE["weight_power"], penalty)
    parts = beta.reshape(STAGES, len(sets))
    return [d @ part for d, part in zip(designs, parts, strict=True)], intercept, parts[:, :7]


def fit_quadratic(data: Measured) -> dict[str, Any]:
    """The coefficients of the quadratic model, as its file has them."""
    raw, _, effects = fit_additive(data)
    codes, choice = contrasts()
    z = np.hstack([code[data.positions[:, b]] for b, code in enumerate(codes)])
    u = np.column_stack([score[data.positions[:, b]] for b, score in enumerate(raw)])
    # Scores with mean 0 over the networks, and variance 1 over networks and stages together.
    mean, deviation = u.mean(axis=0), (u - u.mean(axis=0)).std()
    u, scores = (u - mean) / deviation, [(score - m) / deviation for score, m in zip(raw, mean, strict=True)]
    own = [(b, choice[i]) for b in range(STAGES) for i in range(7)]
    pairs = np.array([(i, j) for i, j in combinations(range(len(own)), 2) if own[i] != own[j]])
    size = np.abs(effects).ravel()
    size = size / np.median(size[size > 0]) + QUADRATIC["effect_floor"]
    terms = np.column_stack([u[:, list(term)].prod(axis=1) for term in TERMS])
    alone = np.full(len(own), QUADRATIC["linear_penalty"])
    together = QUADRATIC["pair_penalty"] / size[pairs].prod(axis=1)
    penalty = [*alone, *together, *(QUADRATIC["score_penalties"][len(term) - 1] for term in TERMS)]
    x = np.hstack([z, z[:, pairs[:, 0]] * z[:, pairs[:, 1]], terms])
    room = QUADRATIC["ceiling"] - data.top1
    beta, intercept = ridge(x, -np.log(room), room ** QUADRATIC["weight_power"], np.array(penalty))
    tables = [np.column_stack([code, s, s**2, s**3]) for code, s in zip(codes, scores, strict=True)]
    shared = {"ceiling": QUADRATIC["ceiling"], "intercept": intercept, "scores": scores}
    return {**shared, "codes": tables, **arrange(beta, pairs)}


def arrange(beta: np.ndarray, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """Coefficients by stage and code: linear `(7, 10)`, quadratic `(7, 10, 7, 10)`, triples `(7, 7, 7)`."""
    linear, triples = np.zeros((STAGES, CODES)), np.zeros((STAGES,) * 3)
    weight = np.zeros((STAGES, CODES, STAGES, CODES))
    main, paired, scored = np.split(beta, [7 * STAGES, 7 * STAGES + len(pairs)])
    linear[:, :7] = main.reshape(STAGES, 7)
    for (i, j), value in zip(pairs, paired, strict=True):
        weight[i // 7, i % 7, j // 7, j % 7] = value
    for term, value in zip(TERMS, scored, strict=True):
        match [(b, 6 + term.count(b)) for b in sorted(set(term))]:  # the column of that power of the score
            case [(b, power)]:
                linear[b, power] = value
            case [(b, power), (c, other)]:
                weight[b, power, c, other] = value
            case _:
                triples[term] = value
    return {"linear": linear, "quadratic": weight, "triples": triples}


def coefficients(kind: str, data: Measured, held_out: dict[str, Any]) -> dict[str, Any]:
    """The file of a model fitted to `data`; rounded to 7 decimals, so that reruns give the same bytes."""
    if kind == "additive":
        scores, intercept, _ = fit_additive(data)
        fitted: dict[str, Any] = {"ceiling": ADDITIVE["ceiling"], "intercept": intercept, "scores": scores}
        options: dict[str, Any] = ADDITIVE
    else:
        fitted, options = fit_quadratic(data), {**QUADRATIC, "additive": ADDITIVE}
    for name, value in fitted.items():  # adding 0.0 turns -0.0 into 0.0
        parts = [value] if isinstance(value, float) else value
        lists = [(np.round(part, 7) + 0.0).tolist() for part in parts]
        fitted[name] = lists[0] if isinstance(value, float) else lists
    fit = {"rows": len(data.top1), "method": METHODS[kind], "hyper_parameters": options}
    return {"format": FORMAT, "kind": kind, "source": SOURCE, "fit": fit, "held_out": held_out, **fitted}


def predicted_percent(kind: str, fitted_to: Measured, specs: list[NetworkSpec]) -> np.ndarray:
    """Top-1 in percent by the model that the package makes of a fit (whose own error figures are left at 0)."""
    cls = AdditiveSurrogate if kind == "additive" else QuadraticSurrogate
    fitted = cls.from_dict(coefficients(kind, fitted_to, {"mae_points": 0.0, "rmse_points": 0.0}))
    return 100 * np.array([estimate.value for estimate in fitted.evaluate(specs, seed=0)])


def errors(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """MAE and RMSE in percentage points, R2, Kendall's tau-b."""
    error = predicted - measured
    return {
        "mae_points": round(float(np.abs(error).mean()), 4),
        "rmse_points": round(float(np.sqrt((error**2).mean())), 4),
        "r2": round(float(1 - (error**2).sum() / ((measured - measured.mean()) ** 2).sum()), 5),
        "kendall_tau": round(float(kendalltau(predicted, measured).statistic), 4),
    }


def folds(data: Measured, seed: int) -> np.ndarray:
    """`(n,)` fold of each row, 0 to 9; repeated measurements of one network share a fold."""
    network_of = np.unique(data.positions, axis=0, return_inverse=True)[1].ravel()
    fold = np.arange(network_of.max() + 1) % FOLDS
    np.random.default_rng(seed).shuffle(fold)
    return fold[network_of]


def cross_validate(kind: str, data: Measured, seed: int) -> dict[str, Any]:
    """Errors of the predictions of every row by a model fitted to the other nine folds."""
    fold, predicted = folds(data, seed), np.empty(len(data.top1))
    for number in range(FOLDS):
        inside, outside = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        predicted[outside] = predicted_percent(kind, data.part(inside), data.part(outside).specs)
    how = f"10-fold cross-validation, each network in one fold, folds of numpy's default_rng({seed})"
    return {**errors(predicted, data.top1), "validation": how}


def main() -> int:
    """Exit code 2, with a message, where the data is absent."""
    parser = argparse.ArgumentParser(description="Fits the no-data accuracy models to Accel-NASBench.")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MNAS_BENCH_DATA"))
    parser.add_argument("--out", type=Path, default=Path(mnas.accuracy.__file__).parent)
    parser.add_argument("--seed", type=int, default=1, help="of the folds (default 1)")
    parser.add_argument("--check", action="store_true", help="print the errors, write nothing")
    given = parser.parse_args()
    if given.data_dir is None or not (Path(given.data_dir) / CSV).is_file():
        print(f"skipped: no {CSV}; give its folder with --data-dir or MNAS_BENCH_DATA.", file=sys.stderr)
        return 2
    data = read(Path(given.data_dir))
    report = {kind: cross_validate(kind, data, given.seed) for kind in FILES}
    if not given.check:
        for kind, name in FILES.items():
            text = json.dumps(coefficients(kind, data, report[kind]), allow_nan=False)
            write_bytes(given.out / name, (text + "\n").encode())
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
