"""The blocks of residual networks, ResNet's and RegNet's, each written once as a program with timm's names."""

from mnas.search_space.layer import Chain, Layer
from mnas.search_space.program import Block


def basic(layer: Layer) -> Block:
    """Two k x k convolutions, squeeze-and-excitation, activation after the sum.

    Reference: ResNet (arXiv 1512.03385), Fig. 5, left.
    """
    stage = layer.stage
    chain = Chain.of(layer)
    chain.conv_norm(1, stage.out_channels, stage.kernel, layer.stride).activate("act1")
    chain.conv_norm(2, stage.out_channels, stage.kernel)
    return chain.squeeze_excite(layer.se_out_channels).finish_with_skip(
        "BasicBlock", layer, activate_after=True
    )


def bottleneck(layer: Layer) -> Block:
    """1x1 to fewer channels, k x k with the stride, 1x1, squeeze-and-excitation, activation after the sum.

    Reference: ResNet (arXiv 1512.03385), Fig. 5, right; the stride as in ResNet-D (arXiv 1812.01187), sec. 4.1;
    squeeze-and-excitation as in ResNet-RS (arXiv 2103.07579), of the block's output.
    """
    stage, inner = layer.stage, layer.inside
    chain = Chain.of(layer)
    chain.conv_norm(1, inner).activate("act1")
    chain.conv_norm(2, inner, stage.kernel, layer.stride, groups=stage.groups).activate("act2")
    chain.conv_norm(3, stage.out_channels).squeeze_excite(layer.se_out_channels)
    return chain.finish_with_skip("Bottleneck", layer, activate_after=True)


def xblock(layer: Layer) -> Block:
    """RegNet's block: a bottleneck with groups, and squeeze-and-excitation (of a Y block) before its last convolution.

    Reference: RegNet (arXiv 2003.13678), sec. 3.2 and Fig. 4; squeeze-and-excitation as in pycls (models/blocks.py):
    channels inside from the block's input.
    """
    stage, inner = layer.stage, layer.inside
    chain = Chain.of(layer)
    chain.conv_norm(1, inner).activate("act1")
    chain.conv_norm(2, inner, stage.kernel, layer.stride, groups=stage.groups).activate("act2")
    chain.squeeze_excite(layer.se_channels).conv_norm(3, stage.out_channels)
    return chain.finish_with_skip("XBlock", layer, activate_after=True)
