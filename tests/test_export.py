"""Export: what is written runs, and what differs is never written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from mnas import export
from mnas.errors import SearchError
from mnas.export import export_onnx, verify_madds
from mnas.model import build_module
from mnas.search_space import NetworkSpec, network_cost, scale
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

B0 = replace(published("efficientnet_b0"), resolution=64, num_classes=10)


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


def test_a_deep_untrained_network_is_compared_where_its_signals_are_not_rounding_errors(
    tmp_path: Path,
) -> None:
    # Grown to about 60 blocks its logits were below 1e-20, and two correct graphs "disagreed".
    deep = scale(B0, depth=4.0, width=1.0, resolution=32)
    assert export_onnx(deep, tmp_path / "deep.onnx").error < 1e-3


def test_given_weights_are_exported_with_what_is_said_of_them(tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in build_module(B0, seed=9).state_dict().items()}
    about = {"trained": "3 epochs on pictures", "input": "{}"}
    exported = export_onnx(B0, tmp_path / "b0.onnx", weights=state, about=about)
    assert exported.weights == "3 epochs on pictures"
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "b0.onnx").metadata_props}
    assert metadata["weights"] == "3 epochs on pictures"
    assert metadata["input"] == "{}"


def test_a_graph_that_differs_is_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other(spec: NetworkSpec, **more: object) -> onnx.ModelProto:
        weights = {name: array * 1.01 for name, array in more.pop("weights").items()}  # type: ignore[attr-defined]
        return export_graph(spec, weights=weights, **more)

    export_graph = export.build_graph
    monkeypatch.setattr(export, "build_graph", other)
    with pytest.raises(SearchError, match="disagree"):
        export_onnx(B0, tmp_path / "b0.onnx")
    assert list(tmp_path.iterdir()) == []


def test_fvcore_has_to_agree_with_the_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify_madds(B0) == network_cost(B0).madds
    monkeypatch.setattr(export, "count_madds", lambda module, shape: network_cost(B0).madds + 1)
    with pytest.raises(SearchError, match="fvcore counts"):
        verify_madds(B0)
