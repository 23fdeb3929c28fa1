"""Run by file path as a process of its own: loads an exported file without mnas and says what it holds.

A job comes as JSON on standard input, the reply goes as JSON to standard output:

    {"format": "python", "files": [paths], "stand_in": path or null, "image": base64, "shape": [1, c, h, w],
     "libraries": [folders]}

`files` are the exported ones. `stand_in` is a file of other weights (for ONNX: the same graph with them), under
which the logits are computed where those of the file itself would be rounding errors. `libraries` are folders in
which the parent found torch and the others; this process is isolated and may not know them.
"""

import base64
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

Job = Mapping[str, Any]


def digest(arrays: Mapping[str, Any]) -> str:
    """SHA-256 over name, type, shape and bytes of torch tensors or numpy arrays, in order of name."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        if hasattr(array, "detach"):
            array = array.detach().contiguous().numpy()
        found.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        found.update(array.tobytes())
    return found.hexdigest()


def load_onnx(job: Job) -> dict[str, Any]:
    """Opens the file, and the stand-in where there is one, in ONNX Runtime."""
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    image = numpy.frombuffer(base64.b64decode(job["image"]), numpy.float32).reshape(job["shape"])
    logits = []
    for path in [*job["files"], *([job["stand_in"]] if job["stand_in"] else [])]:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (entry,) = session.get_inputs()
        logits = session.run(None, {entry.name: image})[0][0].tolist()
    return {"logits": logits}


def load_pt2(job: Job) -> dict[str, Any]:
    """Loads the program with torch."""
    import torch

    program = torch.export.load(job["files"][0])
    return _evaluated(program.module(), job, program.state_dict)


def load_python(job: Job) -> dict[str, Any]:
    """Imports the source by its path and has it load the weights beside it."""
    import torch

    source = job["files"][0]
    found = importlib.util.spec_from_file_location("exported_network", source)
    if found is None or found.loader is None:
        raise ImportError(f"cannot import {source}")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    network: torch.nn.Module = module.load()
    return _evaluated(network, job, network.state_dict())


def load_timm(job: Job) -> dict[str, Any]:
    """Has timm build the architecture, as the file's own `usage` does, and loads the weights."""
    from functools import partial

    from safetensors.torch import load_file
    from timm.layers import get_act_layer  # type: ignore[attr-defined]
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet
    from torch.nn import BatchNorm2d

    source, weights = job["files"]
    with open(source, encoding="utf-8") as file:
        arch = json.load(file)
    network = EfficientNet(
        decode_arch_def(arch["arch_def"]),  # type: ignore[no-untyped-call]
        act_layer=get_act_layer(arch["act_layer"]),
        norm_layer=partial(BatchNorm2d, **arch["norm"]),
        round_chs_fn=int,
        **arch["model"],
    )
    network.load_state_dict(load_file(weights))
    return _evaluated(network.eval(), job, network.state_dict())


def load_safetensors(job: Job) -> dict[str, Any]:
    """Reads every array and text."""
    import safetensors

    with safetensors.safe_open(job["files"][0], framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return {"digest": digest(arrays), "metadata": file.metadata()}


def load_json(job: Job) -> dict[str, Any]:
    """Reads the specification."""
    with open(job["files"][0], encoding="utf-8") as file:
        return {"network": json.load(file)}


def _evaluated(network: Any, job: Job, state: Mapping[str, Any]) -> dict[str, Any]:
    """The digest of the weights as loaded; the logits, after the stand-in took their place if there is one."""
    import torch

    torch.set_num_threads(1)
    reply: dict[str, Any] = {"digest": digest(state)}
    if job["stand_in"]:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(job["stand_in"]))
    image = torch.frombuffer(bytearray(base64.b64decode(job["image"])), dtype=torch.float32)
    with torch.no_grad():
        logits = network(image.reshape(job["shape"]))
    return {**reply, "logits": logits[0].tolist()}


LOADERS: dict[str, Callable[[Job], dict[str, Any]]] = {
    "onnx": load_onnx,
    "pt2": load_pt2,
    "safetensors": load_safetensors,
    "python": load_python,
    "timm": load_timm,
    "json": load_json,
}


def main() -> None:
    """Answers one job. Whatever a library prints goes to standard error."""
    reply_to = os.dup(1)
    os.dup2(2, 1)
    sys.dont_write_bytecode = True
    job = json.loads(sys.stdin.buffer.read())
    sys.path += [folder for folder in job["libraries"] if folder not in sys.path]
    reply = LOADERS[job["format"]](job)
    ours = sorted(name for name in sys.modules if name.split(".")[0] == "mnas")
    if ours:
        raise ImportError(f"the exported file needs mnas: it imported {', '.join(ours)}")
    with os.fdopen(reply_to, "w") as pipe:
        json.dump(reply, pipe)


if __name__ == "__main__":
    main()
