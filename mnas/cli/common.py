"""What the commands share: the applications, their common flags, and how a result is printed."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from mnas.errors import InputError

app = typer.Typer(
    name="mnas",
    help="Finds the most accurate convolutional network that meets a latency budget on your own device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
DEVICE_HELP = (
    "Where networks are measured: local, or ssh://user@host:port, a device that has Python, numpy and onnxruntime "
    "(?python=venv/bin/python names the Python)."
)
Device = Annotated[str, typer.Option("--device", help=DEVICE_HELP)]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]


T = TypeVar("T")


def split_list(text: str | None, kind: Callable[[str], T], flag: str, example: str) -> tuple[T, ...]:
    """The values of a flag that takes several, separated by commas; none where it was not given.

    Raises:
        InputError: an empty place, or a value that is not of that kind.
    """
    if text is None:
        return ()
    try:
        values = tuple(kind(part.strip()) for part in text.split(","))
    except ValueError:
        values = ()
    if not values or not all(part.strip() for part in text.split(",")):
        raise InputError(f"{flag} takes values separated by commas, {example} for example; got {text!r}.")
    return values


def print_result(data: Mapping[str, Any], text: str, as_json: bool) -> None:
    """One JSON object, or the text for people."""
    print(json.dumps(data, allow_nan=False) if as_json else text)
