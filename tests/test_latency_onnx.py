"""Models of the user's own: ONNX files checked, measured, compared; what is refused, and how it is said."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnas import measuring
from mnas.errors import InputError, MeasurementError
from mnas.files import read_json
from mnas.graph import build_graph
from mnas.latency import (
    Conditions,
    MeasurementSet,
    compare,
    measurement,
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


def convolution(
    shape: list[int | str],
    *,
    domain: str = "",
    kind: str = "Relu",
    opset: int = 21,
    external: Path | None = None,
) -> onnx.ModelProto:
    """x -> Conv of 4 channels -> `kind` -> y."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(kind, ["c"], ["y"], domain=domain)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_a_file_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is no model, " * 50)
    (tmp_path / "empty.onnx").touch()
    data = build_graph(tiny()).SerializeToString()
    (tmp_path / "half.onnx").write_bytes(data[: len(data) // 2])
    for name in ("text", "empty", "half"):
        with pytest.raises(InputError, match=rf"{name}.onnx is not an ONNX model, or was cut off"):
            read_onnx(tmp_path / f"{name}.onnx")
    with pytest.raises(InputError, match=r"cannot read the model .*No such file"):
        read_onnx(tmp_path / "none.onnx")
    with open(tmp_path / "huge.onnx", "wb") as file:
        file.truncate(3 << 30)  # sparse: no disk is used
    with pytest.raises(InputError, match=r"has 3.0 GiB; an ONNX file holds at most 2"):
        read_onnx(tmp_path / "huge.onnx")


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
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match="keeps weights in other files, and they cannot be read"):
        read_onnx(path)


def test_a_measurement_keeps_its_samples_and_operators(tmp_path: Path) -> None:
    path = saved(build_graph(tiny(), batch=2), tmp_path / "mine.onnx")
    out = tmp_path / "record.json"
    result = measure_model(str(path), Wanted(profile=True, out=out, **QUICK), Quiet())
    assert result["status"] in ("ok", "unresolved", "noisy")
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


def test_what_onnx_runtime_refuses_is_one_clear_message(tmp_path: Path) -> None:
    custom = saved(convolution([1, 3, 8, 8], domain="my.domain", kind="Foo"), tmp_path / "custom.onnx")
    with pytest.raises(MeasurementError, match=r"cannot load .*custom\.onnx: .*Foo"):
        measure_model(str(custom), Wanted(**QUICK), Quiet())
    future = saved(convolution([1, 3, 8, 8], opset=99), tmp_path / "future.onnx")
    with pytest.raises(MeasurementError, match=r"cannot load .*future\.onnx: .*[Oo]pset"):
        measure_model(str(future), Wanted(**QUICK), Quiet())
    assert not (
        tmp_path / "cache" / "mnas" / "measurements"
    ).exists()  # nothing is kept of what was not measured


def test_conditions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    path = saved(build_graph(tiny()), tmp_path / "mine.onnx")
    with pytest.raises(InputError, match="threads must lie between 1 and"):
        measure_model(str(path), Wanted(threads=10_000, **QUICK), Quiet())
    with pytest.raises(InputError, match=r"provider must be one of .*CPUExecutionProvider"):
        measure_model(str(path), Wanted(provider="CUDAExecutionProvider", **QUICK), Quiet())
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


def test_a_network_twice_as_deep_is_slower_and_itself_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        measurement, "WIDEST", 1.0
    )  # on a busy machine few samples are wide, and still far from 1
    found = compare(tiny(), tiny(12), conditions=Conditions(), processes=3, budget_s=4.5, seed=0)
    assert found.verdict == "slower"
    assert found.low > 1.5
    same = compare(tiny(), tiny(), conditions=Conditions(), processes=3, budget_s=4.5, seed=0)
    assert 0.8 < same.ratio < 1.25
    with pytest.raises(InputError, match="expected processes >= 1"):
        compare(tiny(), tiny(), conditions=Conditions(), processes=0, seed=0)


def test_the_record_goes_into_the_cache_unless_told(tmp_path: Path) -> None:
    path = saved(build_graph(tiny()), tmp_path / "mine.onnx")
    record = Path(measure_model(str(path), Wanted(**QUICK), Quiet())["record"])
    assert record.is_relative_to(tmp_path / "cache")
    assert record.is_file()
    with pytest.raises(InputError, match="is a folder"):
        measure_model(str(path), Wanted(out=tmp_path, **QUICK), Quiet())
    assert path.suffix == measuring.SUFFIX
