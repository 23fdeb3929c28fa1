"""Multiply-adds of any torch module, counted by fvcore on a trace of it: the check on the analytic costs.

fvcore counts a fused multiply-add as one flop. Out of the box it also counts norms, pooling and resizing,
which the papers' MAdds leave out, and passes over an operation that it does not know: here that is an error.
"""

import warnings

import torch
from torch import nn

from mnas.errors import InputError

with warnings.catch_warnings():
    # fvcore decorates functions with torch.jit.script at import, which torch has deprecated.
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis

# Operations to which fvcore gives a count that is not one of multiply-adds. Setting the handle to None, as a
# comment in fvcore 0.1.5 suggests, has no effect; a handle that returns 0 has.
_COUNTED_AS_ZERO = (
    "aten::batch_norm",
    "aten::group_norm",
    "aten::layer_norm",
    "aten::instance_norm",
    "aten::adaptive_avg_pool2d",
    "aten::upsample_nearest2d",
    "aten::upsample_bilinear2d",
)
# Operations that fvcore does not know and that carry no multiply-adds of a convolution or linear layer.
_FREE = {
    f"aten::{name}"
    for name in (
        *("add", "add_", "sub", "mul", "mul_", "div", "div_", "mean", "sum", "pow", "sqrt", "rsqrt", "exp"),
        *("silu", "silu_", "sigmoid", "sigmoid_", "tanh", "relu6", "hardtanh", "hardtanh_", "leaky_relu"),
        *("hardswish", "hardswish_", "hardsigmoid", "hardsigmoid_", "gelu", "softmax"),
        *("avg_pool2d", "max_pool2d", "adaptive_max_pool2d", "pad", "clone", "dropout_", "feature_dropout"),
        *("channel_shuffle", "pixel_shuffle", "pixel_unshuffle"),
    )
}


def count_madds(module: nn.Module, in_shape: tuple[int, int, int]) -> int:
    """Multiply-adds of the convolutions and linear layers that one image passes; no bias adds.

    The module runs once, in evaluation mode and without gradients; its modes are restored afterwards.

    Args:
        module: any module that takes one `(1, channels, height, width)` tensor and can be traced.
        in_shape: channels, height and width of the image.

    Raises:
        InputError: the module runs an operation whose multiply-adds neither fvcore nor this file knows.

    >>> count_madds(nn.Conv2d(3, 8, 3, padding=1), (3, 10, 10))
    21600
    """
    tensor = next(module.parameters(), torch.empty(0))
    image = torch.zeros(1, *in_shape, dtype=tensor.dtype, device=tensor.device)
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            analysis = FlopCountAnalysis(module, image)
            analysis.set_op_handle(**dict.fromkeys(_COUNTED_AS_ZERO, lambda inputs, outputs: 0))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            madds = int(analysis.total())
    finally:
        for part, training in modes:
            part.training = training
    unknown = sorted(analysis.unsupported_ops().keys() - _FREE)
    if unknown:
        raise InputError(
            f"the multiply-adds of {', '.join(unknown)} in {type(module).__name__} are unknown, so that its "
            f"count would be too low. Add an operation that has none to _FREE in mnas/counting.py."
        )
    return madds
