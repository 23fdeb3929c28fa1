"""Exact analytic costs: parameters, multiply-adds, activations.

MAdds are those of the papers: convolutions and linear layers, one multiply-add counts one, no bias adds,
no norm, no pooling (fvcore agrees once its batch-norm and pooling handles return 0).
Activations are the output elements of all convolutions and linear layers (pycls's count).
"""

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Self

from mnas.search_space.network import Segment, network_program, segment_program, segments
from mnas.search_space.program import BatchNorm, Conv, Linear, Operation, Shape, walk
from mnas.search_space.spec import NetworkSpec


@dataclass(frozen=True, slots=True)
class Cost:
    """Counts of one operation, one part or a whole network, for one image."""

    params: int = 0
    madds: int = 0
    activations: int = 0

    def __add__(self, other: Self) -> "Cost":
        return Cost(
            self.params + other.params, self.madds + other.madds, self.activations + other.activations
        )


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One layer of a network with its dotted name, kind (`Conv`, ...), output shape and counts."""

    name: str
    kind: str
    out_shape: Shape
    cost: Cost


def operation_cost(operation: Operation) -> Cost:
    """Counts of one primitive operation; zero for whatever has neither weights nor multiply-adds."""
    match operation:
        case Conv(in_shape=(channels, _, _), out_channels=out, kernel=kernel, groups=groups, bias=bias):
            weights = kernel * kernel * (channels // groups) * out
            _, height, width = operation.out_shape
            return Cost(weights + out * bias, weights * height * width, out * height * width)
        case Linear(in_shape=in_shape, out_features=out):
            return Cost(prod(in_shape) * out + out, prod(in_shape) * out, out)
        case BatchNorm(in_shape=(channels, _, _)):
            return Cost(params=2 * channels)
        case _:
            return Cost()


@lru_cache(maxsize=65536)
def segment_cost(segment: Segment) -> Cost:
    """Counts of the stem, one stage or the head; cached, so that a search costs a network in microseconds."""
    return sum((operation_cost(operation) for _, operation in walk(segment_program(segment))), Cost())


def network_cost(spec: NetworkSpec) -> Cost:
    """Counts of the whole network at the spec's resolution."""
    params = madds = activations = 0
    for segment in segments(spec):
        cost = segment_cost(segment)
        params += cost.params
        madds += cost.madds
        activations += cost.activations
    return Cost(params, madds, activations)


def layer_costs(spec: NetworkSpec) -> list[LayerCost]:
    """One row for each primitive operation of the network, in order of execution."""
    return [
        LayerCost(name, type(operation).__name__, operation.out_shape, operation_cost(operation))
        for name, operation in walk(network_program(spec))
    ]
