"""ONNX graph -> the same in 8-bit integers (QDQ), for timing, without calibration images.

QuantizeLinear and DequantizeLinear stand where `onnxruntime.quantization.quantize_static` puts them, and weights are
the integers that it makes of them, so that ONNX Runtime runs the same kernels; scales of activations are placeholders,
on which no kernel's time depends. What is shipped is made by `quantize_static` itself, with images (`mnas.export`).

Activations are unsigned: with signed ones, `quantize_static`'s default, ONNX Runtime 1.32 on x86 leaves 54 of
EfficientNet-B0's 81 convolutions in float between conversions, and it takes three times as long as in fp32 instead of
less. Weights are signed, with one scale a channel, for accuracy; that costs little time. `benchmarks/latency/int8.py`
measures both.

Reference: the docstring of `quantize_static`, "Choosing parameters for CPU inference".
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]

# Which tensors of a node are quantised, as in ONNX Runtime's `quantization/registry.py`: all of a layer's and of
# arithmetic; a node that only passes values on has the scale of its input; an activation that the range of its output's
# scale stands for is dropped, where nothing else reads its input.
_LAYERS = frozenset({"Conv", "Gemm"})
_ARITHMETIC = frozenset({"Add", "Concat", "Mul", "Sigmoid", "GlobalAveragePool"})
_PASSING = frozenset({"AveragePool", "Flatten", "Gather", "MaxPool", "Pad", "Slice"})
_RANGE = frozenset({"Relu", "Clip"})
_FLOAT = frozenset({"HardSigmoid", "Identity"})
# With random weights signals have a standard deviation of at most about 1: this is six of them (chosen here).
_REACH = 6.0
_LEVELS, _WEIGHT_MAX = 255, 127  # of uint8, and of symmetric int8


@dataclass(frozen=True, slots=True)
class _Scale:
    """The names of a scale and a zero point among the initializers, and both themselves."""

    scale: str
    zero_point: str
    value: Array
    zero: Array


def to_int8(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with int8 weights and uint8 activations.

    Args:
        model: float32, from `mnas.graph`; left as it is.

    Raises:
        ValueError: a node of a kind that `mnas.graph` does not write.
    """
    quantized = onnx.ModelProto()
    for field in ("ir_version", "producer_name", "producer_version"):
        setattr(quantized, field, getattr(model, field))
    quantized.opset_import.extend(model.opset_import)
    quantized.metadata_props.extend(model.metadata_props)
    quantized.graph.name = model.graph.name
    quantized.graph.input.extend(model.graph.input)
    quantized.graph.output.extend(model.graph.output)
    nodes, ranges = _place(model.graph)
    _Writer(quantized.graph, model.graph.initializer, ranges).write(model.graph, nodes)
    return quantized


Range = tuple[float, float] | str


def _place(graph: onnx.GraphProto) -> tuple[list[onnx.NodeProto], dict[str, Range]]:
    """The nodes that stay, and of each quantised tensor its least and greatest value, or whose scale it has."""
    constants = {entry.name: entry for entry in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    ranges: dict[str, Range] = {}
    nodes: list[onnx.NodeProto] = []
    for original in graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        kind, source, result = node.op_type, node.input[0], node.output[0]
        if kind in _LAYERS or kind in _ARITHMETIC:
            for name in node.input[:1] if kind in _LAYERS else node.input:
                ranges.setdefault(
                    name, _range_of(constants[name]) if name in constants else (-_REACH, _REACH)
                )
            ranges[result] = (0.0, 1.0) if kind == "Sigmoid" else (-_REACH, _REACH)
        elif kind in _PASSING:
            if kind == "Pad":
                ranges.setdefault(source, (-_REACH, _REACH))
            if source in ranges:
                ranges[result] = source
        elif kind in _RANGE:
            if source in ranges:
                ranges[result] = (0.0, _REACH)  # also that of ReLU6
                if readers[source] == 1:
                    del ranges[source]
                    (producer,) = (before for before in nodes if source in before.output)
                    producer.output[0] = result
                    continue
        elif kind not in _FLOAT:
            raise ValueError(f"expected a node of mnas.graph, got {kind} ({node.name}).")
        nodes.append(node)
    return nodes, ranges


def _range_of(entry: onnx.TensorProto) -> tuple[float, float]:
    """Least and greatest value of a constant; 0 lies between them."""
    array = numpy_helper.to_array(entry)
    return min(float(array.min()), 0.0), max(float(array.max()), 0.0)


class _Writer:
    """Writes the quantised graph: every tensor that a node reads is dequantised right behind where it is made."""

    def __init__(
        self, graph: onnx.GraphProto, constants: Iterable[onnx.TensorProto], ranges: Mapping[str, Range]
    ) -> None:
        self.graph = graph
        self.constants = {entry.name: entry for entry in constants}
        self.ranges = ranges
        self.scales: dict[str, _Scale] = {}
        self.renamed: dict[str, str] = {}

    def write(self, source: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
        """All of them, in order of execution."""
        outputs = {entry.name for entry in source.output}
        for entry in source.input:
            self.activation(entry.name)
        for node in nodes:
            self.layer(node) if node.op_type in _LAYERS else self.others(node)
            node.input[:] = [self.renamed.get(name, name) for name in node.input]
            self.graph.node.append(node)
            (result,) = node.output
            if result in outputs and result in self.ranges:
                self.graph.node[-1].output[0] = f"{result}_float"
                self.activation(result, f"{result}_float", result)
            else:
                self.activation(result)

    def node(self, kind: str, inputs: Sequence[str], result: str, axis: int | None = None) -> str:
        self.graph.node.append(helper.make_node(kind, inputs, [result], result, axis=axis))
        return result

    def constant(self, name: str, array: Array) -> str:
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        self.graph.initializer.add(name=name, data_type=kind, dims=array.shape, raw_data=array.tobytes())
        return name

    def scale(self, name: str, value: Array, zero: Array) -> _Scale:
        names = self.constant(f"{name}_scale", value), self.constant(f"{name}_zero_point", zero)
        self.scales[name] = _Scale(*names, value, zero)
        return self.scales[name]

    def activation_scale(self, name: str) -> _Scale:
        """That of a tensor with a range of its own, or the one that it shares."""
        span = self.ranges[name]
        if isinstance(span, str):
            self.scales[name] = self.scales[span]
            return self.scales[name]
        value = np.float32((span[1] - span[0]) / _LEVELS or 1.0)
        return self.scale(name, np.array(value), np.array(round(-span[0] / float(value)), np.uint8))

    def activation(self, name: str, source: str = "", result: str = "") -> None:
        """Quantises a tensor and dequantises it again, where it is to be; who reads it then reads that.

        Args:
            name: the tensor.
            source: what is quantised, if it is not called so.
            result: what is made, if it must be called so.
        """
        if name not in self.ranges:
            return
        scale = self.activation_scale(name)
        inputs = [source or name, scale.scale, scale.zero_point]
        inputs[0] = self.node("QuantizeLinear", inputs, f"{name}_quantized")
        self.renamed[name] = self.node("DequantizeLinear", inputs, result or f"{name}_dequantized")

    def integers(self, name: str, numbers: Array, scale: _Scale, axis: int | None = None) -> None:
        """Keeps integers in the place of the constant of that name."""
        inputs = [self.constant(f"{name}_quantized", numbers), scale.scale, scale.zero_point]
        self.renamed[name] = self.node("DequantizeLinear", inputs, f"{name}_dequantized", axis)

    def layer(self, node: onnx.NodeProto) -> None:
        """Its weight, a scale for each output channel, and its bias, in units of input times weight."""
        source, weight, *bias = node.input
        array = numpy_helper.to_array(self.constants[weight])
        largest = np.abs(array).max(axis=tuple(range(1, array.ndim))).astype(np.float64)
        value = np.where(largest > 0, largest / _WEIGHT_MAX, 1.0).astype(np.float32)
        scale = self.scale(weight, value, np.zeros(len(value), np.int8))
        numbers = np.round(array / value.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int8)
        self.integers(weight, numbers, scale, axis=0)
        for name in bias:
            unit = self.scales[source].value * value
            scale = self.scale(name, unit, np.zeros(len(unit), np.int32))
            exact = numpy_helper.to_array(self.constants[name]).astype(np.float64) / unit
            limits = np.iinfo(np.int32)
            numbers = np.clip(np.round(exact), limits.min, limits.max).astype(np.int32)
            self.integers(name, numbers, scale, axis=0)

    def others(self, node: onnx.NodeProto) -> None:
        """The constants that it reads: numbers as activations are, axes and limits as they were."""
        for name in node.input:
            if name not in self.constants or name in self.renamed:
                continue
            if name in self.ranges:
                scale = self.activation_scale(name)
                exact = numpy_helper.to_array(self.constants[name]) / scale.value
                numbers = np.clip(np.round(exact) + scale.zero, 0, _LEVELS).astype(np.uint8)
                self.integers(name, numbers, scale)
            else:
                self.graph.initializer.append(self.constants[name])
                self.renamed[name] = name
