"""The networks that others are paired with: a few that run different kernels, of which the nearest is chosen.

A reference cancels the device's drift where it runs the same kernels: one that does not left 2.7 to 5.6 % where a
matching one left under 1 %.
"""

from dataclasses import replace

from mnas.errors import UnknownNameError
from mnas.latency.features import FEATURES, network_features
from mnas.latency.onnx_file import OnnxFile, distance, mix
from mnas.search_space import NetworkSpec, StageSpec, Style
from mnas.zoo import published

# Squeeze-and-excitation with SiLU; depthwise without gates; and a plain residual network of 3 x 3 convolutions
# (channels and depths as ResNet-18's, He et al. 2016, table 1, with one convolution a residual), made here.
_DENSE = NetworkSpec(
    64,
    tuple(
        StageSpec("conv", 3, stride, channels, 4)
        for stride, channels in ((2, 64), (2, 128), (2, 256), (2, 512))
    ),
    512,
    style=Style(activation="relu"),
)
REFERENCES = ("efficientnet_b0", "mobilenetv2", "dense")


def reference_network(name: str) -> NetworkSpec:
    """One of the set by name.

    Raises:
        UnknownNameError: none of that name.
    """
    if name not in REFERENCES:
        raise UnknownNameError("reference", name, REFERENCES)
    return _DENSE if name == "dense" else published(name)


def mix_of(network: NetworkSpec | OnnxFile) -> tuple[float, ...]:
    """What a network is made of; see `onnx_file.mix`."""
    if isinstance(network, OnnxFile):
        return network.mix
    sums = dict(zip(FEATURES, network_features(network), strict=True))
    return mix(
        sums["dense_madds"],
        sums["pointwise_madds"] + sums["vector_madds"],
        sums["depthwise3_madds"] + sums["depthwise5_madds"],
        sums["gates"],
    )


def nearest_reference(network: NetworkSpec | OnnxFile) -> str:
    """Name of the reference whose kernels are most like the network's."""
    own = mix_of(network)
    return min(REFERENCES, key=lambda name: distance(own, mix_of(reference_network(name))))


def reference_like(network: NetworkSpec | OnnxFile, name: str | None = None) -> NetworkSpec:
    """The nearest reference, or the one of that name, at the network's resolution where it takes images.

    Raises:
        UnknownNameError: none of that name.
    """
    reference = reference_network(name or nearest_reference(network))
    if isinstance(network, NetworkSpec):
        return replace(
            reference,
            resolution=network.resolution,
            num_classes=network.num_classes,
            in_channels=network.in_channels,
        )
    is_image = len(network.input_shape) == 4 and network.input_shape[2] == network.input_shape[3]
    return replace(reference, resolution=network.input_shape[2]) if is_image else reference
