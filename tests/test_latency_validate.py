"""Predictors held against measurements, calibrations that travel, plug-ins that are listed and checked."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mnas import calibrating, registry, validating
from mnas.errors import InputError, UnknownNameError
from mnas.files import read_json
from mnas.latency import Conditions, kept_calibrations
from mnas.protocols import LatencyEstimate
from mnas.search.reporting import Quiet
from mnas.search_space import network_cost
from mnas.testing import check_latency_model
from mnas.validating import Unseen, validate, validated_text

pytestmark = pytest.mark.times


class ByMadds:
    """A nanosecond for ten multiply-adds, with an interval that holds everything."""

    def predict(self, specs):
        return [LatencyEstimate(ms, ms / 1e6, ms * 1e6, "mine", "none") for ms in map(self.ms, specs)]

    @staticmethod
    def ms(spec):
        return network_cost(spec).madds / 1e7


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validating, "PASSES", 1)
    monkeypatch.setattr(validating, "NETWORK_S", 0.1)


def test_unseen_networks_are_different_and_the_same_each_time() -> None:
    drawn = Unseen("mnasnet", 20, seed=3).draw()
    assert len(drawn) == 20
    assert drawn == Unseen("mnasnet", 20, seed=3).draw()
    assert drawn.keys() != Unseen("mnasnet", 20, seed=4).draw().keys()
    grown = Unseen("mbconv", 6, phi=(0.5, 3), seed=0).draw()
    assert all(" phi " in name for name in grown)
    assert {spec.resolution for spec in grown.values()} != {224}
    with pytest.raises(InputError, match="at least 5 networks"):
        Unseen("mbconv", 2)


@pytest.mark.usefixtures("quick", "any_noise")
def test_a_plug_in_is_scored_beside_multiply_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "board", SimpleNamespace(Mine=ByMadds))
    unseen = Unseen("mbconv", 6, resolution=32, classes=10)
    out, plot = tmp_path / "v.json", tmp_path / "v.html"
    result = validate("board:Mine", unseen, Conditions(), Quiet(), out=out, plot=plot)
    assert result["scores"]["n"] == len(result["networks"]) == 6 - result["noisy"]
    assert result["scores"]["coverage"] == 1
    assert result["madds"]["coverage"] is None
    assert result["scores"]["spearman"] == pytest.approx(
        result["madds"]["spearman"]
    )  # the same order by both
    assert 0 < result["ceiling"]["within_5"] <= result["ceiling"]["within_10"] <= 1
    for row in result["networks"]:
        assert row["predicted_ms"] == pytest.approx(row["madds"] / 1e7)
    assert read_json(out) == result
    assert b"plotly" in plot.read_bytes()
    assert "multiply-adds alone" in validated_text(result)


def test_a_validation_without_a_calibration_says_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"has no calibration for .* yet: mnas latency calibrate"):
        validate("calibrated", Unseen(), Conditions(), Quiet())
    with pytest.raises(UnknownNameError, match="unknown latency 'calibrate'"):
        validate("calibrate", Unseen(), Conditions(), Quiet())


def test_calibrations_travel(calibrated_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = calibrating.device_rows()
    assert row["here"]
    file = tmp_path / "device.json"
    assert calibrating.export_calibration(row["name"][:6], file)["device"] == row["device"]
    with pytest.raises(InputError, match=r"is kept already .*--replace"):
        calibrating.import_device(file, replace=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert calibrating.device_rows() == []
    with pytest.raises(UnknownNameError, match="devices list"):
        calibrating.export_calibration(row["name"], tmp_path / "again.json")
    assert calibrating.import_device(file, replace=False)["name"] == row["name"]
    assert calibrating.device_rows() == [row]
    assert row["name"] in calibrating.devices_text([row])
    (kept,) = kept_calibrations()
    kept.path.write_text('{"format": "mnas.calibration/1"}')
    (broken,) = calibrating.device_rows()
    assert "expected a calibration of format" in broken["problem"]
    assert broken["problem"] in calibrating.devices_text([broken])
    (tmp_path / "no.json").write_text("{")
    with pytest.raises(InputError, match=r"no\.json"):
        calibrating.import_device(tmp_path / "no.json", replace=True)


def test_plug_ins_are_listed_with_what_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "boards.py").write_text("class Board:\n    def predict(self, specs): return []\n")
    info = tmp_path / "boards-2.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: boards\nVersion: 2.1\n")
    (info / "entry_points.txt").write_text(
        "[mnas.latency]\nboard = boards:Board\ngone = boards_gone:Board\nmeasure = boards:Board\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = {p.name: p for p in registry.installed_plugins() if p.package == "boards 2.1"}
    assert found["board"].error is None
    assert found["board"].target == "boards:Board"
    assert "No module named 'boards_gone'" in str(found["gone"].error)
    assert "is a name of mnas itself" in str(found["measure"].error)


def test_the_suite_for_latency_models_finds_what_is_wrong() -> None:
    check_latency_model(ByMadds())

    class Forgetful(ByMadds):
        calls = 0

        def predict(self, specs):
            Forgetful.calls += 1
            return [self.ms(spec) * (1 + 0.01 * Forgetful.calls) for spec in specs]

    class Constant:
        def predict(self, specs):
            return [1.0] * len(specs)

    class Short:
        def predict(self, specs):
            return [1.0]

    class Sorted(ByMadds):
        def predict(self, specs):
            return sorted(map(self.ms, specs))

    for model, message in (
        (Forgetful(), "asked one by one"),
        (Constant(), "same latency"),
        (Short(), "returned 1 estimates for 8"),
        (Sorted(), "ms asked"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_latency_model(model)
    check_latency_model(Forgetful(), tolerance=0.5)


def test_what_another_calibration_can_not_do_is_refused(calibrated_cache: Path) -> None:
    name = calibrated_cache.stem
    with pytest.raises(InputError, match="--networks goes with --like"):
        calibrating.calibrate_device(Conditions(), Quiet(), networks=20)
    with pytest.raises(InputError, match="is of this device under these conditions"):
        calibrating.calibrate_device(Conditions(), Quiet(), like=name)
    with pytest.raises(InputError, match="is of this device under these conditions"):
        calibrating.calibrate_device(Conditions(), Quiet(), like=str(calibrated_cache))
    with pytest.raises(InputError, match=r"10 to 60 networks are measured, got 0 \(--networks\)"):
        calibrating.calibrate_device(Conditions(threads=2), Quiet(), like=name, networks=0)
    with pytest.raises(UnknownNameError, match="unknown calibration 'none'"):
        calibrating.calibrate_device(Conditions(threads=2), Quiet(), like="none")
