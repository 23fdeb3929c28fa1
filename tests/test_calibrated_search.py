"""A search with this device's calibration, and everything that its run is made into afterwards."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from commands import MODELS, Said, mnas, result_of

from mnas.latency import Calibration, Conditions, calibration_path, keep_calibration, this_device
from mnas.rundir import RunDirectory
from mnas.search import device_timing
from mnas.search_space import NetworkSpec, network_cost
from mnas.zoo import published

pytestmark = pytest.mark.times

# A machine with other work on it may be too noisy to decide; what the message then says to type is done so often.
MOST_RESUMES = 4
SMALL = ("--resolution", "32", "--classes", "10", "--accuracy", "models:Accuracy", "--trials", "256")


@pytest.fixture(scope="module")
def grown(
    small_calibration: Calibration, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    """The folder of a finished search for more than any member takes, its result, and what it said; read only."""
    folder = tmp_path_factory.mktemp("grown")
    (folder / "models.py").write_text(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        keep_calibration(small_calibration)
        search = ("search", "--target-latency", "9ms", *SMALL, "--out", "run", "--json")
        done = mnas(folder, *search, code=None, quickly=True)
        said = done.stderr
        for _ in range(MOST_RESUMES):
            if done.returncode != 1 or "too noisy" not in done.stderr:
                break
            done = mnas(folder, "resume", "run", *SMALL[4:6], "--json", code=None, quickly=True)
            said += done.stderr
    assert done.returncode == 0, said
    return folder, result_of(done), said


@pytest.fixture
def copied(grown: tuple[Path, dict[str, Any], str], tmp_path: Path) -> Path:
    """A folder with a copy of that run."""
    shutil.copytree(grown[0] / "run", tmp_path / "run")
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def test_a_search_uses_the_kept_calibration_and_fills_a_target_above_the_range(
    grown: tuple[Path, dict[str, Any], str], small_calibration: Calibration
) -> None:
    folder, result, said = grown
    assert "this device was calibrated on" in said
    assert "is within 9 ms" in said
    assert "grown by compound scaling" in said
    calibration = result["calibration"]
    assert calibration["n"] == small_calibration.error.n
    assert calibration["mape"] == small_calibration.error.mape
    assert 0 < calibration["fastest_ms"] < calibration["slowest_ms"] < 9
    scaled = result["scaled"]
    assert result["baseline"]["latency_ms"] < scaled["latency_ms"]
    # The interval's upper end and the plain wall clock are both within; a noisy machine leaves more room than 5 %, and
    # says so.
    assert 0.7 * 9 < max(scaled["latency_high_ms"], scaled["latency_raw_ms"]) <= 9
    assert scaled["latency_ms"] >= 0.95 * 9 or "the scaled network fills only" in said
    session = onnxruntime.InferenceSession(folder / "run" / "scaled.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == [1, 3, scaled["resolution"], scaled["resolution"]]


def test_published_networks_are_measured_beside_the_finalists(
    grown: tuple[Path, dict[str, Any], str],
) -> None:
    rows = {row["name"]: row for row in grown[1]["comparison"]}
    assert list(rows) == ["efficientnet_b0", "mnasnet_a1", "mobilenetv2"]
    for name, row in rows.items():
        spec = replace(published(name), resolution=32, num_classes=10)
        assert (row["params"], row["madds"]) == (network_cost(spec).params, network_cost(spec).madds)
        assert row["latency_raw_ms"] > 0
        assert row["latency_low_ms"] <= row["latency_ms"] <= row["latency_high_ms"]
    # 0.4 + (ln(3 * 36 * 60 * 54 * 90 * 120 * 18) + 7 * 0.25) / 80: repeats x expansion x kernel of B0's stages, and SE.
    assert rows["efficientnet_b0"]["accuracy"] == pytest.approx(0.73366, abs=1e-5)


def test_the_run_keeps_its_calibration_and_a_changed_one_is_refused(copied: Path) -> None:
    data = json.loads((copied / "run" / "calibration.json").read_text())
    assert Calibration.from_dict(data).conditions == Conditions()
    (copied / "run" / "baseline.json").unlink()  # as if it had been killed before it was written
    (copied / "run" / "calibration.json").write_text("{}")
    error = mnas(copied, "resume", "run", "--accuracy", "models:Accuracy", code=2).stderr
    assert "calibration.json is missing or was changed" in error


def test_the_report_is_there_and_is_made_again_from_the_run_alone(
    grown: tuple[Path, dict[str, Any], str], copied: Path
) -> None:
    assert grown[1]["run"].endswith("run")
    first = (copied / "run" / "report.html").read_text()
    assert "9\N{NO-BREAK SPACE}ms" in first
    (copied / "run" / "report.html").unlink()
    made = result_of(mnas(copied, "report", "run", "--json"))
    assert made["path"] == str(copied / "run" / "report.html")
    again = Path(made["path"]).read_text()
    assert "9\N{NO-BREAK SPACE}ms" in again
    assert "Predicted against measured latency of the networks that the predictor was fitted to" in again


def test_best_finds_the_stored_trial_for_another_target(copied: Path) -> None:
    budget = json.loads((copied / "run" / "result.json").read_text())["budget"]
    target = f"{0.7 * budget:.4f}ms"
    found = result_of(
        mnas(copied, "best", "run", "--target-latency", target, "--out", "small.json", "--json")
    )
    assert found["latency_ms"] <= 0.7 * budget
    spec = NetworkSpec.from_dict(json.loads((copied / "small.json").read_text()))
    assert network_cost(spec).madds == found["madds"]
    every = result_of(mnas(copied, "best", "run", "--target-latency", "1s", "--json"))
    assert every["within"] == every["trials"]
    assert every["accuracy"] > found["accuracy"]
    error = mnas(copied, "best", "run", "--target-latency", "1us", code=1).stderr
    assert "none of" in error
    assert "cheapest" in error
    assert "exactly one target" in mnas(copied, "best", "run", code=2).stderr


def test_a_family_by_phi_is_written_and_exported(copied: Path) -> None:
    family = result_of(mnas(copied, "scale", "run", "--phi", "1,2", "--no-measure", "--json"))
    base, first, second = family["members"]
    assert family["coefficients"] == {"alpha": 1.2, "beta": 1.1, "gamma": 1.15}
    assert base["madds"] < first["madds"] < second["madds"]
    assert (first["latency_ms"], first["latency_source"]) == (None, "not measured")
    assert [m["resolution"] for m in family["members"]] == [32, round(32 * 1.15), round(32 * 1.15**2)]
    assert json.loads((copied / "run" / "family.json").read_text()) == family
    exported = result_of(mnas(copied, "export", "run", "--network", "phi-2", "--format", "json", "--json"))
    spec = NetworkSpec.from_dict(json.loads(Path(exported["path"]).read_text()))
    assert network_cost(spec).params == second["params"]


@pytest.mark.slow
def test_a_family_is_grown_to_latencies_and_one_below_the_base_is_refused(copied: Path) -> None:
    base_ms = json.loads((copied / "run" / "result.json").read_text())["baseline"]["latency_ms"]
    target = 2.5 * base_ms
    family = result_of(mnas(copied, "scale", "run", "--to", f"{target:.3f}ms", "--json"))
    member = family["members"][1]
    assert 0.75 * target < member["latency_ms"] <= target
    assert (copied / "run" / "family" / f"{member['name']}.onnx").is_file()
    error = mnas(copied, "scale", "run", "--to", f"{0.2 * base_ms:.4f}ms", code=2).stderr
    assert "more than --to" in error
    assert "mnas search --target-latency" in error


def test_released_coefficients_give_the_published_parameters(tmp_path: Path) -> None:
    done = mnas(tmp_path, "scale", "efficientnet_b0", "--released", "--no-measure", "--json")
    params = [member["params"] for member in result_of(done)["members"]]
    # torchvision's and timm's counts of EfficientNet-B0 to B7.
    assert params == [5288548, 7794184, 9109994, 12233232, 19341616, 30389784, 43040704, 66347960]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nowhere",), "neither a run directory"),
        (("efficientnet_b0", "--phi", "1", "--to", "20ms"), "one of --phi, --to"),
        (("efficientnet_b0", "--phi", "one"), "--phi takes values separated by commas"),
        (("efficientnet_b0", "--to", "20"), "for example 80ms"),
        (("efficientnet_b0", "--to-madds", "1.5"), "--to-madds"),
        (("efficientnet_b0", "--phi", "1", "--alpha", "0.5"), "alpha"),
        (("mnasnet_a1", "--phi", "1", "--threads", "4096"), "usable cores"),
        (("mnasnet_a1", "--rule", "dept"), "did you mean 'depth'"),
        (("mnasnet_a1", "--rule", "fast", "--beta", "1.3"), "--beta belong to the rule 'compound'"),
        (("mnasnet_a1", "--rule", "latency", "--to", "90ms"), "--accuracy module:factory of your own"),
        (("mnasnet_a1", "--rule", "latency", "--accuracy", "models:Accuracy"), "give --to 20ms,40ms"),
        (("mnasnet_a1", "--accuracy", "models:Accuracy"), "--accuracy goes with --rule latency"),
        (("broken.json", "--phi", "1"), "format 'mnas.network/1'"),
    ],
)
def test_what_cannot_be_scaled_is_refused(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    (tmp_path / "broken.json").write_text('{"stem_channels": 8}')
    assert words in mnas(tmp_path, "scale", *arguments, code=2).stderr


def test_a_target_beyond_memory_is_refused(tmp_path: Path) -> None:
    error = mnas(tmp_path, "scale", "efficientnet_b0", "--to-madds", "900000G", "--no-measure", code=1).stderr
    assert "no longer fits in this machine's memory" in error
    assert "Lower the target" in error


@pytest.mark.parametrize("damage", ["damaged", "another device", "none", "recalibrate"])
def test_a_calibration_is_used_only_where_it_holds(
    calibrated_cache: Path,
    small_calibration: Calibration,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
) -> None:
    calls = []

    def again(conditions: Conditions, **_: Any) -> Calibration:
        calls.append(conditions)
        return replace(small_calibration, made="2030-01-01")

    monkeypatch.setattr(device_timing, "calibrate", again)
    if damage == "damaged":
        calibrated_cache.write_text(calibrated_cache.read_text()[:-100])
    elif damage == "another device":
        foreign = replace(small_calibration, device=replace(this_device(), cpu="Cortex-A76"))
        calibrated_cache.write_text(json.dumps(foreign.to_dict()))
    said = Said()
    found = device_timing.device_calibration(Conditions(), said, anew=damage == "recalibrate")
    if damage == "none":
        assert found == small_calibration
        assert calls == []
        return
    assert calls == [Conditions()]
    assert found.made == "2030-01-01"
    if damage != "recalibrate":
        assert "Calibrating anew" in said.warnings[0]
    # The new one is kept: the next search finds it.
    assert device_timing.device_calibration(Conditions(), said).made == "2030-01-01"
    assert len(calls) == 1


def test_a_calibration_that_cannot_be_kept_does_not_end_the_search(
    small_calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calibration_path(this_device(), Conditions()).parent.write_text("a file in the folder's place")
    monkeypatch.setattr(device_timing, "calibrate", lambda *_, **__: small_calibration)
    said = Said()
    assert device_timing.device_calibration(Conditions(), said) == small_calibration
    assert "could not be kept" in said.warnings[-1]


def test_a_full_disk_is_one_message_and_the_run_can_be_resumed(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnas.errors import RunDirectoryError
    from mnas.report import write_report

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = (copied / "run" / "report.html").read_bytes()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunDirectoryError, match="No space left on device"):
        write_report(copied / "run")
    assert (copied / "run" / "report.html").read_bytes() == before
    assert RunDirectory.open(copied / "run").result.is_file()
