"""A user's own space from a TOML file: fields of a network, and for each stage a value or a list of options.

Nothing in the file is run. `docs/plugins.md` says what may stand in it.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnas.errors import InputError
from mnas.search_space.space import Choice, Factor, SearchSpace, Values
from mnas.search_space.space_file_check import (
    OF_OPS,
    Options,
    located,
    network_of,
    options_of,
    problems_of,
    stage_of,
)
from mnas.search_space.spec import NetworkSpec, StageSpec


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
        choices: list[Choice] = []
        factors: list[Factor] = []
        for number, options in enumerate(self.stages, 1):
            own = tuple(_choices(number, options))
            choices += own
            factors.append(Factor(tuple(choice.name for choice in own), _stages(number, options)))

        def build(values: Values) -> NetworkSpec:
            stages = tuple(stage for part in factors for stage in part.stages(values))
            return NetworkSpec(stages=stages, resolution=resolution, num_classes=num_classes, **self.network)

        return SearchSpace(self.name, tuple(choices), build, factors=tuple(factors))


def space_from_file(path: Path, *, resolution: int = 224, num_classes: int = 1000) -> SearchSpace:
    """The space of a TOML file at a resolution (pixels) and number of classes.

    Raises:
        InputError: as of `SpaceFile.read`.
    """
    return SpaceFile.read(path).space(resolution=resolution, num_classes=num_classes)


def _choices(number: int, options: Options) -> Iterator[Choice]:
    """The fields with several options, the operation first: others may depend on it."""
    ops = options["op"]
    for field in sorted(options, key=lambda name: name != "op"):
        if len(options[field]) > 1:
            wanted = tuple(op for op in ops if op in OF_OPS.get(field, ops))
            active_if = {f"stage{number}.op": wanted} if len(wanted) < len(ops) else {}
            yield Choice(f"stage{number}.{field}", options[field], active_if)


def _stages(number: int, options: Options) -> Callable[[Values], tuple[StageSpec, ...]]:
    fixed = {field: values[0] for field, values in options.items()}
    chosen = {field: f"stage{number}.{field}" for field, values in options.items() if len(values) > 1}

    def stages(values: Values) -> tuple[StageSpec, ...]:
        given = {**fixed, **{field: values[name] for field, name in chosen.items()}}
        return (stage_of(given, options["op"]),)

    return stages
