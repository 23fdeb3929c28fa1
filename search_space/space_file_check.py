"""What is wrong with the file of a user's own space: every problem at once, each with its line and field."""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, replace
from itertools import chain, product
from math import prod
from typing import Any

from mnas.errors import InputError
from mnas.search_space.network import Segment, segment_program
from mnas.search_space.space import Value
from mnas.search_space.spec import EXPANDING, GROUPED, NetworkSpec, StageSpec, Style, has_type

Options = Mapping[str, tuple[Value, ...]]  # of a stage: what each field may be, at least one value
Place = tuple[str, str]  # a table, `stages.2` for the second stage and empty at the top, and a key of it

# Given by the command, or tables of their own.
_NOT_KEYS = ("stages", "style", "resolution", "num_classes")
NETWORK = tuple(item.name for item in fields(NetworkSpec) if item.name not in _NOT_KEYS)
_NEEDED = tuple(item.name for item in fields(StageSpec) if item.default is MISSING)
# Fields that mean something for some operations alone: where the operation is a choice, they are taken for those.
OF_OPS: Mapping[str, tuple[str, ...]] = {"expansion": EXPANDING, "groups": GROUPED}

# A stage and a network in which each field is tried by itself, with what some fields need beside them.
_STAGE = StageSpec("conv", 3, 1, 8)
_PLAIN: Mapping[type, Any] = {StageSpec: _STAGE, NetworkSpec: NetworkSpec(8, (_STAGE,), 8), Style: Style()}
_BESIDE: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "expansion": lambda value: {"op": EXPANDING[0]},
    "groups": lambda value: {"op": GROUPED[0], "out_channels": max(1, value)},
    "head": lambda value: {"head_channels": 0} if value == "pool" else {},
    "head_channels": lambda value: {"head": "pool"} if value == 0 else {},
}
MOST_POINTS = 20_000  # of one stage (chosen here): they take some seconds
PIXELS = 32  # of the input that stages are tried on: channels alone decide whether they fit, or are alike

_KEY = re.compile(r"""\s*["']?([A-Za-z0-9_-]+)["']?\s*=""")
_TABLE = re.compile(r"\s*\[\[?\s*([A-Za-z0-9_-]+)\s*\]\]?\s*(#.*)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, at a key of a table; the key is empty where it is the table as a whole.

    `text` goes on where the key's name ends: `is missing`.
    """

    table: str
    key: str
    text: str


def network_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for `NetworkSpec` but for stages, resolution and classes, of data without a problem."""
    found = {key: data[key] for key in NETWORK if key in data}
    if found.get("head") == "pool":
        found.setdefault("head_channels", 0)
    return {**found, "style": Style(**data.get("style", {}))}


def options_of(stage: Mapping[str, Any]) -> Options:
    """The options of each field of a stage of data without a problem; a value by itself is the only one."""
    return {key: tuple(value) if isinstance(value, list) else (value,) for key, value in stage.items()}


def stage_of(given: Mapping[str, Any], ops: tuple[Value, ...]) -> StageSpec:
    """The stage of one value for each field; what belongs to other operations on offer is left out.

    Raises:
        InputError: the values do not go together.
    """
    left_out = {
        key
        for key, belongs in OF_OPS.items()
        if given["op"] not in belongs and any(op in belongs for op in ops)
    }
    return StageSpec(**{key: value for key, value in given.items() if key not in left_out})


def located(problems: list[Problem], text: str) -> str:
    """The problems in the order of the file, each with its line where that can be told."""
    lines = _lines(text)
    said = []
    for problem in problems:
        table, key = problem.table, problem.key
        places = ((table, key), (table, ""), ("", table.partition(".")[0]), (f"{key}.1", ""))
        line = next((lines[place] for place in places if place in lines), 0)
        what = f"{table}.{key}".strip(".")
        said.append((line, f"{f'line {line}, ' if line else ''}{what} {problem.text}"))
    return "".join(f"\n  {text}" for _, text in sorted(said, key=lambda item: item[0]))


def _lines(text: str) -> dict[Place, int]:
    """The line of each table, under the empty key, and of each key; what stands inside a line is not found."""
    found: dict[Place, int] = {}
    table, stages = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _TABLE.fullmatch(line)) is not None:
            stages += header[1] == "stages"
            table = f"stages.{stages}" if header[1] == "stages" else header[1]
            found.setdefault((table, ""), number)
        elif (key := _KEY.match(line)) is not None:
            found.setdefault((table, key[1]), number)
    return found


def problems_of(data: Mapping[str, Any]) -> list[Problem]:
    """Everything that is wrong with the data of a file."""
    found = list(_network_problems(data))
    stages = data.get("stages")
    if not isinstance(stages, list) or not stages:
        return [*found, Problem("", "stages", "must be tables [[stages]], one for each stage")]
    for number, stage in enumerate(stages, 1):
        found += _stage_problems(f"stages.{number}", stage)
    return found or list(_together(data, [options_of(stage) for stage in stages]))


def _network_problems(data: Mapping[str, Any]) -> Iterator[Problem]:
    known = ("name", "style", "stages", *NETWORK)
    yield from _unknown("", data, known)
    if not isinstance(data.get("name", ""), str):
        yield Problem("", "name", f"must be a text, got {data['name']!r}")
    for key in ("stem_channels", "head_channels"):
        if key not in data and not (key == "head_channels" and data.get("head") == "pool"):
            yield Problem("", key, "is missing")
    for key in NETWORK:
        if key in data:
            yield from _alone(NetworkSpec, "", key, data[key])
    style = data.get("style", {})
    if not isinstance(style, Mapping):
        yield Problem("", "style", f"must be a table [style], got {style!r}")
        return
    names = tuple(item.name for item in fields(Style))
    yield from _unknown("style", style, names)
    for key in names:
        if key in style:
            yield from _alone(Style, "style", key, style[key])


def _stage_problems(table: str, stage: Any) -> Iterator[Problem]:
    if not isinstance(stage, Mapping):
        yield Problem("", "stages", f"must be tables [[stages]], got {stage!r}")
        return
    names = tuple(item.name for item in fields(StageSpec))
    yield from _unknown(table, stage, names)
    for key in _NEEDED:
        if key not in stage:
            yield Problem(table, key, "is missing")
    points = prod(len(options) for options in options_of(stage).values())
    if points > MOST_POINTS:
        yield Problem(
            table,
            "",
            f"has {points:,} points; at most {MOST_POINTS:,}, since each is tried: split it, or offer less",
        )
    for key, options in options_of(stage).items():
        if not options:
            yield Problem(table, key, "has no options; give at least one value")
        if len(set(map(repr, options))) != len(options):
            yield Problem(table, key, f"has an option twice: {list(options)!r}")
        if key in names:
            for value in options:
                yield from _alone(StageSpec, table, key, value)


def _unknown(table: str, data: Mapping[str, Any], known: tuple[str, ...]) -> Iterator[Problem]:
    for key in data:
        if key in ("resolution", "num_classes") and not table:
            yield Problem(table, key, "is given on the command line (--resolution, --classes), not here")
        elif key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            yield Problem(table, key, f"is unknown; {hint}")


def _alone(cls: type, table: str, key: str, value: Any) -> Iterator[Problem]:
    """What is wrong with a value whatever stands beside it."""
    if not has_type(cls, key, value):
        yield Problem(table, key, f"has the wrong type {type(value).__name__}: {value!r}")
        return
    try:
        replace(_PLAIN[cls], **{**_BESIDE.get(key, lambda value: {})(value), key: value})
    except InputError as error:
        yield Problem(table, key, _after(key, error))


def _after(key: str, error: InputError) -> str:
    """The message without the key that it begins with."""
    text = str(error).rstrip(".")
    return text.removeprefix(f"{key} ") if text.startswith(f"{key} ") else f"does not fit: {text}"


def _together(data: Mapping[str, Any], stages: list[Options]) -> Iterator[Problem]:
    """Values that are right by themselves and do not go together."""
    if all(len(options) == 1 for stage in stages for options in stage.values()):
        yield Problem("", "stages", "has no field with several options, so that there is nothing to search")
    network = network_of(data)
    try:
        NetworkSpec(stages=(_STAGE,), **network)
    except InputError as error:
        yield Problem("", "stem_channels", _after("stem_channels", error))
    channels: tuple[Value, ...] = (network["stem_channels"],)
    for number, options in enumerate(stages, 1):
        told = dict.fromkeys(_misfits(options, channels, network["style"]))
        yield from (Problem(f"stages.{number}", "", f"has options that do not fit: {text}") for text in told)
        channels = options["out_channels"]


def _misfits(options: Options, channels: tuple[Value, ...], style: Style) -> Iterator[str]:
    """Why some values of a stage do not go together, or not with the channels that the stage before may have."""
    stages = set()
    for values in product(*options.values()):
        try:
            stages.add(stage_of(dict(zip(options, values, strict=True)), options["op"]))
        except InputError as error:
            yield str(error).rstrip(".")
    grouped = (stage for stage in stages if stage.groups > 1)
    for stage, before in chain(product(grouped, channels)):
        try:
            segment_program(Segment((int(before), PIXELS, PIXELS), style, replace(stage, repeats=1)))
        except InputError as error:
            yield f"after {before} channels, {stage.op}: {error}".rstrip(".")
