"""`mnas latency measure` and what it cannot measure: one message, the exit code, and nothing that is kept."""

import json
import os
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from commands import mnas, result_of
from onnx_models import convolution, endless_loop, outside, overflowing_division, saved

from mnas.graph import build_graph
from mnas.latency import Calibration, child, this_device
from mnas.latency.lock import device_lock
from mnas.search_space import NetworkSpec, StageSpec

pytestmark = pytest.mark.usefixtures("own_folders")
TINY = NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, 1),), 16, 32, 10)
QUICK = ("--processes", "1", "--budget", "1s")
Write = Callable[[Path], object]


def measured(folder: Path, *arguments: str, code: int) -> str:
    """What is said of a model that is refused; nothing of it is kept, and the next measurement may begin."""
    done = mnas(folder, "latency", "measure", *arguments, *QUICK, "--json", code=code)
    said = done.stderr.strip().splitlines()
    assert json.loads(done.stdout) == {"error": said[-1].removeprefix("error: "), "exit_code": code}
    assert len([line for line in said if line.startswith("error: ")]) == 1
    assert not (folder / "cache" / "mnas" / "measurements").exists()
    assert not list(folder.glob("mnas-latency-*"))
    with device_lock(wait_s=0):
        pass
    return said[-1]


def cut(path: Path) -> None:
    data = build_graph(TINY).SerializeToString()
    path.write_bytes(data[: len(data) // 2])


def without_its_weights(path: Path) -> None:
    outside(path, 1, 8).with_suffix(".bin").unlink()


def with_half_its_weights(path: Path) -> None:
    os.truncate(outside(path, 1, 8).with_suffix(".bin"), 128)


def with_weights_elsewhere(path: Path) -> None:
    model = onnx.load(outside(path, 1, 8), load_external_data=False)
    (entry,) = (e for e in model.graph.initializer[0].external_data if e.key == "location")
    entry.value = "../elsewhere.bin"
    saved(model, path)


REFUSED: dict[str, tuple[Write, tuple[str, ...], str]] = {
    "no file": (lambda path: None, (), "cannot read the model .*No such file.*Expected an ONNX model"),
    "a folder": (lambda path: path.mkdir(), (), "is no file. Expected an ONNX model"),
    "a pipe": (os.mkfifo, (), "is no file. Expected an ONNX model"),
    "text": (lambda path: path.write_text("no model\n" * 99), (), "is not an ONNX model, or was cut off"),
    "cut": (cut, (), "is not an ONNX model, or was cut off"),
    "3 GiB in one file": (lambda path: (path.touch(), os.truncate(path, 3 << 30)), (), "has 3.0 GiB"),
    "3 GiB in two": (
        lambda path: outside(path, 3, 1 << 14),
        (),
        "weights in other files has 3.0 GiB.*one file",
    ),
    "weights missing": (without_its_weights, (), "in other files, and they cannot be read.*Put them beside"),
    "weights cut": (with_half_its_weights, (), "in other files, and they cannot be read"),
    "weights elsewhere": (with_weights_elsewhere, (), "in other files, and they cannot be read"),
    "channels open": (lambda path: saved(convolution([1, "c", 8, 8]), path), (), "dimension 1 .*'c'.*fixed"),
    "rank open": (lambda path: saved(convolution(None), path), (), "'x' is no tensor of known rank"),
    "no batch": (
        lambda path: saved(convolution(["n", 3, "h", "w"]), path),
        ("--batch", "0", "--resolution", "-3"),
        "--batch must be at least 1, got 0; --resolution must be at least 1, got -3",
    ),
    "another batch": (
        lambda path: saved(convolution([1, 3, 8, 8]), path),
        ("--batch", "2"),
        "fixes dimension 0 of 'x' to 1; --batch 2 cannot change it",
    ),
    "no provider": (
        lambda path: saved(convolution([1, 3, 8, 8]), path),
        ("--provider", "CUDAExecutionProvider", "--threads", "4096"),
        "threads must lie between 1 and the .* usable cores, got 4096; provider must be one of .*CPU",
    ),
    "no reference": (
        lambda path: saved(convolution([1, 3, 8, 8]), path),
        ("--reference", "mobilenetv1"),
        "did you mean 'mobilenetv2'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_measured_is_refused_before_anything_runs(name: str, tmp_path: Path) -> None:
    write, flags, message = REFUSED[name]
    write(tmp_path / "bad.onnx")
    assert re.search(message, measured(tmp_path, "bad.onnx", *flags, code=2))


FAILING: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "a custom operator": (
        lambda: convolution([1, 3, 8, 8], domain="my.domain", kind="Foo"),
        r"cannot load bad\.onnx: .*Foo",
    ),
    "an opset of the future": (
        lambda: convolution([1, 3, 8, 8], opset=99),
        r"cannot load bad\.onnx: .*[Oo]pset",
    ),
    "a crash, on x86": (
        overflowing_division,
        r"ended by SIGFPE before its result \(opening bad\.onnx\)\. ONNX Runtime crashed: run the model",
    ),
    "a hang": (endless_loop, r"silent for 4 s \(opening bad\.onnx\) and was ended.*never end"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_in_the_child_leaves_the_parent_alive(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.endswith("x86") and platform.machine() != "x86_64":
        pytest.skip("another machine's division has a result")
    write, message = FAILING[name]
    saved(write(), tmp_path / "bad.onnx")
    monkeypatch.setattr(child, "SILENCE_S", 4.0)
    assert re.search(message, measured(tmp_path, "bad.onnx", code=1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "mnas.calibration/1"}, "expected a calibration of format"),
        ({"device": {"cpu": "Cortex-A76"}}, "device: missing .*'cores'"),
        ({"predictor": {"format": "mnas.predictor/0"}}, "expected a predictor of format"),
        ({"points": [{"name": "one"}]}, "a field is missing, unknown or mistyped"),
        ({"reference_ms": float("nan")}, "not JSON .NaN is no number"),
    ],
)
def test_a_device_file_that_cannot_be_used_is_not_kept(
    small_calibration: Calibration, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    (tmp_path / "device.json").write_text(json.dumps({**small_calibration.to_dict(), **changes}))
    said = mnas(tmp_path, "latency", "devices", "import", "device.json", code=2).stderr
    assert re.search(f"the calibration device.json cannot be used: .*{message}", said)
    assert "Make it anew on its device (mnas latency calibrate)" in said
    assert not (tmp_path / "cache" / "mnas" / "calibrations").exists()


def test_a_device_file_of_another_device_is_kept_for_that_device_alone(
    small_calibration: Calibration, tmp_path: Path
) -> None:
    other = replace(small_calibration, device=replace(this_device(), cpu="Cortex-A76", machine="aarch64"))
    (tmp_path / "board.json").write_text(json.dumps(other.to_dict()))
    mnas(tmp_path, "latency", "devices", "import", "board.json")
    (row,) = result_of(mnas(tmp_path, "latency", "devices", "list", "--json"))["devices"]
    assert (row["here"], row["device"].startswith("Cortex-A76")) == (False, True)
    said = mnas(tmp_path, "latency", "validate", "calibrated", code=2).stderr
    assert "has no calibration for" in said
