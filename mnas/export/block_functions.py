"""The blocks of a program as Python functions: one for each kind of block, with parameters for what differs.

A kind is all blocks with the same steps. Numbers of channels that are equal in every block of a kind are one parameter;
a kernel, stride or padding that is the same in all of them is written as a number.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.export.block_kinds import (
    Slot,
    body_slots,
    call_slots,
    is_sequence,
    is_symmetric,
    kind_of,
    split_drop_path,
    step_slots,
)
from mnas.export.layout import Call, Repeat, keyed
from mnas.search_space.program import (
    Activate,
    AvgPool,
    BatchNorm,
    Block,
    Conv,
    Dropout,
    DropPath,
    GlobalPool,
    Linear,
    MatchChannels,
    MaxPool,
    Operation,
    Shuffle,
)

DROP_PATH = "DROP_PATH"
_ACTIVATIONS = {
    "relu": "nn.ReLU",
    "relu6": "nn.ReLU6",
    "silu": "nn.SiLU",
    "hard_swish": "nn.Hardswish",
    "sigmoid": "nn.Sigmoid",
    "hard_sigmoid": "nn.Hardsigmoid",
}
# torch's defaults, which need not be written
_NORM_EPS, _NORM_MOMENTUM = 1e-5, 0.1


@dataclass(frozen=True, slots=True)
class Function:
    """The layers of one kind of block.

    Args:
        name: of the function.
        example: one of the blocks.
        parameters: name and the slot whose value it takes.
        texts: what stands in the function for each slot: a parameter or a number.
    """

    name: str
    example: Block
    parameters: tuple[tuple[str, int], ...]
    texts: tuple[str, ...]


def _inner_blocks(block: Block) -> Iterator[Block]:
    """Every block inside that is called by a function, the innermost first."""
    children = [step for _, step in block.steps if isinstance(step, Block)]
    for child in [*children, *([block.shortcut] if block.shortcut else [])]:
        yield from _inner_blocks(child)
        if not is_sequence(child):
            yield child


class Blocks:
    """All functions that a program needs, and the expressions that call them.

    Args:
        root: the program.
        rates: what is written for a rate of drop path, with `{}` for its index, and the index of each rate.
    """

    def __init__(self, root: Block, rates: tuple[str, dict[float, int]]) -> None:
        self.rates = rates
        kinds: dict[tuple[Any, ...], list[Block]] = {}
        for block in _inner_blocks(root):
            kinds.setdefault(kind_of(block), []).append(block)
        names = _function_names(list(kinds))
        self.functions = {kind: _function(names[kind], blocks) for kind, blocks in kinds.items()}

    def literals(self, block: Block) -> list[str]:
        """What stands for the numbers of a block where they are written out."""
        return [self._literal(slot) for slot in call_slots(block)]

    def _literal(self, slot: Slot) -> str:
        text, indices = self.rates
        if slot.kind == "drop_path" and slot.value in indices:
            return text.format(indices[slot.value])
        return repr(slot.value)

    def layers(self, block: Block, texts: Sequence[str]) -> list[Call]:
        """The layers of a block by name; `texts` stand for its `body_slots`."""
        found: list[Call] = []
        place = 2
        for name, step in split_drop_path(block)[0]:
            count = len(step_slots(step))
            given = texts[place : place + count]
            place += count
            if isinstance(step, Block):
                found.append(keyed(name, self.block(step, given)))
                continue
            if isinstance(step, Linear):
                found.append(Call("nn.Flatten", [], "flatten"))
            if isinstance(step, Conv) and not is_symmetric(step):
                found.append(Call("nn.ZeroPad2d", [given[-1]], f"{name}_pad"))
            found.append(keyed(name, _layer(step, given)))
        return found

    def block(self, block: Block, texts: Sequence[str]) -> Call:
        """The block as one module; `texts` stand for its `call_slots`."""
        if is_sequence(block):
            return Call("nn.Sequential", self._numbered(block, texts))
        count = len(body_slots(block))
        function = self.functions[kind_of(block)]
        given = [
            texts[place] if name in ("channels", "out") else f"{name}={texts[place]}"
            for name, place in function.parameters
        ]
        items: list[Call | str] = [Call(function.name, given)]
        if block.shortcut is not None:
            shortcut_texts = texts[count : count + len(call_slots(block.shortcut))]
            items.append(keyed("shortcut", self.block(block.shortcut, shortcut_texts)))
        if split_drop_path(block)[1] is not None:
            items.append(f"drop_path={texts[-1]}")
        if block.after is not None:
            items.append(keyed("after", _layer(block.after, [])))
        residual = "Residual" if block.shortcut is None else "ShortcutResidual"
        head = {None: "nn.Sequential", "multiply": "Gate", "concat": "Concat", "add": residual}[block.combine]
        return Call(head, items)

    def _numbered(self, block: Block, texts: Sequence[str]) -> list[Call | Repeat]:
        """The steps of a sequence; equal ones in a row, whatever their drop path, as a loop."""
        found: list[tuple[Call | Repeat, Block, list[str], list[int]]] = []
        place = 2
        for _, step in block.steps:
            assert isinstance(step, Block)
            count = len(call_slots(step))
            given = list(texts[place : place + count])
            place += count
            rate = split_drop_path(step)[1]
            index = self.rates[1].get(rate, -1) if rate is not None else 0
            last = found[-1] if found else None
            plain = replace(step, steps=split_drop_path(step)[0])
            indices = [index]
            same = index <= 0 and last is not None and last[2] == given  # none, or a rate of the stage's own
            if last is not None and last[1] == plain and (same or last[3][-1] + 1 == index > 0):
                indices = [*last[3], index]
                del found[-1]
            found.append((self._repeated(step, given, indices), plain, given, indices))
        return [call for call, *_ in found]

    def _repeated(self, step: Block, texts: list[str], indices: list[int]) -> Call | Repeat:
        if len(indices) == 1:
            return self.block(step, texts)
        if indices[0] == indices[-1]:
            return Repeat(self.block(step, texts), f"for _ in range({len(indices)})")
        call = self.block(step, [*texts[:-1], self.rates[0].format("i")])
        return Repeat(call, f"for i in range({indices[0]}, {indices[-1] + 1})")


def _function(name: str, blocks: Sequence[Block]) -> Function:
    """The function of a kind: a slot that differs between blocks, or is a number of channels, is a parameter."""
    columns = list(zip(*(body_slots(block) for block in blocks), strict=True))
    named: dict[tuple[str, tuple[Any, ...]], str] = {}
    texts: list[str] = []
    for column in columns:
        slot, values = column[0], tuple(slot.value for slot in column)
        if slot.kind != "channels" and len(set(values)) == 1:
            texts.append(repr(slot.value))
            continue
        if (slot.kind, values) not in named:
            same = sum(known.rstrip("0123456789_") == slot.hint for known in named.values())
            named[slot.kind, values] = f"{slot.hint}_{same + 1}" if same else slot.hint
        texts.append(named[slot.kind, values])
    used = set(texts[2:])  # the first two only name what the steps use
    parameters = tuple((text, texts.index(text)) for text in named.values() if text in used)
    return Function(name, blocks[0], parameters, tuple(texts))


def _function_names(kinds: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], str]:
    """`mbconv` for the only kind with that label; else with what it has inside: `mbconv_se`, `mbconv_se_padded`."""
    labels = Counter(kind[0] for kind in kinds)
    found: dict[tuple[Any, ...], str] = {}
    for kind in kinds:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind[0]).lower()
        if labels[kind[0]] > 1:
            inside = [step for step, what in kind[1:] if what[0] == "Block"]
            padded = any(what[0] == "Conv" and not what[3] for _, what in kind[1:])
            name = "_".join([name, *inside, *(["padded"] if padded else [])])
        count = sum(re.fullmatch(f"{name}(_\\d+)?", other) is not None for other in found.values())
        found[kind] = f"{name}_{count + 1}" if count else name
    return found


def _layer(operation: Operation, texts: Sequence[str]) -> Call:
    match operation:
        case Conv():
            return _conv(operation, texts)
        case BatchNorm(eps=eps, momentum=momentum):
            more = [f"eps={eps!r}"] if eps != _NORM_EPS else []
            more += [f"momentum={momentum!r}"] if momentum != _NORM_MOMENTUM else []
            return Call("nn.BatchNorm2d", [texts[0], *more])
        case Activate(kind=kind):
            return Call(_ACTIVATIONS[kind], [])
        case AvgPool(kernel=kernel):
            padding = _half(texts[0]) if kernel % 2 else "ceil_mode=True"
            return Call("nn.AvgPool2d", [texts[0], texts[1], padding, "count_include_pad=False"])
        case MaxPool():
            return Call("nn.MaxPool2d", [texts[0], texts[1], _half(texts[0])])
        case MatchChannels():
            return Call("FirstChannels", [texts[0], texts[1]])
        case Shuffle():
            return Call("nn.ChannelShuffle", [texts[0]])
        case GlobalPool():
            return Call("nn.AdaptiveAvgPool2d", ["1"])
        case DropPath():
            return Call("DropPath", [texts[0]])
        case Dropout():
            return Call("nn.Dropout", [texts[0]])
        case Linear():
            return Call("nn.Linear", [texts[0], texts[1]])


def _conv(conv: Conv, texts: Sequence[str]) -> Call:
    channels, out, kernel, stride = texts[:4]
    items = [channels, out, kernel, *([stride] if stride != "1" else [])]
    if is_symmetric(conv) and kernel != "1":
        items.append(f"padding={_half(kernel)}")
    if conv.groups > 1:
        items.append(f"groups={texts[4]}")
    return Call("nn.Conv2d", [*items, *([] if conv.bias else ["bias=False"])])


def _half(kernel: str) -> str:
    return str(int(kernel) // 2) if kernel.isdigit() else f"{kernel} // 2"
