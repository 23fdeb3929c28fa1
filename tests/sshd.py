"""An ssh server of the tests' own, and what is asked of the device behind it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mnas.latency import (
    Conditions,
    host,
    measure,
    parse_host,
    ssh,
)
from mnas.latency.ssh import SshHost
from mnas.search_space import NetworkSpec, StageSpec

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


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """With keys and a configuration of its own in that folder; nothing of the system's or the user's is touched."""
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


def configure_client(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whoever runs `ssh` in a test has this configuration; the file."""
    configuration = folder / "ssh_config"
    configuration.write_text(
        f"Host *\n  IdentityFile {server.folder / 'user'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {server.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
    )
    program = folder / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {configuration} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
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
