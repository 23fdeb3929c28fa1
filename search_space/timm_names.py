"""timm's names for the tensors of our networks, where its containers are called differently.

Inside EfficientNet-like networks the names are the same. timm's ResNets and RegNets number their stages in their own
way, and call stem, shortcut, squeeze-and-excitation and classifier differently.

Reference: timm 1.0, models/resnet.py and models/regnet.py.
"""

import re
from collections.abc import Iterable

from mnas.search_space.spec import NetworkSpec

_RESNET_OPS, _REGNET_OPS = {"basic", "bottleneck"}, {"xblock"}
_LAYER = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")
_SE = {"se.conv_reduce": "se.fc1", "se.conv_expand": "se.fc2"}
# By our name of the module. timm's deep stem is a sequence: convolution, norm, activation, twice, and a convolution.
_RESNET_STEM = {
    "conv_stem": "conv1",
    "stem.conv1": "conv1.0",
    "stem.bn1": "conv1.1",
    "stem.conv2": "conv1.3",
    "stem.bn2": "conv1.4",
    "stem.conv3": "conv1.6",
    "stem.bn3": "bn1",
    "stem.conv4": "maxpool.0",
    "stem.bn4": "maxpool.1",
    "classifier": "fc",
}
_REGNET_STEM = {"conv_stem": "stem.conv", "bn1": "stem.bn", "classifier": "head.fc"}


def timm_names(spec: NetworkSpec, names: Iterable[str]) -> dict[str, str]:
    """timm's name of each tensor of the network's state dict, by ours; ours where timm has no such network.

    Args:
        spec: the network.
        names: of its state dict.

    >>> from mnas.search_space.resnet import resnet_network
    >>> timm_names(resnet_network((2, 2, 2, 2), "basic"), ["blocks.1.0.shortcut.conv.weight"])
    {'blocks.1.0.shortcut.conv.weight': 'layer2.0.downsample.0.weight'}
    """
    ops = {stage.op for stage in spec.stages}
    if ops <= _RESNET_OPS:
        return {name: _resnet(spec, name) for name in names}
    if ops <= _REGNET_OPS:
        return {name: _regnet(name) for name in names}
    return {name: name for name in names}


def _resnet(spec: NetworkSpec, name: str) -> str:
    module, _, tensor = name.rpartition(".")
    inside = _LAYER.fullmatch(module)
    if inside is None:
        return f"{_RESNET_STEM.get(module, module)}.{tensor}"
    stage, block, part = int(inside[1]), inside[2], inside[3]
    if part.startswith("shortcut."):
        # The pool of a ResNet-D's is the first of the sequence; without a stride an identity stands there.
        first = 1 if spec.stages[stage].skip == "avg" else 0
        part = f"downsample.{first + (part == 'shortcut.bn')}"
    return f"layer{stage + 1}.{block}.{_SE.get(part, part)}.{tensor}"


def _regnet(name: str) -> str:
    module, _, tensor = name.rpartition(".")
    inside = _LAYER.fullmatch(module)
    if inside is None:
        return f"{_REGNET_STEM.get(module, module)}.{tensor}"
    stage, block, part = int(inside[1]) + 1, int(inside[2]) + 1, inside[3]
    part = _SE.get(part, part).replace("shortcut", "downsample")
    part = re.sub(r"^(conv|bn)(\d)$", lambda found: f"conv{found[2]}.{found[1]}", part)
    return f"s{stage}.b{block}.{part}.{tensor}"
