"""The benchmarks by name."""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from mnas.accuracy import AdditiveSurrogate, imagenet_surrogate, imagenet_surrogate_additive
from mnas.bench.benchmark import Benchmark, Floats, Judge, decoded, shares_of
from mnas.bench.stage_latency import StageLatency, zcu102
from mnas.controllers.exact import Front, SeparableModel, solve
from mnas.errors import InputError, MnasError, UnknownNameError
from mnas.files import read_json
from mnas.objective import Reward
from mnas.search.optimum import find_optimum
from mnas.search_space import (
    SearchSpace,
    Segment,
    StageSpec,
    extremes,
    macro_space,
    mbconv_space,
    nas_bench_macro_key,
    network_cost,
)

DATA_DIR = "MNAS_BENCH_DATA"
MACRO_FILE = "nas-bench-macro_cifar10.json"
MACRO_ORIGIN = "github.com/xiusu/NAS-Bench-Macro, commit 61a2bfc2, Apache-2.0"


def load(name: str, data_dir: str | None) -> Benchmark:
    """A benchmark, its tables read and checked.

    Args:
        name: `nas-bench-macro`, `mbconv-additive` or `imagenet-surrogate`.
        data_dir: the folder of third-party data; None is what MNAS_BENCH_DATA says.

    Raises:
        UnknownNameError: no such benchmark.
        InputError: data that it needs is missing or not what it should be.
    """
    if name not in BENCHMARKS:
        raise UnknownNameError("benchmark", name, BENCHMARKS)
    return _loaded(name, data_dir or os.environ.get(DATA_DIR))


@lru_cache(maxsize=4)
def _loaded(name: str, folder: str | None) -> Benchmark:
    return BENCHMARKS[name](folder)


def _nas_bench_macro(folder: str | None) -> Benchmark:
    space = macro_space()
    table = _macro_table(folder)
    rows = {point: table[nas_bench_macro_key(point)] for point in space.enumerate()}
    accuracies = np.array([accuracy for accuracy, _, _ in rows.values()])
    costs = np.array([madds for _, madds, _ in rows.values()])
    return Benchmark(
        name="nas-bench-macro",
        space=space,
        cost_kind="madds",
        accuracy=lambda point: rows[point][0],
        cost=lambda point: rows[point][1],
        cost_range=(float(costs.min()), float(costs.max())),
        targets=(50e6, 60e6, 70e6, None),
        optimum=lambda judge: float(judge.score(accuracies, costs).max()),
        bound=lambda judge: None,
        about="NAS-Bench-Macro: 3,969 networks, each trained three times on CIFAR-10; the truth is their mean "
        f"accuracy on its test images ({MACRO_ORIGIN}).",
        trainings=lambda point: rows[point][2],
    )


def _macro_table(folder: str | None) -> dict[str, tuple[float, float, tuple[float, ...]]]:
    """Accuracy (fraction), multiply-adds and the accuracies of single trainings, by the benchmark's keys."""
    origin = f"Put {MACRO_FILE} ({MACRO_ORIGIN}) into a folder and name that with --data-dir or {DATA_DIR}."
    if not folder:
        raise InputError(
            f"nas-bench-macro needs the benchmark's table, which does not ship with mnas. {origin}"
        )
    path = Path(folder) / MACRO_FILE
    if not path.is_file():
        raise InputError(f"nas-bench-macro: there is no {path}. {origin}")
    try:
        table = {
            key: (row["mean_acc"] / 100, float(row["flops"]), tuple(acc / 100 for acc in row["test_acc"]))
            for key, row in read_json(path).items()
        }
        wanted = {nas_bench_macro_key(point) for point in macro_space().enumerate()}
        numbers = [number for key in wanted for number in (table[key][0], table[key][1], *table[key][2])]
        if not (np.isfinite(numbers).all() and min(numbers) > 0 and all(row[2] for row in table.values())):
            raise ValueError("an accuracy or count that is not positive and finite")
    except (MnasError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"nas-bench-macro: {path} is not the benchmark's table ({error!r}). {origin}"
        ) from error
    return table


def _mbconv_additive(_: str | None) -> Benchmark:
    space, accuracy, latency = mbconv_space(), imagenet_surrogate_additive(), zcu102()

    @lru_cache(maxsize=1)
    def front() -> Front:
        return additive_front(space, accuracy, latency)

    def optimum(judge: Judge) -> float | None:
        # `absolute` rises with the cost below its target, so its best network may lie beside the front.
        beside = judge.reward is not None and judge.reward.kind == "absolute"
        return None if beside else front().best(judge.score)[1]

    return Benchmark(
        name="mbconv-additive",
        space=space,
        cost_kind="latency_ms",
        accuracy=decoded(space, lambda spec: accuracy.evaluate([spec], seed=0)[0].value),
        cost=decoded(space, latency.ms),
        cost_range=latency.range_ms(),
        targets=shares_of(*latency.range_ms()),
        optimum=optimum,
        bound=lambda judge: None,
        about="mbconv, 104,485,552,128 networks, with models that are sums over stages, fitted to Accel-NASBench: "
        f"accuracy (mean absolute error {100 * accuracy.mae:.2f} points) and latency on a {latency.device} "
        f"(mean error {100 * latency.mape:.2f} %).",
    )


def additive_front(space: SearchSpace, accuracy: AdditiveSurrogate, latency: StageLatency) -> Front:
    """The exact Pareto front of networks whose accuracy and latency are sums over stages.

    Args:
        space: `mbconv`, or a part of it.
        accuracy: of each stage by its number.
        latency: of each stage.
    """

    def accuracies(scores: Floats) -> Floats:
        return np.array([accuracy.link(accuracy.intercept + score) for score in scores])

    def stage_ms(segment: Segment) -> float:
        return 0.0 if segment.stage is None else latency.stage_ms[segment.stage]

    def score(number: int, stages: tuple[StageSpec, ...]) -> float:
        return accuracy.score(number, stages[0])

    return solve(space, SeparableModel(score, stage_ms, accuracies, latency.fixed_ms))


def _imagenet_surrogate(_: str | None) -> Benchmark:
    space, accuracy = mbconv_space(), imagenet_surrogate()
    cost = decoded(space, lambda spec: float(network_cost(spec).madds))
    least, greatest = (cost(point) for point in extremes(space, lambda spec: network_cost(spec).madds))

    def bound(judge: Judge) -> float | None:
        # With a target that every network meets, the hard reward is the accuracy.
        return find_optimum(space, accuracy, judge.reward or Reward("hard", greatest), "madds").reward

    return Benchmark(
        name="imagenet-surrogate",
        space=space,
        cost_kind="madds",
        accuracy=decoded(space, lambda spec: accuracy.evaluate([spec], seed=0)[0].value),
        cost=cost,
        cost_range=(least, greatest),
        targets=shares_of(least, greatest),
        optimum=lambda judge: None,
        bound=bound,
        about="mbconv, 104,485,552,128 networks, with the accuracy model that a search without data uses, in which "
        f"all choices interact (mean absolute error {100 * accuracy.mae:.2f} points), and multiply-adds.",
    )


BENCHMARKS: Mapping[str, Callable[[str | None], Benchmark]] = {
    "nas-bench-macro": _nas_bench_macro,
    "mbconv-additive": _mbconv_additive,
    "imagenet-surrogate": _imagenet_surrogate,
}
