"""Scaling rules as data: how depth, width and resolution share what a network grows by, and what training follows.

A phi of 1 doubles the multiply-adds of a rule that splits them; `compound` has its own base, alpha beta^2 gamma^2: 1.92
as published. What the rounding of repeats and channels adds comes on top.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isfinite, log, log2
from typing import Literal

from mnas.errors import InputError, UnknownNameError
from mnas.search_space.cost import network_cost
from mnas.search_space.scaling import RELEASED, Coefficients, scale
from mnas.search_space.spec import LEAST_RESOLUTION, NetworkSpec

# A rule that leaves a network as it is at this phi never grows it (chosen here).
FAR = 4.0


@dataclass(frozen=True, slots=True)
class Training:
    """What a published family changes in training as it grows.

    Args:
        dropout: of the classifier.
        drop_path: the greatest rate of stochastic depth.
        magnitude: of RandAugment, 0 to 30; None where the family's augmentation has no strength that grows.
    """

    dropout: float
    drop_path: float
    magnitude: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to grow a network. `RULES` has those that were published.

    Args:
        name: in `RULES` and on the command line.
        coefficients: factors of depth, width and resolution for a phi of 1.
        group_width: factor of the channels in a group of a grouped convolution for a phi of 1.
        most_resolution: in pixels; a base above it keeps its own. None is no limit.
        rest: what grows by the multiply-adds that `most_resolution` keeps from the resolution; None is nothing.
        least_resolution: to which filling a budget may trim, in pixels; never below the base's where gamma is 1.
        step: resolutions are multiples of it.
        nearest: repeats, and channels in multiples of 8, are rounded to the nearest and not as EfficientNet's.
        training: (base, multiply-adds over the base's) -> what training follows.
    """

    name: str
    coefficients: Coefficients
    group_width: float = 1.0
    most_resolution: int | None = None
    rest: Literal["depth", "width"] | None = None
    least_resolution: int = LEAST_RESOLUTION
    step: int = 1
    nearest: bool = False
    training: Callable[[NetworkSpec, float], Training] | None = None

    @property
    def growth(self) -> float:
        """Factor in multiply-adds for a phi of 1, before anything is rounded."""
        c = self.coefficients
        return c.alpha * c.beta**2 * c.gamma**2

    def factors(self, base: int, phi: float) -> tuple[float, float]:
        """Of depth and width, for a base of this resolution in pixels."""
        c = self.coefficients
        depth, width = c.alpha**phi, c.beta**phi
        left = base * c.gamma**phi / self._within(base, phi)
        if self.rest == "depth":
            depth *= left**2
        elif self.rest == "width":
            width *= left
        return depth, width

    def _within(self, base: int, phi: float) -> float:
        wanted: float = base * self.coefficients.gamma**phi
        return wanted if self.most_resolution is None else min(wanted, max(base, self.most_resolution))

    def most_phi(self, base: int) -> float:
        """At which `most_resolution` begins to keep a base of so many pixels from growing; infinite where none does."""
        gamma = self.coefficients.gamma
        if self.most_resolution is None or gamma <= 1:
            return inf
        return log(max(base, self.most_resolution) / base) / log(gamma)

    def resolution(self, base: int, phi: float) -> int:
        """Of a network whose base has this one, in pixels: at least 8."""
        wanted = self._within(base, phi)
        rounded = round(wanted / self.step) * self.step if self.coefficients.gamma > 1 else base
        return max(LEAST_RESOLUTION, rounded)

    def grow(self, spec: NetworkSpec, phi: float) -> NetworkSpec:
        """The network grown by phi, with its dropout and stochastic depth.

        Raises:
            InputError: phi is not finite.
        """
        if not isfinite(phi):
            raise InputError(f"phi must be finite, got {phi!r}.")
        depth, width = self.factors(spec.resolution, phi)
        grown = scale(
            spec,
            depth=depth,
            width=width,
            resolution=self.resolution(spec.resolution, phi),
            least=0.0 if self.nearest else 0.9,
            group_width=self.group_width**phi,
            nearest=self.nearest,
        )
        training = self.training_of(spec, grown)
        return replace(grown, dropout=training.dropout, drop_path=training.drop_path)

    def training_of(self, base: NetworkSpec, grown: NetworkSpec) -> Training:
        """What the training of a grown network follows; the base's own where nothing was published."""
        if self.training is None:
            return Training(base.dropout, base.drop_path)
        return self.training(base, network_cost(grown).madds / network_cost(base).madds)

    def check(self, spec: NetworkSpec) -> None:
        """Raises InputError where the rule cannot grow this network."""
        if self.growth <= 1:
            raise InputError("alpha, beta and gamma are all 1: such scaling never grows a network.")
        if network_cost(self.grow(spec, FAR)).madds <= network_cost(spec).madds:
            raise InputError(
                f"the rule {self.name!r} does not apply to this network: it has nothing that {self._what()} makes "
                f"larger. Use one of {', '.join(name for name in RULES if name != self.name)}."
            )

    def _what(self) -> str:
        c = self.coefficients
        parts = {"depth": c.alpha, "width": c.beta, "resolution": c.gamma}
        return " or ".join(name for name, factor in parts.items() if factor > 1)


def efficientnets(base: NetworkSpec, growth: float) -> Training:
    """Dropout rises with the logarithm of the multiply-adds as in B0 to B7, from 0.2 to 0.5; the rest stays.

    Networks without dropout keep none. AutoAugment, and stochastic depth of 0.2, are the same for all of them.

    Reference: EfficientNet (arXiv 1905.11946), sec. 5.2, and efficientnet_builder.py: 0.2 0.2 0.3 0.3 0.4 0.4 0.5 0.5.
    """
    if not base.dropout:
        return Training(0.0, base.drop_path)
    first = next(iter(RELEASED.values()))[3]
    return Training(min(0.9, base.dropout + _between(_DROPOUT, growth) - first), base.drop_path)


def resnets(base: NetworkSpec, growth: float) -> Training:
    """As in the released ResNet-RS, by their multiply-adds over those of ResNet-RS-50 at 160 pixels.

    Reference: tensorflow/tpu, models/official/resnet/resnet_rs/configs: dropout 0.25, and 0.4 at 320 pixels; stochastic
    depth 0.1 from ResNet-RS-200 on; RandAugment's magnitude 10 up to ResNet-RS-101 at 160 pixels, then 15.
    """
    dropout, drop_path, magnitude = next(row for least, *row in _RESNET_RS if growth >= least)
    return Training(dropout, drop_path, magnitude)


# Multiply-adds over B0's at each member's resolution (Table 2 of EfficientNet: 0.39 to 37 billion), and dropout.
_MADDS = (0.39, 0.70, 1.0, 1.8, 4.2, 9.9, 19.0, 37.0)
_DROPOUT = tuple((madds / _MADDS[0], row[3]) for madds, row in zip(_MADDS, RELEASED.values(), strict=True))
# From which factor on: dropout, stochastic depth, magnitude. ResNet-RS's README has twice the multiply-adds, billions:
# 4.6 (50 at 160 pixels), 8.4 (101 at 160), 12 (101 at 192), 40 (200 at 256), 107 (350 at 320).
_RESNET_RS = (
    (107 / 4.6, 0.40, 0.1, 15.0),
    (40 / 4.6, 0.25, 0.1, 15.0),
    (12 / 4.6, 0.25, 0.0, 15.0),
    (0.0, 0.25, 0.0, 10.0),
)


def _between(points: tuple[tuple[float, float], ...], growth: float) -> float:
    """Interpolated on the logarithm of the growth; the ends' values outside."""
    if growth <= points[0][0]:
        return points[0][1]
    for (low, before), (high, after) in pairwise(points):
        if growth <= high:
            return before + (after - before) * log2(growth / low) / log2(high / low)
    return points[-1][1]


def compound(coefficients: Coefficients) -> Rule:
    """EfficientNet's rule: depth alpha^phi, width beta^phi, resolution gamma^phi (arXiv 1905.11946, eq. 3)."""
    return Rule("compound", coefficients, training=efficientnets)


# Resolution grows by the multiply-adds to the power of 0.223: the slope of log(resolution) over log(multiply-adds) of
# the eleven released ResNet-RS, 160 to 320 pixels and 2.3 to 64 billion (tensorflow/tpu's README; least squares, held
# by `tests/test_rules.py`). The rest goes to depth, or to width.
SLOWLY = 0.223
# Shares of the multiply-adds, as exponents, in "dWr" scaling: Dollar et al. (arXiv 2103.06877), alpha = 0.8.
FAST = 0.8
# ResNet-RS stops there: arXiv 2103.07579, sec. 6.2.
MOST_RESOLUTION = 320

RULES: Mapping[str, Rule] = {
    "compound": compound(Coefficients()),
    # One dimension alone: EfficientNet, Table 7 (d = 4, w = 2, r = 2).
    "depth": Rule("depth", Coefficients(2.0, 1.0, 1.0), training=efficientnets),
    "width": Rule("width", Coefficients(1.0, 2**0.5, 1.0), training=efficientnets),
    "resolution": Rule("resolution", Coefficients(1.0, 1.0, 2**0.5), training=efficientnets),
    # Where overfitting can occur, in long trainings (350 epochs): ResNet-RS (arXiv 2103.07579), sec. 6.
    "resnet-rs": Rule(
        "resnet-rs",
        Coefficients(2 ** (1 - 2 * SLOWLY), 1.0, 2**SLOWLY),
        most_resolution=MOST_RESOLUTION,
        rest="depth",
        training=resnets,
    ),
    # In short ones (10 epochs), where width did best.
    "resnet-rs-short": Rule(
        "resnet-rs-short",
        Coefficients(1.0, 2 ** (0.5 - SLOWLY), 2**SLOWLY),
        most_resolution=MOST_RESOLUTION,
        rest="width",
        training=resnets,
    ),
    # Width gets FAST of the multiply-adds, depth and squared resolution half of the rest each.
    "fast": Rule(
        "fast",
        Coefficients(2 ** ((1 - FAST) / 2), 2 ** (FAST / 2), 2 ** ((1 - FAST) / 4)),
        group_width=2 ** (FAST / 2),
        step=4,
        nearest=True,
        training=efficientnets,
    ),
}


def chosen_rule(name: str, **coefficients: float | None) -> Rule:
    """The rule of this name.

    Args:
        name: in `RULES`.
        coefficients: alpha, beta and gamma of `compound` where they are not as published; None is as published.

    Raises:
        UnknownNameError: no such rule.
        InputError: coefficients for another rule, or outside their domain.
    """
    if name not in RULES:
        raise UnknownNameError("rule", name, (*RULES, "latency"))  # which mnas.greedy has
    own = {key: value for key, value in coefficients.items() if value is not None}
    if own and name != "compound":
        raise InputError(
            f"--{', --'.join(own)} belong to the rule 'compound'; {name!r} has coefficients of its own."
        )
    return compound(Coefficients(**own)) if own else RULES[name]
