"""Small ONNX models of the tests' own, good ones and bad ones."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolution(
    shape: list[int | str] | None,
    *,
    domain: str = "",
    kind: str = "Relu",
    opset: int = 21,
    ir_version: int = 10,
) -> onnx.ModelProto:
    """x of that shape -> Conv of 4 channels -> `kind` -> y."""
    weight = numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node(kind, ["c"], ["y"], domain=domain)]
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", shape), ("y", None))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [weight])
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version)


def overflowing_division() -> onnx.ModelProto:
    """(x - 2 ** 31) / (x - 1) of int32, which for 0 has no result, and on x86 ends the process by SIGFPE."""
    weights = [
        numpy_helper.from_array(np.array([value], np.int32), name)
        for name, value in (("least", -(2**31)), ("minus", -1))
    ]
    nodes = [
        helper.make_node("Add", ["x", "least"], ["a"]),
        helper.make_node("Add", ["x", "minus"], ["b"]),
        helper.make_node("Div", ["a", "b"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.INT32, [1]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def endless_loop() -> onnx.ModelProto:
    """A Relu, 2 ** 62 times."""
    image = [1, 3, 8, 8]
    nodes = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["a"], ["b"])]
    inputs = [
        helper.make_tensor_value_info("number", TensorProto.INT64, []),
        helper.make_tensor_value_info("go", TensorProto.BOOL, []),
        helper.make_tensor_value_info("a", TensorProto.FLOAT, image),
    ]
    outputs = [
        helper.make_tensor_value_info("on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("b", TensorProto.FLOAT, image),
    ]
    loop = helper.make_node(
        "Loop", ["times", "first", "x"], ["y"], body=helper.make_graph(nodes, "body", inputs, outputs)
    )
    weights = [
        numpy_helper.from_array(np.array(2**62), "times"),
        numpy_helper.from_array(np.array(True), "first"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, image) for name in "xy"]
    graph = helper.make_graph([loop], "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def outside(path: Path, count: int, side: int) -> Path:
    """Matrix products whose weights, `count` of `side` x `side` float32, lie in a file beside it that takes no disk."""
    nodes, weights = [], []
    for number in range(count):
        weight = TensorProto(name=f"w{number}", data_type=TensorProto.FLOAT, dims=[side, side])
        weight.data_location = TensorProto.EXTERNAL
        for key, value in (("offset", number * side**2 * 4), ("length", side**2 * 4)):
            weight.external_data.add(key=key, value=str(value))
        weight.external_data.add(key="location", value=f"{path.stem}.bin")
        weights.append(weight)
        nodes.append(helper.make_node("MatMul", [f"x{number}", weight.name], [f"x{number + 1}"]))
    ends = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, [1, side]) for n in (0, count)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    saved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    with path.with_suffix(".bin").open("wb") as file:
        file.truncate(count * side**2 * 4)
    return path


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path
