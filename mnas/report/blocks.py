"""A network as rows to draw: the stem, each stage block by block, the head."""

import math
from dataclasses import dataclass
from itertools import groupby

from mnas.report.words import square
from mnas.search_space import (
    Block,
    NetworkSpec,
    StageSpec,
    segment_cost,
    segment_program,
    segments,
    walk,
)
from mnas.search_space.program import Conv, MaxPool

# Width of a drawn block: the least, and what the widest layer has more (chosen here; the style sheet gives the unit).
LEAST, MORE = 32, 68


@dataclass(frozen=True, slots=True)
class Drawn:
    """One block: its width grows with the root of its channels; `kind` is a class of the style sheet."""

    text: str
    width: int
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    """One segment of a network; shares are fractions of the whole network's counts."""

    name: str
    what: str
    channels: int
    size: int
    blocks: tuple[Drawn, ...]
    madds: int
    madds_share: float
    params_share: float


def draw(spec: NetworkSpec, widest: int) -> list[Row]:
    """The rows of a network.

    Args:
        spec: the network.
        widest: channels that the widest block drawn has, over all networks that stand beside each other.
    """
    costs = [segment_cost(segment) for segment in segments(spec)]
    madds, params = (max(1, sum(getattr(cost, name) for cost in costs)) for name in ("madds", "params"))
    sizes = [segment.in_shape[1] for segment in segments(spec)][1:]
    stem, head = (segment_program(segments(spec)[place]) for place in (0, -1))
    parts = [("stem", _described(stem), spec.stem_channels, _layers(stem, widest))]
    for number, stage in enumerate(spec.stages, 1):
        parts.append((f"stage {number}", describe(stage), stage.out_channels, _stage(stage, widest)))
    pooled = f"{_described(head)}, pool, {spec.num_classes:,} classes".removeprefix(", ")
    parts.append(("head", pooled, head.steps[-1][1].in_shape[0], _layers(head, widest)))
    return [
        Row(*part[:3], size, part[3], cost.madds, cost.madds / madds, cost.params / params)
        for part, size, cost in zip(parts, [*sizes, sizes[-1]], costs, strict=True)
    ]


def widest_of(*specs: NetworkSpec) -> int:
    """Channels of the widest layer of these networks."""
    return max(max(s.stem_channels, s.head_channels, *(t.out_channels for t in s.stages)) for s in specs)


def describe(stage: StageSpec) -> str:
    """`MBConv6 5x5, SE 0.25`: what the blocks of a stage are."""
    names = {"sepconv": "SepConv", "xblock": "X block"}
    names |= {"mbconv": f"MBConv{stage.expansion:g}", "fused_mbconv": f"Fused-MBConv{stage.expansion:g}"}
    names |= {"igcv1": "IGCV1", "igcv2": "IGCV2", "igcv3": f"IGCV3-{stage.expansion:g}"}
    names |= {"ghost_module": "Ghost module", "ghost": f"Ghost{stage.expansion:g}"}
    said = [f"{names.get(stage.op, stage.op.capitalize())} {square(stage.kernel)}"]
    said += [f"{stage.groups} groups"] if stage.groups > 1 else []
    said += [f"SE {stage.se_ratio:g}"] if stage.se_ratio else []
    return ", ".join(said + _SKIPS[stage.skip])


_SKIPS = {
    "identity": [],
    "none": ["no skip"],
    "pool": ["pooling skip"],
    "conv": ["convolution skip"],
    "avg": ["pooled convolution skip"],
    "depthwise": ["depthwise convolution skip"],
}


def _described(part: Block) -> str:
    """`Conv 7x7, max pool`: the layers of a stem or head that look at pixels."""
    words = []
    for _, operation in walk(part):
        words += [f"Conv {square(operation.kernel)}"] if isinstance(operation, Conv) else []
        words += ["max pool"] if isinstance(operation, MaxPool) else []
    runs = ((word, len(list(run))) for word, run in groupby(words))
    return ", ".join(f"{count} x {word}" if count > 1 else word for word, count in runs)


def _layers(part: Block, widest: int) -> tuple[Drawn, ...]:
    """The convolutions of a stem or head."""
    return tuple(
        _block(
            square(operation.kernel),
            operation.out_channels,
            widest,
            f"k{operation.kernel}{' down' if operation.stride > 1 else ''}",
            f"{square(operation.kernel)} convolution{', stride 2' if operation.stride > 1 else ''}",
        )
        for _, operation in walk(part)
        if isinstance(operation, Conv)
    )


def _stage(stage: StageSpec, widest: int) -> tuple[Drawn, ...]:
    drawn = []
    for number in range(stage.repeats):
        down = stage.stride == 2 and number == 0
        kind = [f"k{min(stage.kernel, 7)}", "down" if down else "", "se" if stage.se_ratio else ""]
        title = f"{describe(stage)}, {stage.out_channels} channels{', stride 2' if down else ''}"
        text = square(stage.kernel)
        drawn.append(_block(text, stage.out_channels, widest, " ".join(filter(None, kind)), title))
    return tuple(drawn)


def _block(text: str, channels: int, widest: int, kind: str, title: str) -> Drawn:
    return Drawn(text, round(LEAST + MORE * math.sqrt(channels / widest)), kind, title)
