"""The networks that a device is calibrated with: every operation, width and resolution that a search may meet."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

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
from mnas.zoo import ZOO

# How many of each group (chosen here: `mbconv`, the default space, is known best; 60 together take about a minute).
MEMBERS = {"mbconv": 22, "mnasnet": 10, "scaled": 8, "widened": 4, "small": 7}
# phi and widths cover EfficientNet-B0 to B4 and MnasNet's width multipliers (tensorflow/tpu, mnasnet README).
PHI, WIDTHS = (0.3, 4.0), (0.35, 1.6)
SMALL_RESOLUTIONS, SMALL_CLASSES = (32, 64, 96, 128, 160, 192), (10, 100, 1000)
# The share of its scaled resolution to which a scaled network is trimmed, at the most.
TRIM = 0.8
RESOLUTION = 224


@dataclass(frozen=True, slots=True)
class CalibrationNetwork:
    """A network, its name, and the group that it stands for: a space, `scaled`, `widened`, `small`, `published`."""

    name: str
    group: str
    spec: NetworkSpec


def calibration_networks(seed: int, members: dict[str, int] = MEMBERS) -> list[CalibrationNetwork]:
    """The published networks, the smallest and largest members of both spaces, and random ones, in random order.

    Args:
        seed: of the draws and the order.
        members: random networks by group.
    """
    rng = random.Random(seed)
    mbconv, mnasnet = mbconv_space(resolution=RESOLUTION), mnasnet_space(resolution=RESOLUTION)

    def member(space: SearchSpace) -> NetworkSpec:
        return space.decode(space.sample(rng))

    def either() -> NetworkSpec:
        return member(rng.choice((mbconv, mbconv, mnasnet)))

    draw: dict[str, Callable[[], NetworkSpec]] = {
        "mbconv": lambda: member(mbconv),
        "mnasnet": lambda: member(mnasnet),
        "scaled": lambda: _scaled(either(), rng),
        "widened": lambda: scale(either(), depth=1.0, width=rng.uniform(*WIDTHS), resolution=RESOLUTION),
        "small": lambda: replace(
            either(), resolution=rng.choice(SMALL_RESOLUTIONS), num_classes=rng.choice(SMALL_CLASSES)
        ),
    }
    networks = [CalibrationNetwork(name, "published", spec) for name, spec in ZOO.items()]
    for space in (mbconv, mnasnet):
        for point, end in zip(extremes(space, _madds), ("smallest", "largest"), strict=True):
            networks.append(CalibrationNetwork(f"{space.name} {end}", space.name, space.decode(point)))
    for group, count in members.items():
        networks += [CalibrationNetwork(f"{group} {i + 1}", group, draw[group]()) for i in range(count)]
    rng.shuffle(networks)
    return networks


def _scaled(spec: NetworkSpec, rng: random.Random) -> NetworkSpec:
    grown = compound_scale(spec, rng.uniform(*PHI))
    return replace(grown, resolution=round(grown.resolution * rng.uniform(TRIM, 1.0)))


def _madds(spec: NetworkSpec) -> float:
    return float(network_cost(spec).madds)
