"""What the commands do with a device over ssh, and what they say of addresses and failures."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import MODELS, mnas, result_of
from sshd import TINY, Server, needs_sshd

from mnas import doctor
from mnas.errors import InputError, MeasurementError, RunDirectoryError
from mnas.latency import (
    Calibration,
    Conditions,
    Device,
    MeasuringLatencyModel,
    host,
    keep_calibration,
    parse_host,
    ssh,
    this_device,
)
from mnas.latency.address import Address, parse_address
from mnas.latency.ssh_failures import LostConnectionError, failure
from mnas.search.device_timing import measuring
from mnas.search.history import History
from mnas.search.reporting import Quiet
from mnas.search.ruler import Ruler
from mnas.search.timing import Preparation
from mnas.search_space import mbconv_space

# --- commands ----------------------------------------------------------------------------------------------


@needs_sshd
def test_a_ruler_names_the_device(ssh_server: Server, ssh_client: Path) -> None:
    ruler = Ruler(Conditions(), TINY, host=ssh_server.host())
    found = ruler.measure({"tiny": TINY}, processes=1, budget_s=0.2, seed=0, reporter=Quiet())
    assert found.by_name["tiny"].fields["latency_source"] == f"measured on {this_device().describe()}"
    model = MeasuringLatencyModel(
        TINY, Conditions(), reference_ms=1.0, processes=1, seed=0, host=ssh_server.host()
    )
    (estimate,) = model.predict([TINY])
    assert estimate.device == f"{this_device().describe()}; {Conditions().describe()}"
    assert ssh_server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_search_measures_there(ssh_server: Server, ssh_client: Path, tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text(MODELS)
    done = mnas(
        tmp_path,
        *("search", "--target-madds", "8M", "--resolution", "32", "--classes", "10", "--trials", "64"),
        *("--accuracy", "models:Accuracy", "--device", ssh_server.address(), "--out", "run", "--json"),
    )
    result, device = result_of(done), this_device()
    assert result["baseline"]["latency_source"] == f"measured on {device.describe()}"
    assert result["conditions"] == f"{Conditions().describe()}; {device.describe()}"
    assert f'device = "{ssh_server.address()}"' in (tmp_path / "run" / "config.toml").read_text()
    (record,) = json.loads((tmp_path / "run" / "finalists.json").read_text())
    assert Device.from_dict(record["device"]) == device
    assert "127.0.0.1" not in json.dumps([record, result])  # a record can be given away
    assert ssh_server.is_clean()


@needs_sshd
@pytest.mark.slow
def test_a_search_by_latency_is_calibrated_and_grown_there(
    ssh_server: Server, ssh_client: Path, tmp_path: Path, small_calibration: Calibration
) -> None:
    keep_calibration(small_calibration)
    (tmp_path / "models.py").write_text(MODELS)
    done = mnas(
        tmp_path,
        *("search", "--target-latency", "9ms", "--resolution", "32", "--classes", "10", "--trials", "256"),
        *("--accuracy", "models:Accuracy", "--device", ssh_server.address(), "--out", "run", "--json"),
        code=None,
    )
    assert f"{this_device().describe()} was calibrated on" in done.stderr.replace("\n", " ")
    result = result_of(done)
    if result.get("status") == "done":  # not on a machine that is too noisy to decide
        assert result["scaled"]["latency_source"] == f"measured on {this_device().describe()}"
        family = result_of(mnas(tmp_path, "scale", "run", "--phi", "0.5", "--json"))  # there again, unasked
        assert {m["latency_source"] for m in family["members"]} == {f"measured on {this_device().describe()}"}
        assert family["conditions"].endswith(this_device().describe())
    assert ssh_server.is_clean()


@needs_sshd
def test_doctor_looks_at_that_device(ssh_server: Server, ssh_client: Path) -> None:
    result = doctor.examine(Quiet(), noise=False, host=ssh_server.host())
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
