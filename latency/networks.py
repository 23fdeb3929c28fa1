"""The networks that a device is calibrated with: every operation, width and resolution that a search may meet."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mnas.errors import InputError
from mnas.search_space import (
    NetworkSpec,
    SearchSpace,
    compound_scale,
    extremes,
    mbconv_space,
    mnasnet_space,
    network_cost,
    scale,
)
from mnas.search_space.ghost import ghost_space
from mnas.search_space.igcv3 import igcv3_space
from mnas.search_space.regnet import regnet_space
from mnas.search_space.resnet import LAYERS, resnet_network
from mnas.seeds import derive_seed
from mnas.zoo import published

# Published networks of the operations that every search may meet.
PUBLISHED = ("efficientnet_b0", "mnasnet_a1", "mnasnet_b1", "mnasnet_small", "mobilenetv2")
RESOLUTION = 224
# How many of each group (chosen here: with the published ones and the extremes nine groups of twelve). `OTHERS` have
# the kernels that mobile networks lack: groups, permutations, concatenations, max pools.
MOBILE = {"mbconv": 25, "mnasnet": 21, "scaled": 11, "widened": 10, "small": 8}
OTHERS = {"regnet": 9, "igcv3": 6, "ghost": 6, "resnet": 3}
# Of `OTHERS`, half of them at the spaces' own; the most multiply-adds, so that none takes as long as many of the rest.
OTHER_RESOLUTIONS, RESNETS, MOST_MADDS = (128, 160, 192, RESOLUTION, RESOLUTION, RESOLUTION), (18, 34), 3e9
# phi and widths cover EfficientNet-B0 to B4 and MnasNet's width multipliers (tensorflow/tpu, mnasnet README).
PHI, WIDTHS = (0.3, 4.0), (0.35, 1.6)
SMALL_RESOLUTIONS, SMALL_CLASSES = (32, 64, 96, 128, 160, 192), (10, 100, 1000)
# The share of its scaled resolution to which a scaled network is trimmed, at the most.
TRIM = 0.8
# Networks measured where another device's calibration is at hand: the fewest and the most (chosen here; from there on a
# calibration of its own is the better use of the time).
FEW, MOST_FEW = 10, 60


@dataclass(frozen=True, slots=True)
class CalibrationNetwork:
    """A network, its name, and what it stands for: a space, `scaled`, `widened`, `small`, `resnet`, `published`."""

    name: str
    group: str
    spec: NetworkSpec


def calibration_networks(seed: int, members: Mapping[str, int] = MOBILE | OTHERS) -> list[CalibrationNetwork]:
    """The published networks, the ends of `mbconv` and `mnasnet`, and random ones, in random order.

    Args:
        seed: of the draws and the order.
        members: random networks by group.
    """
    rng = random.Random(seed)
    networks = [CalibrationNetwork(name, "published", published(name)) for name in PUBLISHED]
    for space in (mbconv_space(resolution=RESOLUTION), mnasnet_space(resolution=RESOLUTION)):
        for point, end in zip(extremes(space, _madds), ("smallest", "largest"), strict=True):
            networks.append(CalibrationNetwork(f"{space.name} {end}", space.name, space.decode(point)))
    networks += _random_networks(rng, members)
    rng.shuffle(networks)
    return networks


def few_networks(seed: int, count: int) -> list[CalibrationNetwork]:
    """Mobile networks like a calibration's, even over multiply-adds, for a device that is like a known one.

    They have none of the kernels that only `OTHERS` have: those keep the known device's prices, at the new one's level.
    None of them is in a calibration, whatever its seed: the known device's errors for networks that it was fitted to
    say nothing about others.

    Args:
        seed: of the draws and the order.
        count: `FEW` to `MOST_FEW`.

    Raises:
        InputError: a count outside that.
    """
    if not FEW <= count <= MOST_FEW:
        raise InputError(
            f"with another device's calibration {FEW} to {MOST_FEW} networks are measured, got {count} (--networks)."
        )
    drawn = _random_networks(random.Random(derive_seed(seed, "few")), MOBILE)
    every = sorted(drawn, key=lambda network: _madds(network.spec))
    chosen = [every[(2 * number + 1) * len(every) // (2 * count)] for number in range(count)]
    random.Random(seed).shuffle(chosen)
    return chosen


def _random_networks(rng: random.Random, members: Mapping[str, int]) -> list[CalibrationNetwork]:
    """So many of each group, which cover its range evenly."""
    mbconv, mnasnet = mbconv_space(resolution=RESOLUTION), mnasnet_space(resolution=RESOLUTION)

    def member(space: SearchSpace) -> NetworkSpec:
        return space.decode(space.sample(rng))

    def either() -> NetworkSpec:
        return member(rng.choice((mbconv, mbconv, mnasnet)))

    def other(make: Callable[..., SearchSpace]) -> NetworkSpec:
        spec = member(make(resolution=rng.choice(OTHER_RESOLUTIONS)))
        return spec if _madds(spec) <= MOST_MADDS else other(make)

    # Each is told where in its range it lies, 0 to 1.
    draw: dict[str, Callable[[float], NetworkSpec]] = {
        "mbconv": lambda share: member(mbconv),
        "mnasnet": lambda share: member(mnasnet),
        "scaled": lambda share: _scaled(either(), _between(PHI, share), rng),
        "widened": lambda share: scale(
            either(), depth=1.0, width=_between(WIDTHS, share), resolution=RESOLUTION
        ),
        "small": lambda share: replace(
            either(), resolution=rng.choice(SMALL_RESOLUTIONS), num_classes=rng.choice(SMALL_CLASSES)
        ),
        "regnet": lambda share: other(regnet_space),
        "igcv3": lambda share: other(igcv3_space),
        "ghost": lambda share: other(ghost_space),
        "resnet": lambda share: resnet_network(
            LAYERS[rng.choice(RESNETS)], "basic", resolution=rng.choice(OTHER_RESOLUTIONS)
        ),
    }
    return [
        CalibrationNetwork(f"{group} {number + 1}", group, draw[group]((number + rng.random()) / count))
        for group, count in members.items()
        for number in range(count)
    ]


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _scaled(spec: NetworkSpec, phi: float, rng: random.Random) -> NetworkSpec:
    grown = compound_scale(spec, phi)
    return replace(grown, resolution=round(grown.resolution * rng.uniform(TRIM, 1.0)))


def _madds(spec: NetworkSpec) -> float:
    return float(network_cost(spec).madds)
