"""A user's own space from a TOML file: fields of a network, and for each stage a value or a list of options.

Nothing in the file is run. `docs/plugins.md` says what may stand in it.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mnas.errors import InputError
from mnas.search_space.network import Segment, segment_program
from mnas.search_space.space import Choice, Factor, SearchSpace, Value, Values
from mnas.search_space.space_file_check import (
    OF_OPS,
    PIXELS,
    Options,
    located,
    network_of,
    options_of,
    problems_of,
    stage_of,
)
from mnas.search_space.spec import NetworkSpec, StageSpec, Style


@dataclass(frozen=True, slots=True)
class SpaceFile:
    """What a file says.

    Args:
        name: of the space.
        network: keyword arguments for `NetworkSpec` but for stages, resolution and classes.
        stages: the options of each field of each stage.
    """

    name: str
    network: Mapping[str, Any]
    stages: tuple[Options, ...]

    @classmethod
    def read(cls, path: Path) -> "SpaceFile":
        """The space of a file; it is called `own` where the file does not name it.

        Raises:
            InputError: unreadable, not TOML, or anything wrong in it; every problem is named with its line.
        """
        try:
            text = path.read_text(encoding="utf-8")
            data = tomllib.loads(text)
        except OSError as error:
            raise InputError(f"cannot read the space {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML: {error}.") from error
        problems = problems_of(data)
        if problems:
            raise InputError(f"the space {path} has problems:{located(problems, text)}")
        return cls(
            data.get("name", "own"), network_of(data), tuple(options_of(stage) for stage in data["stages"])
        )

    def space(self, *, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
        """The space at a resolution (pixels) and number of classes; stages are numbered from 1."""
        style, stem = self.network["style"], int(self.network["stem_channels"])
        parts = [_Part(number, options, style) for number, options in enumerate(self.stages, 1)]
        choices = tuple(choice for part in parts for choice in part.choices())
        factors = tuple(Factor(part.names, part.stages) for part in parts)

        def build(values: Values) -> NetworkSpec:
            stages = tuple(part.stage(values) for part in parts)
            return NetworkSpec(stages=stages, resolution=resolution, num_classes=num_classes, **self.network)

        def merge(values: dict[str, Value]) -> dict[str, Value]:
            """The first options that make the same layers: a skip that fits no layer is none, for example."""
            channels = stem
            for part in parts:
                values = {**values, **part.first_alike(channels)[part.point(values)]}
                channels = part.stage(values).out_channels
            return values

        def count_distinct() -> int:
            """Networks by channels out of the last stage: a stage's layers depend on the channels into it alone."""
            networks = {stem: 1}
            for part in parts:
                following: dict[int, int] = {}
                for channels, count in networks.items():
                    first = {tuple(values.items()) for values in part.first_alike(channels).values()}
                    for values in map(dict, first):
                        out = part.stage(values).out_channels
                        following[out] = following.get(out, 0) + count
                networks = following
            return sum(networks.values())

        return SearchSpace(self.name, choices, build, merge, count_distinct, factors)


def space_from_file(path: Path, *, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space of a TOML file at a resolution (pixels) and number of classes.

    Raises:
        InputError: as of `SpaceFile.read`.
    """
    return SpaceFile.read(path).space(resolution=resolution, num_classes=num_classes)


class _Part:
    """One stage of a file: its choices, and what they make."""

    def __init__(self, number: int, options: Options, style: Style) -> None:
        self.number = number
        self.options = options
        self.style = style
        # The operation first, since other choices may depend on it.
        fields = sorted(options, key=lambda name: name != "op")
        self.chosen = {field: f"stage{number}.{field}" for field in fields if len(options[field]) > 1}
        self.names = tuple(self.chosen.values())
        self._known: dict[int, dict[tuple[Value, ...], dict[str, Value]]] = {}

    def choices(self) -> Iterator[Choice]:
        """One for each field with several options; inactive where the operation has no such field."""
        ops = self.options["op"]
        for field, name in self.chosen.items():
            wanted = tuple(op for op in ops if op in OF_OPS.get(field, ops))
            active_if = {f"stage{self.number}.op": wanted} if len(wanted) < len(ops) else {}
            yield Choice(name, self.options[field], active_if)

    def stage(self, values: Values) -> StageSpec:
        """The stage of these values, by the names of choices; others may be among them."""
        fixed = {field: options[0] for field, options in self.options.items()}
        given = {field: values[name] for field, name in self.chosen.items()}
        return stage_of(fixed | given, self.options["op"])

    def stages(self, values: Values) -> tuple[StageSpec]:
        """`stage` as a factor gives it."""
        return (self.stage(values),)

    def point(self, values: Values) -> tuple[Value, ...]:
        """The values of this stage's choices."""
        return tuple(values[name] for name in self.names)

    def first_alike(self, channels: int) -> Mapping[tuple[Value, ...], dict[str, Value]]:
        """For each point of the stage's choices, the first that makes the same layers after so many channels."""
        if channels not in self._known:
            first: dict[object, dict[str, Value]] = {}
            found = {}
            for point in product(*(self.options[field] for field in self.chosen)):
                values = dict(zip(self.names, point, strict=True))
                stage = self.stage(values)
                shape = (channels, PIXELS, PIXELS)
                layers = segment_program(Segment(shape, self.style, stage)), stage.drop_path_share
                found[point] = first.setdefault(layers, values)
            self._known[channels] = found
        return self._known[channels]
