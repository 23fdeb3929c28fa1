"""Each block, written once as a program; its names are timm's, so that state dicts travel both ways.

A new block is one function from `Layer` to `Block` and one row of `BLOCKS`.
"""

from collections.abc import Callable

from mnas.search_space.groups import ghost, ghost_module, igcv1, igcv2, igcv3
from mnas.search_space.layer import Chain, Layer
from mnas.search_space.program import Block
from mnas.search_space.residual import basic, bottleneck, xblock


def conv(layer: Layer) -> Block:
    """k x k convolution, norm, activation, squeeze-and-excitation (timm's ConvBnAct, with SE)."""
    stage = layer.stage
    chain = Chain.of(layer)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1").activate("act1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("ConvBnAct", layer)


def sepconv(layer: Layer) -> Block:
    """Depthwise k x k, SE, linear 1x1 (timm's DepthwiseSeparableConv; MBConv with expansion 1)."""
    stage, channels = layer.stage, layer.in_shape[0]
    chain = Chain.of(layer)
    chain.conv("conv_dw", channels, stage.kernel, layer.stride, groups=channels).norm("bn1").activate("act1")
    chain.squeeze_excite(layer.se_channels).conv("conv_pw", stage.out_channels).norm("bn2")
    return chain.finish_with_skip("SepConv", layer)


def mbconv(layer: Layer) -> Block:
    """1x1 expansion, depthwise k x k, SE, linear 1x1 projection.

    Reference: MobileNetV2 (arXiv 1801.04381), with SE as in MnasNet (arXiv 1807.11626), sec. 4.1.
    """
    stage, inner = layer.stage, layer.inside
    chain = Chain.of(layer)
    chain.conv("conv_pw", inner).norm("bn1").activate("act1")
    chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn2").activate("act2")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", stage.out_channels).norm("bn3")
    return chain.finish_with_skip("MBConv", layer)


def fused_mbconv(layer: Layer) -> Block:
    """k x k expansion, SE, linear 1x1 projection (timm's EdgeResidual).

    Reference: EfficientNetV2 (arXiv 2104.00298), Fig. 2.
    """
    chain = Chain.of(layer)
    chain.conv("conv_exp", layer.inside, layer.stage.kernel, layer.stride).norm("bn1").activate("act1")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", layer.stage.out_channels).norm("bn2")
    return chain.finish_with_skip("FusedMBConv", layer)


def projection(layer: Layer) -> Block:
    """k x k convolution, norm, squeeze-and-excitation, without an activation: it only matches shapes.

    Reference: ResNet (arXiv 1512.03385), sec. 3.3, option B: the projection shortcut.
    """
    stage = layer.stage
    chain = Chain.of(layer)
    chain.conv("conv", stage.out_channels, stage.kernel, layer.stride).norm("bn1")
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("Projection", layer)


BLOCKS: dict[str, Callable[[Layer], Block]] = {
    "conv": conv,
    "sepconv": sepconv,
    "mbconv": mbconv,
    "fused_mbconv": fused_mbconv,
    "projection": projection,
    "basic": basic,
    "bottleneck": bottleneck,
    "xblock": xblock,
    "igcv1": igcv1,
    "igcv2": igcv2,
    "igcv3": igcv3,
    "ghost_module": ghost_module,
    "ghost": ghost,
}
