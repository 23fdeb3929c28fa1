"""Names to factories: literal tables here, entry points of third parties, and `module:factory` from the user.

Nothing is imported before its first use. What a stored run says never reaches `resolve` by itself: a run that
used `module:factory` is resumed only when the user gives that flag again.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal

from mnas.errors import InputError, MnasError, SearchError, UnknownNameError

Kind = Literal["space", "controller", "latency", "accuracy"]

BUILTIN: Mapping[Kind, Mapping[str, str]] = {
    "space": {
        "mbconv": "mnas.search_space.mbconv:mbconv_space",
        "mnasnet": "mnas.search_space.mnasnet:mnasnet_space",
        "macro": "mnas.search_space.macro:macro_space",
        "efficientnetv2": "mnas.search_space.efficientnetv2:efficientnetv2_space",
        "resnet-rs": "mnas.search_space.resnet:resnet_rs_space",
        "regnet": "mnas.search_space.regnet:regnet_space",
        "igcv3": "mnas.search_space.igcv3:igcv3_space",
        "ghost": "mnas.search_space.ghost:ghost_space",
    },
    "controller": {
        "random": "mnas.controllers.random:RandomController",
        "reinforce": "mnas.controllers.reinforce:ReinforceController",
        "guided": "mnas.controllers.guided:GuidedController",
        "ppo": "mnas.controllers.ppo:PpoController",
        "evolution": "mnas.controllers.evolution:EvolutionController",
        "exhaustive": "mnas.controllers.exhaustive:ExhaustiveController",
        "optuna:tpe": "mnas.integrations.optuna:tpe",
        "optuna:nsga2": "mnas.integrations.optuna:nsga2",
        "optuna:gp": "mnas.integrations.optuna:gp",
        "optuna:random": "mnas.integrations.optuna:random",
        "nni:regularized_evolution": "mnas.integrations.nni:regularized_evolution",
        "nni:tpe": "mnas.integrations.nni:tpe",
        "nni:random": "mnas.integrations.nni:random",
    },
    "latency": {
        "calibrated": "mnas.search.device_timing:calibrated",
        "measure": "mnas.search.device_timing:measuring",
    },
    "accuracy": {
        "imagenet-surrogate": "mnas.accuracy.surrogate:imagenet_surrogate",
        "imagenet-surrogate-additive": "mnas.accuracy.surrogate:imagenet_surrogate_additive",
        "proxy": "mnas.accuracy.proxy:ProxyAccuracy",
        "supernet": "mnas.supernet.accuracy:SupernetAccuracy",
    },
}
GROUPS: Mapping[Kind, str] = {
    "space": "mnas.spaces",
    "controller": "mnas.controllers",
    "latency": "mnas.latency",
    "accuracy": "mnas.accuracy",
}
SPACE_FILE = "mnas.search_space.space_file:space_from_file"  # what reads a space from a TOML file
_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def is_reference(name: str) -> bool:
    """Whether a name is the user's own `module:factory`; a built-in one such as `optuna:tpe` is not."""
    return _PATH.fullmatch(name) is not None and not any(name in names for names in BUILTIN.values())


def is_space_file(name: str) -> bool:
    """Whether the name of a space is that of a TOML file, which is read and never run."""
    return name.endswith(".toml")


def plugins(kind: Kind) -> dict[str, EntryPoint]:
    """Entry points of installed packages by name; a built-in name cannot be taken over."""
    return {e.name: e for e in entry_points(group=GROUPS[kind]) if e.name not in BUILTIN[kind]}


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point of an installed package.

    Args:
        kind: what it makes.
        name: for the command line.
        target: `module:factory`.
        package: name and version of the distribution; empty where its metadata does not tell.
        error: why it cannot be used; None where it loads.
    """

    kind: Kind
    name: str
    target: str
    package: str
    error: str | None


def installed_plugins() -> list[Plugin]:
    """Every entry point in our groups, by kind and name; each is imported to find out whether it loads."""
    found = []
    for kind, group in GROUPS.items():
        for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
            package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else ""
            found.append(Plugin(kind, entry.name, entry.value, package, _load_error(kind, entry)))
    return found


def _load_error(kind: Kind, entry: EntryPoint) -> str | None:
    if entry.name in BUILTIN[kind]:
        return f"{entry.name} is a name of mnas itself, which stands; the package has to choose another"
    try:
        resolve(kind, entry.name)
    except MnasError as error:
        return str(error)
    return None


def check_name(kind: Kind, name: str) -> None:
    """Refuses a name that nothing answers to, without importing anything.

    Raises:
        UnknownNameError: the nearest known name is named.
    """
    if kind == "space" and is_space_file(name):
        return
    if name not in BUILTIN[kind] and not is_reference(name) and name not in plugins(kind):
        file = " or --space FILE.toml" if kind == "space" else ""
        raise UnknownNameError(
            kind,
            name,
            [*BUILTIN[kind], *plugins(kind)],
            hint=f"Your own: --{kind} package.module:factory{file}.",
        )


def resolve(kind: Kind, name: str) -> Callable[..., Any]:
    """The factory of a name, imported now.

    Raises:
        UnknownNameError: no such name.
        InputError: the module or attribute of a `module:factory` cannot be imported.
    """
    check_name(kind, name)
    if kind == "space" and is_space_file(name):
        return partial(resolve(kind, SPACE_FILE), Path(name))
    installed = plugins(kind)
    path = BUILTIN[kind].get(name) or (installed[name].value if name in installed else name)
    module_name, _, attribute = path.partition(":")
    if is_reference(name) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: the user's module stands where they type
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except MnasError:
        raise
    except Exception as error:
        raise InputError(
            f"cannot load the {kind} {name!r}: {type(error).__name__}: {error}. "
            f"Expected an importable {kind} factory as package.module:factory."
        ) from error
    if not callable(target):
        raise InputError(f"the {kind} {name!r} is a {type(target).__name__}; expected a factory to call.")
    return target  # type: ignore[no-any-return]


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """None of a callable that hides its signature: it gets no argument."""
    try:
        return list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):
        return []


def required_arguments(kind: Kind, name: str) -> set[str]:
    """Names of the arguments without which a factory cannot be called.

    Raises:
        UnknownNameError: no such name.
        InputError: it cannot be imported.
    """
    parameters = _parameters(resolve(kind, name))
    return {p.name for p in parameters if p.default is p.empty and p.kind in _BY_NAME}


def make(kind: Kind, name: str, offered: Mapping[str, Any], needed: str) -> Any:
    """Calls the factory with those of the `offered` keyword arguments that its signature names.

    Args:
        kind: what is made.
        name: a known name or `module:factory`.
        offered: keyword arguments; a factory takes what it needs and ignores the rest.
        needed: the method that the result must have, `predict` for example.

    Raises:
        InputError: the factory needs an argument that is not offered, or its result lacks the method.
        SearchError: the factory raised.
    """
    factory = resolve(kind, name)
    parameters = _parameters(factory)
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name for p in parameters if p.kind in _BY_NAME}
    required = required_arguments(kind, name)
    if required - offered.keys():
        raise InputError(
            f"the {kind} {name!r} needs {sorted(required - offered.keys())}; "
            f"a {kind} factory is offered only {sorted(offered)}."
        )
    try:
        made = factory(**{key: value for key, value in offered.items() if takes_all or key in named})
    except MnasError:
        raise
    except Exception as error:
        raise SearchError(
            f"the {kind} {name!r} could not be made: {type(error).__name__}: {error}."
        ) from error
    if not callable(getattr(made, needed, None)):
        raise InputError(
            f"the {kind} {name!r} made a {type(made).__name__} without a method {needed!r}; see README."
        )
    return made
