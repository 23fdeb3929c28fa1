"""Candidates trained by other processes: the same trials, whatever happens to the workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from commands import environment, mnas
from loops import latency, search
from workers import MODELS, Heard, begin, jobs, make_model

from mnas.config import make_config
from mnas.errors import InputError, SearchError
from mnas.executors import made
from mnas.executors.dispatch import Dispatcher
from mnas.executors.inline import Inline
from mnas.executors.made import make_executor, with_workers
from mnas.executors.placing import Place, core_sets
from mnas.search.costing import Limits
from mnas.search.halving import Rungs
from mnas.search.history import History
from mnas.search.run import _elsewhere
from mnas.store import EventStore


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the user's module lies."""
    (tmp_path / "workmodels.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MNAS_TEST_PARENT", str(os.getpid()))
    yield tmp_path
    sys.modules.pop("workmodels", None)


def gone(pids: set[int], within_s: float = 20.0) -> bool:
    """Whether these processes have ended, or do so soon."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def started() -> list[tuple[int, int]]:
    """Process and seed of each call of a model so far."""
    path = Path("calls.txt")
    lines = path.read_text().splitlines() if path.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def test_processes_find_what_inline_finds_and_end_when_closed() -> None:
    model = make_model("workmodels:Scored")
    alone, together = Heard(), Heard()
    Inline(model, "workmodels:Scored").run(jobs(6), alone)
    with closing(begin("processes", "workmodels:Scored")) as executor:
        Path("calls.txt").unlink()
        executor.run(jobs(6), together)
        assert together.outcomes == alone.outcomes
        assert all(outcome.estimate is not None for outcome in alone.outcomes.values())
        pids = {pid for pid, _ in started()}
        assert len(pids) == 2
        assert os.getpid() not in pids
        executor.run(jobs(3), Heard())  # a second batch has the same workers
        assert {pid for pid, _ in started()} == pids
    assert gone(pids)


def test_workers_stay_on_cores_of_their_own_and_leave_one_for_measuring() -> None:
    assert core_sets([0, 1, 2, 3, 4, 5], None, 2, reserved=1) == ([[1, 2], [3, 4]], [])
    assert core_sets([4, 7, 9], 2, 1, reserved=0) == ([[4], [7]], [])
    sets, notes = core_sets([3], None, 1, reserved=1)
    assert sets == [[3]]
    assert "with 1 core none is left out for measuring" in notes[0]
    sets, notes = core_sets([0, 1, 2, 3], 5, 2, reserved=1)
    assert sets == [[1, 2]] * 5
    assert "5 workers, 2 at --train-threads, share 3 cores" in notes[0]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin processes")
def test_the_cores_of_a_worker_are_those_that_it_was_given() -> None:
    core = max(os.sched_getaffinity(0))
    with closing(begin("processes", "workmodels:Cores", workers=1)) as executor:
        assert isinstance(executor, Dispatcher)
        executor.crew.places[0].cores[:] = [core]  # type: ignore[attr-defined]
        heard = Heard()
        executor.run(jobs(1), heard)
    (outcome,) = heard.outcomes.values()
    assert outcome.estimate is not None
    assert outcome.estimate.source == f"[{core}]"


def test_a_killed_worker_costs_one_more_run_of_its_trial() -> None:
    notes: list[str] = []
    heard = Heard()
    with closing(begin("processes", "workmodels:KilledOnce", note=notes.append)) as executor:
        executor.run(jobs(6), heard)
    assert sorted(heard.order) == list(range(6))  # told once of each
    assert all(outcome.estimate is not None for outcome in heard.outcomes.values())
    runs = [seed for _, seed in started()]
    assert sorted(runs) == [0, 1, 2, 3, 3, 4, 5]
    lost = [note for note in notes if "trial 3" in note]
    assert len(lost) == 1
    assert "was ended by SIGKILL, out of memory or by someone" in lost[0]


def test_what_a_trial_does_to_its_worker_fails_that_trial_alone() -> None:
    heard = Heard()
    with closing(begin("processes", "workmodels:Misbehaves")) as executor:
        executor.run(jobs(6), heard)
    errors = {number: outcome.error for number, outcome in heard.outcomes.items()}
    assert errors[0] == "ValueError: not this one"
    assert errors[1] == "SystemExit: 3"
    assert "its worker ended with status 7" in str(errors[2])
    assert "must return accuracies from 0 to 1" in str(errors[3])
    assert "nan" in str(errors[3])
    assert "its worker was ended by SIGSEGV" in str(errors[4])
    assert errors[5] is None
    runs = [seed for _, seed in started()]
    assert [runs.count(seed) for seed in range(6)] == [1, 1, 2, 1, 2, 1]


def test_inline_survives_what_does_not_end_the_process() -> None:
    heard = Heard()
    Inline(make_model("workmodels:Misbehaves"), "mine").run(
        [job for job in jobs(4) if job.number != 2], heard
    )
    errors = [heard.outcomes[number].error for number in (0, 1, 3)]
    assert errors[:2] == ["ValueError: not this one", "SystemExit: 3"]
    assert "must return accuracies from 0 to 1" in str(errors[2])


def test_a_hung_trial_is_ended_at_its_deadline() -> None:
    heard = Heard()
    with closing(begin("processes", "workmodels:Hangs", candidate_timeout="1s")) as executor:
        assert isinstance(executor, Dispatcher)
        executor.grace_s = 0.5
        executor.run(jobs(4), heard)
        pid = next(pid for pid, seed in started() if seed == 2)
        assert gone({pid})
    assert heard.outcomes[2].error == "it had not ended after 1 s and its worker was ended"
    assert [n for n, outcome in heard.outcomes.items() if outcome.estimate is None] == [2]
    assert sorted(seed for _, seed in started()) == [0, 1, 2, 3]  # a hang is not tried again


def test_workers_that_cannot_begin_end_the_search_with_the_reason() -> None:
    with (
        closing(begin("processes", "workmodels:DiesInWorkers")) as executor,
        pytest.raises(SearchError, match=r"started 3 times and ended with status 5 each time"),
    ):
        executor.run(jobs(2), Heard())
    with (
        closing(begin("processes", "workmodels:RaisesInWorkers")) as executor,
        pytest.raises(SearchError, match=r"could not make itself ready: .* OSError: no such disk"),
    ):
        executor.run(jobs(2), Heard())


def test_a_worker_that_prints_before_it_is_ours_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('welcome')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with (
        closing(begin("processes", "workmodels:Scored", workers=1)) as executor,
        pytest.raises(SearchError, match=r"wrote 'welcome' where an answer belongs each time"),
    ):
        executor.run(jobs(1), Heard())


def test_a_worker_prepares_its_model_and_what_it_says_is_passed_on() -> None:
    with (
        closing(begin("processes", "workmodels:Prepared", workers=1)) as executor,
        pytest.raises(
            SearchError, match=r"what the search prepared is not there: .*supernet has to be on a shared disk"
        ),
    ):
        executor.run(jobs(1), Heard())
    Path("run/supernet").mkdir(parents=True)
    Path("run/supernet/weights").touch()
    notes: list[str] = []
    heard = Heard()
    with closing(begin("processes", "workmodels:Prepared", workers=1, note=notes.append)) as executor:
        executor.run(jobs(1), heard)
    assert notes[-1] == "worker 1: loading weights"
    assert heard.outcomes[0].estimate is not None
    assert heard.outcomes[0].estimate.source == "weights of run/supernet"


def test_a_search_over_processes_has_the_trials_of_one_inline(tmp_path: Path) -> None:
    limits = Limits(trials=12, ask_batch=6)
    model = make_model("workmodels:Scored")
    inline = search(tmp_path / "inline.db", model, 4.0, limits=limits)
    inline.run()
    with closing(begin("processes", "workmodels:Scored")) as executor:
        spread = search(tmp_path / "spread.db", model, 4.0, limits=limits, executor=executor)
        spread.run()
    for mine, other in zip(spread.history.trials, inline.history.trials, strict=True):
        assert (mine.key, mine.status, mine.reward, mine.metrics) == (
            other.key,
            other.status,
            other.reward,
            other.metrics,
        )
    spread.store.close()
    again = search(tmp_path / "spread.db", model, 4.0, limits=limits)
    assert again.reporter.warnings == []  # type: ignore[attr-defined]
    again.run()
    assert [t.reward for t in again.history.trials] == [t.reward for t in inline.history.trials]


def test_nothing_is_timed_while_a_candidate_trains(tmp_path: Path) -> None:
    timed = 0

    def timing(specs: Any) -> Any:
        nonlocal timed
        timed += 1
        assert not list(tmp_path.glob("training-*")), "a candidate is in training"
        return latency(specs)

    with closing(begin("processes", "workmodels:Marks")) as executor:
        loop = search(
            tmp_path / "t.db",
            make_model("workmodels:Marks"),
            4.0,
            latencies=timing,
            executor=executor,
            limits=Limits(trials=9, ask_batch=3),
        )
        loop.run()
        assert timed >= 3
        assert len(started()) == 9
        loop._evaluation.training = True
        with pytest.raises(AssertionError, match="cores that train"):
            loop._ask(0, 1)


def decisions(path: Path) -> tuple[dict[int, float], dict[int, float]]:
    """By trial: its fidelity as the rule has it, from the stored rungs in their order; and as it was stored."""
    rungs, expected = Rungs(), {}
    with closing(EventStore.open(path)) as store:
        events = list(store.events())
    for event in events:
        if event.kind == "rung":
            payload: Any = event.payload
            rungs.record(payload)
            number, epoch = payload["trial"], payload["rung"]
            expected[number] = 1.0 if rungs.goes_on(epoch, number, 3) else epoch / 9
    trials = History.read(events).trials
    return expected, {t.number: t.metrics.get("fidelity", 1.0) for t in trials if t.status == "done"}


@pytest.mark.parametrize("workers", [1, 2])
def test_halving_goes_by_the_rule_in_the_order_of_arrival(tmp_path: Path, workers: int) -> None:
    model = make_model("workmodels:Staged")
    limits = Limits(trials=30, ask_batch=10)
    with closing(begin("processes", "workmodels:Staged", workers=workers)) as executor:
        search(tmp_path / "t.db", model, 4.0, limits=limits, executor=executor).run()
    expected, found = decisions(tmp_path / "t.db")
    assert found == expected
    assert set(found.values()) == {1 / 9, 3 / 9, 1.0}
    if workers == 1:
        inline = search(tmp_path / "inline.db", model, 4.0, limits=limits)
        inline.run()
        assert decisions(tmp_path / "inline.db")[1] == found


# A search over two processes, in a process of its own that may be killed; what follows a search is left out.
SEARCH = """
from pathlib import Path
from loops import search
from workers import begin, make_model
from mnas.search.costing import Limits
name = "workmodels:Slow"
executor, limits = begin("processes", name), Limits(trials=12, ask_batch=6)
loop = search(Path("trials.db"), make_model(name), 4.0, limits=limits, executor=executor)
try:
    loop.run()
finally:
    loop.store.commit()
"""


def done() -> list[int]:
    """Trials with a result in the store, refused ones left out, as often as they have one."""
    with closing(EventStore.open(Path("trials.db"))) as store:
        events = [event.payload for event in store.events() if event.kind == "result"]
    return [event["trial"] for event in events if event["status"] == "done"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_search_which_goes_on_elsewhere(how: signal.Signals) -> None:
    path = os.pathsep.join([environment()["PYTHONPATH"], str(Path(__file__).parent)])
    process = subprocess.Popen(
        [sys.executable, "-c", SEARCH], env={**environment(), "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while len(started()) < 9 and time.monotonic() < end:
        time.sleep(0.05)
    process.send_signal(how)
    process.wait(60)
    before = started()
    assert 9 <= len(before) < 12
    assert gone({pid for pid, _ in before})
    kept = done()
    assert len(kept) >= 6
    model = make_model("workmodels:Slow")
    loop = search(Path("trials.db"), model, 4.0, limits=Limits(trials=12, ask_batch=6))
    loop.run()
    loop.store.close()
    assert loop.history.counts()["done"] == 12
    every = done()
    assert every[: len(kept)] == kept
    assert len(set(every)) == len(every) == 12
    assert len(started()) - len(before) == 12 - len(kept)  # what was stored was not trained again


@pytest.mark.slow
def test_a_search_over_processes_is_one_command(work: Path) -> None:
    mnas(
        work,
        *(
            "search",
            "--target-madds",
            "4M",
            "--resolution",
            "32",
            "--classes",
            "10",
            "--controller",
            "random",
        ),
        *("--accuracy", "workmodels:Scored", "--trials", "12", "--out", "run"),
        *("--executor", "processes", "--workers", "3", "--json"),
        quickly=True,
    )
    assert "workers = 3" in Path("run/config.toml").read_text()
    assert "ask_batch = 9" in Path("run/config.toml").read_text()  # 8 by default, a multiple of the workers
    assert len(started()) == 12


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"executor": "processes"}, "spreads the training of candidates"),
        ({"workers": 2, "data": "digits"}, "--workers goes with --executor"),
        ({"executor": "processes", "address": "a:1", "data": "digits"}, "goes with --executor ray"),
        ({"executor": "ray", "address": "a:1", "data": "digits"}, "--address needs --workers"),
        ({"executor": "ray", "address": "ray://a:1", "data": "digits", "workers": 1}, "host:port"),
        ({"executor": "processes", "data": "digits", "workers": 0}, "--workers"),
    ],
)
def test_what_does_not_go_together_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_config({"target_madds": "400M", **values})


def test_a_model_that_does_not_take_long_has_no_workers() -> None:
    with pytest.raises(InputError, match="expensive = True"):
        begin("processes", "workmodels:Cheap")


def test_workers_and_batches_have_defaults_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    config = make_config({"target_latency": "4ms", "data": "digits", "executor": "processes"})
    config = with_workers(config.model_copy(update={"train_device": "cpu"})).resolved()
    assert config.workers == 3  # one core is left for measuring
    assert config.ask_batch == 6  # five by default
    four = make_config(
        {"target_madds": "4M", "data": "digits", "executor": "processes", "train_device": "cpu"}
    )
    assert with_workers(four).workers == 4  # nothing is measured before the end


def test_each_worker_has_a_gpu_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    def places(**values: Any) -> list[Any]:
        return made._places(make_config({"target_madds": "4M", "executor": "processes", **values}))[0]

    monkeypatch.setattr(made, "visible_gpus", lambda: ["2", "5"])
    monkeypatch.setattr(made, "training_device", lambda config: config.train_device or "cuda")
    both = [place.environment["CUDA_VISIBLE_DEVICES"] for place in places(data="digits")]
    assert both == ["2", "5"]
    three = places(accuracy="mine:Model", workers=3)
    assert [place.environment["CUDA_VISIBLE_DEVICES"] for place in three] == ["2", "5", "2"]
    assert places(data="digits", train_device="cuda:1") == [Place()]
    assert all(place.cores for place in places(data="digits", train_device="cpu"))


def test_a_run_resumed_inline_needs_no_workers() -> None:
    config = make_config(
        {
            "target_madds": "4M",
            "accuracy": "mine:Model",
            "executor": "processes",
            "workers": 3,
            "candidate_timeout": "10m",
        }
    ).resolved()
    inline = _elsewhere(config, {"executor": "inline"})
    assert (inline.executor, inline.workers, inline.ask_batch) == ("inline", None, config.ask_batch)
    assert _elsewhere(config, {}) == config
    assert _elsewhere(config, {"workers": 7}).workers == 7


def test_executors_close_twice_and_without_having_begun(tmp_path: Path) -> None:
    config = make_config({"target_madds": "4M", "accuracy": "workmodels:Scored"}).resolved()
    executor = make_executor(config, tmp_path, make_model("workmodels:Scored"), print)
    executor.close()
    spread = begin("processes", "workmodels:Scored")
    spread.close()
    spread.close()
