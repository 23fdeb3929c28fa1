"""`macro`: NAS-Bench-Macro's space, small networks for 32-pixel images: eight layers, each one of three operations.

A layer is nothing (`identity`), MBConv with expansion 3 and kernel 3, or MBConv with expansion 6 and kernel 5. Three
stages of 2, 3 and 3 layers double the channels and halve the resolution in their first layer; an identity there is a
1x1 projection with stride 2. Where the other identities of a stage stand makes no difference: of 6,561 points 3,969 are
different networks. ReLU, no squeeze-and-excitation, a stem of stride 1, no dropout and no drop path, as published.

Reference: xiusu/NAS-Bench-Macro, commit 61a2bfc2: train/model.py. Parameters and multiply-adds of every network equal
those of the benchmark's table (tests hold that).
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from math import prod

from mnas.search_space.space import Choice, Factor, SearchSpace, Value, Values
from mnas.search_space.spec import NetworkSpec, StageSpec, Style

# Channels and layers of each stage.
STAGES = ((64, 2), (128, 3), (256, 3))
STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
IDENTITY = "identity"
MBCONVS: dict[str, tuple[int, int]] = {"mbconv3_k3": (3, 3), "mbconv6_k5": (6, 5)}  # expansion, kernel
OPS = (IDENTITY, *MBCONVS)  # the index of an operation is its digit in the benchmark's keys


@lru_cache(maxsize=1024)
def _stages(channels: int, ops: tuple[Value, ...]) -> tuple[StageSpec, ...]:
    """The layers of a stage in order; equal ones in a row are one `StageSpec`."""
    first, *later = ops
    found: list[StageSpec] = []
    for op, run in groupby([first, *(op for op in later if op != IDENTITY)]):
        stride = 1 if found else 2
        if op == IDENTITY:
            found.append(StageSpec("projection", 1, stride, channels))
        else:
            expansion, kernel = MBCONVS[str(op)]
            found.append(StageSpec("mbconv", kernel, stride, channels, len(list(run)), expansion))
    return tuple(found)


def _identities_last(ops: Iterable[Value]) -> list[Value]:
    """The same network's operations of a stage, with the identities after its first place behind all others."""
    first, *later = ops
    return [first, *sorted(later, key=lambda op: op == IDENTITY)]


def macro_space(*, resolution: int = 32, num_classes: int = 10) -> SearchSpace:
    """The space at a resolution (pixels) and number of classes; stages and their layers are numbered from 1."""
    names = [
        tuple(f"stage{number}.layer{layer}" for layer in range(1, layers + 1))
        for number, (_, layers) in enumerate(STAGES, 1)
    ]
    style = Style(activation="relu")

    def factor(channels: int, own: tuple[str, ...]) -> Factor:
        return Factor(own, lambda values: _stages(channels, tuple(values[name] for name in own)))

    factors = tuple(factor(channels, own) for (channels, _), own in zip(STAGES, names, strict=True))

    def build(values: Values) -> NetworkSpec:
        return NetworkSpec(
            STEM_CHANNELS,
            tuple(stage for part in factors for stage in part.stages(values)),
            HEAD_CHANNELS,
            resolution,
            num_classes,
            dropout=0.0,
            drop_path=0.0,
            style=style,
            stem_stride=1,
        )

    def merge(values: dict[str, Value]) -> dict[str, Value]:
        for own in names:
            values = values | dict(zip(own, _identities_last(values[name] for name in own), strict=True))
        return values

    def count_distinct() -> int:
        """Of each stage: any operation first, then at most so many MBConvs as there are layers left."""
        return prod(len(OPS) * sum(len(MBCONVS) ** count for count in range(layers)) for _, layers in STAGES)

    choices = tuple(Choice(name, OPS) for own in names for name in own)
    return SearchSpace("macro", choices, build, merge, count_distinct, factors)


def nas_bench_macro_key(architecture: Sequence[int]) -> str:
    """The benchmark's key of a network: eight digits, the operation of each layer.

    Keys that are one network have rows of their own in the benchmark's table; this is the one of them in which the
    identities of a stage, after its first place, come last.

    Raises:
        InputError: not a point of this space.

    >>> nas_bench_macro_key(macro_space().architecture((0, 0, 1, 0, 2, 2, 2, 0)))
    '00120220'
    """
    return "".join(map(str, _space().architecture(architecture)))


@lru_cache(maxsize=1)
def _space() -> SearchSpace:
    return macro_space()
