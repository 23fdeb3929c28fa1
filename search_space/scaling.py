"""Compound scaling of a specification: depth, width and resolution, as published."""

from dataclasses import dataclass, replace
from math import ceil, isfinite, lcm

from mnas.errors import InputError
from mnas.search_space.rounding import round_filters
from mnas.search_space.spec import GROUPED, INTERLEAVED, LEAST_RESOLUTION, NetworkSpec, StageSpec


@dataclass(frozen=True, slots=True)
class Coefficients:
    """The constants of compound scaling: depth alpha^phi, width beta^phi, resolution gamma^phi.

    Raises:
        InputError: one below 1 or not finite.

    Reference: EfficientNet (arXiv 1905.11946), eq. 3; the values found there are the defaults (sec. 4).
    """

    alpha: float = 1.2
    beta: float = 1.1
    gamma: float = 1.15

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if not (isfinite(value) and value >= 1):
                raise InputError(f"{name} must be finite and at least 1, got {value!r}.")


def scale(
    spec: NetworkSpec,
    *,
    depth: float,
    width: float,
    resolution: int,
    least: float = 0.9,
    group_width: float = 1.0,
    nearest: bool = False,
) -> NetworkSpec:
    """The network with every stage repeated and widened, and another resolution.

    Args:
        spec: the baseline.
        depth: repeats become ceil(repeats x depth); a projection only matches shapes, and is not repeated.
        width: stem, stages and head become round_filters(channels x width); in stages with a bottleneck that is said
            of the channels inside, whose groups keep their width. Where there are interleaved groups, all channels
            are rounded to multiples of their numbers too, which stay.
        resolution: of the result, in pixels; not a factor.
        least: as `round_filters`.
        group_width: factor of the channels in each group, where groups keep their width else; see `_group_width`.
        nearest: repeats become the nearest number to repeats x depth, at least 1.

    Raises:
        InputError: a coefficient that is not positive and finite.

    Reference: EfficientNet's released code, `round_repeats` and `round_filters` (efficientnet_model.py).
    """
    for name, value in (("depth", depth), ("width", width)):
        if not (isfinite(value) and value > 0):
            raise InputError(f"{name} coefficient must be positive and finite, got {value!r}.")

    def repeats(stage: StageSpec) -> int:
        if stage.op == "projection":
            return stage.repeats
        wanted = round(stage.repeats * depth, 9)  # 5 x 1.2 is 6.000000000000001 in floating point
        return max(1, round(wanted)) if nearest else ceil(wanted)

    divisor = lcm(8, *(stage.groups for stage in spec.stages if stage.op in INTERLEAVED))

    def channels(wanted: float) -> int:
        return round_filters(wanted * width, divisor=divisor, least=least)

    stages = tuple(
        replace(_widened(stage, width, divisor, least, group_width), repeats=repeats(stage))
        for stage in spec.stages
    )
    return replace(
        spec,
        stem_channels=channels(spec.stem_channels),
        stages=stages,
        head_channels=channels(spec.head_channels) if spec.head_channels else 0,
        resolution=resolution,
    )


def _widened(stage: StageSpec, width: float, divisor: int, least: float, group_width: float) -> StageSpec:
    """Reference: pycls (models/anynet.py, adjust_block_compatibility): widths become multiples of a group's."""
    if stage.op not in GROUPED or stage.op in INTERLEAVED:
        return replace(
            stage, out_channels=round_filters(stage.out_channels * width, divisor=divisor, least=least)
        )
    expansion = int(stage.expansion)
    inside = stage.out_channels // expansion
    each = _group_width(inside // stage.groups, group_width) if stage.groups > 1 else 1
    groups = max(1, round(round_filters(inside * width, least=least) / each))
    return replace(
        stage,
        out_channels=groups * each * expansion,
        groups=groups if stage.groups > 1 else 1,
    )


def _group_width(channels: int, factor: float) -> int:
    """A group's channels times the factor: up to 2 as they are, up to 5 four, else the nearest multiple of 8.

    Reference: Dollar et al. (arXiv 2103.06877), code: pycls, models/scaler.py.
    """
    if factor == 1.0 or channels <= 2:
        return channels
    wanted = channels * factor
    return 4 if wanted <= 5 else max(8, round(wanted / 8) * 8)


def compound_scale(spec: NetworkSpec, phi: float, coefficients: Coefficients = Coefficients()) -> NetworkSpec:
    """The pure rule: depth alpha^phi, width beta^phi, resolution round(resolution x gamma^phi), at least 8 pixels.

    The released EfficientNets follow it only roughly: B1 is (depth 1.1, width 1.0, 240 pixels), and their depth
    grows less than alpha^phi. See `RELEASED`.

    Raises:
        InputError: phi is not finite.
    """
    if not isfinite(phi):
        raise InputError(f"phi must be finite, got {phi!r}.")
    return scale(
        spec,
        depth=coefficients.alpha**phi,
        width=coefficients.beta**phi,
        resolution=max(LEAST_RESOLUTION, round(spec.resolution * coefficients.gamma**phi)),
    )


# EfficientNet's released table, efficientnet_builder.py: width, depth, resolution, dropout.
RELEASED: dict[str, tuple[float, float, int, float]] = {
    "efficientnet_b0": (1.0, 1.0, 224, 0.2),
    "efficientnet_b1": (1.0, 1.1, 240, 0.2),
    "efficientnet_b2": (1.1, 1.2, 260, 0.3),
    "efficientnet_b3": (1.2, 1.4, 300, 0.3),
    "efficientnet_b4": (1.4, 1.8, 380, 0.4),
    "efficientnet_b5": (1.6, 2.2, 456, 0.4),
    "efficientnet_b6": (1.8, 2.6, 528, 0.5),
    "efficientnet_b7": (2.0, 3.1, 600, 0.5),
}
# Those that came later, with other trainings (AdvProp, Noisy Student): likewise.
RELEASED_LATER: dict[str, tuple[float, float, int, float]] = {
    "efficientnet_b8": (2.2, 3.6, 672, 0.5),
    "efficientnet_l2": (4.3, 5.3, 800, 0.5),
}


def released(b0: NetworkSpec, name: str) -> NetworkSpec:
    """`b0` scaled by the released coefficients of `efficientnet_b0` to `efficientnet_b8`, or of `efficientnet_l2`.

    Raises:
        InputError: no such name.
    """
    known = RELEASED | RELEASED_LATER
    if name not in known:
        raise InputError(f"no released coefficients for {name!r}; known are {', '.join(known)}.")
    width, depth, resolution, dropout = known[name]
    return replace(scale(b0, depth=depth, width=width, resolution=resolution), dropout=dropout)
