"""The network as an ONNX graph with its weights."""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from mnas.errors import SearchError
from mnas.export.check import BUG
from mnas.export.subject import Subject
from mnas.graph import build_graph
from mnas.search_space.network import network_program
from mnas.search_space.program import BatchNorm, Conv, Linear, walk

# Greatest difference of a folded weight from torch's own folding, over the largest of its tensor (float32 has 6e-8).
_FOLDED = 1e-5


def onnx_bytes(subject: Subject, module: nn.Module) -> bytes:
    """The serialised graph with the weights of `module`."""
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    data: bytes = build_graph(subject.spec, weights=state, metadata=subject.metadata).SerializeToString()
    return data


def check_folding(data: bytes, compared: bytes, subject: Subject) -> None:
    """Proves a file whose own logits are not compared, because its untrained weights make them rounding errors.

    Its graph is, but for the numbers of convolutions and linear layers, the one whose logits were compared; and
    those numbers are the module's, as torch itself folds norms into convolutions.

    Raises:
        SearchError: one of the two is not so.
    """
    model = onnx.load_from_string(data)
    expected = dict(_folded(subject))
    wrong = []
    for entry in model.graph.initializer:
        if entry.name in expected:
            want = expected.pop(entry.name).numpy()
            have = numpy_helper.to_array(entry)
            if have.shape != want.shape or not np.abs(have - want).max() <= _FOLDED * np.abs(want).max():
                wrong.append(entry.name)
    wrong += sorted(expected)
    if wrong:
        raise SearchError(
            f"the weights {', '.join(wrong[:3])} of the exported onnx file are not the torch module's; "
            f"nothing was written. {BUG}"
        )
    if _without_weights(model, subject) != _without_weights(onnx.load_from_string(compared), subject):
        raise SearchError(f"the exported graph is not the one that was compared; nothing was written. {BUG}")


def _folded(subject: Subject) -> Iterator[tuple[str, Tensor]]:
    """The numbers that the graph's convolutions and linear layers should have, by name."""
    operations = list(walk(network_program(subject.spec)))
    for (name, operation), (norm_name, norm) in zip(operations, [*operations[1:], ("", None)], strict=True):
        if not isinstance(operation, Conv | Linear):
            continue
        layer = subject.module.get_submodule(name)
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        weight, bias = layer.weight, layer.bias
        if isinstance(norm, BatchNorm):
            part = subject.module.get_submodule(norm_name)
            assert isinstance(part, nn.BatchNorm2d)
            assert part.running_mean is not None
            assert part.running_var is not None
            weight, bias = fuse_conv_bn_weights(
                weight, bias, part.running_mean, part.running_var, part.eps, part.weight, part.bias
            )
        yield f"{name}.weight", weight.detach()
        if bias is not None:
            yield f"{name}.bias", bias.detach()


def _without_weights(model: onnx.ModelProto, subject: Subject) -> bytes:
    names = {name for name, _ in _folded(subject)}
    stripped = onnx.ModelProto()
    stripped.CopyFrom(model)
    for entry in stripped.graph.initializer:
        if entry.name in names:
            entry.ClearField("raw_data")
    data: bytes = stripped.SerializeToString(deterministic=True)
    return data
