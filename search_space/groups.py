"""The blocks of interleaved group convolutions and of GhostNet, each written once as a program."""

from mnas.search_space.layer import Chain, Layer
from mnas.search_space.program import Block


def igcv1(layer: Layer) -> Block:
    """k x k convolution in `groups` partitions, then a 1x1 convolution in partitions that take one channel of each.

    The norm and activation stand before the permutation back, with which they commute, so that the norm can be folded.

    Reference: IGCV1 (arXiv 1707.02725): primary partitions L = groups, M = channels / L channels in each.
    """
    stage = layer.stage
    out, partitions = stage.out_channels, stage.out_channels // stage.groups
    chain = Chain.of(layer)
    chain.conv("conv1", out, stage.kernel, layer.stride, groups=stage.groups)
    chain.shuffle("shuffle1", stage.groups)
    chain.conv("conv2", out, groups=partitions).norm("bn").activate("act").shuffle("shuffle2", partitions)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("IGCV1", layer)


def igcv2(layer: Layer) -> Block:
    """Depthwise k x k, then sparse 1x1 convolutions whose product joins each channel in with each channel out.

    Nothing stands between them: together they are one linear map. `branch_sizes` says what each has in a branch.

    Reference: IGCV2 (arXiv 1804.06202): W = P_L W_L ... P_2 W_2 P_1 W_1, W_1 channel-wise.
    """
    stage, out = layer.stage, layer.stage.out_channels
    chain = Chain.of(layer)
    chain.conv("conv_dw", chain.shape[0], stage.kernel, layer.stride, groups=chain.shape[0])
    sizes = branch_sizes(out, stage.groups)
    for number, size in enumerate(sizes, 1):
        chain.conv(f"conv{number}", out, groups=out // size)
        if number == len(sizes):
            chain.norm("bn").activate("act")
        chain.shuffle(f"shuffle{number}", out // size)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("IGCV2", layer)


def branch_sizes(channels: int, groups: int) -> tuple[int, ...]:
    """Channels in a branch of each 1x1 convolution of `igcv2`: those of the first as long as they divide what is left.

    Their product is `channels`, which is the complementary condition.

    Reference: IGCV2 (arXiv 1804.06202): the product of K_l is C.

    >>> branch_sizes(64, 8), branch_sizes(96, 12), branch_sizes(96, 1)
    ((8, 8), (8, 12), (96,))
    """
    size, left, sizes = channels // groups, channels, []
    while left > size > 1 and left % size == 0:
        sizes.append(size)
        left //= size
    return (*sizes, left)


def igcv3(layer: Layer) -> Block:
    """MBConv whose 1x1 convolutions have groups and a shuffle between; activated behind the depthwise one alone.

    Reference: IGCV3 (arXiv 1806.00178), and its code (homles11/IGCV3, symbols/igcv3.py) as released with its weights
    (bdf9a8f6): what it permutes back behind the projection is not used there. From 385b3270 on it is.
    """
    stage, inner = layer.stage, layer.inside
    chain = Chain.of(layer)
    chain.conv("conv_pw", inner, groups=stage.groups).norm("bn1").shuffle("shuffle", stage.groups)
    chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn2").activate("act2")
    chain.squeeze_excite(layer.se_channels).conv("conv_pwl", stage.out_channels, groups=stage.groups)
    return chain.norm("bn3").finish_with_skip("IGCV3", layer)


def ghost_module(layer: Layer) -> Block:
    """The Ghost module in the place of a k x k convolution, norm and activation, with squeeze-and-excitation."""
    stage = layer.stage
    chain = Chain.of(layer).ghost(stage.out_channels, stage.kernel, layer.stride)
    return chain.squeeze_excite(layer.se_channels).finish_with_skip("GhostModule", layer)


def ghost(layer: Layer) -> Block:
    """A Ghost module that expands, with a stride a depthwise k x k, SE, a linear Ghost module.

    Reference: GhostNet (arXiv 1911.11907), Fig. 3 and Table 1.
    """
    stage, inner = layer.stage, layer.inside
    chain = Chain.of(layer).ghost_module("ghost1", inner, activate=True)
    if layer.stride > 1:
        chain.conv("conv_dw", inner, stage.kernel, layer.stride, groups=inner).norm("bn_dw")
    chain.squeeze_excite(layer.se_channels).ghost_module("ghost2", stage.out_channels, activate=False)
    return chain.finish_with_skip("GhostBottleneck", layer)
