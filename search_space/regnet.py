"""RegNet X and Y from their numbers, and `regnet`: the space of those numbers.

The widths of a RegNet's blocks rise in a line, u_j = w0 + wa j, rounded to w0 wm^s, s = 0, 1, 2, ...; blocks of equal
width are a stage. The space has 16,176 networks: depth, w0, wm, group width, X or Y, and how far the line reaches. That
is wa, given as the power of wm that the last block comes to: wa = w0 (wm^reach - 1) / (depth - 1). So each point has
the four stages that the paper asks for, and the choice means the same for every depth.

Reference: RegNet (arXiv 2003.13678), sec. 3.3, eq. 2 to 4; facebookresearch/pycls, models/regnet.py and anynet.py.
"""

from dataclasses import dataclass
from functools import cache
from itertools import groupby, product
from math import isfinite, log

from mnas.errors import InputError
from mnas.search_space.space import Choice, SearchSpace, Value, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

STEM_CHANNELS, STAGES, DIVISOR = 32, 4, 8
SE_RATIO = 0.25  # of a Y block, over the channels into it
# The space, inside the paper's bounds (sec. 3.3: d < 64, w0 < 256, 1.5 <= wm <= 3). Chosen here around
# the released members' numbers: 92 million to 11.5 billion multiply-adds at 224 pixels.
OPTIONS: dict[str, tuple[Value, ...]] = {
    "depth": (12, 14, 16, 18, 20, 22, 24, 26, 28),
    "initial_width": (24, 32, 48, 64, 80, 96),
    "width_factor": (2.0, 2.2, 2.4, 2.6, 2.8),
    "reach": (2.6, 2.8, 3.0, 3.2, 3.4),
    "group_width": (8, 16, 24, 32, 40, 48),
    "kind": ("x", "y"),
}


@dataclass(frozen=True, slots=True)
class RegNetNumbers:
    """What a RegNet is made from.

    Args:
        depth: blocks in all four stages.
        initial_width: w0, a multiple of 8.
        slope: wa, channels a block, at least 0.
        factor: wm, above 1.
        group_width: channels of each group of the 3x3 convolutions.
        se_ratio: of squeeze-and-excitation: 0 for X, 0.25 for Y.

    Raises:
        InputError: a number outside its domain, or widths that are not four stages.
    """

    depth: int
    initial_width: int
    slope: float
    factor: float
    group_width: int
    se_ratio: float = 0.0

    def __post_init__(self) -> None:
        is_width = self.initial_width >= 1 and self.initial_width % DIVISOR == 0
        problems = [
            *(f"{name} must be at least 1" for name in ("depth", "group_width") if getattr(self, name) < 1),
            *(["initial_width must be a positive multiple of 8"] if not is_width else []),
            *(["slope must be at least 0"] if not 0 <= self.slope < float("inf") else []),
            *(["factor must be above 1"] if not (isfinite(self.factor) and self.factor > 1) else []),
        ]
        if not problems and len(self.stages) != STAGES:
            problems = [f"the widths must make {STAGES} stages, not {len(self.stages)}"]
        if problems:
            raise InputError(f"a RegNet cannot be made from {self}: {'; '.join(problems)}.")

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """Width, before it is fitted to the groups, and depth of each stage."""
        lines = (self.initial_width + self.slope * block for block in range(self.depth))
        steps = (round(log(line / self.initial_width) / log(self.factor)) for line in lines)
        widths = (round(self.initial_width * self.factor**step / DIVISOR) * DIVISOR for step in steps)
        return tuple((width, len(list(run))) for width, run in groupby(widths))


def regnet_network(numbers: RegNetNumbers, *, resolution: int = 224, num_classes: int = 1000) -> NetworkSpec:
    """The network of these numbers; widths become the nearest multiple of the group width.

    Args:
        numbers: depth, widths, group width.
        resolution: of the input image, in pixels.
        num_classes: outputs of the classifier.
    """

    def stage(width: int, depth: int) -> StageSpec:
        each = min(numbers.group_width, width)
        groups = max(1, round(width / each))
        return StageSpec(
            "xblock", 3, 2, groups * each, depth, se_ratio=numbers.se_ratio, skip="conv", groups=groups
        )

    return NetworkSpec(
        STEM_CHANNELS,
        tuple(stage(width, depth) for width, depth in numbers.stages),
        0,
        resolution,
        num_classes,
        dropout=0.0,
        drop_path=0.0,
        style=Style("relu"),
        head="pool",
    )


def regnet_space(*, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes."""
    choices = tuple(Choice(name, options) for name, options in OPTIONS.items())

    def build(values: Values) -> NetworkSpec:
        return regnet_network(_numbers(values), resolution=resolution, num_classes=num_classes)

    def merge(values: dict[str, Value]) -> dict[str, Value]:
        """The first point with the same stages: rounding makes many lines one network."""
        return {**_first_points()[_stages(values)], "kind": values["kind"]}

    def count_distinct() -> int:
        return len(_first_points()) * len(OPTIONS["kind"])

    return SearchSpace("regnet", choices, build, merge, count_distinct)


def _numbers(values: Values) -> RegNetNumbers:
    depth, initial, factor = int(values["depth"]), int(values["initial_width"]), float(values["width_factor"])
    slope = initial * (factor ** float(values["reach"]) - 1) / (depth - 1)
    se_ratio = SE_RATIO if values["kind"] == "y" else 0.0
    return RegNetNumbers(depth, initial, slope, factor, int(values["group_width"]), se_ratio)


@cache
def _first_points() -> dict[tuple[StageSpec, ...], Values]:
    """The first values, with kind x, that make these stages."""
    found: dict[tuple[StageSpec, ...], Values] = {}
    for options in product(*OPTIONS.values()):
        values = dict(zip(OPTIONS, options, strict=True))
        found.setdefault(_stages(values), values)
    return found


def _stages(values: Values) -> tuple[StageSpec, ...]:
    return regnet_network(_numbers({**values, "kind": "x"})).stages
