"""The conditions on interleaved group convolutions, checked on the program of a block.

Strict complementarity: exactly one path joins each channel in with each channel out, so that the product of the sparse
kernels is dense and nothing in it is there twice. Loose complementarity: each pair is joined by equally many paths, at
least one; whole groups of channels take the place of single ones. Balance: of all designs of one width and number of
convolutions, the one with the fewest weights.

Reference: IGCV1 (arXiv 1707.02725); IGCV2 (arXiv 1804.06202); IGCV3 (arXiv 1806.00178).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from mnas.errors import InputError
from mnas.search_space.blocks import BLOCKS
from mnas.search_space.layer import Layer
from mnas.search_space.program import Activate, BatchNorm, Block, Conv, DropPath, Shuffle
from mnas.search_space.spec import StageSpec, Style


@dataclass(frozen=True, slots=True)
class Condition:
    """What was found of one condition.

    Args:
        name: `strict complementarity`, `loose complementarity` or `balance`.
        holds: whether it does.
        why: what was found, in words.
    """

    name: str
    holds: bool
    why: str


def design(stage: StageSpec, channels: int) -> Block:
    """The first layer of a stage after so many channels, on one pixel: what the conditions are asked of.

    Raises:
        InputError: groups that do not divide the channels.
    """
    return BLOCKS[stage.op](Layer(stage, (channels, 1, 1), 1, Style()))


def igc_conditions(block: Block) -> tuple[Condition, Condition, Condition]:
    """Strict and loose complementarity and balance, in this order.

    Raises:
        InputError: a block of other parts than convolutions, shuffles, norms, activations and gates.

    >>> strict, loose, balance = igc_conditions(design(StageSpec("igcv3", 3, 1, 16, groups=2, expansion=6), 16))
    >>> strict.holds, loose.why
    (False, 'each pair of channels is joined by 24 paths')
    """
    counts = path_counts(block)
    return _strict(counts), _loose(counts), _balance(block)


def strict_complementarity(block: Block) -> Condition:
    """Whether exactly one path joins each channel in with each channel out; errors as `igc_conditions`.

    Reference: IGCV1 (of two convolutions); IGCV2, the complementary condition (of any number).
    """
    return _strict(path_counts(block))


def loose_complementarity(block: Block) -> Condition:
    """Whether equally many paths, at least one, join each pair; errors as `igc_conditions`.

    Of two group convolutions it says that each branch of the second takes equally many channels from each branch of the
    first.

    Reference: IGCV3: the complementary condition with super-channels in place of channels.
    """
    return _loose(path_counts(block))


def balance(block: Block) -> Condition:
    """Whether kernel area x channels in a branch is the same in every convolution; errors as `igc_conditions`.

    Reference: IGCV2: S K_1 = K_2 = ... = K_L = (S C)^(1/L). Of IGCV1's two convolutions it is L = M S.
    """
    return _balance(block)


def path_counts(block: Block) -> list[list[int]]:
    """How many paths lead from each channel in to each channel out, `(channels in, channels out)`.

    Pixels are not told apart, and a skip around the block is left out: it joins each channel with itself once more.
    Errors as `igc_conditions`.
    """
    parts = list(_linear(block))
    found = []
    for channel in range(block.in_shape[0]):
        row = [0] * block.in_shape[0]
        row[channel] = 1
        for part in parts:
            row = [row[source] for source in part.order] if isinstance(part, Shuffle) else _through(part, row)
        found.append(row)
    return found


def _linear(block: Block) -> Iterator[Conv | Shuffle]:
    """The convolutions and shuffles of a block's branch in order."""
    for name, step in block.steps:
        if isinstance(step, Conv | Shuffle):
            yield step
        elif isinstance(step, Block) and step.combine is None:
            yield from _linear(step)
        elif not (
            isinstance(step, BatchNorm | Activate | DropPath)
            or (isinstance(step, Block) and step.combine == "multiply")
        ):
            raise InputError(
                f"the conditions are those of convolutions and shuffles in a row; {block.label} has {name}, "
                f"a {step.label if isinstance(step, Block) else type(step).__name__}."
            )


def _through(conv: Conv, row: list[int]) -> list[int]:
    each = len(row) // conv.groups
    sums = [sum(row[start : start + each]) for start in range(0, len(row), each)]
    return [total for total in sums for _ in range(conv.out_channels // conv.groups)]


def _strict(counts: list[list[int]]) -> Condition:
    why = _unlike(counts, 1) or "each pair of channels is joined by 1 path"
    return Condition("strict complementarity", _unlike(counts, 1) is None, why)


def _loose(counts: list[list[int]]) -> Condition:
    wanted = max(1, counts[0][0])
    said = f"each pair of channels is joined by {wanted} path{'s' if wanted > 1 else ''}"
    why = _unlike(counts, wanted)
    return Condition("loose complementarity", why is None, why or said)


def _unlike(counts: list[list[int]], wanted: int) -> str | None:
    """Names the first pair that is joined by another number of paths."""
    for source, row in enumerate(counts):
        for target, count in enumerate(row):
            if count != wanted:
                number = {0: "no path", 1: "1 path"}.get(count, f"{count} paths")
                return f"{number} from channel {source} in to channel {target} out, where {wanted} should be"
    return None


def _balance(block: Block) -> Condition:
    convs = [part for part in _linear(block) if isinstance(part, Conv)]
    widths = {channels for conv in convs for channels in (conv.in_shape[0], conv.out_channels)}
    if len(widths) != 1:
        said = ", ".join(map(str, sorted(widths)))
        return Condition("balance", False, f"it is said of one width, and these channels are {said}")
    areas = [conv.kernel**2 * (conv.in_shape[0] // conv.groups) for conv in convs]
    least = len(areas) * prod(areas) ** (1 / len(areas))
    said = f"kernel area x channels in a branch: {', '.join(map(str, areas))}"
    holds = len(set(areas)) == 1
    if not holds:
        said += f", which should be equal; the weights are {sum(areas) / least:.4g} times the least"
    return Condition("balance", holds, said)
