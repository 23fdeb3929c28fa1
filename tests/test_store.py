import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mnas.errors import RunDirectoryError
from mnas.rundir import RunDirectory
from mnas.search.history import History
from mnas.store import EventStore


def some_events(store: EventStore) -> None:
    store.append(
        "asked", [{"requested": 2, "trials": [{"trial": 0, "key": "0-1"}, {"trial": 1, "key": "1-1"}]}]
    )
    result = {
        "trial": 0,
        "status": "done",
        "metrics": {"accuracy": 0.5},
        "reward": 0.5,
        "error": None,
        "source": "s",
    }
    store.append("result", [result, result | {"reward": 0.9}])
    store.commit()


def test_events_come_back_in_order_and_the_first_result_counts(tmp_path: Path) -> None:
    with EventStore.create(tmp_path / "trials.db") as store:
        some_events(store)
    with EventStore.open(tmp_path / "trials.db") as store:
        events = list(store.events())
        history = History.read(events)
    assert [event.kind for event in events] == ["asked", "result", "result"]
    assert [event.number for event in events] == [1, 2, 3]
    assert [trial.status for trial in history.trials] == ["done", "waiting"]
    assert history.trials[0].reward == 0.5
    assert not history.batches[0].told


def test_what_was_not_committed_is_gone_and_what_was_is_kept(tmp_path: Path) -> None:
    store = EventStore.create(tmp_path / "trials.db")
    some_events(store)
    store.append("told", [{"batch": 0, "seconds": 1.0}])
    store.close()
    with EventStore.open(tmp_path / "trials.db") as again:
        assert len(list(again.events())) == 3


def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from pathlib import Path
        from mnas.store import EventStore
        store = EventStore.create(Path(sys.argv[1]))
        for number in range(1000):
            store.append("reference", [{"ms": number}])
            if number % 7 == 6:
                store.commit()
                print(number, flush=True)
            if number == 100:
                os.kill(os.getpid(), signal.SIGKILL)
    """
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "trials.db")],
        capture_output=True,
        text=True,
    )
    acknowledged = int(child.stdout.split()[-1])
    assert child.returncode == -9
    with EventStore.open(tmp_path / "trials.db") as store:
        kept = [event.payload["ms"] for event in store.events()]
    assert kept == list(range(acknowledged + 1))


def test_not_a_number_never_enters_the_store(tmp_path: Path) -> None:
    with EventStore.create(tmp_path / "trials.db") as store, pytest.raises(ValueError, match="JSON"):
        store.append("reference", [{"ms": float("nan")}])


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(data[: len(data) // 2 + 100])
    elif how == "overwritten":
        data[4096:8192] = b"\xff" * 4096
        path.write_bytes(data)
    elif how == "not a database":
        path.write_bytes(b"hello" * 1000)
    elif how == "missing":
        path.unlink()
    elif how == "another version":
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA user_version = 99")
        connection.commit()
        connection.close()


@pytest.mark.parametrize("how", ["truncated", "overwritten", "not a database", "missing", "another version"])
def test_a_damaged_store_gives_one_clear_message(tmp_path: Path, how: str) -> None:
    path = tmp_path / "trials.db"
    with EventStore.create(path) as store:
        for _ in range(200):
            some_events(store)
        store._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(path, how)
    with pytest.raises(RunDirectoryError, match=r"damaged|missing|schema 99"), EventStore.open(path) as store:
        History.read(store.events())


@pytest.mark.parametrize("payload", [{"trial": 99}, {}, {"trial": 0}])
def test_events_that_do_not_fit_are_damage(tmp_path: Path, payload: dict[str, object]) -> None:
    with EventStore.create(tmp_path / "trials.db") as store:
        store.append("asked", [{"requested": 1, "trials": [{"trial": 0, "key": "0"}]}])
        store.append("result", [payload])
        with pytest.raises(RunDirectoryError, match="does not fit"):
            History.read(store.events())


def test_a_run_directory_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("ten years")
    with pytest.raises(RunDirectoryError, match="not empty"):
        RunDirectory.create(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "ten years"
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="is a file"):
        RunDirectory.create(tmp_path / "file")


@pytest.mark.parametrize("name", ["-x", ".hidden", "a b", "x" * 65])
def test_odd_run_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunDirectoryError, match="no name for a run"):
        RunDirectory.create(tmp_path / name)


def test_runs_are_numbered_by_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = RunDirectory.create(None).path
    (first / "config.toml").touch()
    second = RunDirectory.create(None).path
    assert first.parent == second.parent == tmp_path / "runs"
    assert first.name.endswith("-1")
    assert second.name.endswith("-2")


def test_runs_of_another_format_and_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        RunDirectory.open(tmp_path)
    (tmp_path / "config.toml").write_text("format = 7\n")
    with pytest.raises(RunDirectoryError, match="format 7"):
        RunDirectory.open(tmp_path)
    (tmp_path / "config.toml").write_text("format = \n")
    with pytest.raises(RunDirectoryError, match="is not TOML"):
        RunDirectory.open(tmp_path)


def test_a_second_search_on_a_run_is_refused_and_a_dead_ones_lock_is_free(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    with run.locked(), pytest.raises(RunDirectoryError, match="in use by process"), run.locked():
        pytest.fail("two locks at once")
    code = (
        "import os, signal, sys; from pathlib import Path; from mnas.rundir import RunDirectory\n"
        "with RunDirectory(Path(sys.argv[1])).locked(): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run.path)]).returncode == -9
    with run.locked():
        assert (run.path / ".lock").read_text().startswith("process ")
