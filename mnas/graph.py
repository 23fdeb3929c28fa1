"""NetworkSpec -> ONNX, straight from the program of its blocks: the graph that is measured and shipped.

Batch norm is folded into the convolution before it, shapes are fixed, drop path and dropout are gone.
Nodes carry the names of the program (`blocks.1.0.conv_dw`), so that a profile can be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from mnas import __version__
from mnas.errors import InputError
from mnas.qdq import to_int8
from mnas.search_space.network import network_program
from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
    Block,
    Conv,
    Dropout,
    DropPath,
    GlobalPool,
    Linear,
    MatchChannels,
    MaxPool,
    Operation,
    Shuffle,
    walk,
)
from mnas.search_space.spec import NetworkSpec

Array = npt.NDArray[np.float32]
NamedNorm = tuple[str, BatchNorm]

# onnx 1.23's defaults (IR 14, opset 28) are refused by onnxruntime 1.31; these load from onnxruntime 1.20 on.
IR_VERSION, OPSET = 10, 21
INPUT, OUTPUT = "image", "logits"
# Random weights for timing, chosen here. A pool of 4 MiB is quick to draw and longer than most tensors.
_POOL_SIZE = 1 << 20
# Weights of variance 1 / fan-in never blow activations up, whatever the depth; biases of this deviation keep
# them far from the denormal numbers that would distort a timing.
_BIAS_STD = 0.1


def build_graph(
    spec: NetworkSpec,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
    precision: str = "fp32",
) -> onnx.ModelProto:
    """The network as an ONNX model: `image` (batch, channels, height, width) -> `logits` (batch, classes).

    Args:
        spec: the network; its resolution fixes height and width.
        weights: entries of the torch module's state dict, float arrays of the module's shapes;
            `num_batches_tracked` is ignored. None is random weights, the same each time, for timing only.
        batch: images per run, at least 1; fixed in the graph.
        metadata: stored in the model's `metadata_props`.
        precision: `fp32`, or `int8` for timing alone: its activations have placeholder scales (`mnas.qdq`).

    Raises:
        InputError: a batch below 1, no such precision, or weights that are missing, unknown, not finite or of the
            wrong shape (all of them are named).

    >>> from mnas.zoo import published
    >>> model = build_graph(published("mnasnet_small"), batch=2)
    >>> [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
    [2, 1000]
    """
    return build_block_graph(
        network_program(spec), weights=weights, batch=batch, metadata=metadata, precision=precision
    )


def build_block_graph(
    block: Block,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    batch: int = 1,
    metadata: Mapping[str, str] | None = None,
    precision: str = "fp32",
) -> onnx.ModelProto:
    """One block as an ONNX model with the input `image` and the output `logits`, of whatever shape they are.

    Args and errors are those of `build_graph`; names in `weights` are relative to the block.
    """
    if batch < 1:
        raise InputError(f"batch must be at least 1 image, got {batch}.")
    if precision not in ("fp32", "int8"):
        raise InputError(f"precision must be fp32 or int8, got {precision!r}.")
    if weights is not None:
        _check_weights(block, weights)
    model = onnx.ModelProto(ir_version=IR_VERSION, producer_name="mnas", producer_version=__version__)
    model.opset_import.append(helper.make_opsetid("", OPSET))
    helper.set_model_props(model, dict(metadata or {}))
    graph = model.graph  # filled in place: a copy of the weights costs as much as the rest
    graph.name = block.label
    writer = _Writer(graph, _Weights(weights))
    if writer.block(block, INPUT) == INPUT:
        writer.node("Identity", "identity", [INPUT])
    last = graph.node[-1]
    last.output[0] = OUTPUT
    out_shape = block.out_shape[:1] if last.op_type == "Gemm" else block.out_shape
    for values, name, shape in ((graph.input, INPUT, block.in_shape), (graph.output, OUTPUT, out_shape)):
        values.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (batch, *shape)))
    return to_int8(model) if precision == "int8" else model


def weight_shapes(block: Block) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that `weights` must hold, in order of execution."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, operation in walk(block):
        match operation:
            case Conv(in_shape=(channels, _, _), out_channels=out, kernel=kernel, groups=groups):
                shapes[f"{name}.weight"] = (out, channels // groups, kernel, kernel)
                if operation.bias:
                    shapes[f"{name}.bias"] = (out,)
            case BatchNorm(in_shape=(channels, _, _)):
                for entry in ("weight", "bias", "running_mean", "running_var"):
                    shapes[f"{name}.{entry}"] = (channels,)
            case Linear(in_shape=in_shape, out_features=out):
                shapes[f"{name}.weight"] = (out, prod(in_shape))
                shapes[f"{name}.bias"] = (out,)
    return shapes


def _check_weights(block: Block, weights: Mapping[str, np.ndarray]) -> None:
    expected = weight_shapes(block)
    problems = [f"{name} is missing" for name in expected if name not in weights]
    for name, array in weights.items():
        if name.endswith(".num_batches_tracked"):
            continue
        if name not in expected:
            problems.append(f"{name} is unknown")
        elif tuple(array.shape) != expected[name]:
            problems.append(f"{name} has shape {tuple(array.shape)}, expected {expected[name]}")
        elif not np.isfinite(array).all():
            problems.append(f"{name} holds NaN or infinity")
    if problems:
        raise InputError(f"weights do not fit the network {block.label}: {'; '.join(problems)}.")


@lru_cache(maxsize=4)
def _pool(turns: int) -> Array:
    """The pool that many times over, 4 MiB each."""
    if turns > 1:
        return np.tile(_pool(1), turns)
    return np.random.default_rng(0).standard_normal(_POOL_SIZE, dtype=np.float32)


def _random(name: str, shape: tuple[int, ...], std: float) -> Array:
    """Normal numbers of that deviation, cut from the pool at a place that the name decides."""
    start, size = crc32(name.encode()) % _POOL_SIZE, prod(shape)
    pool = _pool(-(-(start + size) // _POOL_SIZE))
    numbers: Array = pool[start : start + size].reshape(shape) * np.float32(std)
    return numbers


class _Weights:
    """Where a writer gets its numbers: a checked state dict, or random ones."""

    def __init__(self, given: Mapping[str, np.ndarray] | None) -> None:
        self.given = given

    def layer(
        self, name: str, shape: tuple[int, ...], has_bias: bool, norm: NamedNorm | None = None
    ) -> tuple[Array, Array | None]:
        """Weight of a convolution or linear layer and its bias, the norm behind it folded in."""
        if self.given is None:
            weight = _random(f"{name}.weight", shape, prod(shape[1:]) ** -0.5)
            return weight, _random(f"{name}.bias", shape[:1], _BIAS_STD) if has_bias or norm else None
        weight, bias = self.given[f"{name}.weight"], self.given[f"{name}.bias"] if has_bias else None
        if norm is None:
            return weight.astype(np.float32), None if bias is None else bias.astype(np.float32)
        scale, shift = self.norm(*norm)
        shift = shift if bias is None else shift + scale * bias
        folded = weight * scale.reshape(-1, *[1] * (len(shape) - 1))
        return folded.astype(np.float32), shift.astype(np.float32)

    def norm(self, name: str, norm: BatchNorm) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Scale and shift of a norm outside training: y = scale x + shift, per channel, in float64."""
        if self.given is None:
            return np.ones(norm.in_shape[0]), np.zeros(norm.in_shape[0])
        weight, bias, mean, var = (
            self.given[f"{name}.{entry}"].astype(np.float64)
            for entry in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(var + norm.eps)
        return scale, bias - scale * mean


def _with_norms(block: Block) -> Iterator[tuple[str, Operation | Block, NamedNorm | None]]:
    """The block's steps, each convolution together with the norm that follows it, if one does."""
    steps = list(block.steps)
    while steps:
        name, step = steps.pop(0)
        following, norm = steps[0] if steps else ("", None)
        if isinstance(step, Conv) and isinstance(norm, BatchNorm):
            del steps[0]
            yield name, step, (following, norm)
        else:
            yield name, step, None


class _Writer:
    """Writes nodes and initializers along a program; a tensor is called as the node that makes it."""

    def __init__(self, graph: onnx.GraphProto, weights: _Weights) -> None:
        self.graph = graph
        self.weights = weights

    def node(self, kind: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        self.graph.node.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    def constant(self, name: str, array: np.ndarray) -> str:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.graph.initializer.add(name=name, data_type=kind, dims=array.shape, raw_data=array.tobytes())
        return name

    def block(self, block: Block, source: str, prefix: str = "") -> str:
        """Writes a block on the tensor `source` and names the tensor with its result."""
        result = source
        for name, step, norm in _with_norms(block):
            if isinstance(step, Block):
                result = self.block(step, result, f"{prefix}{name}.")
            elif isinstance(step, Conv):
                result = self.conv(step, result, prefix + name, norm and (prefix + norm[0], norm[1]))
            else:
                result = self.operation(step, result, prefix + name)
        if block.combine is None:
            return result
        if block.combine == "concat":
            return self.node("Concat", f"{prefix}concat", [source, result], axis=1)
        other = self.block(block.shortcut, source, f"{prefix}shortcut.") if block.shortcut else source
        kind = "Add" if block.combine == "add" else "Mul"
        result = self.node(kind, prefix + block.combine, [result, other])
        return result if block.after is None else self.activate(block.after, result, f"{prefix}after")

    def operation(self, operation: Operation, source: str, name: str) -> str:
        match operation:
            case Conv():
                return self.conv(operation, source, name, None)
            case BatchNorm():
                return self.norm(operation, source, name)
            case Activate():
                return self.activate(operation, source, name)
            case AvgPool(kernel=kernel, stride=stride, pads=pads):
                window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": list(pads)}
                return self.node("AveragePool", name, [source], count_include_pad=0, **window)
            case MaxPool(kernel=kernel, stride=stride):
                window = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
                return self.node("MaxPool", name, [source], **window)
            case MatchChannels():
                return self.match_channels(operation, source, name)
            case Shuffle(order=order):
                # One Gather is faster than Reshape, Transpose, Reshape: by 4 to 10 % of an IGCV3 block in ONNX Runtime
                # 1.32 on x86.
                return self.node(
                    "Gather", name, [source, self.constant(f"{name}.order", np.array(order))], axis=1
                )
            case GlobalPool():
                return self.node("GlobalAveragePool", name, [source])
            case Linear():
                return self.linear(operation, source, name)
            case Dropout() | DropPath():
                return source

    def conv(self, conv: Conv, source: str, name: str, norm: NamedNorm | None) -> str:
        shape = conv.out_channels, conv.in_shape[0] // conv.groups, conv.kernel, conv.kernel
        inputs = [source, *self.layer(name, shape, conv.bias, norm)]
        return self.node(
            "Conv",
            name,
            inputs,
            kernel_shape=[conv.kernel] * 2,
            strides=[conv.stride] * 2,
            pads=list(conv.pads),
            group=conv.groups,
        )

    def linear(self, linear: Linear, source: str, name: str) -> str:
        inputs = self.layer(name, (linear.out_features, prod(linear.in_shape)), True, None)
        flat = self.node("Flatten", f"{name}.flatten", [source])
        return self.node("Gemm", name, [flat, *inputs], transB=1)

    def layer(self, name: str, shape: tuple[int, ...], has_bias: bool, norm: NamedNorm | None) -> list[str]:
        weight, bias = self.weights.layer(name, shape, has_bias, norm)
        inputs = [self.constant(f"{name}.weight", weight)]
        return inputs if bias is None else [*inputs, self.constant(f"{name}.bias", bias)]

    def norm(self, norm: BatchNorm, source: str, name: str) -> str:
        """A norm that follows no convolution."""
        scale, shift = (array.astype(np.float32).reshape(-1, 1, 1) for array in self.weights.norm(name, norm))
        scaled = self.node("Mul", f"{name}.scaled", [source, self.constant(f"{name}.scale", scale)])
        return self.node("Add", name, [scaled, self.constant(f"{name}.shift", shift)])

    def activate(self, activate: Activate, source: str, name: str) -> str:
        match activate.kind:
            case "relu":
                return self.node("Relu", name, [source])
            case "relu6":
                low = self.constant(f"{name}.min", np.array(0, np.float32))
                high = self.constant(f"{name}.max", np.array(6, np.float32))
                return self.node("Clip", name, [source, low, high])
            case "sigmoid":
                return self.node("Sigmoid", name, [source])
            case "hard_sigmoid":
                return self.node("HardSigmoid", name, [source], alpha=1 / 6, beta=0.5)
            case "hard_swish":  # onnxruntime has no kernel for HardSwish, and makes these two of it
                gate = self.node("HardSigmoid", f"{name}.gate", [source], alpha=1 / 6, beta=0.5)
                return self.node("Mul", name, [source, gate])
            case "silu":  # onnxruntime fuses these two nodes into one
                gate = self.node("Sigmoid", f"{name}.sigmoid", [source])
                return self.node("Mul", name, [source, gate])

    def match_channels(self, match: MatchChannels, source: str, name: str) -> str:
        """Slices channels off, or pads zero channels."""
        have, want = match.in_shape[0], match.out_channels
        if want <= have:
            axes = self.constant(f"{name}.axes", np.array([1]))
            start = self.constant(f"{name}.start", np.array([0]))
            end = self.constant(f"{name}.end", np.array([want]))
            return self.node("Slice", name, [source, start, end, axes])
        # Of all four axes: where only one is named, ONNX Runtime 1.32 cannot run the graph in int8 ("indices element
        # out of data bounds": its transpose optimizer permutes the pads as if there were four).
        pads = self.constant(f"{name}.pads", np.array([0, 0, 0, 0, 0, want - have, 0, 0]))
        return self.node("Pad", name, [source, pads])
