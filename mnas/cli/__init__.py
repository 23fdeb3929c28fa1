"""The command line. Its modules import typer and the errors alone at their tops, so that `mnas --help` is quick."""

import json
import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from mnas.cli import bench, device, latency, plugins, running, scaling, searching, training, zoo
from mnas.cli.common import app
from mnas.cli.searching import INTERRUPTED
from mnas.errors import MnasError

__all__ = ["app", "run"]

# The commands, in the order of the help: importing a module registers its commands.
_COMMANDS = (searching, training, running, scaling, latency, device, zoo, plugins, bench)
# The root of typer's usage errors. Newer typers carry a click of their own, so it is found, not imported.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _show_version(wanted: bool) -> None:
    if wanted:
        from mnas import __version__

        print(f"mnas {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def run() -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    arguments = scaling.respelled(sys.argv[1:])
    try:
        code = app(arguments, prog_name="mnas", standalone_mode=False)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except typer.Abort:
        code = INTERRUPTED
    except Exception as error:
        code = _explain(error, arguments)
    _end(code if isinstance(code, int) else 0)


def _explain(error: Exception, arguments: list[str]) -> int:
    """One readable message on standard error; the exit code."""
    if isinstance(error, _ClickException):  # a usage error shows itself, with the usage line
        error.show()
        message, code = error.format_message(), 2
    elif isinstance(error, MnasError):
        if "--debug" in arguments:
            raise error
        message, code = " ".join([str(error), *getattr(error, "__notes__", [])]), error.exit_code
        print(f"error: {message}", file=sys.stderr)
    else:
        raise error
    if "--json" in arguments:
        print(json.dumps({"error": message, "exit_code": code}))
    return code


def _end(code: int) -> NoReturn:
    """Flushes and exits; a closed pipe behind us (`| head`) is not an error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
