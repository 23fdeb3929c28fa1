"""Fixtures that several test files share."""

import os
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import turns

if TYPE_CHECKING:
    from sshd import Server

    from mnas.latency import Calibration


# pytest-xdist says so to the processes that run tests side by side (`pytest -n 2`).
BESIDE_OTHERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
if (
    BESIDE_OTHERS
):  # torch, not loaded yet, takes ten times as long where its threads wait for each other's cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a busy machine one may find too few networks that can be measured steadily.
MOST_CALIBRATIONS = 5


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """A test that times something has the machine to itself, also where tests run side by side."""
    if not BESIDE_OTHERS:
        return (yield)
    folder = Path(
        item.config.option.basetemp
    ).parent  # each process has a folder of its own in that of the run
    with turns.turn(folder, alone=item.get_closest_marker("times") is not None):
        return (yield)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or writes the calibrations of the person who runs it, nor does a command that a test starts."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock, the records and the model files of a test lie in its own folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def any_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure is too noisy: for tests of what is made of one. The gate has tests of its own, with made-up samples."""
    from mnas.latency import measurement

    monkeypatch.setattr(measurement, "DRIFT_REJECTS", float("inf"))
    monkeypatch.setattr(measurement, "WIDEST", float("inf"))


@pytest.fixture(scope="session")
def small_calibration() -> "Calibration":
    """A real one of this device, of networks that are quick to time: the calibration's own, at 32 pixels."""
    from mnas.errors import MnasError
    from mnas.latency import Conditions, calibrate, calibration_networks
    from mnas.latency.networks import OTHERS

    mobile = [network for network in calibration_networks(0) if network.group not in OTHERS]
    networks = [
        replace(network, spec=replace(network.spec, resolution=32, num_classes=10)) for network in mobile[:16]
    ]
    for _ in range(MOST_CALIBRATIONS - 1):
        try:
            return calibrate(Conditions(), networks=networks)
        except MnasError as error:  # other work on this machine; whether it is found out has tests of its own
            print(f"calibrating again: {error}")
    return calibrate(Conditions(), networks=networks)


@pytest.fixture
def calibrated_cache(
    small_calibration: "Calibration", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache of its own in which that calibration is kept; the file."""
    from mnas.latency import keep_calibration

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return keep_calibration(small_calibration)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other on a busy machine: ten times slower there, no faster on a free one."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Server"]:
    """A real sshd; see `sshd.running_server`."""
    from sshd import running_server

    with running_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def ssh_client(ssh_server: "Server", tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Whoever runs `ssh` in a test has this configuration, which knows that server; the file."""
    from sshd import configure_client

    return configure_client(ssh_server, tmp_path, monkeypatch)
