"""Candidates trained by actors of a real Ray cluster on this machine; each test has a process of its own for it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from commands import environment
from workers import MODELS

from mnas.search.history import History
from mnas.store import EventStore

pytest.importorskip("ray", reason="without Ray there is no cluster")
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # a cluster of a test listens on 127.0.0.1 alone
TESTS = Path(__file__).parent

# Runs jobs in a process of its own: Ray reads its settings once, when it is imported.
RUN = """
import json, sys
from contextlib import closing
from workers import Heard, begin, jobs
notes, heard = [], Heard()
model, count, values = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
grace = values.pop("grace", 10.0)
executor = begin("ray", "workmodels:" + model, note=notes.append, **values)
executor.grace_s = grace
with closing(executor):
    executor.run(jobs(count), heard)
    import ray
    node = ray.nodes()[0]["NodeManagerAddress"]
outcomes = {number: outcome.to_dict() for number, outcome in heard.outcomes.items()}
print(json.dumps({"order": heard.order, "outcomes": outcomes, "notes": notes, "node": node}))
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the user's module lies."""
    (tmp_path / "workmodels.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own_environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([environment()["PYTHONPATH"], str(TESTS), os.getcwd()])
    kept = {name: value for name, value in environment().items() if not name.startswith("RAY_")}
    return {**kept, "PYTHONPATH": path, **more}


def run(model: str, count: int, **values: Any) -> dict[str, Any]:
    done = run_process(model, count, **values)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_process(model: str, count: int, **values: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", RUN, model, str(count), json.dumps(values)]
    return subprocess.run(command, env=own_environment(), capture_output=True, text=True, timeout=240)


def runs() -> list[int]:
    return sorted(int(line.split()[1]) for line in Path("calls.txt").read_text().splitlines())


def test_one_of_two_workers_killed_in_a_trial_leaves_every_trial_finished_once() -> None:
    found = run("KilledOnce", 8)
    assert sorted(found["order"]) == list(range(8))
    assert all("value" in outcome for outcome in found["outcomes"].values())
    assert runs() == [0, 1, 2, 3, 3, 4, 5, 6, 7]
    (lost,) = [note for note in found["notes"] if "trial 3" in note]
    assert "was lost" in lost
    assert "is run once more" in lost
    assert found["node"] == "127.0.0.1"  # nobody else can reach it


def test_what_a_trial_does_to_its_actor_fails_that_trial_alone() -> None:
    found = run("Misbehaves", 6)
    errors = {int(number): outcome.get("error") for number, outcome in found["outcomes"].items()}
    assert errors[0] == "ValueError: not this one"
    assert errors[1] == "SystemExit: 3"
    assert "its worker was lost" in errors[2]
    assert "must return accuracies from 0 to 1" in errors[3]
    assert "its worker was lost" in errors[4]
    assert errors[5] is None


def test_a_hung_trial_is_ended_at_its_deadline() -> None:
    found = run("Hangs", 4, candidate_timeout="1s", grace=0.5)
    errors = {int(number): outcome.get("error") for number, outcome in found["outcomes"].items()}
    assert errors == {
        0: None,
        1: None,
        2: "it had not ended after 1 s and its worker was ended",
        3: None,
    }
    assert runs() == [0, 1, 2, 3]


def test_rungs_are_relayed_and_answered() -> None:
    found = run("Staged", 3)
    assert [outcome["fidelity"] for outcome in found["outcomes"].values()] == [1.0] * 3


def test_a_search_over_ray_is_one_command(work: Path) -> None:
    command = [
        *(sys.executable, "-m", "mnas", "search", "--target-madds", "4M", "--resolution", "32"),
        *("--classes", "10", "--controller", "random", "--accuracy", "workmodels:Scored", "--trials", "6"),
        *("--out", "run", "--executor", "ray", "--workers", "2", "--json"),
    ]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    with closing(EventStore.open(Path("run/trials.db"))) as store:
        assert History.read(store.events()).counts()["done"] == 6
    assert len(runs()) == 6


@pytest.fixture
def open_cluster(work: Path) -> Iterator[str]:
    """The address of a cluster that asks for no token."""
    script = (
        "import ray, time; context = ray.init(address='local', num_cpus=1, include_dashboard=False); "
        "print(context.address_info['gcs_address'], flush=True); time.sleep(600)"
    )
    settings = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        **LOOPBACK,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=own_environment(**settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        process.wait()
        process.stdout.close()
        time.sleep(0.5)


def test_a_cluster_without_tokens_is_refused(open_cluster: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, "Scored", "2", json.dumps({"address": open_cluster})],
        env=own_environment(RAY_AUTH_TOKEN="a" * 64, **LOOPBACK),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode != 0
    assert "runs code for whoever reaches it, without a token" in done.stderr
    assert not Path("calls.txt").exists()


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = run_process("Scored", 2, address=f"127.0.0.1:{port}")
    assert done.returncode != 0
    assert "nothing answers at 127.0.0.1" in done.stderr
