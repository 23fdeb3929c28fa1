"""Published networks: `zoo list`, `zoo show`, `zoo measure`, `zoo compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnas.cli.common import Debug, Device, Json, app, print_result

if TYPE_CHECKING:
    from mnas.zoobench import Wanted

zoo = typer.Typer(
    help="Published networks: list, show, measure, compare.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(zoo, name="zoo")


Names = Annotated[list[str] | None, typer.Argument(help="Published networks. [default: all]")]
Threads = Annotated[int, typer.Option(help="Threads of the network.")]
Batch = Annotated[int, typer.Option(help="Images per run.")]
Resolution = Annotated[int | None, typer.Option(help="In pixels. [default: each paper's]")]
Seed = Annotated[int, typer.Option(help="Of the order and the intervals.")]
Html = Annotated[
    Path | None, typer.Option("--html", help="Write table and plots to this file, which opens offline.")
]


@zoo.command("list")
def zoo_list(resolution: Resolution = None, as_json: Json = False, debug: Debug = False) -> None:
    """Lists the published networks: parameters, multiply-adds, activations, and what is published of them."""
    from mnas.console import ConsoleReporter
    from mnas.zoobench import list_zoo
    from mnas.zootext import list_text

    with ConsoleReporter() as reporter:
        rows = list_zoo(resolution, reporter)
    print_result({"networks": rows}, list_text(rows), as_json)


@zoo.command("show")
def zoo_show(
    name: Annotated[str, typer.Argument(help="A published network, see `mnas zoo list`.")],
    resolution: Resolution = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Shows one published network: its counts, what is published of it, and its blocks."""
    from mnas.console import ConsoleReporter
    from mnas.zoobench import show_member
    from mnas.zootext import show_text

    with ConsoleReporter() as reporter:
        row = show_member(name, resolution, reporter)
    print_result(row, show_text(row), as_json)


@zoo.command("measure")
def zoo_measure(
    names: Names = None,
    below: Annotated[
        str | None, typer.Option("--below", help="Only networks of fewer multiply-adds: 5G.")
    ] = None,
    threads: Threads = 1,
    batch: Batch = 1,
    resolution: Resolution = None,
    device: Device = "local",
    seed: Seed = 0,
    html: Html = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures published networks in fresh processes, each interleaved with EfficientNet-B0."""
    from mnas.console import ConsoleReporter
    from mnas.units import parse_count
    from mnas.zoobench import measure_zoo

    most = None if below is None else parse_count(below, what="--below")
    wanted = _wanted(threads, batch, resolution, device, seed)
    with ConsoleReporter() as reporter:
        result = measure_zoo(names, most, wanted, reporter)
    _print_zoo(result, html, as_json)


@zoo.command("compare")
def zoo_compare(
    names: Annotated[
        list[str], typer.Argument(help="Two or more; the others are measured beside the first.")
    ],
    threads: Threads = 1,
    batch: Batch = 1,
    resolution: Resolution = None,
    device: Device = "local",
    seed: Seed = 0,
    html: Html = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures published networks beside the first that is named, in the same processes; ratios are to it."""
    from mnas.console import ConsoleReporter
    from mnas.zoobench import compare_zoo

    wanted = _wanted(threads, batch, resolution, device, seed)
    with ConsoleReporter() as reporter:
        result = compare_zoo(names, wanted, reporter)
    _print_zoo(result, html, as_json)


def _wanted(threads: int, batch: int, resolution: int | None, device: str, seed: int) -> "Wanted":
    from mnas.latency import Conditions, parse_host
    from mnas.zoobench import Wanted

    return Wanted(Conditions(threads=threads, batch=batch), resolution, seed, parse_host(device))


def _print_zoo(result: dict[str, Any], html: Path | None, as_json: bool) -> None:
    from mnas.zootext import measured_text

    text = f"{measured_text(result['networks'])}\n\n{result['conditions']}"
    if html is not None:
        from mnas.report import write_zoo_page

        write_zoo_page(result, html)
        result = {**result, "html": str(html.absolute())}
        text += f"\nwritten: {html}"
    print_result(result, text, as_json)
