"""timm's names for the tensors of our networks, where its containers are called differently.

Inside EfficientNet-like networks the names are the same; of MobileNetV3's stages timm joins some. Its ResNets and
RegNets number their stages in their own way, and call stem, shortcut, squeeze-and-excitation and classifier
differently; its GhostNet has blocks of several kinds in a stage, and numbers inside Ghost modules and shortcuts.

Reference: timm 1.0, models/mobilenetv3.py, resnet.py, regnet.py and ghostnet.py.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import islice

from mnas.search_space.spec import NetworkSpec

_RESNET_OPS, _REGNET_OPS, _GHOSTNET_OPS = {"basic", "bottleneck"}, {"xblock"}, {"ghost", "conv"}
_MOBILENET_OPS = {"conv", "sepconv", "mbconv"}
# How many of ours are one stage there, by the number of ours: of the small MobileNetV3 and the large one.
_MOBILENETV3_STAGES = {8: (1, 2, 2, 1, 1, 1), 10: (1, 2, 1, 3, 1, 1, 1)}
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
# timm's stage and block of each of GhostNet's seventeen.
_GHOSTNET_STAGES = (1, 1, 1, 1, 1, 1, 5, 1, 4, 1)
_GHOSTNET_PLACES = [
    f"{stage}.{block}" for stage, size in enumerate(_GHOSTNET_STAGES) for block in range(size)
]
_GHOSTNET_PARTS = {
    f"{module}.{part}.{layer}": f"{module}.{part}.{number}"
    for module in ("ghost1", "ghost2")
    for part in ("primary_conv", "cheap_operation")
    for number, layer in enumerate(("conv", "bn"))
} | {f"shortcut.{layer}": f"shortcut.{n}" for n, layer in enumerate(("conv_dw", "bn_dw", "conv", "bn"))}


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
    layers = [f"{number}.{n}" for number, stage in enumerate(spec.stages) for n in range(stage.repeats)]
    if ops == _GHOSTNET_OPS and len(layers) == len(_GHOSTNET_PLACES):
        places = dict(zip(layers, _GHOSTNET_PLACES, strict=True))
        return {name: _ghostnet(places, name) for name in names}
    if spec.head == "late" and ops <= _MOBILENET_OPS and len(spec.stages) in _MOBILENETV3_STAGES:
        joined = _joined(spec)
        return {name: _LAYER.sub(lambda found: _placed(joined, found), name) for name in names}
    return {name: name for name in names}


def _joined(spec: NetworkSpec) -> list[tuple[int, int]]:
    """Of each of a MobileNetV3's stages, timm's stage and the layers before it there."""
    places: list[tuple[int, int]] = []
    stages = iter(spec.stages)
    for number, count in enumerate(_MOBILENETV3_STAGES[len(spec.stages)]):
        before = 0
        for stage in islice(stages, count):
            places.append((number, before))
            before += stage.repeats
    return places


def _placed(places: list[tuple[int, int]], found: re.Match[str]) -> str:
    stage, before = places[int(found[1])]
    return f"blocks.{stage}.{before + int(found[2])}.{found[3]}"


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


def _ghostnet(places: Mapping[str, str], name: str) -> str:
    module, _, tensor = name.rpartition(".")
    inside = _LAYER.fullmatch(module)
    if inside is None:
        return name
    part = _GHOSTNET_PARTS.get(inside[3], inside[3])
    return f"blocks.{places[f'{inside[1]}.{inside[2]}']}.{part}.{tensor}"
