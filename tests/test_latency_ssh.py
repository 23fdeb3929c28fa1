"""Another device over ssh: a real sshd on this machine, and every way in which a connection to it can fail."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sshd import Server, needs_sshd, python_there, timed

from mnas.errors import InputError, MeasurementError
from mnas.latency import (
    Conditions,
    agent,
    check_conditions,
    parse_host,
    ssh,
    this_device,
)
from mnas.latency.lock import device_lock
from mnas.latency.ssh_failures import LostConnectionError

# --- a connection that holds -------------------------------------------------------------------------------


@needs_sshd
@pytest.mark.usefixtures("any_noise")
def test_a_network_is_timed_there_and_nothing_stays(ssh_server: Server, ssh_client: Path) -> None:
    said = []
    result = timed(
        ssh_server.host(),
        processes=2,
        budget_s=0.4,
        on_progress=lambda done, total, what: said.append((done, what)),
    )
    # The same machine, which describes itself by the same words whether it is asked over ssh or not.
    assert result.device == this_device()
    assert 0.5 < result["tiny"].ratio < 2
    assert result["tiny"].status in ("ok", "unresolved")
    assert len(result["tiny"].samples) == len(result.processes) >= 2
    assert all(len(item.candidate_ms) >= 10 for item in result["tiny"].samples)
    assert result.processes[0]["providers"] == ["CPUExecutionProvider"]
    assert any("copying network 2 of 2" in what for _, what in said)
    assert said[-1][0] >= 2
    assert ssh_server.is_clean()


@needs_sshd
def test_login_scripts_may_print(ssh_server: Server, ssh_client: Path, tmp_path: Path) -> None:
    there = ssh_server.host(python_there(tmp_path, "echo Welcome; echo 7; echo '{}'; echo >&2 a banner"))
    assert there.device == this_device()
    assert there.name == this_device().describe()
    assert set(there.state) == {"load", "governor"}
    assert "CPUExecutionProvider" in there.providers


@needs_sshd
def test_conditions_are_checked_against_that_device(ssh_server: Server, ssh_client: Path) -> None:
    there = ssh_server.host()
    check_conditions(Conditions(threads=this_device().cores), there)
    with pytest.raises(InputError, match=f"{this_device().cores} usable cores, got 100000; provider must be"):
        check_conditions(Conditions(threads=100000, provider="AbacusExecutionProvider"), there)


@needs_sshd
def test_one_measurement_at_a_time_there_too(
    ssh_server: Server, ssh_client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever measures on that device, over ssh or at its keyboard, holds the same lock."""
    monkeypatch.setattr(ssh, "WAIT_S", 0.3)
    monkeypatch.setattr(ssh, "POLL_THERE_S", 0.1)
    said: list[str] = []
    (ssh_server.cache / "mnas").mkdir(exist_ok=True)
    path = ssh_server.cache / "mnas" / agent.lock_path().name
    with (
        device_lock(path=path),
        pytest.raises(MeasurementError, match=f"process {os.getpid()} is measuring on"),
    ):
        timed(ssh_server.host(), on_progress=lambda done, total, what: said.append(what))
    assert f"waiting for process {os.getpid()}, which is measuring on {this_device().describe()}" in said
    with ssh_server.host().open(lambda text: None) as there:
        there.place([])
        with (
            pytest.raises(MeasurementError, match="is measuring on this device"),
            device_lock(wait_s=0, path=path),
        ):
            pytest.fail("two hold the lock")
    assert ssh_server.is_clean()
    with device_lock(wait_s=0, path=path):
        pass


# --- connections that fail ---------------------------------------------------------------------------------


@needs_sshd
def test_a_host_that_is_not_known_is_refused_and_stays_unknown(
    ssh_server: Server, ssh_client: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    ssh_client.write_text(ssh_client.read_text().replace(str(ssh_server.folder / "known_hosts"), str(known)))
    with pytest.raises(
        MeasurementError, match=rf"not known. Connect once by hand .*: ssh -p {ssh_server.port} 127"
    ):
        timed(ssh_server.host())
    assert not known.exists()
    other = (ssh_server.folder / "stranger.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{ssh_server.port} {other[0]} {other[1]}\n")
    with pytest.raises(MeasurementError, match="its host key is not the one in known_hosts"):
        timed(ssh_server.host())


@needs_sshd
def test_a_key_that_is_not_accepted(ssh_server: Server, ssh_client: Path) -> None:
    ssh_client.write_text(
        ssh_client.read_text().replace(str(ssh_server.folder / "user"), str(ssh_server.folder / "stranger"))
    )
    with pytest.raises(MeasurementError, match=r"accepts none of your keys.*ssh-copy-id"):
        timed(ssh_server.host())


@needs_sshd
def test_no_server_and_no_name(ssh_client: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(MeasurementError, match="no ssh server listens at that port"):
            timed(parse_host(f"ssh://127.0.0.1:{free.getsockname()[1]}"))
    with pytest.raises(MeasurementError, match="no host of that name"):
        timed(parse_host("ssh://no-such-host.invalid"))


@needs_sshd
def test_a_server_that_never_answers_is_given_up(ssh_client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "CONNECT_S", 1)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        start = time.monotonic()
        with pytest.raises(LostConnectionError, match="timed out"):
            timed(parse_host(f"ssh://127.0.0.1:{deaf.getsockname()[1]}"))
        assert 3 <= time.monotonic() - start < 15  # three tries of a second


def test_without_an_ssh_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MeasurementError, match=r"no program `ssh` here. Install"):
        timed(parse_host("ssh://board"))


@needs_sshd
def test_what_is_missing_there_is_named_with_the_command(
    ssh_server: Server, ssh_client: Path, tmp_path: Path
) -> None:
    bare = python_there(tmp_path, "", "-S -I", getattr(sys, "_base_executable", sys.executable))
    with pytest.raises(
        MeasurementError,
        match=rf"has no numpy and no onnxruntime. Install it there: {bare} -m pip install numpy onnxruntime",
    ):
        timed(ssh_server.host(bare))
    with pytest.raises(
        MeasurementError, match=r"there is no 'no/such/python' there.*\?python=venv/bin/python"
    ):
        timed(ssh_server.host("no/such/python"))
    assert ssh_server.is_clean()


@needs_sshd
@pytest.mark.parametrize("kind", ["a full disk", "a limit"])
def test_a_disk_that_takes_no_more(ssh_server: Server, ssh_client: Path, tmp_path: Path, kind: str) -> None:
    """The two scripts fit, a model does not; and then not even the first script."""
    if kind == "a limit":
        before, message = "ulimit -f 80", r"File too large \(.*\.onnx\)"  # in 512 bytes
        with pytest.raises(MeasurementError, match=message):
            timed(ssh_server.host(python_there(tmp_path, before)))
        assert ssh_server.is_clean()
        return
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, kilobytes=60) as is_mounted:
        if not is_mounted:
            pytest.skip("a small disk can be mounted by root alone")
        there = ssh_server.host(python_there(tmp_path, f"export TMPDIR={small}"))
        with pytest.raises(MeasurementError, match=r"the disk there is full: free space.*reference\.onnx"):
            timed(there)
        assert not list(small.iterdir())
        (small / "others").write_bytes(bytes(56 << 10))
        with pytest.raises(MeasurementError, match="the disk there is full"):
            timed(there)
        assert [path.name for path in small.iterdir()] == ["others"]


@contextmanager
def mounted(folder: Path, kilobytes: int) -> Iterator[bool]:
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield done
    if done:
        subprocess.run(["umount", str(folder)], check=True)


@needs_sshd
def test_a_lost_connection_is_made_again_and_nothing_counts_twice(
    ssh_server: Server, ssh_client: Path
) -> None:
    said: list[tuple[int, str]] = []
    dropped: list[str] = []

    def drop_once(done: int, total: int, what: str) -> None:
        said.append((done, what))
        if what == "measuring, process 2" and not dropped:
            dropped.append(what)
            ssh_server.drop_connections()

    result = timed(ssh_server.host(), processes=2, budget_s=0.4, on_progress=drop_once)
    assert any("was lost" in what and "Trying again" in what for _, what in said)
    assert [item.process for item in result["tiny"].samples] == list(range(len(result.processes)))
    assert len(result.processes) >= 2
    assert max(done for done, _ in said) == len(result.processes)
    assert ssh_server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_connection_that_is_always_lost_is_an_error(ssh_server: Server, ssh_client: Path) -> None:
    lost = []

    def drop(done: int, total: int, what: str) -> None:
        if what.startswith("measuring"):
            lost.append(what)
            ssh_server.drop_connections()

    with pytest.raises(
        LostConnectionError, match=f"the connection to ssh://127.0.0.1:{ssh_server.port} was lost"
    ):
        timed(ssh_server.host(), on_progress=drop)
    assert len(lost) >= 3
    assert ssh_server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_worker_that_dies_there_is_told_as_here(
    ssh_server: Server, ssh_client: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\nprint('no memory', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setattr(ssh, "WORKER", worker)
    with pytest.raises(MeasurementError, match=r"ended by SIGKILL before its result.*last words: no memory"):
        timed(ssh_server.host())
    worker.write_text("print('warming up...', flush=True)\nimport time; time.sleep(60)\n")
    with pytest.raises(MeasurementError, match=r"no event: 'warming up\.\.\.'"):
        timed(ssh_server.host())
    worker.write_text("import time; time.sleep(60)\n")
    monkeypatch.setattr(ssh, "SILENCE_S", 1.0)
    with pytest.raises(MeasurementError, match="silent for 1 s"):
        timed(ssh_server.host())
    assert ssh_server.is_clean()


@needs_sshd
def test_another_device_at_the_same_address_is_refused(ssh_server: Server, ssh_client: Path) -> None:
    there = ssh_server.host()
    there._device = replace(there.device, onnxruntime="0.1")
    with pytest.raises(MeasurementError, match="another device now, or another ONNX Runtime"):
        timed(there)
    assert ssh_server.is_clean()


@needs_sshd
def test_ctrl_c_leaves_nothing_there(ssh_server: Server, ssh_client: Path) -> None:
    there: list[int] = []

    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("measuring"):
            there.extend(ssh_server.processes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timed(ssh_server.host(), on_progress=interrupt)
    assert len(there) >= 2  # the agent and its worker
    assert ssh_server.is_clean()


@needs_sshd
def test_whoever_is_killed_here_leaves_nothing_there(ssh_server: Server, ssh_client: Path) -> None:
    code = (
        "import sys; from mnas.latency import *; from mnas.zoo import published\n"
        f"net = published('mobilenetv2'); measure({{'a': net}}, reference=net, conditions=Conditions(), seed=0,"
        f" host=parse_host({ssh_server.address()!r}), on_progress=lambda *a: print(a[2], flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"measuring"):
                break
        assert len(ssh_server.processes()) >= 2
        process.kill()
    assert ssh_server.is_clean()
