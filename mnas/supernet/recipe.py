"""How shared weights are trained, as data."""

from dataclasses import dataclass
from typing import Literal

from mnas.errors import InputError
from mnas.search_space import NetworkSpec, SearchSpace, extremes, network_cost

MEMBERS = 4  # networks of a step: US-Nets (arXiv 1903.05134), sec. 3.1: the widest, the narrowest and two random ones

Sampling = Literal["uniform", "controller"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How shared weights are trained.

    Args:
        epochs: passes over the training split, at least 1.
        seed: of initial weights, order of images and networks drawn.
        members: networks of each step; at least 2 with `sandwich`, else 1.
        sandwich: whether the largest and the smallest network are among them.
        distil: whether the others learn what the largest says, not the labels; only with `sandwich`.
        batch_size: images of a step; None is `batch_size_of` the training split.
        sampling: how the random networks are drawn: `uniform`, or by a `controller` (`PolicySampler`).

    Raises:
        InputError: a number outside its domain.
    """

    epochs: int
    seed: int = 0
    members: int = MEMBERS
    sandwich: bool = True
    distil: bool = True
    batch_size: int | None = None
    sampling: Sampling = "uniform"

    def __post_init__(self) -> None:
        least = 2 if self.sandwich else 1
        if self.epochs < 1:
            raise InputError(f"epochs must be at least 1, got {self.epochs}. Example: --supernet-epochs 20.")
        if self.members < least:
            raise InputError(f"members must be at least {least}, got {self.members}.")
        if self.batch_size is not None and self.batch_size < 2:
            raise InputError(f"batch_size must be at least 2, got {self.batch_size}.")


def ends_of(space: SearchSpace) -> tuple[NetworkSpec, NetworkSpec]:
    """The networks of most and of fewest multiply-adds, as `extremes` finds them."""
    least, most = extremes(space, lambda spec: network_cost(spec).madds)
    return space.decode(most), space.decode(least)
