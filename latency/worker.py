"""The process that times networks: one self-contained script, so that it can be copied to another device.

Needs Python 3.9 or later, numpy and onnxruntime, nothing of mnas. Started as `[python, worker.py]`; reads one JSON job
from stdin, writes one JSON object a line to stdout, and everything else (also what native code prints) to
stderr. It stops by itself when its parent is gone.

Two clocks are read for each sample: the wall's, and how long this process was on a core. With `clock` "core"
the second decides. Where nothing else runs on the core they agree. Where it is shared, the scheduler's slices
are as long as a run: a network's wall-clock time is then a whole number of slices, and the ratio of two networks
closes to +-1 % around a wrong value (0.76 where 0.65 is right, on two cores with four busy processes), which
on-core time does not do (0.65 to 0.66). It adds up over threads, so that it is a latency for one thread only.

The first runs after another model's are not counted: they find their weights out of the caches, which costs a small
network 20 % and a large one, which never had them there, nothing. Counted, they made EfficientNet-B0 slower beside a
network of eight times its size, and that network 8 % faster by its ratio to B0 than by any clock.

Job: `reference` (model path), `references` (how many sessions of it are open at once; a round's reference is their
median), `batches` (list of lists of model paths; each batch is timed interleaved with the reference), `names` (of
models, by path, for messages), `threads`, `pin`, `provider`, `clock` ("core" or "wall"), `seed`, `min_rounds`,
`max_rounds`, `profile_runs` (of each model, after it was timed; 0 for none), `budget_s` (per batch, loading and warm-up
included; `min_rounds` are always done), `precision`, and how to warm up: `warm_runs`, `warm_s`, `settle`, `warm_cap_s`.
The full warm-up (10 runs, 0.3 s, settled) is the protocol's; settling may take half the batch's budget. Calibration
asks for a light one (few runs, `settle` false), which is enough once the process, its allocator and the core's clock
are warm: the first session of the reference, which is opened first, gets the full one in either case.

Events: `start` (versions, cores, load), `progress`, `batch` (raw samples in ms by the deciding clock and by the
wall's, providers, whether every interval closed; with `profile_runs` the operators of each model), `done` (load),
`error`.
"""

from __future__ import annotations

import gc
import json
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "mnas.latency.job/1"
# A sample of the fastest model of a batch lasts at least this long, by running it several times; the others are
# run as often. Below 0.2 ms a single run drowns in the clock's resolution and in interrupts; 1 ms (chosen here)
# leaves a margin.
SAMPLE_MS, MOST_LOOPS = 1.0, 100
# After another model's run so many milliseconds of runs are not counted, one run at least. Chosen here:
# EfficientNet-B0 at 32 pixels (0.95 ms alone) took 1.2 ms among eleven others after one such run, 1.0 after 5 ms.
SETTLE_MS = 5.0
# Resamples of a bootstrap; the end of a 95 % interval then rests on ten of them (chosen here).
RESAMPLES = 400
# Settled: the last ten runs' median within 5 % of the ten runs before.
WINDOW, SETTLED = 10, 0.05
# Seconds for which each core is tried, and how many cores at most, before one is chosen (chosen here).
PROBE_S, PROBE_CORES = 0.02, 16
# Runs of a profile that are not counted (chosen here: its session is new, the process is warm).
PROFILE_WARM = 2

Samples = NDArray[np.float64]


def bootstrap_median(values: Sequence[float] | Samples, seed: int) -> tuple[float, float, float]:
    """Median and the bounds of its 95 % percentile-bootstrap interval.

    Args:
        values: at least one number, `(n,)`; with one, the interval is that number.
        seed: of the resampling.
    """
    array = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, array.size, (RESAMPLES, array.size))
    low, high = np.percentile(np.median(array[picks], axis=1), [2.5, 97.5])
    return float(np.median(array)), float(low), float(high)


def closed(candidate: Samples, reference: Samples, precision: float, seed: int) -> bool:
    """Whether the interval of the median of the paired ratios is within +-`precision` of the median."""
    median, low, high = bootstrap_median(candidate / reference, seed)
    return max(high - median, median - low) <= precision * median


def choose_cores(threads: int) -> list[int] | None:
    """Pins this process to the `threads` cores that got most work done in a short try; None where it cannot.

    The try sees both a busy core and a slow one (the small cores of a big.LITTLE device).
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    stride = max(1, math.ceil(len(allowed) / max(PROBE_CORES, threads)))
    work: dict[int, int] = {}
    for core in allowed[::stride]:
        os.sched_setaffinity(0, {core})
        work[core] = 0
        end = time.perf_counter() + PROBE_S
        while time.perf_counter() < end:
            work[core] += 1
    chosen = sorted(sorted(work, key=lambda core: -work[core])[:threads])
    if len(chosen) < threads:
        chosen = allowed[:threads]
    os.sched_setaffinity(0, chosen)
    return chosen


# What an input of each type is filled with: normal numbers, or zeros, which are valid as indices too.
NUMBERS = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}
WHOLE = {f"tensor({kind})": kind for kind in ("int8", "uint8", "int16", "uint16", "int32", "int64", "bool")}


def input_data(kind: str, shape: Sequence[Any], rng: np.random.Generator) -> NDArray[Any]:
    """An array for an input of that ONNX type; sizes that the model leaves open are 1.

    Raises:
        ValueError: a type that is neither a number nor a truth value.
    """
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    if kind in NUMBERS:
        return rng.standard_normal(sizes, dtype=np.float32).astype(NUMBERS[kind])
    if kind in WHOLE:
        return np.zeros(sizes, dtype=WHOLE[kind])
    raise ValueError(f"an input of type {kind} cannot be filled with numbers")


def open_session(path: str, job: dict[str, Any], profile_prefix: str = "") -> Any:
    """A session of ONNX Runtime under the job's conditions.

    Raises:
        ValueError: ONNX Runtime refuses the model; its reason is in the message.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if job["provider"] != "CPUExecutionProvider":
        # Or nodes that the provider lacks would run on the CPU, and the figure would be called its own.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if profile_prefix:
        options.enable_profiling = True
        options.profile_file_prefix = profile_prefix
    try:
        return ort.InferenceSession(path, options, providers=[job["provider"]])
    except Exception as error:
        name = job["names"].get(path, path)
        raise ValueError(f"ONNX Runtime {ort.__version__} cannot load {name}: {error}") from error


class Model:
    """An open session with its inputs; `sample()` is one timed figure, in ms per run, by both clocks."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
        self.path = path
        self.session = open_session(path, job)
        rng = np.random.default_rng(job["seed"])
        self.feed = {i.name: input_data(i.type, i.shape, rng) for i in self.session.get_inputs()}
        self.by_core = job["clock"] == "core"
        self.typical_ms = 0.0

    def settle(self) -> None:
        """Runs uncounted until the caches hold what another model's run left of them: once, or for `SETTLE_MS`."""
        for _ in range(max(1, math.ceil(SETTLE_MS / max(self.typical_ms, SETTLE_MS / MOST_LOOPS)))):
            self.session.run(None, self.feed)

    def sample(self, loops: int = 1) -> tuple[float, float]:
        """By the deciding clock, and by the wall's."""
        run, feed = self.session.run, self.feed
        start_wall, start_core = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(loops):
            run(None, feed)
        core, wall = time.process_time_ns() - start_core, time.perf_counter_ns() - start_wall
        return (core if self.by_core else wall) / 1e6 / loops, wall / 1e6 / loops

    def warm_up(self, runs: int, seconds: float, settle_s: float, cap_s: float) -> int:
        """Runs until warm, which sets `typical_ms`; returns how many runs it took.

        Args:
            runs: at least so many.
            seconds: for at least so long.
            settle_s: until settled, for at most so long.
            cap_s: whatever the others say, no run begins after so long.
        """
        start, times = time.perf_counter(), [self.sample()[0]]
        while (elapsed := time.perf_counter() - start) < cap_s:
            settled = elapsed >= settle_s or (
                len(times) >= 2 * WINDOW
                and abs(np.median(times[-WINDOW:]) / np.median(times[-2 * WINDOW : -WINDOW]) - 1) <= SETTLED
            )
            if len(times) >= runs and elapsed >= seconds and settled:
                break
            times.append(self.sample()[0])
        self.typical_ms = float(np.median(times[-WINDOW:]))
        return len(times)


def common_loops(models: list[Model]) -> int:
    """How often each of these models is run in one sample."""
    fastest = min(model.typical_ms for model in models)
    return max(1, min(MOST_LOOPS, math.ceil(SAMPLE_MS / max(fastest, 1e-6))))


def time_batch(
    models: list[Model],
    references: list[Model],
    job: dict[str, Any],
    start: float,
    rng: random.Random,
    alive: Callable[[str], None],
) -> tuple[Samples, bool]:
    """Rounds of all models in random order; samples `(2, rounds, models + 1)` in ms, and whether all closed.

    Samples are those of the deciding clock, then those of the wall's; the last column is the median of the references.
    `start` is when the batch's budget began, in seconds of `perf_counter`.
    """
    everyone = [*models, *references]
    loops = common_loops(everyone)
    rows: list[Samples] = []
    order, check, is_closed = list(range(len(everyone))), int(job["min_rounds"]), False
    while len(rows) < job["max_rounds"] and not is_closed:
        row = np.zeros((len(everyone), 2))
        rng.shuffle(order)
        for index in order:
            everyone[index].settle()
            row[index] = everyone[index].sample(loops)
        # One session in fifteen is 8 to 10 % off for as long as it lives: the median leaves it out, the mean does not.
        reference = np.median(row[len(models) :], axis=0, keepdims=True)
        rows.append(np.concatenate([row[: len(models)], reference]))
        late = time.perf_counter() - start > job["budget_s"]
        if len(rows) >= job["min_rounds"] and (len(rows) >= check or late):
            samples = np.array(rows)[:, :, 0]
            is_closed = all(
                closed(samples[:, index], samples[:, -1], job["precision"], job["seed"])
                for index in range(len(models))
            )
            check = len(rows) + max(5, len(rows) // 5)
            if late:
                break
        alive(f"round {len(rows)}")
    return np.moveaxis(np.array(rows), 2, 0), is_closed


def profiled(model: Model, job: dict[str, Any]) -> list[list[Any]]:
    """The operators that ran, in order: name, type, provider, median ms over the runs, shape of the first output.

    A session of its own, since profiling slows it (by about a tenth); times are the profiler's, in whole microseconds.
    """
    with tempfile.TemporaryDirectory(prefix="mnas-profile-") as folder:
        session = open_session(model.path, job, os.path.join(folder, "profile"))
        for _ in range(PROFILE_WARM + int(job["profile_runs"])):
            session.run(None, model.feed)
        with open(session.end_profiling(), encoding="utf-8") as file:
            events = json.load(file)
    found: dict[str, list[Any]] = {}
    times: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            arguments = event["args"]
            node = name.removesuffix("_kernel_time")
            shapes = [next(iter(shape.values())) for shape in arguments.get("output_type_shape", [])]
            found.setdefault(
                node, [node, arguments["op_name"], arguments.get("provider", ""), 0.0, *shapes[:1]]
            )
            times.setdefault(node, []).append(event["dur"] / 1000)
    for node, row in found.items():
        row[3] = float(np.median(times[node][PROFILE_WARM:]))
    return list(found.values())


def run_job(job: dict[str, Any], emit: Callable[..., None]) -> None:
    """Everything the job asks for, batch by batch; one batch's models are open at a time."""
    import onnxruntime as ort

    parent, last = os.getppid(), time.perf_counter()

    def alive(what: str) -> None:
        nonlocal last
        if os.getppid() != parent:
            os._exit(3)  # nobody is left to read the result
        if time.perf_counter() - last > 1.0:
            emit("progress", what=what)
            last = time.perf_counter()

    cap_s = job["warm_cap_s"]
    cores = choose_cores(job["threads"]) if job["pin"] else None
    load = getattr(os, "getloadavg", lambda: (math.nan,))
    emit(
        "start",
        onnxruntime=ort.__version__,
        numpy=np.__version__,
        python=sys.version.split()[0],
        cores=cores,
        threads=job["threads"],
        clock=job["clock"],
        graph_optimization="ORT_ENABLE_ALL",
        load=load()[0],
    )
    rng = random.Random(job["seed"])
    references = [Model(job["reference"], job)]
    references[0].warm_up(10, 0.3, cap_s, cap_s)
    gc.freeze()
    gc.disable()
    for index, paths in enumerate(job["batches"]):
        start, opened, warm_runs = time.perf_counter(), {}, [0] * len(paths)
        # In random order, the other references among them: what is opened earlier in a process is up to 2 % faster or
        # slower for as long as it lives than the same opened later.
        order = [*range(len(paths)), *[None] * (job["references"] - len(references))]
        rng.shuffle(order)
        for number in order:
            if number is None:
                references.append(Model(job["reference"], job))
                references[-1].warm_up(job["warm_runs"], job["warm_s"], 0.0, cap_s)
                continue
            path = paths[number]
            emit("progress", what=f"opening {job['names'].get(path, path)}")
            opened[number] = Model(path, job)
            settle_s = min(cap_s, job["budget_s"] / 2 / len(paths)) if job["settle"] else 0.0
            warm_runs[number] = opened[number].warm_up(job["warm_runs"], job["warm_s"], settle_s, cap_s)
            emit("progress", what=f"warm {len(opened)} of {len(paths)}")
        models = [opened[number] for number in range(len(paths))]
        samples, is_closed = time_batch(models, references, job, start, rng, alive)
        profiles = [profiled(model, job) for model in models] if job["profile_runs"] else []
        decided, wall = np.round(samples, 6).transpose(0, 2, 1).tolist()
        emit(
            "batch",
            index=index,
            samples_ms=decided[:-1],
            reference_ms=decided[-1],
            samples_wall_ms=wall[:-1],
            reference_wall_ms=wall[-1],
            closed=is_closed,
            warm_runs=warm_runs,
            loops=common_loops([*models, *references]),
            profiles=profiles,
            providers=(models[-1] if models else references[0]).session.get_providers(),
        )
        del models, opened
        gc.collect()
    emit("done", load=load()[0])


def main() -> int:
    """Reads the job, runs it, reports; returns the exit status (1 after an `error` event)."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what native code prints must not mix with the events

    def emit(event: str, **fields: Any) -> None:
        lines.write(json.dumps({"event": event, **fields}) + "\n")
        lines.flush()

    try:
        job = json.load(sys.stdin)
        if job.get("format") != FORMAT:
            raise ValueError(f"expected a job of format {FORMAT!r}, got {job.get('format')!r}")
        run_job(job, emit)
    except Exception as error:  # everything must reach the parent as one line
        named = f"{error}" if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        emit("error", message=named)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
