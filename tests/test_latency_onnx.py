"""Models of the user's own: ONNX files checked, measured, compared; what is refused, and how it is said."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx_models import convolution, saved

from mnas import measuring
from mnas.errors import InputError
from mnas.files import read_json
from mnas.graph import build_graph
from mnas.latency import (
    MeasurementSet,
    nearest_reference,
    read_onnx,
    reference_like,
)
from mnas.measuring import Wanted, measure_model, measured_text
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, StageSpec, Style
from mnas.zoo import published

QUICK = {"processes": 1, "budget_s": 1.5}


def tiny(layers: int = 1) -> NetworkSpec:
    return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, layers),), 16, 32, 10)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_open_sizes_are_fixed_or_refused(tmp_path: Path) -> None:
    path = saved(convolution(["n", 3, "h", "w"]), tmp_path / "open.onnx")
    assert read_onnx(path).input_shape == (1, 3, 224, 224)
    assert read_onnx(path, batch=4, resolution=96).input_shape == (4, 3, 96, 96)
    fixed = saved(convolution([2, 3, 32, 32]), tmp_path / "fixed.onnx")
    assert read_onnx(fixed).input_shape == (2, 3, 32, 32)
    with pytest.raises(InputError, match=r"fixes dimension 0 of 'x' to 2; --batch 4 cannot change it"):
        read_onnx(fixed, batch=4)
    with pytest.raises(InputError, match=r"dimension 1 of the input 'x' is open \('channels'\)"):
        read_onnx(saved(convolution([1, "channels", 32, 32]), tmp_path / "channels.onnx"))


def test_weights_in_other_files_are_read_in(tmp_path: Path) -> None:
    path = tmp_path / "outside.onnx"
    onnx.save_model(
        convolution([1, 3, 8, 8]), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    inside = onnx.load_from_string(read_onnx(path).data)
    np.testing.assert_array_equal(numpy_helper.to_array(inside.graph.initializer[0]), np.ones((4, 3, 3, 3)))


@pytest.mark.usefixtures("any_noise")
def test_a_measurement_keeps_its_samples_and_operators(tmp_path: Path) -> None:
    path = saved(build_graph(tiny(), batch=2), tmp_path / "mine.onnx")
    out = tmp_path / "record.json"
    result = measure_model(str(path), Wanted(profile=True, out=out, **QUICK), Quiet())
    assert result["status"] in ("ok", "unresolved")
    assert 0 < result["latency_low_ms"] <= result["latency_ms"] <= result["latency_high_ms"]
    assert "batch 2" in result["conditions"]
    record = MeasurementSet.from_dict(read_json(out))
    (measured,) = record.measurements
    assert len(measured.samples[0].candidate_ms) == result["rounds"] >= 10
    assert record.to_dict() == read_json(out)
    kinds = [row["kind"] for row in result["profile"]]
    assert kinds.count("Conv") == 4  # stem, depthwise, pointwise, head
    assert kinds.count("Gemm") == 1
    assert sum(row["share"] for row in result["profile"]) == pytest.approx(1)
    assert all(row["provider"] == "CPUExecutionProvider" for row in result["profile"])
    text = measured_text(result)
    assert "Conv" in text
    assert str(out) in text


def test_int8_is_for_networks_that_are_written_here(tmp_path: Path) -> None:
    path = saved(build_graph(tiny()), tmp_path / "mine.onnx")
    with pytest.raises(InputError, match="--precision int8 belongs to a network that mnas writes"):
        measure_model(str(path), Wanted(precision="int8", **QUICK), Quiet())
    with pytest.raises(InputError, match="neither a run directory, nor a network's JSON file"):
        measure_model("no_such_network", Wanted(**QUICK), Quiet())


def test_the_nearest_reference_runs_the_same_kernels(tmp_path: Path) -> None:
    plain = NetworkSpec(32, (StageSpec("conv", 3, 2, 64, 3),), 64, 64, 10, style=Style(activation="relu"))
    expected = {
        "efficientnet_b0": published("efficientnet_b0"),
        "mobilenetv2": published("mnasnet_b1"),
        "dense": plain,
    }
    for name, spec in expected.items():
        assert nearest_reference(spec) == name
        assert nearest_reference(read_onnx(saved(build_graph(spec), tmp_path / f"{name}.onnx"))) == name
        assert reference_like(spec).resolution == spec.resolution


def test_the_record_goes_into_the_cache_unless_told(tmp_path: Path) -> None:
    path = saved(build_graph(tiny()), tmp_path / "mine.onnx")
    record = Path(measure_model(str(path), Wanted(**QUICK), Quiet())["record"])
    assert record.is_relative_to(tmp_path / "cache")
    assert record.is_file()
    with pytest.raises(InputError, match="is a folder"):
        measure_model(str(path), Wanted(out=tmp_path, **QUICK), Quiet())
    assert path.suffix == measuring.SUFFIX
