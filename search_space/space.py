"""Choices, architectures, and the space that they span."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from math import prod

from mnas.errors import InputError
from mnas.search_space.spec import NetworkSpec, StageSpec

Value = int | float | str
Values = Mapping[str, Value]


class Architecture(tuple[int, ...]):
    """A point of a space: the index of the option taken, one for each choice, in the space's order.

    Make one with `SearchSpace.architecture`, which checks it and gives equal networks equal points.

    >>> Architecture((0, 2, 1)).key
    '0-2-1'
    """

    __slots__ = ()

    @property
    def key(self) -> str:
        """A stable text for stores and logs."""
        return "-".join(map(str, self))


@dataclass(frozen=True, slots=True)
class Choice:
    """One decision with a name and its options.

    Args:
        name: unique in the space, `block2.kernel` for example.
        options: at least one, all different.
        active_if: earlier choices and the values they must have (all of them) for this one to matter.

    Raises:
        InputError: no options, or one that is there twice.
    """

    name: str
    options: tuple[Value, ...]
    active_if: Mapping[str, tuple[Value, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.options or len(set(self.options)) != len(self.options):
            raise InputError(
                f"choice {self.name!r} needs options that are all different, got {self.options!r}."
            )


@dataclass(frozen=True, slots=True)
class Factor:
    """A block of a factorised space: some choices, and the stages that they alone decide.

    Args:
        choices: names, in the space's order.
        stages: from the values of all choices to this block's stages; looks at its own choices only.

    Reference: MnasNet (arXiv 1807.11626), sec. 4.1: a factorised hierarchical space.
    """

    choices: tuple[str, ...]
    stages: Callable[[Values], tuple[StageSpec, ...]]


@dataclass(frozen=True)
class SearchSpace:
    """What can be searched: choices, and how values of them become a network.

    Args:
        name: shown to people and stored with a run.
        choices: in the order in which a controller decides them.
        build: from the value of each choice to the network. Called for active and inactive choices alike.
        merge: optional; maps values to the values of the representative of all choices that build the same
            network. Only what `active_if` cannot say belongs here.
        count_distinct: optional; the number of different networks.
        factors: optional; the blocks of a factorised space in the network's order. The stages of every network that
            `build` makes are theirs, one after another, and stem, head and resolution are the same for all.

    Raises:
        InputError: two choices of one name, an `active_if` on a choice that is not an earlier one, or factors whose
            choices are not the space's, each once and in order.
    """

    name: str
    choices: tuple[Choice, ...]
    build: Callable[[Values], NetworkSpec]
    merge: Callable[[dict[str, Value]], dict[str, Value]] | None = None
    count_distinct: Callable[[], int] | None = None
    factors: tuple[Factor, ...] | None = None

    def __post_init__(self) -> None:
        seen: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in seen:
                raise InputError(f"space {self.name!r}: two choices are named {choice.name!r}.")
            for other, values in choice.active_if.items():
                if other not in seen or not set(values) <= set(seen[other].options):
                    raise InputError(
                        f"space {self.name!r}: active_if of {choice.name!r} must name an earlier choice "
                        f"and options of it; got {other!r}: {values!r}."
                    )
            seen[choice.name] = choice
        if not self.choices:
            raise InputError(f"space {self.name!r} has no choices.")
        if self.factors is not None and [n for f in self.factors for n in f.choices] != list(seen):
            raise InputError(
                f"space {self.name!r}: the factors' choices must be the space's, each once and in its order; "
                f"got {[f.choices for f in self.factors]!r} for {list(seen)!r}."
            )

    @property
    def size(self) -> int:
        """The product of the numbers of options."""
        return prod(len(choice.options) for choice in self.choices)

    @property
    def first(self) -> Architecture:
        """The point of each choice's first option."""
        return self.architecture([0] * len(self.choices))

    @cached_property
    def distinct(self) -> int | None:
        """The number of different networks, or None where it cannot be counted."""
        if self.count_distinct is not None:
            return self.count_distinct()
        conditional = any(choice.active_if for choice in self.choices)
        return None if self.merge or conditional else self.size

    @cached_property
    def _indexes(self) -> tuple[dict[Value, int], ...]:
        return tuple({option: i for i, option in enumerate(choice.options)} for choice in self.choices)

    @cached_property
    def _plain(self) -> bool:
        return self.merge is None and not any(choice.active_if for choice in self.choices)

    def values(self, architecture: Sequence[int]) -> dict[str, Value]:
        """The value of each choice by name."""
        return {
            choice.name: choice.options[index]
            for choice, index in zip(self.choices, architecture, strict=True)
        }

    def active(self, architecture: Sequence[int]) -> tuple[bool, ...]:
        """Whether each choice matters in this architecture."""
        values = self.values(architecture)
        active: dict[str, bool] = {}
        for choice in self.choices:
            active[choice.name] = all(
                active[other] and values[other] in wanted for other, wanted in choice.active_if.items()
            )
        return tuple(active.values())

    def architecture(self, genes: Sequence[int]) -> Architecture:
        """The point with these option indexes, canonical: equal networks give equal points.

        Raises:
            InputError: the wrong number of genes, or one outside its options.
        """
        if len(genes) != len(self.choices):
            raise InputError(f"space {self.name!r} has {len(self.choices)} choices, got {len(genes)} genes.")
        for choice, gene in zip(self.choices, genes, strict=True):
            if not 0 <= gene < len(choice.options):
                raise InputError(
                    f"space {self.name!r}: {choice.name} has options 0 to {len(choice.options) - 1}, got {gene}."
                )
        if self._plain:
            return Architecture(genes)
        if self.merge is not None:
            merged = self.merge(self.values(genes))
            genes = [index[merged[c.name]] for c, index in zip(self.choices, self._indexes, strict=True)]
        active = self.active(genes)
        return Architecture(gene if on else 0 for gene, on in zip(genes, active, strict=True))

    def from_values(self, values: Values) -> Architecture:
        """The point with these values, one for each choice.

        Raises:
            InputError: a choice that is missing or unknown, or a value that is not an option.
        """
        names = {choice.name for choice in self.choices}
        if names != values.keys():
            raise InputError(
                f"space {self.name!r}: missing {sorted(names - values.keys())}, "
                f"unknown {sorted(values.keys() - names)}."
            )
        genes = []
        for choice, index in zip(self.choices, self._indexes, strict=True):
            value = values[choice.name]
            if value not in index:
                raise InputError(f"{choice.name} must be one of {choice.options}, got {value!r}.")
            genes.append(index[value])
        return self.architecture(genes)

    def from_key(self, key: str) -> Architecture:
        """The point that `Architecture.key` names.

        Raises:
            InputError: not a key of this space.
        """
        if not all(part.isdecimal() for part in key.split("-")):
            raise InputError(f"{key!r} is not an architecture key such as 0-2-1.")
        return self.architecture([int(part) for part in key.split("-")])

    def sample(self, rng: random.Random) -> Architecture:
        """A point with each option equally likely (not each network, where choices merge)."""
        return self.architecture([rng.randrange(len(choice.options)) for choice in self.choices])

    def decode(self, architecture: Sequence[int]) -> NetworkSpec:
        """The network of a point.

        Raises:
            InputError: the build function cannot make a network of these values.
        """
        return self.build(self.values(architecture))

    def enumerate(self) -> Iterator[Architecture]:
        """Every different point once, in lexicographic order; only for small spaces."""
        seen = set()
        for genes in product(*(range(len(choice.options)) for choice in self.choices)):
            architecture = self.architecture(genes)
            if architecture not in seen:
                seen.add(architecture)
                yield architecture


def extremes(space: SearchSpace, cost: Callable[[NetworkSpec], float]) -> tuple[Architecture, Architecture]:
    """The members of least and greatest cost, found by coordinate descent from the first and last options.

    Exact where the cost is monotone in each choice, as multiply-adds are in every space here; else a member
    from which no single choice leads further.
    """

    def descend(start: Architecture, sign: float) -> Architecture:
        best, best_cost = start, sign * cost(space.decode(start))
        improved = True
        while improved:
            improved = False
            for position, choice in enumerate(space.choices):
                for option in range(len(choice.options)):
                    candidate = space.architecture([*best[:position], option, *best[position + 1 :]])
                    candidate_cost = sign * cost(space.decode(candidate))
                    if candidate_cost < best_cost:
                        best, best_cost, improved = candidate, candidate_cost, True
        return best

    last = space.architecture([len(choice.options) - 1 for choice in space.choices])
    return descend(space.first, 1.0), descend(last, -1.0)
