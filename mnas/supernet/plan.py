"""Which shared tensor each parameter of a space's networks is a part of: names and shapes alone, without torch.

A layer's slot is the factor that it belongs to and its number inside the factor. In a slot each operation is a branch
of its own; kernel, expansion, width and depth are parts of one tensor: the middle of the kernel, the first channels,
the first layers. What a network has for itself by name, squeeze-and-excitation for example, is simply there or not.

Reference: elastic kernel, depth and width: Once-for-All (arXiv 1908.09791), sec. 3.2; BigNAS (arXiv 2003.11142).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import product
from math import prod

from mnas.errors import InputError
from mnas.search_space import NetworkSpec, SearchSpace
from mnas.search_space.network import segments
from mnas.search_space.space import Factor
from mnas.search_space.spec import StageSpec
from mnas.supernet.parts import Part, Shape, key_of, layer_parts, whole_parts

MOST_COMBINATIONS = 200_000  # of a factor's options; chosen here: some seconds to go through

Stages = tuple[StageSpec, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a parameter lies.

    Args:
        key: of the shared tensor.
        shape: of the part of it: (out,), (out, in), (out, in, k, k), or with groups (groups, out, in, k, k), where
            out and in are those of a group.
    """

    key: str
    shape: Shape

    @property
    def grouped(self) -> bool:
        """Whether the parameter itself has the first two axes as one."""
        return len(self.shape) == 5


@dataclass(frozen=True)
class Plan:
    """The shared tensors of a space.

    Args:
        space: its name.
        first: a member; stem, head and style are those of all.
        options: for each factor, the stages that it can be.
        shapes: of each shared tensor, the greatest of all members along each axis.
        ending: keys of scales that end a residual branch in every member that has them.
    """

    space: str
    first: NetworkSpec
    options: tuple[frozenset[Stages], ...]
    shapes: Mapping[str, Shape]
    ending: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """Equal where names and shapes are."""
        text = json.dumps(sorted((key, list(shape)) for key, shape in self.shapes.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def pieces(self, spec: NetworkSpec) -> dict[str, Piece]:
        """For each parameter of the network's module, by its name, where it lies.

        Raises:
            InputError: not a network of this space.
        """
        owners = self._owners(spec)
        stem, *parts, head = segments(spec)
        found = {p.name: Piece(key_of("stem", p), p.shape) for p in whole_parts(stem)}
        numbers = dict.fromkeys(range(len(self.options)), 0)
        for number, (owner, part) in enumerate(zip(owners, parts, strict=True)):
            assert part.stage is not None
            for index in range(part.stage.repeats):
                channels = part.in_shape[0] if index == 0 else part.stage.out_channels
                for p in layer_parts(part.stage, channels, spec.style, first=index == 0):
                    slot = f"{owner}/{numbers[owner]}"
                    found[f"blocks.{number}.{index}.{p.name}"] = Piece(key_of(slot, p), p.shape)
                numbers[owner] += 1
        return found | {p.name: Piece(key_of("head", p), p.shape) for p in whole_parts(head)}

    def _owners(self, spec: NetworkSpec) -> tuple[int, ...]:
        same = replace(
            spec, stages=self.first.stages, resolution=self.first.resolution, dropout=0.0, drop_path=0.0
        )
        owners = _owners(self.options, spec.stages)
        if owners is None or same != replace(self.first, dropout=0.0, drop_path=0.0):
            raise InputError(
                f"this network is none of the space {self.space!r}, which the weights are shared in."
            )
        return owners


def make_plan(space: SearchSpace) -> Plan:
    """The shared tensors of a space.

    Raises:
        InputError: a space that shared weights do not express, and why.
    """
    if space.factors is None:
        raise _refusal(space, "its networks are not made of factors, blocks that are chosen one by one")
    first = space.decode(space.first)
    options = tuple(_options(space, factor) for factor in space.factors)
    shapes: dict[str, Shape] = {}
    ends: dict[str, bool] = {}
    stem, *_, head = segments(first)
    _take(((key_of("stem", part), part) for part in whole_parts(stem)), shapes, ends)
    channels = {first.stem_channels}
    for number, own in enumerate(options):
        for slot, stage, before, is_first in sorted(set(_layers(own, channels)), key=repr):
            layer = layer_parts(stage, before, first.style, first=is_first)
            _take(((key_of(f"{number}/{slot}", part), part) for part in layer), shapes, ends)
        channels = {own_channels for stages in own for own_channels in _out(stages, channels)}
    for before in sorted(channels):
        last = whole_parts(replace(head, in_shape=(before, *head.in_shape[1:])))
        _take(((key_of("head", part), part) for part in last), shapes, ends)
    return Plan(space.name, first, options, shapes, frozenset(key for key, always in ends.items() if always))


def _refusal(space: SearchSpace, why: str) -> InputError:
    return InputError(
        f"shared weights do not express the space {space.name!r}: {why}. Use --accuracy proxy, which trains each "
        f"network by itself."
    )


def _options(space: SearchSpace, factor: Factor) -> frozenset[Stages]:
    """The stages that a factor can be, each once."""
    own = [choice for choice in space.choices if choice.name in factor.choices]
    count = prod(len(choice.options) for choice in own)
    if count > MOST_COMBINATIONS:
        raise _refusal(
            space,
            f"a factor ({', '.join(factor.choices)}) has {count:,} combinations, more than {MOST_COMBINATIONS:,}",
        )
    base = space.values(space.first)
    names = [choice.name for choice in own]
    return frozenset(
        tuple(factor.stages({**base, **dict(zip(names, values, strict=True))}))
        for values in product(*(choice.options for choice in own))
    )


def _layers(options: Iterable[Stages], channels: Iterable[int]) -> Iterator[tuple[int, StageSpec, int, bool]]:
    """Number in the factor, stage, channels in, and whether it is the stage's first, of every layer that can be."""
    for stages, start in product(options, channels):
        number, before = 0, start
        for stage in stages:
            for index in range(stage.repeats):
                yield number, replace(stage, repeats=1), before, index == 0
                number, before = number + 1, stage.out_channels


def _out(stages: Stages, channels: Iterable[int]) -> Iterable[int]:
    return [stages[-1].out_channels] if stages else channels


def _take(parts: Iterable[tuple[str, Part]], shapes: dict[str, Shape], ends: dict[str, bool]) -> None:
    """Makes room for parts in the tensors of their keys."""
    for key, part in parts:
        known = shapes.get(key, part.shape)
        shapes[key] = tuple(max(sizes) for sizes in zip(known, part.shape, strict=True))
        ends[key] = ends.get(key, True) and part.ends


@lru_cache(maxsize=4096)
def _owners(options: Sequence[frozenset[Stages]], stages: Stages) -> tuple[int, ...] | None:
    """The factor of each stage, where the stages are a concatenation of the factors'; the first as long as can be."""

    @cache
    def owners(number: int, start: int) -> tuple[int, ...] | None:
        if number == len(options):
            return () if start == len(stages) else None
        for length in sorted({len(own) for own in options[number]}, reverse=True):
            if stages[start : start + length] in options[number]:
                rest = owners(number + 1, start + length)
                if rest is not None:
                    return (number,) * length + rest
        return None

    return owners(0, 0)
