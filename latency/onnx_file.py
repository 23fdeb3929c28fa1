"""A model of the user's own, from an ONNX file: checked, given fixed shapes, ready to be timed."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnas.errors import InputError

if TYPE_CHECKING:
    import onnx

# The greatest size of a protobuf message, which an ONNX file is; larger models keep their weights in other files.
MOST_BYTES = 2**31 - 1
# Bytes from which a weight is not a shape or an axis, which tell the shapes of others (chosen here).
LARGE = 1 << 10
# The image that an open height or width stands for where nobody says (the published networks' own).
RESOLUTION = 224


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A checked model with fixed shapes.

    Args:
        name: for messages.
        data: the serialized model, its weights inside.
        input_shape: of its first input.
        mix: shares of its multiply-adds and gates; see `references`.
    """

    name: str
    data: bytes
    input_shape: tuple[int, ...]
    mix: tuple[float, ...]

    @property
    def sha256(self) -> str:
        """Of the data that is timed."""
        return hashlib.sha256(self.data).hexdigest()


def read_onnx(path: Path, *, batch: int | None = None, resolution: int | None = None) -> OnnxFile:
    """Reads and checks an ONNX file; nothing of it is run.

    Weights in other files beside it are read in. An open first dimension becomes the batch, open third and fourth ones
    of an image the resolution. Takes twice the file's size in memory while it reads, once afterwards; three times
    where weights in other files or an open size make it another file than the one that is there.

    Args:
        path: the file.
        batch: images per run; None is what the file fixes, or 1.
        resolution: in pixels; None is what the file fixes, or 224.

    Raises:
        InputError: a size below 1, no file, not an ONNX model, truncated, too large, without its weights, no input or
            node, a shape that stays open, or one that the file fixes differently.
    """
    problems = [
        f"{flag} must be at least 1, got {value}"
        for flag, value in (("--batch", batch), ("--resolution", resolution))
        if value is not None and value < 1
    ]
    if problems:
        raise InputError(f"{'; '.join(problems)}.")
    model, data = _load(path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if not inputs or not model.graph.node:
        raise InputError(
            f"{path} has no {'input' if model.graph.node else 'node'}: there is nothing to time."
        )
    changed = [_fix(value, path, batch, resolution) for value in inputs]
    if any(changed):
        _forget_shapes(model)
        data = b""
    shape = tuple(dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim)
    return OnnxFile(path.name, data or _serialized(model, path), shape, _mix(model))


def _load(path: Path) -> "tuple[onnx.ModelProto, bytes]":
    """The parsed model, weights of other files read in; and the file's bytes, none where there were such weights."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    advice = "Expected an ONNX model, as `mnas export --format onnx` or `torch.onnx.export` writes it."
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path} is no file. {advice}")
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise InputError(f"{path} has {size / 2**30:.1f} GiB; an ONNX file holds at most 2. {advice}")
        data = path.read_bytes()
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise InputError(f"{path} is not an ONNX model, or was cut off ({error}). {advice}") from error
    except OSError as error:
        raise InputError(f"cannot read the model {path}: {error.strerror or error}. {advice}") from error
    if not model.ir_version or not model.opset_import:
        raise InputError(f"{path} is not an ONNX model, or was cut off: no version in it. {advice}")
    outside = [t for t in _tensors(model.graph) if t.data_location == onnx.TensorProto.EXTERNAL]
    size += sum(map(_bytes_of, outside))
    if size > MOST_BYTES:
        raise InputError(
            f"{path} with its weights in other files has {size / 2**30:.1f} GiB. Each model is timed as one file, "
            "which holds at most 2: give a smaller one, or one with weights of half the size (float16)."
        )
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises several kinds for a missing, short or unsafe file
        raise InputError(
            f"{path} keeps weights in other files, and they cannot be read: {str(error).rstrip('. ')}. Put them "
            "beside it, or save the model in one file."
        ) from error
    return model, b"" if outside else data


def _tensors(graph: "onnx.GraphProto") -> "Iterator[onnx.TensorProto]":
    """Weights and constants, those of the bodies of loops and branches too."""
    yield from graph.initializer
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)
        for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _tensors(body)


def _bytes_of(tensor: "onnx.TensorProto") -> int:
    """What a tensor's numbers take, by its shape and type; 0 where the type is none that has a size."""
    from onnx import helper

    try:
        return int(prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    except KeyError:
        return 0


def _serialized(model: "onnx.ModelProto", path: Path) -> bytes:
    from google.protobuf.message import EncodeError

    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as error:
        raise InputError(f"{path} is too large: its weights and graph exceed 2 GiB ({error}).") from error


def _fix(value: "onnx.ValueInfoProto", path: Path, batch: int | None, resolution: int | None) -> bool:
    """Gives an input the sizes asked for; whether any changed."""
    tensor = value.type.tensor_type
    dims = list(tensor.shape.dim)
    if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
        raise InputError(
            f"{path}: the input {value.name!r} is no tensor of known rank; it cannot be filled. "
            "Export the model with fixed shapes."
        )
    wanted: dict[int, tuple[int | None, int]] = {0: (batch, 1)} if dims else {}
    if len(dims) == 4:
        wanted |= {2: (resolution, RESOLUTION), 3: (resolution, RESOLUTION)}
    before = [dim.dim_value for dim in dims]
    for index, dim in enumerate(dims):
        asked, default = wanted.get(index, (None, 0))
        if dim.dim_value > 0:
            if asked is not None and asked != dim.dim_value:
                what = "--batch" if index == 0 else "--resolution"
                raise InputError(
                    f"{path} fixes dimension {index} of {value.name!r} to {dim.dim_value}; {what} {asked} cannot "
                    f"change it. Leave {what} out, or export the model with that shape."
                )
            continue
        size = asked or default
        if not size:
            raise InputError(
                f"{path}: dimension {index} of the input {value.name!r} is open ({dim.dim_param or 'unknown'!r}), and "
                "only the batch and an image's height and width can be chosen here. Export the model with fixed shapes."
            )
        dim.dim_value = size
    return before != [dim.dim_value for dim in dims]


def _forget_shapes(model: "onnx.ModelProto") -> None:
    """Drops shapes that held for open inputs; ONNX Runtime infers them anew."""
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")


def _mix(model: "onnx.ModelProto") -> tuple[float, ...]:
    """As `references.mix_of` for a spec: from the convolutions and matrix products whose shapes can be inferred."""
    from onnx import shape_inference

    # Without `data_prop`, which fills a constant of 2 ** 40 elements until the system ends this process.
    bare = _without_weights(model)
    try:
        graph = shape_inference.infer_shapes(bare).graph
    except (
        Exception
    ):  # what cannot be inferred is left out; a model that is wrong is refused when it is opened
        graph = bare.graph
    shapes = {v.name: _sizes(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    dense = pointwise = depthwise = gates = 0.0
    for node in graph.node:
        if node.op_type in ("Conv", "ConvInteger", "QLinearConv"):
            kernel = weights.get(node.input[1 if node.op_type != "QLinearConv" else 3], ())
            out = shapes.get(node.output[0], ())
            if len(kernel) < 3 or not out:
                continue
            madds = prod(kernel) * prod(out[2:])
            if kernel[1] == 1 and _attribute(node, "group", 1) > 1:
                depthwise += madds
            elif prod(kernel[2:]) == 1:
                pointwise += madds
            else:
                dense += madds
        elif node.op_type in ("Gemm", "MatMul"):
            pointwise += prod(weights.get(node.input[1], (0,)))
        elif node.op_type in ("GlobalAveragePool", "ReduceMean"):
            gates += 1
    return mix(dense, pointwise, depthwise, max(0.0, gates - 1))


def _without_weights(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """A copy in which large weights are inputs of their shapes: inferring shapes copies a model several times."""
    from onnx import ModelProto, helper

    bare, graph = ModelProto(ir_version=model.ir_version), model.graph
    bare.opset_import.extend(model.opset_import)
    bare.functions.extend(model.functions)
    bare.graph.name = graph.name
    for name in ("node", "input", "output", "value_info"):
        getattr(bare.graph, name).extend(getattr(graph, name))
    known = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if _bytes_of(tensor) <= LARGE:
            bare.graph.initializer.append(tensor)
        elif tensor.name not in known:
            bare.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return bare


def mix(dense: float, pointwise: float, depthwise: float, gates: float) -> tuple[float, ...]:
    """Shares of multiply-adds by kind of convolution, and gates as a share that saturates.

    Args:
        dense: multiply-adds of k x k convolutions over all channels; `pointwise`: of 1 x 1 ones; `depthwise`.
        gates: number of squeeze-and-excitation gates. EfficientNet-B0 has 16, which counts as half.
    """
    total = dense + pointwise + depthwise or 1.0
    return dense / total, pointwise / total, depthwise / total, gates / (gates + 16)


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _attribute(node: Any, name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)


def distance(first: Sequence[float], second: Sequence[float]) -> float:
    """How differently two mixes are made: the sum of absolute differences."""
    return sum(abs(a - b) for a, b in zip(first, second, strict=True))
