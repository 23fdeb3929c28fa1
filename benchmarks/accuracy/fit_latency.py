"""Fits the latency of `mnas bench controllers --benchmark mbconv-additive` to Accel-NASBench; prints errors as JSON.

    python benchmarks/accuracy/fit_latency.py --data-dir DIR     # DIR holds accel_nasbench.csv
    ... --check                                                  # prints the errors, writes nothing

Milliseconds on a ZCU102 (an FPGA, as the benchmark's authors measured them) are a constant and one number for each
variant of each stage, by least squares of the relative errors. Rows without a latency are left out. The folder may be
given by MNAS_BENCH_DATA. Nothing of the measurements is copied but what the fit derives.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from fit_surrogate import CSV, FOLDS, SOURCE, Measured, folds, read, ridge

import mnas.bench
from mnas.accuracy.surrogate import covered
from mnas.bench.stage_latency import FILE, FORMAT
from mnas.files import write_bytes

COLUMN = "latency_zcu102_ms"
# Only so that the sums have one solution: 10-fold cross-validation is no better with more.
PENALTY = 1e-6


def design(data: Measured) -> np.ndarray:
    """`(n, variants of all stages)`: 1 where a network has that variant."""
    columns = zip(covered()[1], data.positions.T, strict=True)
    return np.hstack([np.eye(len(variants))[column] for variants, column in columns])


def fit(x: np.ndarray, ms: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """The constant, and what each stage's variants add, `(variants,)`; the cheapest variant of a stage adds nothing."""
    beta, intercept = ridge(x, ms, ms**-2, np.full(x.shape[1], PENALTY))
    stages = np.split(beta, np.cumsum([len(variants) for variants in covered()[1]])[:-1])
    return intercept + sum(float(stage.min()) for stage in stages), [stage - stage.min() for stage in stages]


def cross_validate(data: Measured, ms: np.ndarray, seed: int) -> dict[str, Any]:
    """Errors of the predictions of every row by a model fitted to the other nine folds."""
    fold, predicted, x = folds(data, seed), np.empty(len(ms)), design(data)
    for number in range(FOLDS):
        outside = fold == number
        fixed, stages = fit(x[~outside], ms[~outside])
        predicted[outside] = fixed + x[outside] @ np.concatenate(stages)
    relative = np.abs(predicted / ms - 1)
    how = f"10-fold cross-validation, each network in one fold, folds of numpy's default_rng({seed})"
    return {
        "mape": round(float(relative.mean()), 6),
        "worst": round(float(relative.max()), 6),
        "r2": round(float(1 - ((predicted - ms) ** 2).sum() / ((ms - ms.mean()) ** 2).sum()), 6),
        "validation": how,
    }


def main() -> int:
    """Exit code 2, with a message, where the data is absent."""
    parser = argparse.ArgumentParser(description="Fits stage latencies to Accel-NASBench.")
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MNAS_BENCH_DATA"))
    parser.add_argument("--out", type=Path, default=Path(mnas.bench.__file__).parent)
    parser.add_argument("--seed", type=int, default=1, help="of the folds (default 1)")
    parser.add_argument("--check", action="store_true", help="print the errors, write nothing")
    given = parser.parse_args()
    if given.data_dir is None or not (Path(given.data_dir) / CSV).is_file():
        print(f"skipped: no {CSV}; give its folder with --data-dir or MNAS_BENCH_DATA.", file=sys.stderr)
        return 2
    with open(Path(given.data_dir) / CSV, newline="") as file:
        texts = [row[COLUMN] for row in csv.DictReader(file)]
    data = read(Path(given.data_dir)).part(np.flatnonzero([bool(text) for text in texts]))
    ms = np.array([float(text) for text in texts if text])
    held_out = cross_validate(data, ms, given.seed)
    if not given.check:
        fixed, stages = fit(design(data), ms)
        fitted = {
            "format": FORMAT,
            "device": "ZCU102 (an FPGA)",
            "source": SOURCE,
            "fit": {
                "rows": len(ms),
                "method": "least squares of relative errors, one number a stage variant",
            },
            "held_out": held_out,
            "fixed_ms": round(fixed, 7),
            "stages_ms": [(np.round(stage, 7) + 0.0).tolist() for stage in stages],
        }
        write_bytes(given.out / FILE, (json.dumps(fitted, allow_nan=False) + "\n").encode())
    print(json.dumps(held_out, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
