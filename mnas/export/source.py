"""The network as one Python file that needs only torch: another reader of the program of its blocks."""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from mnas import __version__
from mnas.export import source_parts as parts
from mnas.export.block_functions import DROP_PATH, Blocks, Function
from mnas.export.block_kinds import body_slots, split_drop_path, step_slots
from mnas.export.layout import WIDTH, Call, lines
from mnas.export.subject import Subject
from mnas.search_space import NetworkSpec, StageSpec, network_cost
from mnas.search_space.network import network_program, segments
from mnas.search_space.program import Block, Conv
from mnas.search_space.spec import EXPANDING

# Characters of a text about the weights that the source repeats.
_LONGEST = 600
_TYPES = {"pad": "tuple[int, int, int, int]", "rate": "float", "drop_path": "float"}
STAGES = "blocks"  # the name of the stages in a network


def python_source(subject: Subject, source: str, weights: str) -> bytes:
    """The file called `source`: the network, and a function that loads the file `weights` that lies beside it.

    Its names of parameters are those of the torch module. Texts that came with the weights stand in it only as plain
    characters of its docstring, so that no text can become code.
    """
    spec = subject.spec
    root = network_program(spec)
    total = sum(stage.repeats for stage in spec.stages)
    indices = {spec.drop_path * index / total: index for index in range(1, total)}
    blocks = Blocks(root, (f"{DROP_PATH} * {{}} / {total}", indices))
    functions = [_function(function, blocks) for function in blocks.functions.values()]
    network = "\n".join(_network(spec, root, blocks))
    body = "\n\n\n".join(text.rstrip("\n") for text in [*functions, network, parts.LOAD_FUNCTIONS])
    called = set(re.findall(r"\b(\w+)\(", body))
    classes = "\n\n\n".join(
        text.rstrip("\n")
        for text in parts.classes(called, drop_path="drop_path=" in body, after="after=" in body)
    )
    constants = [f"WEIGHTS = Path(__file__).with_name({json.dumps(weights, ensure_ascii=False)})"]
    if DROP_PATH in body:
        constants.append(f"{DROP_PATH} = {spec.drop_path!r}  # of block i of n: {DROP_PATH} * i / n")
    constants.append('DTYPES = {"F32": torch.float32, "I64": torch.int64}')
    top = "\n".join([*_docstring(subject, source, weights), "", *_IMPORTS, "", *constants])
    return ("\n\n\n".join(part for part in (top, classes, body) if part) + "\n").encode(
        errors="backslashreplace"
    )


_IMPORTS = [
    "import json",
    "import math",
    "from collections import OrderedDict",
    "from pathlib import Path",
    "",
    "import torch",
    "from torch import Tensor, nn",
]


def _docstring(subject: Subject, source: str, weights: str) -> Iterator[str]:
    spec, cost = subject.spec, network_cost(subject.spec)
    module = source.removesuffix(".py")
    yield (
        f'"""A convolutional network of {cost.params:,} parameters and {cost.madds:,} multiply-adds; '
        f"written by mnas {__version__}."
    )
    yield ""
    shape = f"{spec.in_channels}, {spec.resolution}, {spec.resolution}"
    yield f"Input: (n, {shape}) float32. Output: logits (n, {spec.num_classes})."
    yield from _wrapped(f"Weights: {subject.origin}; in {weights}, beside this file.")
    if "input" in subject.about:
        yield from _wrapped(f"Images become the input by: {subject.about['input']}")
    yield "Needs torch alone:"
    yield ""
    yield f"    from {module if module.isidentifier() else 'this_file'} import load"
    yield "    model = load()"
    yield f"    logits = model(torch.zeros(1, {shape}))"
    yield '"""'


def _wrapped(text: str) -> list[str]:
    """The text as lines of a docstring: printable ASCII without quotes and backslashes, so that it stays one."""
    swaps = {'"': "'", "\\": "/"}
    plain = "".join(
        swaps.get(letter, letter if " " <= letter <= "~" else "?") for letter in " ".join(text.split())
    )
    return textwrap.wrap(textwrap.shorten(plain, _LONGEST, placeholder=" ..."), WIDTH - 10)


def _function(function: Function, blocks: Blocks) -> str:
    """One function that makes the layers of a kind of block."""
    slots = body_slots(function.example)
    each = [f"{name}: {_TYPES.get(slots[place].kind, 'int')}" for name, place in function.parameters]
    written = [f"def {function.name}({', '.join(each)}) -> OrderedDict[str, nn.Module]:"]
    if len(written[0]) > WIDTH:
        inner = f"    {', '.join(each)}"
        rows = [inner] if len(inner) <= WIDTH else [f"    {parameter}," for parameter in each]
        written = [f"def {function.name}(", *rows, ") -> OrderedDict[str, nn.Module]:"]
    written.append(f'    """{_summary(function)}"""')
    call = Call("OrderedDict", blocks.layers(function.example, function.texts))
    return "\n".join([*written, *lines(call, 4, "return ")])


def _summary(function: Function) -> str:
    """What the layers of a block are, without norms and activations."""
    words = []
    place = 2
    for name, step in split_drop_path(function.example)[0]:
        if isinstance(step, Block):
            words.append(name)
        elif isinstance(step, Conv):
            kernel = function.texts[place + 2]
            grouped = "depthwise " if step.is_depthwise else "grouped " if step.groups > 1 else ""
            words.append(f"{kernel} x {kernel} {grouped}convolution")
        place += len(step_slots(step))
    return f"The layers of {function.example.label}{': ' if words else ''}{', '.join(words)}."


def _network(spec: NetworkSpec, root: Block, blocks: Blocks) -> Iterator[str]:
    """The functions `stages`, a comment for each stage, and `network`."""
    layers = blocks.layers(root, blocks.literals(root))
    (stages,) = (layer for layer in layers if layer.key == STAGES)
    comments = {number: _stage_comment(spec, number) for number in range(len(spec.stages))}
    yield "def stages() -> nn.Sequential:"
    yield '    """Everything between stem and head."""'
    yield from lines(replace(stages, key="", comments=comments), 4, "return ")
    yield from ("", "", "def network() -> nn.Module:")
    yield '    """The network in training mode, with the initial weights of torch."""'
    shown = [Call("stages", [], STAGES) if layer is stages else layer for layer in layers]
    yield from lines(Call("nn.Sequential", [Call("OrderedDict", shown)]), 4, "return ")


def _stage_comment(spec: NetworkSpec, number: int) -> str:
    stage: StageSpec = spec.stages[number]
    size = segments(spec)[number + 1].in_shape[1]
    said = [f"{stage.repeats} x {stage.op} {stage.kernel}x{stage.kernel}"]
    said += [f"expansion {stage.expansion:g}"] if stage.op in EXPANDING else []
    said += [f"{stage.groups} groups"] if stage.groups > 1 else []
    said.append(f"{stage.out_channels} channels")
    said += [f"SE {stage.se_ratio:g}"] if stage.se_ratio else []
    said += [f"{'no' if stage.skip == 'none' else stage.skip} skip"] if stage.skip != "identity" else []
    said.append(f"{size} -> {-(-size // stage.stride)} pixels")
    return f"stage {number + 1}: {', '.join(said)}"
