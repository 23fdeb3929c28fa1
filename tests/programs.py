"""What the tests of programs share: random weights, and the outputs of torch and of onnxruntime with them."""

from math import prod

import numpy as np
import onnx
import onnxruntime
import torch

from mnas.graph import build_block_graph
from mnas.model import build_block


def randomise(module, seed):
    """Draws every entry of the state dict that is not a counter, so that signals keep their size."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            tensor.copy_(noise / prod(tensor.shape[1:]) ** 0.5)
        elif name.endswith(("running_mean", "bias")):
            tensor.copy_(0.3 * noise)
        elif not name.endswith("num_batches_tracked"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def weights_of(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model, images):
    (result,) = session(model).run(None, {"image": images})
    return result


def images_of(in_shape, batch):
    return np.random.default_rng(3).standard_normal((batch, *in_shape), dtype=np.float32)


def outputs(block, batch, *, graph_of=None):
    """The block's output by torch and by onnxruntime, with the same random weights and images."""
    module = build_block(block).eval()
    randomise(module, seed=2)
    images = images_of(block.in_shape, batch)
    with torch.no_grad():
        ours = module(torch.from_numpy(images)).numpy()
    model = build_block_graph(graph_of or block, weights=weights_of(module), batch=batch)
    onnx.checker.check_model(model, full_check=True)
    return ours, run(model, images)


def agree(ours, theirs):
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=2e-5 * max(1.0, ours.std()))


def exports_and_compiles(module, in_shape):
    """`torch.export` and `torch.compile` without a break give the module's outputs, of two images."""
    module = module.eval()
    images = torch.from_numpy(images_of(in_shape, 2))
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    with torch.no_grad():
        expected = module(images)
        torch.testing.assert_close(torch.export.export(module, (images,)).module()(images), expected)
        torch.testing.assert_close(compiled(images), expected)
    torch.compiler.reset()
