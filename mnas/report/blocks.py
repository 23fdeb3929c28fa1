"""A network as rows to draw: the stem, each stage block by block, the head."""

import math
from dataclasses import dataclass

from mnas.report.words import square
from mnas.search_space import NetworkSpec, StageSpec, segment_cost, segments

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
    parts: list[tuple[str, str, int, tuple[Drawn, ...]]] = []
    down = spec.stem_stride == 2
    kind, title = f"k3{' down' if down else ''}", f"{square(3)} convolution{', stride 2' if down else ''}"
    stem = _block(square(3), spec.stem_channels, widest, kind, title)
    parts.append(("stem", f"Conv {square(3)}", spec.stem_channels, (stem,)))
    for number, stage in enumerate(spec.stages, 1):
        parts.append((f"stage {number}", describe(stage), stage.out_channels, _stage(stage, widest)))
    head = _block(square(1), spec.head_channels, widest, "k1", f"{square(1)} convolution")
    parts.append(
        ("head", f"Conv {square(1)}, pool, {spec.num_classes:,} classes", spec.head_channels, (head,))
    )
    return [
        Row(*part[:3], size, part[3], cost.madds, cost.madds / madds, cost.params / params)
        for part, size, cost in zip(parts, [*sizes, sizes[-1]], costs, strict=True)
    ]


def widest_of(*specs: NetworkSpec) -> int:
    """Channels of the widest layer of these networks."""
    return max(max(s.stem_channels, s.head_channels, *(t.out_channels for t in s.stages)) for s in specs)


def describe(stage: StageSpec) -> str:
    """`MBConv6 5x5, SE 0.25`: what the blocks of a stage are."""
    name = {"mbconv": f"MBConv{stage.expansion}", "sepconv": "SepConv"}.get(stage.op, stage.op.capitalize())
    squeeze = f", SE {stage.se_ratio:g}" if stage.se_ratio else ""
    skip = {"identity": "", "none": ", no skip", "pool": ", pooling skip"}[stage.skip]
    return f"{name} {square(stage.kernel)}{squeeze}{skip}"


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
