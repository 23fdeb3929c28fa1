"""The process that times networks: one self-contained script, so that it can be copied to another device.

Needs Python, numpy and onnxruntime, nothing of mnas. Started as `[python, worker.py]`; reads one JSON job
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

Job: `reference` (model path), `batches` (list of lists of model paths; each batch is timed interleaved with
the reference), `threads`, `pin`, `provider`, `clock` ("core" or "wall"), `seed`, `min_rounds`, `max_rounds`,
`budget_s` (per batch, loading and warm-up included; `min_rounds` are always done), `precision`, and how to warm
up: `warm_runs`, `warm_s`, `settle`, `warm_cap_s`. The full warm-up (10 runs, 0.3 s, settled) is the protocol's;
settling may take half the batch's budget. Calibration asks for a light one (few runs, `settle` false), which is
enough once the process, its allocator and the core's clock are warm: the reference, which is opened first, gets
the full one in either case.

Events: `start` (versions, cores, load), `progress`, `batch` (raw samples in ms by the deciding clock and by the
wall's, providers, whether every interval closed), `done` (load), `error`.
"""

import gc
import json
import math
import os
import random
import sys
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


class Model:
    """An open session with its input; `sample()` is one timed figure, in ms per run, by both clocks."""

    def __init__(self, path: str, job: dict[str, Any]) -> None:
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
        self.session = ort.InferenceSession(path, options, providers=[job["provider"]])
        (graph_input,) = self.session.get_inputs()
        shape = [size if isinstance(size, int) else 1 for size in graph_input.shape]
        data = np.random.default_rng(job["seed"]).standard_normal(shape, dtype=np.float32)
        self.feed = {graph_input.name: data}
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
    job: dict[str, Any],
    start: float,
    rng: random.Random,
    alive: Callable[[str], None],
) -> tuple[Samples, bool]:
    """Rounds of all models in random order; samples `(2, rounds, models)` in ms, and whether all closed.

    Samples are those of the deciding clock, then those of the wall's. The last model is the reference. `start`
    is when the batch's budget began, in seconds of `perf_counter`.
    """
    loops = common_loops(models)
    rows: list[list[tuple[float, float]]] = []
    order, check, is_closed = list(range(len(models))), int(job["min_rounds"]), False
    while len(rows) < job["max_rounds"] and not is_closed:
        row = [(0.0, 0.0)] * len(models)
        rng.shuffle(order)
        for index in order:
            models[index].settle()
            row[index] = models[index].sample(loops)
        rows.append(row)
        late = time.perf_counter() - start > job["budget_s"]
        if len(rows) >= job["min_rounds"] and (len(rows) >= check or late):
            samples = np.array(rows)[:, :, 0]
            is_closed = all(
                closed(samples[:, index], samples[:, -1], job["precision"], job["seed"])
                for index in range(len(models) - 1)
            )
            check = len(rows) + max(5, len(rows) // 5)
            if late:
                break
        alive(f"round {len(rows)}")
    return np.moveaxis(np.array(rows), 2, 0), is_closed


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
    reference = Model(job["reference"], job)
    reference.warm_up(10, 0.3, cap_s, cap_s)
    gc.freeze()
    gc.disable()
    for index, paths in enumerate(job["batches"]):
        start, models, warm_runs = time.perf_counter(), [], []
        for path in paths:
            models.append(Model(path, job))
            settle_s = min(cap_s, job["budget_s"] / 2 / len(paths)) if job["settle"] else 0.0
            warm_runs.append(models[-1].warm_up(job["warm_runs"], job["warm_s"], settle_s, cap_s))
            emit("progress", what=f"warm {len(models)} of {len(paths)}")
        samples, is_closed = time_batch([*models, reference], job, start, rng, alive)
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
            loops=common_loops([*models, reference]),
            providers=(models[-1] if models else reference).session.get_providers(),
        )
        del models
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
        emit("error", message=f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
