"""This machine and the device that networks are timed on: `doctor`."""

from typing import Annotated

import typer

from mnas.cli.common import Debug, Device, Json, app, print_result


@app.command()
def doctor(
    noise: Annotated[
        bool, typer.Option("--noise/--no-noise", help="Time a network against itself for a minute.")
    ] = True,
    threads: Annotated[int, typer.Option(help="Threads of that network.")] = 1,
    device: Device = "local",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Looks at this machine: versions, device, noise, and what is missing with the command that mends it."""
    from mnas.console import ConsoleReporter
    from mnas.doctor import examine
    from mnas.latency import parse_host
    from mnas.summary import doctor_summary

    with ConsoleReporter() as reporter:
        result = examine(reporter, noise=noise, threads=threads, host=parse_host(device))
    print_result(result, doctor_summary(result), as_json)
    if result["status"] == "problem":
        raise typer.Exit(1)
