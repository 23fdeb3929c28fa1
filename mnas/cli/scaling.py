"""`mnas scale search`: coefficients of one's own."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.common import Debug, Json, app, print_result, split_list
from mnas.cli.training import INTERRUPTED
from mnas.errors import InputError

# `mnas scale search` is this command: `scale` takes a network where a group of commands would have a name.
NAME, SPELLED = "scale-search", ["scale", "search"]
_PLAN = (
    *("source", "data", "network", "points", "seeds", "epochs", "images", "resolution", "budget_ms"),
    *("measured", "threads", "device", "skip_unreadable", "seed"),
)


def respelled(arguments: list[str]) -> list[str]:
    """The command line with `scale search` as the one command that it is."""
    return [NAME, *arguments[2:]] if arguments[:2] == SPELLED else arguments


@app.command(NAME)
def scale_search(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|SPEC]", help="A run directory, a network's JSON file, or a published network."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="The images that points are trained on, named as for `mnas search`.")
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Of a run: baseline, or one of several: baseline-40ms.")
    ] = None,
    points: Annotated[
        int | None, typer.Option(help="Of the grid, beside the published one. [default: 15]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Trainings of each point. [default: 2]")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each training. [default: 6]")] = None,
    images: Annotated[int | None, typer.Option(help="Training images. [default: all]")] = None,
    resolution: Annotated[
        int | None,
        typer.Option(help="Of the base, in pixels. [default: its own, as far as the images allow]"),
    ] = None,
    budget_ms: Annotated[
        str | None,
        typer.Option(
            "--budget-ms",
            help="Latency on the device that every point is grown to: 20ms, or 2x for twice the base's own. "
            "[default: 1.92 times the base's multiply-adds]",
        ),
    ] = None,
    phi: Annotated[str | None, typer.Option(help="Of the family at the end: 1,2. [default: 1,2,3]")] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Latencies of the family instead: 20ms,40ms.")
    ] = None,
    measured: Annotated[
        bool | None, typer.Option("--measure/--no-measure", help="Measure the family on the device.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Of torch while it trains. [default: 1]")] = None,
    device: Annotated[
        str | None, typer.Option(help="To train on: cpu, cuda. [default: a GPU if any]")
    ] = None,
    skip_unreadable: Annotated[
        bool | None, typer.Option("--skip-unreadable", help="Leave out images that cannot be used.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random. [default: 0]")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder, new or empty. [default: scalings/<n>]")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the search in this folder; nothing is trained twice.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Finds alpha, beta and gamma on your images (also spelled `mnas scale search`), and grows a family by them."""
    local = dict(locals())
    given: dict[str, Any] = {name: local[name] for name in _PLAN if local[name] is not None}
    if resume is not None and (given or out is not None or phi is not None or to is not None):
        raise InputError(
            "--resume goes on with what is kept in the folder: give no other flag, and no network."
        )
    if resume is None and source is None:
        raise InputError(
            "name a network and images: mnas scale search efficientnet_b0 --data ./photos - or go on with a search: "
            "mnas scale search --resume DIR"
        )
    if resume is None and data is None:
        raise InputError(
            "coefficients are told apart by training networks on images: give --data FOLDER. Without data nothing is "
            "known of what a grown network gains, and the published 1.2, 1.1, 1.15 are the ones to use (mnas scale)."
        )
    from mnas.console import ConsoleReporter
    from mnas.scalesearch.plan import ScalePlan
    from mnas.scalesearch.run import resume_scale_search, start_scale_search
    from mnas.scalesearch.text import scale_text

    with ConsoleReporter() as reporter:
        if resume is not None:
            result = resume_scale_search(resume, reporter)
        else:
            plan = ScalePlan(
                **given,
                phis=split_list(phi, float, "--phi", "1,2,3"),
                latencies=split_list(to, str, "--to", "20ms,40ms"),
            )
            result = start_scale_search(plan, out, reporter)
    print_result(result, scale_text(result), as_json)
    if result["status"] != "done":
        raise typer.Exit(INTERRUPTED)
