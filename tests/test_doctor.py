"""`mnas doctor`: what it finds, how bad that is, and the command that mends it."""

import json
from pathlib import Path
from typing import Any

import pytest
from commands import mnas, result_of

from mnas import doctor
from mnas.env import environment
from mnas.latency import Calibration
from mnas.search.reporting import Quiet

pytestmark = pytest.mark.times

# Four copies of one network that differ by half a percent: a quiet machine.
STEADY = {
    "copies": 4,
    "processes": 5,
    "difference_most": 0.005,
    "run_to_run": 0.03,
    "wall_over_core": 1.0,
    "status": "ok",
}


def by_name(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["name"]: finding for finding in result["findings"]}


def test_a_machine_that_is_ready_is_described(tmp_path: Path) -> None:
    result = result_of(mnas(tmp_path, "doctor", "--no-noise", "--json"))
    found = by_name(result)
    assert result["status"] in ("ok", "warning")
    assert environment()["packages"]["torch"] in found["packages"]["text"]
    assert result["device"]["onnxruntime"] in found["device"]["text"]
    assert "not calibrated yet" in found["calibration"]["text"]
    assert result["noise"] is None
    shown = mnas(tmp_path, "doctor", "--no-noise").stdout
    assert all(name in shown for name in found)


def test_a_kept_calibration_is_found(calibrated_cache: Path) -> None:
    found = by_name(doctor.examine(Quiet(), noise=False))
    assert str(calibrated_cache) in found["calibration"]["text"]


def test_a_missing_package_is_a_problem_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = environment()
    broken["packages"] = {**broken["packages"], "fvcore": None}
    monkeypatch.setattr(doctor, "environment", lambda: broken)
    result = doctor.examine(Quiet(), noise=False)
    assert result["status"] == "problem"
    assert by_name(result)["packages"]["remedy"] == "pip install fvcore"


def test_a_missing_extra_is_named_with_its_command_and_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    result = doctor.examine(Quiet(), noise=False)
    extra = by_name(result)["extras"]
    assert (extra["verdict"], extra["remedy"]) == ("ok", "pip install 'mnas[timm]'")
    assert "--format timm" in extra["text"]


def test_a_nearly_full_disk_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES", 1 << 62)
    found = by_name(doctor.examine(Quiet(), noise=False))["disk"]
    assert found["verdict"] == "warning"
    assert "--out" in found["remedy"]


@pytest.mark.parametrize(
    ("noise", "verdicts"),
    [
        ({}, {"noise": "ok"}),
        ({"difference_most": 0.04}, {"noise": "warning"}),
        ({"difference_most": 0.15}, {"noise": "problem"}),
        ({"status": "noisy"}, {"noise": "problem"}),
        ({"wall_over_core": 1.3}, {"noise": "ok", "shared core": "warning"}),
    ],
)
def test_noise_is_judged_by_how_far_a_network_differs_from_itself(
    noise: dict[str, Any], verdicts: dict[str, str]
) -> None:
    findings = doctor._noise_findings({**STEADY, **noise})
    assert {finding.name: finding.verdict for finding in findings} == verdicts
    assert all(finding.remedy for finding in findings if finding.verdict != "ok")


def test_copies_of_one_network_are_timed(
    small_calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnas.latency import calibration_networks

    monkeypatch.setattr(doctor, "PROCESSES", 2)
    monkeypatch.setattr(doctor, "BUDGET_S", 2.0)
    tiny = next(n.spec for n in calibration_networks(0) if n.spec.resolution <= 64)
    monkeypatch.setattr(doctor, "published", lambda name: tiny)
    result = doctor.examine(Quiet(), noise=True)
    noise = result["noise"]
    assert (noise["copies"], noise["processes"] >= 2) == (4, True)
    assert 0 <= noise["difference_median"] <= noise["difference_most"] < 0.5
    assert noise["reference_ms"] > 0
    assert json.loads(json.dumps(result)) == result
