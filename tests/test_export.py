"""Export: what is written runs, and what differs is never written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mnas.errors import InputError, SearchError
from mnas.export import counts, export_network, export_onnx, formats, onnx_file, verify_madds
from mnas.export.subject import Subject
from mnas.model import build_module
from mnas.search_space import NetworkSpec, network_cost, scale
from mnas.search_space.resnet import RS_LAYERS, resnet_rs_network
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

B0 = replace(published("efficientnet_b0"), resolution=64, num_classes=10)
SMALL = replace(published("mnasnet_small"), resolution=32, num_classes=5)


def run(path: Path, image: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image})[0]


def test_untrained_weights_are_those_of_the_seed_and_say_so(tmp_path: Path) -> None:
    exported = export_onnx(B0, tmp_path / "b0.onnx", seed=3)
    assert exported.weights == "untrained weights"
    model = onnx.load(tmp_path / "b0.onnx")
    metadata = {p.key: p.value for p in model.metadata_props}
    assert metadata["weights"] == "untrained weights"
    assert NetworkSpec.from_dict(json.loads(metadata["network"])) == B0
    image = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    expected = build_module(B0, seed=3).eval()(torch.from_numpy(image)).detach().numpy()
    assert np.abs(run(tmp_path / "b0.onnx", image) - expected).max() <= 1e-3 * expected.std()


@pytest.mark.slow
def test_a_deep_untrained_network_is_compared_where_its_signals_are_not_rounding_errors(
    tmp_path: Path,
) -> None:
    # Grown to about 60 blocks its logits were below 1e-20, and two correct graphs "disagreed".
    deep = scale(B0, depth=4.0, width=1.0, resolution=32)
    assert export_onnx(deep, tmp_path / "deep.onnx").error < 1e-3


def test_a_deep_residual_network_is_compared_where_rounding_errors_do_not_grow(tmp_path: Path) -> None:
    # ResNet-RS-420 with random branches of full weight: two correct graphs "disagreed" by 0.8 %.
    deep = resnet_rs_network(RS_LAYERS[420], width=0.25, resolution=64, num_classes=10)
    assert export_onnx(deep, tmp_path / "deep.onnx").error < 1e-4


def test_given_weights_are_exported_with_what_is_said_of_them(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in build_module(B0, seed=9).state_dict().items()}
    about = {"trained": "3 epochs on pictures", "input": "{}", "network": "not this one"}
    exported = export_onnx(B0, tmp_path / "b0.onnx", weights=state, about=about)
    assert exported.weights == "3 epochs on pictures"
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "b0.onnx").metadata_props}
    assert metadata["weights"] == "3 epochs on pictures"
    assert metadata["input"] == "{}"
    assert NetworkSpec.from_dict(json.loads(metadata["network"])) == B0


def test_a_network_of_one_class_has_no_deviation_and_is_exported(tmp_path: Path) -> None:
    assert export_onnx(replace(SMALL, num_classes=1), tmp_path / "one.onnx").error < 1e-3


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in build_module(SMALL).state_dict().items()}
    other = replace(SMALL, head_channels=96)
    with pytest.raises(InputError, match=r"do not fit.*conv_head\.weight"):
        export_onnx(other, tmp_path / "net.onnx", weights=state)
    state["classifier.bias"] = np.full(5, np.nan, np.float32)
    with pytest.raises(InputError, match=r"classifier\.bias holds NaN"):
        export_network(SMALL, tmp_path / "net.pt2", "pt2", weights=state)
    assert list(tmp_path.iterdir()) == []


def tampered(subject: Subject, module: torch.nn.Module) -> bytes:
    """The graph with every weight a hundredth too large."""
    model = onnx.load_from_string(onnx_file.onnx_bytes(subject, module))
    for entry in model.graph.initializer:
        array = onnx.numpy_helper.to_array(entry)
        entry.raw_data = (array * np.float32(1.01)).astype(array.dtype).tobytes()
    return model.SerializeToString()


def test_a_graph_whose_weights_differ_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = formats.TABLE["onnx"]
    both = replace(row, write=lambda subject, *_: tampered(subject, subject.module), stand_in=tampered)
    monkeypatch.setitem(formats.TABLE, "onnx", both)
    with pytest.raises(SearchError, match="not the torch module's"):
        export_onnx(SMALL, tmp_path / "net.onnx")
    state = {name: tensor.numpy() for name, tensor in build_module(SMALL).state_dict().items()}
    with pytest.raises(SearchError, match="disagree"):
        export_onnx(SMALL, tmp_path / "net.onnx", weights=state)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_is_another_network_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = formats.TABLE["onnx"]
    other = replace(SMALL, style=replace(SMALL.style, activation="silu"))

    def silu(subject: Subject, module: torch.nn.Module) -> bytes:
        return onnx_file.onnx_bytes(replace(subject, spec=other), module)

    monkeypatch.setitem(
        formats.TABLE, "onnx", replace(row, write=lambda subject, *_: silu(subject, subject.module))
    )
    with pytest.raises(SearchError, match="not the one that was compared"):
        export_onnx(SMALL, tmp_path / "net.onnx")
    monkeypatch.setitem(
        formats.TABLE,
        "onnx",
        replace(row, write=lambda subject, *_: silu(subject, subject.module), stand_in=silu),
    )
    with pytest.raises(SearchError, match="disagree"):
        export_onnx(SMALL, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_fvcore_has_to_agree_with_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_madds(B0) == network_cost(B0).madds
    monkeypatch.setattr(counts, "count_madds", lambda module, shape: network_cost(B0).madds + 1)
    with pytest.raises(SearchError, match="fvcore counts"):
        verify_madds(B0)
