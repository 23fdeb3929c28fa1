"""The process that times: what it counts, every way it can fail, and one measurement at a time."""

import ast
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnas.errors import MeasurementError
from mnas.latency import (
    Conditions,
    child,
    host,
    measure,
    worker,
)
from mnas.latency.agent import lock_path
from mnas.latency.child import run_worker
from mnas.latency.lock import device_lock
from mnas.latency.worker import FORMAT, common_loops
from mnas.search_space import NetworkSpec, StageSpec

WORKER = Path(child.WORKER)
TINY = NetworkSpec(8, (StageSpec("sepconv", 3, 2, 16, 1),), 16, resolution=32, num_classes=10)
pytestmark = pytest.mark.usefixtures("own_folders")


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


# --- what can go wrong with the child ----------------------------------------------------------------------

FAILURES = {
    "kill": ("os.kill(os.getpid(), 9)", "ended by SIGKILL.*out of memory"),
    "segfault": (
        'print(\'{"event": "progress", "what": "opening net.onnx"}\', flush=True); os.kill(os.getpid(), 11)',
        r"ended by SIGSEGV before its result \(opening net\.onnx\)\. ONNX Runtime crashed: ",
    ),
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
    "error": ('print(\'{"event": "error", "message": "no memory"}\')', r"failed \(starting\): no memory"),
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
        measure({"a": TINY}, reference=TINY, conditions=Conditions(), seed=0, on_progress=interrupt)
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
    path.write_bytes(build_graph(TINY).SerializeToString())
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
