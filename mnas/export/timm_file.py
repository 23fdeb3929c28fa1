"""The architecture definition that timm's EfficientNet builder takes, as JSON."""

import json
from importlib.util import find_spec
from math import prod

from mnas.errors import InputError
from mnas.export.subject import Subject
from mnas.search_space import NetworkSpec, decode_stage, encode_stage
from mnas.search_space.layer import Layer
from mnas.search_space.network import segments
from mnas.search_space.spec import INVERTED, Style

TIMM_STEM_STRIDE = 2  # fixed in timm/models/efficientnet.py
_USAGE = """\
import json
from functools import partial
from safetensors.torch import load_file
from timm.layers import get_act_layer
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch.nn import BatchNorm2d
arch = json.load(open({source}))
model = EfficientNet(
    decode_arch_def(arch["arch_def"]),
    act_layer=get_act_layer(arch["act_layer"]),
    norm_layer=partial(BatchNorm2d, **arch["norm"]),
    round_chs_fn=int,
    **arch["model"],
)
model.load_state_dict(load_file({weights}))
model.eval()
"""


def timm_json(subject: Subject, source: str, weights: str) -> bytes:
    """The file; `usage` in it is the code that builds the network from it and loads the file `weights`."""
    spec, style = subject.spec, subject.spec.style
    data = {
        "usage": _USAGE.format(source=json.dumps(source), weights=json.dumps(weights)).splitlines(),
        "arch_def": [[encode_stage(stage)] for stage in spec.stages],
        "act_layer": style.activation,
        "norm": {"eps": style.norm_eps, "momentum": style.norm_momentum},
        "model": {
            "num_classes": spec.num_classes,
            "num_features": spec.head_channels,
            "in_chans": spec.in_channels,
            "stem_size": spec.stem_channels,
            # timm turns strides beyond this product into dilation
            "output_stride": TIMM_STEM_STRIDE * prod(stage.stride for stage in spec.stages),
            "pad_type": "same" if style.padding == "same" else "",
            "drop_rate": spec.dropout,
            "drop_path_rate": spec.drop_path,
        },
        "input_size": [spec.in_channels, spec.resolution, spec.resolution],
        "about": {name: text for name, text in subject.metadata.items() if name != "network"},
        "network": spec.to_dict(),
    }
    return (json.dumps(data, indent=2, allow_nan=False) + "\n").encode()


def refuse_timm(spec: NetworkSpec) -> None:
    """Names everything about the network that timm's builder cannot hold.

    Raises:
        InputError: there is something, or timm is not installed, which the check needs.

    Reference: timm/models/_efficientnet_builder.py and _efficientnet_blocks.py.
    """
    problems = []
    if spec.stem_stride != TIMM_STEM_STRIDE:
        problems.append(f"the stem has stride {spec.stem_stride}, where timm has {TIMM_STEM_STRIDE}")
    problems += [f"the stem is {spec.stem!r}, where timm has 'conv'"] if spec.stem != "conv" else []
    problems += [f"the head is {spec.head!r}, where timm has 'conv'"] if spec.head != "conv" else []
    gate = Style(
        **{name: getattr(spec.style, name) for name in ("activation", "norm_eps", "norm_momentum", "padding")}
    )
    if gate != spec.style:
        problems.append(
            "squeeze-and-excitation is of another kind than EfficientNet's, which timm's builder has"
        )
    for number, (stage, segment) in enumerate(zip(spec.stages, segments(spec)[1:-1], strict=True), 1):
        try:
            said = decode_stage(encode_stage(stage))
        except InputError as error:
            problems.append(f"stage {number}: {str(error).split(';')[0]}")
            continue
        if said != stage:
            problems.append(
                f"stage {number}: se_ratio {stage.se_ratio!r} has more digits than its block string {said.se_ratio!r}"
            )
        for channels in dict.fromkeys((segment.in_shape[0], stage.out_channels)[: stage.repeats]):
            inner = stage.inside(channels)
            ours = Layer(stage, (channels, 1, 1), 1, spec.style).se_channels
            theirs = round(inner * (stage.se_ratio / stage.expansion))
            if stage.op in INVERTED and inner % 8:
                problems.append(f"stage {number}: timm rounds {inner} expanded channels to a multiple of 8")
            if ours != theirs:
                problems.append(
                    f"stage {number}: squeeze-and-excitation of {channels} channels with {ours} inside, where timm "
                    f"has {theirs}"
                )
    if problems:
        raise InputError(
            f"timm's builder cannot hold this network: {'; '.join(problems)}. Formats that can: python, pt2, onnx."
        )
    if find_spec("timm") is None:
        raise InputError(
            "the format timm is checked by having timm build the network, and timm is not installed: "
            "pip install 'mnas[timm]'"
        )
