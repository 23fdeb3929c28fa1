"""Latency from encodings alone against an additive ridge, on published measurements; prints one JSON object.

    python benchmarks/latency/encodings.py --data-dir FOLDER [--fitted 50 100 500 4000] [--seeds 3]

Reads every .npz of the folder (or of MNAS_BENCH_DATA) that has `arch` `(n, layers)`, one option each, or `ks`, `e`
`(n, layers)`, `d` `(n, stages)` and `r` `(n,)` (kernel, expansion, depth and resolution, as in once-for-all networks),
and predicts each of its columns `lat_*`, in ms: fitted on random ones of all but the last fifth, tested on the last
fifth. HELP (Lee et al. 2021) published such files. Rows are taken to be in the order of measurement. The ridge has
one-hot options, depths and numbers; cross-validation chooses its scale (ms or log) and strength.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnas.latency.encoding_predictor import EncodingPredictor
from mnas.latency.scores import coverage, score

STRENGTHS = 10.0 ** np.arange(-3, 4, 0.5)
FOLDS = 5
# The share of a file, at its end, that is only predicted.
TEST_SHARE = 0.2


@dataclass(frozen=True)
class Encoded:
    """Networks: codes and mask `(n, positions)`, depths `(n, stages)` or none, numeric `(n, q)` or none."""

    codes: np.ndarray
    active: np.ndarray
    depths: np.ndarray
    numeric: np.ndarray | None

    def inputs(self, rows: np.ndarray) -> dict[str, Any]:
        """What the predictor takes besides latencies."""
        numeric = None if self.numeric is None else self.numeric[rows]
        return {"encodings": self.codes[rows], "active": self.active[rows], "numeric": numeric}

    def one_hot(self) -> np.ndarray:
        """Of every choice, inactive ones all 0, with the numeric columns and their squares, `(n, features)`."""
        columns = []
        for codes, active in (
            (self.codes, self.active),
            (self.depths, np.ones(self.depths.shape, dtype=bool)),
        ):
            for code, mask in zip(codes.T, active.T, strict=True):
                columns += [(code == value) & mask for value in np.unique(code)]
        if self.numeric is not None:
            for column in self.numeric.T:
                scaled = (column - column.mean()) / column.std()
                columns += [scaled, scaled**2, *(column == value for value in np.unique(column))]
        return np.array(columns, dtype=np.float64).T


def read(data: Any) -> Encoded | None:
    """The encodings of a file, None where it has none of the two forms."""
    if "arch" in data:
        codes = data["arch"].astype(np.int64)
        none = np.zeros((len(codes), 0), dtype=np.int64)
        return Encoded(codes, np.ones(codes.shape, dtype=bool), none, None)
    if not {"ks", "e", "d", "r"} <= set(data):
        return None
    kernels, expansions, depths = (data[name].astype(np.int64) for name in ("ks", "e", "d"))
    slots = kernels.shape[1] // depths.shape[1]
    active = np.arange(kernels.shape[1]) % slots < np.repeat(depths, slots, axis=1)
    return Encoded(
        100 * kernels + expansions, active, depths, data["r"].reshape(len(depths), -1).astype(np.float64)
    )


def ridge(features: np.ndarray, targets: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Predictions `(m,)` for `test` at each strength, by one decomposition; the intercept is free."""
    mean, centre = features.mean(axis=0), targets.mean()
    left, values, right = np.linalg.svd(features - mean, full_matrices=False)
    moment, across = left.T @ (targets - centre), (test - mean) @ right.T
    return [centre + across @ (values / (values**2 + strength) * moment) for strength in STRENGTHS]


def additive_ridge(
    features: np.ndarray, ms: np.ndarray, fitted: np.ndarray, test: np.ndarray, seed: int
) -> np.ndarray:
    """The baseline's predictions in ms, `(m,)`; scale and strength of the least held-out relative error."""
    best: tuple[float, np.ndarray] | None = None
    for forward, back in ((np.asarray, np.asarray), (np.log, np.exp)):
        errors = np.zeros(len(STRENGTHS))
        for fold in np.array_split(np.random.default_rng(seed).permutation(fitted), FOLDS):
            rest = np.setdiff1d(fitted, fold)
            for number, found in enumerate(ridge(features[rest], forward(ms[rest]), features[fold])):
                errors[number] += np.abs(back(found) / ms[fold] - 1).sum()
        if best is None or errors.min() < best[0]:
            found = ridge(features[fitted], forward(ms[fitted]), features[test])[int(errors.argmin())]
            best = float(errors.min()), back(found)
    assert best is not None
    return best[1]


def trial(
    encoded: Encoded, features: np.ndarray, ms: np.ndarray, count: int, seed: int, shuffled: bool
) -> dict[str, Any]:
    """One fit of each on the same random networks, scored on the last fifth."""
    last = int(len(ms) * (1 - TEST_SHARE))
    fitted, test = np.random.default_rng(seed).permutation(last)[:count], np.arange(last, len(ms))
    fitted = fitted if shuffled else np.sort(fitted)
    start = time.perf_counter()
    predictor = EncodingPredictor.fit(
        latencies_ms=ms[fitted], device="benchmark", seed=seed, **encoded.inputs(fitted)
    )
    seconds = time.perf_counter() - start
    found, low, high = predictor.predict_ms(**encoded.inputs(test))
    ours = score(ms[test], found).to_dict()
    ours["coverage_90"] = coverage(ms[test], low, high)
    ours["half_width"] = float(np.mean((high - low) / 2 / found))
    ours["seconds"] = seconds
    baseline = additive_ridge(features, ms, fitted, test, seed)
    return {"ours": ours, "ridge": score(ms[test], baseline).to_dict()}


def compare(encoded: Encoded, ms: np.ndarray, count: int, seeds: int, shuffled: bool) -> dict[str, Any]:
    """Means over the seeds; `beats` says of how many seeds ours was the better, and whether the mean is."""
    features = encoded.one_hot()
    trials = [trial(encoded, features, ms, count, seed, shuffled) for seed in range(seeds)]
    means = {
        who: {name: round(float(np.mean([one[who][name] for one in trials])), 4) for name in trials[0][who]}
        for who in ("ours", "ridge")
    }
    wins = {
        "mape": [one["ours"]["mape"] < one["ridge"]["mape"] for one in trials],
        "spearman": [one["ours"]["spearman"] > one["ridge"]["spearman"] for one in trials],
    }
    beats = {
        "mape": means["ours"]["mape"] < means["ridge"]["mape"],
        "spearman": means["ours"]["spearman"] > means["ridge"]["spearman"],
    }
    return means | {"beats": beats, "wins": {name: f"{sum(won)}/{seeds}" for name, won in wins.items()}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("MNAS_BENCH_DATA"))
    parser.add_argument("--fitted", type=int, nargs="+", default=[50, 100, 500, 4000])
    parser.add_argument("--seeds", type=int, default=3, help="random choices of the networks to fit")
    parser.add_argument(
        "--shuffled", action="store_true", help="do not tell ours the order of the measurements"
    )
    options = parser.parse_args()
    files = sorted(Path(options.data_dir).glob("*.npz")) if options.data_dir else []
    if not files:
        print("skipped: no .npz; give their folder with --data-dir or MNAS_BENCH_DATA.", file=sys.stderr)
        return 2
    start, devices = time.perf_counter(), {}
    for path in files:
        with np.load(path, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive.files}
        encoded = read(data)
        if encoded is None:
            print(f"left out: {path.name} has neither arch nor ks, e, d, r.", file=sys.stderr)
            continue
        for column in sorted(name for name in data if name.startswith("lat_")):
            ms = data[column].astype(np.float64)
            whole = int(len(ms) * (1 - TEST_SHARE))
            results = {}
            for count in options.fitted:
                # All of them are the same networks at every seed.
                seeds = options.seeds if count < whole else 1
                results[str(count)] = compare(encoded, ms, min(count, whole), seeds, options.shuffled)
                print(f"{path.stem} {column} {count}: {json.dumps(results[str(count)])}", file=sys.stderr)
            devices[f"{path.stem}/{column}"] = results
    every = [result["beats"] for results in devices.values() for result in results.values()]
    report = {
        "command": f"python benchmarks/latency/encodings.py {' '.join(sys.argv[1:])}".strip(),
        "devices": devices,
        "beats_everywhere": {name: all(beats[name] for beats in every) for name in ("mape", "spearman")},
        "seconds": round(time.perf_counter() - start, 1),
    }
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
