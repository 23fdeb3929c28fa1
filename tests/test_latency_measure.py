"""Measuring: real runs of tiny networks, statistics with known answers, and every way a worker can fail."""

import ast
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mnas.errors import InputError, MeasurementError
from mnas.latency import (
    Conditions,
    Measurement,
    MeasurementSet,
    MeasuringLatencyModel,
    ProcessSamples,
    check_conditions,
    child,
    host,
    measure,
    measure_each,
    measure_spread,
    reference_ms_of,
    session,
    this_device,
    worker,
)
from mnas.latency.agent import lock_path
from mnas.latency.child import run_worker
from mnas.latency.device import Device
from mnas.latency.intervals import (
    MEDIAN_SD,
    PROCESS_SPREAD,
    Interval,
    drifts,
    over_processes,
    paired_ratio,
    robust_sd,
    student_quantile,
)
from mnas.latency.lock import device_lock
from mnas.latency.measurement import gate, judge, level, own_ms
from mnas.latency.worker import FORMAT, bootstrap_median, common_loops
from mnas.search_space import NetworkSpec, StageSpec

WORKER = Path(child.WORKER)
CONDITIONS = Conditions()


def tiny(repeats=4, **changes):
    stages = (StageSpec("mbconv", 3, 2, 16, repeats, expansion=4, se_ratio=0.25),)
    return replace(NetworkSpec(8, stages, 32, resolution=32, num_classes=10), **changes)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    """The lock and the model files of a test lie in its own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


# --- real measurements -------------------------------------------------------------------------------------


def test_twice_as_deep_is_slower_and_the_same_network_is_equal(tmp_path):
    said = []
    result = measure(
        {"deep": tiny(24), "same": tiny(12)},
        reference=tiny(12),
        conditions=CONDITIONS,
        processes=2,
        budget_s=3.0,
        seed=0,
        on_progress=lambda done, total, what: said.append((done, total)),
    )
    assert 1.2 < result["deep"].ratio < 4
    assert 0.7 < result["same"].ratio < 1.4
    for item in result.measurements:
        assert item.ratio_low <= item.ratio <= item.ratio_high
        assert item.latency_ms == pytest.approx(item.ratio * result.reference_ms)
        assert item.input_shape == (1, 3, 32, 32)
        assert len(item.samples) >= 2
        assert all(len(s.candidate_ms) == len(s.reference_ms) >= 10 for s in item.samples)
    assert result["same"].model_sha256 != result["deep"].model_sha256
    assert result.processes[0]["providers"] == ["CPUExecutionProvider"]
    assert result.processes[0]["threads"] == 1
    assert said[-1][0] == said[-1][1]
    assert MeasurementSet.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert not list(tmp_path.glob("mnas-latency-*"))


def test_all_models_of_a_batch_are_run_equally_often():
    """Regression: a session at 0.19 ms was run six times a sample, the same network at 0.21 ms once, and the
    ratio of a network to itself was 0.6, since the first run after a switch is the slowest."""

    def loops(*typical_ms):
        return common_loops([SimpleNamespace(typical_ms=value) for value in typical_ms])

    assert loops(0.19, 0.21) == 6
    assert loops(7.0, 0.1) == 10
    assert loops(7.0, 5.0) == 1
    assert loops(1e-9, 5.0) == 100


@pytest.mark.parametrize(("typical_ms", "uncounted"), [(80.0, 1), (5.0, 1), (2.0, 3), (0.1, 50), (0.0, 100)])
def test_runs_after_another_model_s_are_not_counted(typical_ms, uncounted):
    calls = []
    model = worker.Model.__new__(worker.Model)
    model.session = SimpleNamespace(run=lambda outputs, feed: calls.append("run"))
    model.feed, model.by_core, model.typical_ms = {}, False, typical_ms
    model.settle()
    assert len(calls) == uncounted
    before = len(calls)
    assert model.sample(loops=3)[1] > 0
    assert len(calls) == before + 3


def test_every_sample_of_a_round_is_settled_first():
    done = []

    def fake(name):
        def sample(loops):
            done.append(f"{name} sample")
            return 1.0, 1.0

        return SimpleNamespace(typical_ms=1.0, sample=sample, settle=lambda: done.append(f"{name} settle"))

    job = {"min_rounds": 2, "max_rounds": 2, "budget_s": 9.0, "precision": 0.01, "seed": 0}
    worker.time_batch([fake("a")], [fake("b")], job, time.perf_counter(), random.Random(0), lambda what: None)
    assert len(done) == 8
    for first, second in zip(done[::2], done[1::2], strict=True):
        assert (first.split()[1], second) == ("settle", f"{first.split()[0]} sample")


def test_reference_given_scales_the_milliseconds():
    result = measure_each(
        {"same": tiny()},
        reference=tiny(),
        conditions=CONDITIONS,
        processes=1,
        reference_ms=50.0,
        budget_s=0.3,
        seed=1,
        pin=False,
    )
    assert result["same"].latency_ms == pytest.approx(50 * result["same"].ratio)
    assert result["same"].raw_ms < 25  # the plain clock does not know of the 50
    assert result.reference_given
    assert result.processes[0]["cores"] is None
    with pytest.raises(LookupError, match="did you mean 'same'"):
        result["sam"]


def test_two_images_take_longer_than_one():
    one, two = (
        reference_ms_of(tiny(8, resolution=64), conditions=Conditions(batch=batch), processes=1, seed=0)
        for batch in (1, 4)
    )
    assert two > 1.5 * one


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"networks": {}}, "at least one network"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"budget_s": 0.0}, "budget_s must be positive"),
        ({"reference_ms": -1.0}, "reference_ms must be positive"),
    ],
)
def test_wrong_arguments_are_named(arguments, problem):
    given = {"networks": {"a": tiny()}, "reference": tiny(), "conditions": CONDITIONS, "seed": 0, **arguments}
    networks = given.pop("networks")
    for function in (measure, measure_each):
        with pytest.raises(InputError, match=problem):
            function(networks, **given)


# --- what can go wrong with the child ----------------------------------------------------------------------

FAILURES = {
    "kill": ("os.kill(os.getpid(), 9)", "ended by SIGKILL.*out of memory"),
    "segfault": ("os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
    "status": (
        "print('no such thing', file=sys.stderr); sys.exit(3)",
        "status 3.*Its last words: no such thing",
    ),
    "garbage": ("print('warming up...')", "no event: 'warming up...'"),
    "json garbage": ("print('[1, 2]')", r"no event: '\[1, 2\]'"),
    "empty line": ("print()", "no event"),
    "unknown event": ('print(\'{"event": "party"}\')', "no event"),
    "closed output": ("os.close(1); time.sleep(60)", "closed its output without a result"),
    "silent": ("time.sleep(60)", "silent for 1 s"),
    "deaf": (
        'signal.signal(15, signal.SIG_IGN); print(\'{"event": "start"}\', flush=True); time.sleep(60)',
        "silent",
    ),
    "error": ('print(\'{"event": "error", "message": "no memory"}\')', "failed: no memory"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_child_is_one_clear_error_and_leaves_nothing(name, tmp_path, monkeypatch):
    code, message = FAILURES[name]
    pid_file = tmp_path / "pid"
    worker = tmp_path / "fake.py"
    worker.write_text(
        f"import os, signal, sys, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()))\n{code}\n"
    )
    monkeypatch.setattr(child, "GRACE_S", 0.3)
    with pytest.raises(MeasurementError, match=message):
        run_worker({}, worker=worker, silence_s=1.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_ctrl_c_ends_the_child_and_is_raised_again(tmp_path, monkeypatch):
    worker = tmp_path / "fake.py"
    worker.write_text(
        "import json, os, time\nprint(json.dumps({'event': 'start', 'pid': os.getpid(),"
        " 'group': os.getpgrp()}), flush=True)\ntime.sleep(60)\n"
    )
    monkeypatch.setattr(child, "WORKER", worker)
    seen = []

    def interrupt(done, total, what):
        if what.startswith("measuring"):
            raise KeyboardInterrupt

    original = host.run_worker
    monkeypatch.setattr(
        host,
        "run_worker",
        lambda job, on_event: original(job, on_event=lambda event: (seen.append(event), on_event(event))),
    )
    with pytest.raises(KeyboardInterrupt):
        measure({"a": tiny()}, reference=tiny(), conditions=CONDITIONS, seed=0, on_progress=interrupt)
    assert seen[0]["group"] == seen[0]["pid"] != os.getpgrp()  # Ctrl-C would not have reached it
    with pytest.raises(ProcessLookupError):
        os.kill(seen[0]["pid"], 0)
    assert not list(tmp_path.glob("mnas-latency-*"))
    with device_lock(wait_s=0):
        pass


def test_a_model_that_does_not_open_is_the_worker_s_error(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    job = {
        "format": FORMAT,
        "reference": str(tmp_path / "broken.onnx"),
        "batches": [],
        "seed": 0,
        "threads": 1,
    }
    job |= {
        "references": 2,
        "pin": False,
        "clock": "core",
        "provider": "CPUExecutionProvider",
        "warm_cap_s": 1.0,
    }
    job |= {"warm_runs": 1, "warm_s": 0.0, "settle": False, "profile_runs": 0}
    job |= {"names": {job["reference"]: "the reference"}}
    with pytest.raises(MeasurementError, match=r"cannot load the reference: .*INVALID_PROTOBUF"):
        run_worker(job)
    with pytest.raises(MeasurementError, match="expected a job of format"):
        run_worker({"format": "other"})


def test_the_worker_needs_only_numpy_and_onnxruntime():
    tree = ast.parse(WORKER.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module).partition(".")[0])
    assert names - set(sys.stdlib_module_names) == {"numpy", "onnxruntime"}
    # A script's folder comes first on its path, so no file beside the worker may hide a standard module.
    assert not {path.stem for path in WORKER.parent.glob("*.py")} & set(sys.stdlib_module_names)


def test_the_worker_ends_when_its_parent_is_gone(tmp_path):
    """A parent that is killed outright cannot end its child, which must not go on measuring."""
    from mnas.graph import build_graph

    path = tmp_path / "net.onnx"
    path.write_bytes(build_graph(tiny()).SerializeToString())
    job = {"format": FORMAT, "reference": str(path), "batches": [[str(path)]], "threads": 1, "pin": False}
    job |= {
        "provider": "CPUExecutionProvider",
        "clock": "wall",
        "seed": 0,
        "min_rounds": 10**9,
        "max_rounds": 10**9,
    }
    job |= {
        "budget_s": 1e9,
        "precision": 0.0,
        "warm_runs": 1,
        "warm_s": 0.0,
        "settle": False,
        "warm_cap_s": 1.0,
        "references": 2,
        "names": {},
        "profile_runs": 0,
    }
    (tmp_path / "job.json").write_text(json.dumps(job))
    code = (
        "import subprocess, sys\n"
        f"process = subprocess.Popen([sys.executable, {str(WORKER)!r}], stdin=open({str(tmp_path / 'job.json')!r}),"
        " stdout=subprocess.PIPE, start_new_session=True)\n"
        "for _ in range(3): process.stdout.readline()\n"  # start, warm, and a first progress of the rounds
        "print(process.pid, flush=True)\nimport os; os._exit(0)\n"
    )
    pid = int(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60).stdout
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid):
    """Whether a process runs; one that waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- the lock ----------------------------------------------------------------------------------------------


def test_one_measurement_at_a_time():
    said = []
    with device_lock():
        start = time.monotonic()
        with (
            pytest.raises(MeasurementError, match=f"process {os.getpid()} is measuring"),
            device_lock(wait_s=0.3, on_wait=said.append),
        ):
            pytest.fail("two hold the lock")
        assert time.monotonic() - start >= 0.3
    assert said == [f"waiting for process {os.getpid()}, which is measuring on this device"]
    with device_lock(wait_s=0):
        pass


def test_the_lock_lies_in_the_cache_folder_or_says_what_to_do(tmp_path):
    assert lock_path().parent == tmp_path / "cache" / "mnas"
    with pytest.raises(MeasurementError, match="XDG_CACHE_HOME"), device_lock(path=tmp_path):
        pytest.fail("a folder is no lock file")


# --- statistics with known answers -------------------------------------------------------------------------


def test_a_drift_that_both_share_cancels():
    reference = np.linspace(10, 20, 40)
    ratio = paired_ratio(list(2 * reference), list(reference), seed=0)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    with pytest.raises(InputError, match="got 3 and 2"):
        paired_ratio([1, 2, 3], [1, 2], seed=0)
    with pytest.raises(InputError, match="at least one"):
        paired_ratio([], [], seed=0)


def test_bootstrap_interval_of_the_median_covers_it_95_times_in_100():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        _, low, high = bootstrap_median(rng.normal(5, 1, 25), seed=trial)
        hits += low <= 5 <= high
    assert 0.90 <= hits / 400 <= 0.99


def test_median_over_processes_ignores_one_that_is_off():
    def steady(value):
        return Interval(value, value * 0.995, value * 1.005)

    ratio = over_processes([steady(1.00), steady(1.01), steady(2.0)])
    assert ratio.value == pytest.approx(1.01)
    assert 1.01 / 1.06 < ratio.low < 1.01 < ratio.high < 1.01 * 1.06
    # Hand arithmetic for one process: only the usual spread and its own interval are known.
    alone = over_processes([steady(1.0)])
    half = np.hypot(student_quantile(2) * PROCESS_SPREAD, 0.005)
    assert np.log(alone.high) == pytest.approx(half)
    with pytest.raises(InputError, match="at least one process"):
        over_processes([])


@pytest.mark.parametrize(
    ("spread", "processes", "least"), [(1, 1, 0.97), (1, 3, 0.97), (1, 5, 0.97), (3, 3, 0.86), (3, 5, 0.89)]
)
def test_interval_over_processes_covers_the_truth(spread, processes, least):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(4000):
        logs = rng.normal(0, spread * PROCESS_SPREAD, processes)
        ratio = over_processes([Interval(v, v * 0.995, v * 1.005) for v in np.exp(logs).tolist()])
        hits += ratio.low <= 1 <= ratio.high
    assert hits / 4000 >= least - 0.02


def test_constants_are_what_they_are_said_to_be():
    rng = np.random.default_rng(2)
    for count, expected in enumerate(MEDIAN_SD, 1):
        values = rng.standard_normal((40_000, count))
        assert np.median(values, axis=1).std() == pytest.approx(expected, rel=0.02)
    # Tables of Student's t: 4.303, 2.776, 2.228 at 2, 4, 10 degrees of freedom.
    assert student_quantile(2) == pytest.approx(4.303, rel=0.032)
    assert student_quantile(4) == pytest.approx(2.776, rel=0.003)
    assert student_quantile(10) == pytest.approx(2.228, rel=0.001)
    for count in (2, 3, 5, 9, 12):
        values = rng.standard_normal((4_000, count))
        assert np.mean([robust_sd(row.tolist()) for row in values]) == pytest.approx(1, abs=0.05)


def samples(reference, ratio=2.0, process=0, closed=True):
    reference = tuple(float(value) for value in reference)
    candidate = tuple(ratio * value for value in reference)
    return ProcessSamples(process, candidate, reference, candidate, reference, closed)


def test_own_milliseconds_do_not_hang_on_the_reference():
    steady = [samples([10.0] * 12, ratio=2.0), samples([10.0] * 12, ratio=2.2, process=1)]
    wild = [replace(item, reference_ms=tuple(np.linspace(5, 25, 12))) for item in steady]
    found = own_ms(steady, seed=0)
    assert found == own_ms(wild, seed=0)
    # The median of two on the logarithm is their geometric mean.
    assert found.value == pytest.approx((20 * 22) ** 0.5)
    assert found.low < 20.5 < 21.5 < found.high
    rejected = [steady[0], replace(steady[1], rejected=True)]
    assert own_ms(rejected, seed=0).value == pytest.approx(20)


def test_drift_is_seen_within_a_process_and_between_them():
    steady, moved, slow = [10.0] * 10, [10.0] * 5 + [14.0] * 5, [20.0] * 10
    assert drifts([steady, steady, steady]) == [0, 0, 0]
    assert drifts([steady, moved, steady])[1] == pytest.approx(0.4)
    assert drifts([steady, slow, steady]) == pytest.approx([0, 1.0, 0])
    assert drifts([[10.0]]) == [0]


def test_noise_gate_statuses():
    steady = [samples([10.0] * 10) for _ in range(3)]
    assert judge(gate(steady), 3, seed=0)[0] == "ok"
    assert judge(gate(steady), 3, seed=0)[1].value == pytest.approx(2)
    # The budget ended before two of three intervals closed.
    loose = [replace(item, closed=number == 0) for number, item in enumerate(steady)]
    assert judge(gate(loose), 3, seed=0)[0] == "unresolved"
    # One process drifted by 50 %: rejected, two are left, which is enough to say.
    one = gate([*steady[:2], samples([10.0] * 5 + [15.0] * 5, ratio=3.0)])
    assert [item.rejected for item in one] == [False, False, True]
    assert judge(one, 3, seed=0)[1].value == pytest.approx(2)
    assert judge(one, 3, seed=0)[0] == "ok"
    # Two of three drifted: too few are left.
    assert judge(gate([steady[0], *[samples([10.0] * 5 + [15.0] * 5)] * 2]), 3, seed=0)[0] == "noisy"
    # The processes do not agree.
    split = [samples([10.0] * 10, ratio=ratio) for ratio in (1.0, 1.3, 1.7)]
    assert judge(gate(split), 3, seed=0)[0] == "noisy"


# --- tries, with workers that answer what a test says -------------------------------------------------------


def fake_worker(monkeypatch, answers):
    """Replaces the worker: each call gives the next answer, (reference samples, ratio); returns the jobs."""
    jobs, remaining = [], list(answers)

    def run(job, on_event):
        jobs.append(job)
        reference, ratio = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        events = [{"event": "start", "onnxruntime": "0", "cores": [0], "threads": 1, "load": 0.5}]
        for index, batch in enumerate(job["batches"]):
            rows = [[ratio * value for value in reference]] * len(batch)
            fields = {"samples_ms": rows, "samples_wall_ms": rows, "reference_ms": list(reference)}
            fields |= {"reference_wall_ms": list(reference), "closed": True, "providers": ["CPU"]}
            fields |= {"profiles": []}
            events.append({"event": "batch", "index": index, **fields})
        events.append({"event": "done", "load": 0.7})
        for event in events:
            on_event(event)
        return events

    monkeypatch.setattr(host, "run_worker", run)
    return jobs


STEADY, DRIFTED = ([10.0] * 10, 2.0), ([10.0] * 5 + [18.0] * 5, 2.0)


def test_a_rejected_process_is_replaced(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY, DRIFTED, STEADY, STEADY])
    result = measure({"a": tiny()}, reference=tiny(2), conditions=CONDITIONS, seed=3)
    assert len(jobs) == 4
    assert len({job["seed"] for job in jobs}) == 4
    assert [item.rejected for item in result["a"].samples] == [False, True, False, False]
    assert (result["a"].status, result["a"].ratio, result["a"].raw_ms) == ("ok", pytest.approx(2), 20)
    assert any("1 of 4 timings were rejected" in warning for warning in result.warnings)
    assert result.processes[0]["load_before"] == 0.5


def test_after_three_tries_the_status_is_noisy_and_it_is_said(monkeypatch):
    jobs = fake_worker(monkeypatch, [DRIFTED])
    result = measure({"a": tiny()}, reference=tiny(2), conditions=CONDITIONS, processes=2, seed=3)
    assert len(jobs) == 6
    assert result["a"].status == "noisy"
    assert any("too noisy to measure a in 3 tries" in warning for warning in result.warnings)


def test_only_what_is_missing_is_measured_again(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY, STEADY])
    names = {f"n{number}": tiny(1 + number) for number in range(18)}
    result = measure_each(names, reference=tiny(2), conditions=CONDITIONS, processes=1, seed=0)
    assert [len(job["batches"]) for job in jobs] == [16, 2]  # few files lie on the disk at once
    assert [item.name for item in result.measurements] == list(names)


def test_measuring_model_measures_a_network_once(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY])
    model = MeasuringLatencyModel(tiny(2), CONDITIONS, processes=1, seed=0)
    first = model.predict([tiny(3), tiny(4), tiny(3)])
    assert [len(job["batches"]) for job in jobs] == [1, 2]  # the reference, then two different networks
    assert first[0] == first[2]
    assert (first[0].ms, first[0].source) == (pytest.approx(20), "measured")
    assert first[0].low_ms < first[0].ms < first[0].high_ms
    assert CONDITIONS.describe() in first[0].device
    assert model.predict([tiny(4)]) == [first[1]]
    assert len(jobs) == 2
    fake_worker(monkeypatch, [DRIFTED])
    assert model.predict([tiny(5)])[0].source == "measured (noisy)"


# --- conditions, device, JSON, imports ---------------------------------------------------------------------


def test_conditions_are_checked_and_described():
    assert Conditions().describe().startswith("batch 1, fp32, 1 thread, ONNX Runtime ")
    assert Conditions().describe().endswith(" CPU")
    assert Conditions.from_dict(Conditions(batch=4).to_dict()) == Conditions(batch=4)
    assert (Conditions().clock, replace(Conditions(), batch=2).clock) == ("core", "core")
    with pytest.raises(InputError) as caught:
        Conditions(threads=0, batch=0, precision="int7", provider="AbacusExecutionProvider")
    for word in ("threads must be", "batch must be", "int7"):
        assert word in str(caught.value)
    with pytest.raises(InputError, match=r"unknown fields \['thread'\]"):
        Conditions.from_dict({"thread": 1})


def test_conditions_that_this_device_does_not_offer_are_refused_before_anything_runs():
    wanted = Conditions(threads=100000, provider="AbacusExecutionProvider")
    with pytest.raises(
        InputError, match=r"on this device: .*usable cores, got 100000; provider must be one of .*CPU"
    ):
        check_conditions(wanted, host.LOCAL)
    with pytest.raises(InputError, match="100000"):
        measure({"a": tiny()}, reference=tiny(), conditions=wanted, seed=0)
    check_conditions(Conditions(provider="CPUExecutionProvider"), host.LOCAL)


def test_device_record():
    device = this_device()
    assert Device.from_dict(json.loads(json.dumps(device.to_dict()))) == device
    assert len(device.fingerprint) == 16
    assert replace(device, cores=device.cores + 1).fingerprint != device.fingerprint
    assert replace(device).fingerprint == device.fingerprint
    with pytest.raises(InputError, match=r"missing.*cpu"):
        Device.from_dict({"cores": 2})
    for changes in ({"cores": 0}, {"cores": "2"}, {"cores": True}, {"cpu": None}, {"system": "\x1b[2J"}):
        with pytest.raises(InputError, match="device: "):
            Device.from_dict({**device.to_dict(), **changes})


def test_measurements_round_trip_and_refuse_what_they_do_not_know():
    item = Measurement(
        "a", "ok", 2.0, 1.9, 2.1, 20.0, 19.0, 21.0, 23.0, "0f", (1, 3, 8, 8), (samples([10.0]),)
    )
    assert item.raw_differs
    assert not replace(item, raw_ms=21.0).raw_differs
    whole = MeasurementSet(
        CONDITIONS, this_device(), tiny(), 10.0, False, 11.0, (item,), ({"load": 1.0},), ("busy",), 0, 1.5
    )
    data = json.loads(json.dumps(whole.to_dict()))
    assert MeasurementSet.from_dict(data) == whole
    assert MeasurementSet.from_dict(data).to_dict() == data
    with pytest.raises(InputError, match="format"):
        MeasurementSet.from_dict({**data, "format": "other"})
    with pytest.raises(InputError, match="missing, unknown"):
        MeasurementSet.from_dict({**data, "more": 1})
    del data["seed"]
    with pytest.raises(InputError, match="seed"):
        MeasurementSet.from_dict(data)


def test_importing_it_loads_neither_torch_nor_onnx():
    code = (
        "import sys, mnas.latency; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.strip() == "[]"


def test_what_a_process_does_to_all_its_networks_is_taken_out():
    """Networks of ratio 1 to 4 in other company in each process; one process is 10 % slow for all that it times."""

    def item(process, ratio):
        rounds = (1.0,) * 12
        return ProcessSamples(process, tuple(ratio * r for r in rounds), rounds, rounds, rounds, True)

    slow = 1.1
    samples = {
        "a": (item(0, 1.0), item(1, 1.0), item(3, 1.0 * slow)),
        "b": (item(0, 2.0), item(2, 2.0), item(3, 2.0 * slow)),
        "c": (item(1, 4.0), item(2, 4.0), item(3, 4.0 * slow)),
        "d": (item(0, 3.0), item(3, 3.0 * slow)),
    }
    levelled = level(samples)
    assert [s.shift for s in levelled["a"]] == pytest.approx([1, 1, slow])
    for name, expected in (("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", 3.0)):
        status, ratio = judge(levelled[name], 2, seed=0)
        assert status == "ok"
        assert ratio.value == pytest.approx(expected)
    assert judge(samples["d"], 2, seed=0)[1].value == pytest.approx(3 * slow**0.5)


def test_networks_are_spread_over_processes_in_other_company(monkeypatch):
    company = []
    original = session.Session._process

    def process(self, groups, *more):
        company.append([name for group in groups for name in group])
        original(self, groups, *more)

    monkeypatch.setattr(session.Session, "_process", process)
    nets = {f"n{i}": tiny(1 + i) for i in range(5)}
    seen = []
    result = measure_spread(
        nets,
        reference=tiny(),
        conditions=Conditions(),
        group=3,
        budget_s=0.05,
        seed=1,
        on_progress=lambda done, total, what: seen.append((done, total)),
    )
    assert [len(names) for names in company[:4]] == [3, 2, 3, 2]  # what was noisy gets more
    assert sorted(company[0] + company[1]) == sorted(company[2] + company[3]) == sorted(nets)
    assert set(company[0]) not in (set(company[2]), set(company[3]))
    more = [name for names in company[4:] for name in names]
    assert [len(m.samples) for m in result.measurements] == [2 + more.count(name) for name in nets]
    assert seen[-1] == (10 + len(more), 10 + len(more))
    assert result["n4"].ratio > result["n0"].ratio
