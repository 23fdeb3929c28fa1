"""Another device over ssh: a real sshd on this machine, and every way in which a connection to it can fail."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import MODELS, mnas, result_of

from mnas import doctor
from mnas.errors import InputError, MeasurementError, RunDirectoryError
from mnas.latency import (
    Calibration,
    Conditions,
    Device,
    MeasuringLatencyModel,
    agent,
    check_conditions,
    host,
    keep_calibration,
    measure,
    parse_host,
    ssh,
    this_device,
)
from mnas.latency.address import Address, parse_address
from mnas.latency.lock import device_lock
from mnas.latency.ssh import SshHost
from mnas.latency.ssh_failures import LostConnectionError, failure
from mnas.search.device_timing import measuring
from mnas.search.history import History
from mnas.search.reporting import Quiet
from mnas.search.ruler import Ruler
from mnas.search.timing import Preparation
from mnas.search_space import NetworkSpec, StageSpec, mbconv_space

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
needs_sshd = pytest.mark.skipif(
    SSHD is None or shutil.which("ssh") is None, reason="no sshd: install openssh-server and openssh-client"
)
TINY = NetworkSpec(8, (StageSpec("mbconv", 3, 2, 16, 4, expansion=4),), 32, resolution=32, num_classes=10)


@dataclass(frozen=True)
class Server:
    """A running sshd: `temporary` and `cache` are the folders of what is started there."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    temporary: Path
    cache: Path

    def address(self, python: str | Path = sys.executable) -> str:
        return f"ssh://127.0.0.1:{self.port}?python={python}"

    def host(self, python: str | Path = sys.executable) -> SshHost:
        found = parse_host(self.address(python))
        assert isinstance(found, SshHost)
        return found

    def processes(self) -> list[int]:
        """Those started over a connection that still run."""
        found, mark = [], f"XDG_CACHE_HOME={self.cache}".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes().split(b"\0")
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if mark in environment and state != "Z":
                found.append(int(folder.name))
        return found

    def is_clean(self, seconds: float = 10.0) -> bool:
        """Whether, in at most so many seconds, no process and no file is left there."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not self.processes() and not list(self.temporary.iterdir()):
                return True
            time.sleep(0.05)
        return False

    def drop_connections(self) -> None:
        """Kills what serves the open connections, as a machine that falls off the network does."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            if parent == self.process.pid:
                os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With keys and a configuration of its own; nothing of the system's or the user's is touched."""
    folder = tmp_path_factory.mktemp("sshd")
    temporary, cache = folder / "tmp", folder / "cache"
    for made in (temporary, cache, folder / "bin"):
        made.mkdir()
    for name in ("host", "user", "stranger"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized_keys")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder / 'authorized_keys'}\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nSetEnv TMPDIR={temporary} XDG_CACHE_HOME={cache}\n"
    )
    key_type, key = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {key_type} {key}\n")
    with privilege_separation_folder(), (folder / "log").open("wb") as log:
        assert SSHD is not None
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield Server(port, process, folder, temporary, cache)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def privilege_separation_folder() -> Iterator[None]:
    """What Debian's sshd asks for when root starts it by hand."""
    path = Path("/run/sshd")
    makes = os.getuid() == 0 and not path.exists()
    if makes:
        path.mkdir()
    yield
    if makes:
        path.rmdir()


@pytest.fixture
def client(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whoever runs `ssh` in a test has this configuration; the file."""
    configuration = tmp_path / "ssh_config"
    configuration.write_text(
        f"Host *\n  IdentityFile {server.folder / 'user'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {server.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
    )
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {configuration} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(ssh, "PAUSES_S", (0.1, 0.1))
    return configuration


def python_there(folder: Path, before: str, options: str = "", python: str = sys.executable) -> Path:
    """A program that does something before it is Python."""
    path = folder / "python-there"
    path.write_text(f'#!/bin/sh\n{before}\nexec {python} {options} "$@"\n')
    path.chmod(0o755)
    return path


def timed(where: host.Host, **more):
    given = {"conditions": Conditions(), "processes": 1, "budget_s": 0.2, "seed": 0, "host": where}
    return measure({"tiny": TINY}, reference=TINY, **{**given, **more})


# --- a connection that holds -------------------------------------------------------------------------------


@needs_sshd
def test_a_network_is_timed_there_and_nothing_stays(server: Server, client: Path) -> None:
    said = []
    result = timed(
        server.host(),
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
    assert server.is_clean()


@needs_sshd
def test_login_scripts_may_print(server: Server, client: Path, tmp_path: Path) -> None:
    there = server.host(python_there(tmp_path, "echo Welcome; echo 7; echo '{}'; echo >&2 a banner"))
    assert there.device == this_device()
    assert there.name == this_device().describe()
    assert set(there.state) == {"load", "governor"}
    assert "CPUExecutionProvider" in there.providers


@needs_sshd
def test_conditions_are_checked_against_that_device(server: Server, client: Path) -> None:
    there = server.host()
    check_conditions(Conditions(threads=this_device().cores), there)
    with pytest.raises(InputError, match=f"{this_device().cores} usable cores, got 100000; provider must be"):
        check_conditions(Conditions(threads=100000, provider="AbacusExecutionProvider"), there)


@needs_sshd
def test_one_measurement_at_a_time_there_too(
    server: Server, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever measures on that device, over ssh or at its keyboard, holds the same lock."""
    monkeypatch.setattr(ssh, "WAIT_S", 0.3)
    monkeypatch.setattr(ssh, "POLL_THERE_S", 0.1)
    said: list[str] = []
    (server.cache / "mnas").mkdir(exist_ok=True)
    path = server.cache / "mnas" / agent.lock_path().name
    with (
        device_lock(path=path),
        pytest.raises(MeasurementError, match=f"process {os.getpid()} is measuring on"),
    ):
        timed(server.host(), on_progress=lambda done, total, what: said.append(what))
    assert f"waiting for process {os.getpid()}, which is measuring on {this_device().describe()}" in said
    with server.host().open(lambda text: None) as there:
        there.place([])
        with (
            pytest.raises(MeasurementError, match="is measuring on this device"),
            device_lock(wait_s=0, path=path),
        ):
            pytest.fail("two hold the lock")
    assert server.is_clean()
    with device_lock(wait_s=0, path=path):
        pass


# --- connections that fail ---------------------------------------------------------------------------------


@needs_sshd
def test_a_host_that_is_not_known_is_refused_and_stays_unknown(
    server: Server, client: Path, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    client.write_text(client.read_text().replace(str(server.folder / "known_hosts"), str(known)))
    with pytest.raises(
        MeasurementError, match=rf"not known. Connect once by hand .*: ssh -p {server.port} 127"
    ):
        timed(server.host())
    assert not known.exists()
    other = (server.folder / "stranger.pub").read_text().split()
    known.write_text(f"[127.0.0.1]:{server.port} {other[0]} {other[1]}\n")
    with pytest.raises(MeasurementError, match="its host key is not the one in known_hosts"):
        timed(server.host())


@needs_sshd
def test_a_key_that_is_not_accepted(server: Server, client: Path) -> None:
    client.write_text(
        client.read_text().replace(str(server.folder / "user"), str(server.folder / "stranger"))
    )
    with pytest.raises(MeasurementError, match=r"accepts none of your keys.*ssh-copy-id"):
        timed(server.host())


@needs_sshd
def test_no_server_and_no_name(client: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(MeasurementError, match="no ssh server listens at that port"):
            timed(parse_host(f"ssh://127.0.0.1:{free.getsockname()[1]}"))
    with pytest.raises(MeasurementError, match="no host of that name"):
        timed(parse_host("ssh://no-such-host.invalid"))


@needs_sshd
def test_a_server_that_never_answers_is_given_up(client: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
    server: Server, client: Path, tmp_path: Path
) -> None:
    bare = python_there(tmp_path, "", "-S -I", getattr(sys, "_base_executable", sys.executable))
    with pytest.raises(
        MeasurementError,
        match=rf"has no numpy and no onnxruntime. Install it there: {bare} -m pip install numpy onnxruntime",
    ):
        timed(server.host(bare))
    with pytest.raises(
        MeasurementError, match=r"there is no 'no/such/python' there.*\?python=venv/bin/python"
    ):
        timed(server.host("no/such/python"))
    assert server.is_clean()


@needs_sshd
@pytest.mark.parametrize("kind", ["a full disk", "a limit"])
def test_a_disk_that_takes_no_more(server: Server, client: Path, tmp_path: Path, kind: str) -> None:
    """The two scripts fit, a model does not; and then not even the first script."""
    if kind == "a limit":
        before, message = "ulimit -f 80", r"File too large \(.*\.onnx\)"  # in 512 bytes
        with pytest.raises(MeasurementError, match=message):
            timed(server.host(python_there(tmp_path, before)))
        assert server.is_clean()
        return
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, kilobytes=60) as is_mounted:
        if not is_mounted:
            pytest.skip("a small disk can be mounted by root alone")
        there = server.host(python_there(tmp_path, f"export TMPDIR={small}"))
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
def test_a_lost_connection_is_made_again_and_nothing_counts_twice(server: Server, client: Path) -> None:
    said: list[tuple[int, str]] = []
    dropped: list[str] = []

    def drop_once(done: int, total: int, what: str) -> None:
        said.append((done, what))
        if what == "measuring, process 2" and not dropped:
            dropped.append(what)
            server.drop_connections()

    result = timed(server.host(), processes=2, budget_s=0.4, on_progress=drop_once)
    assert any("was lost" in what and "Trying again" in what for _, what in said)
    assert [item.process for item in result["tiny"].samples] == list(range(len(result.processes)))
    assert len(result.processes) >= 2
    assert max(done for done, _ in said) == len(result.processes)
    assert server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_connection_that_is_always_lost_is_an_error(server: Server, client: Path) -> None:
    lost = []

    def drop(done: int, total: int, what: str) -> None:
        if what.startswith("measuring"):
            lost.append(what)
            server.drop_connections()

    with pytest.raises(
        LostConnectionError, match=f"the connection to ssh://127.0.0.1:{server.port} was lost"
    ):
        timed(server.host(), on_progress=drop)
    assert len(lost) >= 3
    assert server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_worker_that_dies_there_is_told_as_here(
    server: Server, client: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\nprint('no memory', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    monkeypatch.setattr(ssh, "WORKER", worker)
    with pytest.raises(MeasurementError, match=r"ended by SIGKILL before its result.*last words: no memory"):
        timed(server.host())
    worker.write_text("print('warming up...', flush=True)\nimport time; time.sleep(60)\n")
    with pytest.raises(MeasurementError, match=r"no event: 'warming up\.\.\.'"):
        timed(server.host())
    worker.write_text("import time; time.sleep(60)\n")
    monkeypatch.setattr(ssh, "SILENCE_S", 1.0)
    with pytest.raises(MeasurementError, match="silent for 1 s"):
        timed(server.host())
    assert server.is_clean()


@needs_sshd
def test_another_device_at_the_same_address_is_refused(server: Server, client: Path) -> None:
    there = server.host()
    there._device = replace(there.device, onnxruntime="0.1")
    with pytest.raises(MeasurementError, match="another device now, or another ONNX Runtime"):
        timed(there)
    assert server.is_clean()


@needs_sshd
def test_ctrl_c_leaves_nothing_there(server: Server, client: Path) -> None:
    there: list[int] = []

    def interrupt(done: int, total: int, what: str) -> None:
        if what.startswith("measuring"):
            there.extend(server.processes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        timed(server.host(), on_progress=interrupt)
    assert len(there) >= 2  # the agent and its worker
    assert server.is_clean()


@needs_sshd
def test_whoever_is_killed_here_leaves_nothing_there(server: Server, client: Path) -> None:
    code = (
        "import sys; from mnas.latency import *; from mnas.zoo import published\n"
        f"net = published('mobilenetv2'); measure({{'a': net}}, reference=net, conditions=Conditions(), seed=0,"
        f" host=parse_host({server.address()!r}), on_progress=lambda *a: print(a[2], flush=True))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"measuring"):
                break
        assert len(server.processes()) >= 2
        process.kill()
    assert server.is_clean()


# --- commands ----------------------------------------------------------------------------------------------


@needs_sshd
def test_a_ruler_names_the_device(server: Server, client: Path) -> None:
    ruler = Ruler(Conditions(), TINY, host=server.host())
    found = ruler.measure({"tiny": TINY}, processes=1, budget_s=0.2, seed=0, reporter=Quiet())
    assert found.by_name["tiny"].fields["latency_source"] == f"measured on {this_device().describe()}"
    model = MeasuringLatencyModel(
        TINY, Conditions(), reference_ms=1.0, processes=1, seed=0, host=server.host()
    )
    (estimate,) = model.predict([TINY])
    assert estimate.device == f"{this_device().describe()}; {Conditions().describe()}"
    assert server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_search_measures_there(server: Server, client: Path, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    done = mnas(
        tmp_path,
        *("search", "--target-madds", "8M", "--resolution", "32", "--classes", "10", "--trials", "64"),
        *("--accuracy", "models:Accuracy", "--device", server.address(), "--out", "run", "--json"),
    )
    result, device = result_of(done), this_device()
    assert result["baseline"]["latency_source"] == f"measured on {device.describe()}"
    assert result["conditions"] == f"{Conditions().describe()}; {device.describe()}"
    assert f'device = "{server.address()}"' in (tmp_path / "run" / "config.toml").read_text()
    (record,) = json.loads((tmp_path / "run" / "finalists.json").read_text())
    assert Device.from_dict(record["device"]) == device
    assert "127.0.0.1" not in json.dumps([record, result])  # a record can be given away
    assert server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_search_by_latency_is_calibrated_and_grown_there(
    server: Server, client: Path, tmp_path: Path, small_calibration: Calibration
) -> None:
    keep_calibration(small_calibration)
    (tmp_path / "models.py").write_text(MODELS)
    done = mnas(
        tmp_path,
        *("search", "--target-latency", "9ms", "--resolution", "32", "--classes", "10", "--trials", "256"),
        *("--accuracy", "models:Accuracy", "--device", server.address(), "--out", "run", "--json"),
        code=None,
    )
    assert f"{this_device().describe()} was calibrated on" in done.stderr.replace("\n", " ")
    result = result_of(done)
    if result.get("status") == "done":  # not on a machine that is too noisy to decide
        assert result["scaled"]["latency_source"] == f"measured on {this_device().describe()}"
        family = result_of(mnas(tmp_path, "scale", "run", "--phi", "0.5", "--json"))  # there again, unasked
        assert {m["latency_source"] for m in family["members"]} == {f"measured on {this_device().describe()}"}
        assert family["conditions"].endswith(this_device().describe())
    assert server.is_clean()


@needs_sshd
def test_doctor_looks_at_that_device(server: Server, client: Path) -> None:
    result = doctor.examine(Quiet(), noise=False, host=server.host())
    found = {finding["name"]: finding["text"] for finding in result["findings"]}
    assert result["device"] == this_device().to_dict()
    assert this_device().describe() in found["device"]
    assert found["calibration"].startswith(this_device().describe())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--device", "ssh://-oProxyCommand=x@board"), "expected an address ssh://user@host:port"),
        (("--device", "raspberry"), "a device is 'local' or an address"),
        (
            ("--device", "ssh://board", "--latency", "models:Latency"),
            "where networks are measured; with --latency",
        ),
        (("--threads", "100000"), "threads must lie between 1 and the"),
    ],
)
def test_a_search_that_cannot_be_measured_leaves_nothing(
    tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    done = mnas(tmp_path, "search", "--target-latency", "9ms", *flags, "--out", "run", code=2)
    assert message in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_resumed_on_another_device() -> None:
    problem = SimpleNamespace(host=host.LOCAL, space=mbconv_space())
    history = History(references=[{"ms": 5.0, "when": "start", "device": "0" * 16}])
    preparation = Preparation(problem, None, None, history, Quiet())
    with pytest.raises(RunDirectoryError, match="begun on another device than this device"):
        measuring(preparation)


# --- addresses and messages --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address", "by_hand"),
    [
        ("ssh://pi@board:2222", Address("board", "pi", 2222), "ssh -p 2222 pi@board"),
        ("ssh://board", Address("board"), "ssh board"),
        ("ssh://10.0.0.7:22", Address("10.0.0.7", None, 22), "ssh -p 22 10.0.0.7"),
        ("ssh://me@[fe80::1%eth0]:22", Address("fe80::1%eth0", "me", 22), "ssh -p 22 me@fe80::1%eth0"),
        (
            "ssh://pi@board?python=venv/bin/python3.11",
            Address("board", "pi", None, "venv/bin/python3.11"),
            "ssh pi@board",
        ),
    ],
)
def test_addresses(text: str, address: Address, by_hand: str) -> None:
    assert parse_address(text) == address
    assert address.by_hand == by_hand
    assert str(address) == text.partition("?")[0]
    command = ssh.ssh_command(address, 10)
    assert command[command.index("--") + 1] == address.destination
    assert "BatchMode=yes" in command
    assert not [word for word in command if "StrictHostKeyChecking" in word or "UserKnownHosts" in word]


@pytest.mark.parametrize(
    "text",
    [
        "ssh://-oProxyCommand=reboot",
        "ssh://-l@board",
        "ssh://pi@-board",
        "ssh://pi:secret@board",
        "ssh://pi@board/home",
        "ssh://pi@board:0",
        "ssh://pi@board:65536",
        "ssh://pi@board:22x",
        "ssh://pi@bo ard",
        "ssh://pi@board\n",
        "ssh://pi@board;reboot",
        "ssh://$(reboot)@board",
        "ssh://pi@board?python=-c",
        "ssh://pi@board?python=python3;reboot",
        "ssh://pi@board?pyhton=python3",
        "ssh://",
        "ssh:board",
        "ssh://pi@bö",
    ],
)
def test_addresses_that_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected an address ssh://user@host:port, .* Got '"):
        parse_host(text)


def test_a_device_is_local_or_an_address() -> None:
    assert parse_host("local") is host.LOCAL
    for text in ("", "Local", "board", "pi@board", "http://board"):
        with pytest.raises(InputError, match="a device is 'local' or an address, ssh://"):
            parse_host(text)


@pytest.mark.parametrize(
    ("status", "said", "message", "passes"),
    [
        (255, "ssh: connect to host b port 22: Connection timed out", "was lost .*timed out", True),
        (255, "kex_exchange_identification: Connection closed by remote host", "was lost", True),
        (255, "client_loop: send disconnect: Broken pipe", "was lost", True),
        (255, "Timeout, server b not responding.", "was lost", True),
        (-9, "", "was lost", True),
        (255, "ssh: connect to host b port 22: No route to host", "switched on", False),
        (1, "OSError: [Errno 28] No space left on device", "disk there is full", False),
        (1, "PermissionError: [Errno 13] Permission denied: '/tmp/x'", "Permission denied: '/tmp/x'", False),
        (3, "", "ended with status 3", False),
    ],
)
def test_what_an_ended_ssh_means(status: int, said: str, message: str, passes: bool) -> None:
    error = failure(Address("b"), status, said)
    assert isinstance(error, LostConnectionError) is passes
    with pytest.raises(MeasurementError, match=message):
        raise error
