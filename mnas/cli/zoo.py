"""Published networks: `zoo list`, `zoo show`, `zoo measure`."""

from typing import Annotated

import typer

from mnas.cli.common import Debug, Device, Json, app, print_result

zoo = typer.Typer(
    help="Published networks: list, show, measure.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(zoo, name="zoo")


@zoo.command("list")
def zoo_list(as_json: Json = False, debug: Debug = False) -> None:
    """Lists the published networks: parameters, multiply-adds, activations, published accuracy."""
    from mnas.records import network_fields
    from mnas.summary import zoo_table
    from mnas.zoo import MEMBERS

    rows = [
        {"name": name, **network_fields(member.spec), **member.accuracy_fields()}
        for name, member in MEMBERS.items()
    ]
    print_result({"networks": rows}, zoo_table(rows), as_json)


@zoo.command("show")
def zoo_show(
    name: Annotated[str, typer.Argument(help="A published network, see `mnas zoo list`.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Shows one published network: its counts and blocks."""
    from mnas.records import network_fields
    from mnas.summary import zoo_table
    from mnas.zoo import member

    found = member(name)
    fields = {"name": name, **network_fields(found.spec), **found.accuracy_fields()}
    source = [f"top-1: {found.source}"] if found.source else []
    text = "\n".join([zoo_table([fields]), *source, "", *(fields["block_strings"] or [])])
    print_result(fields, text, as_json)


@zoo.command("measure")
def zoo_measure(
    names: Annotated[list[str] | None, typer.Argument(help="Published networks. [default: all]")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the network.")] = 1,
    batch: Annotated[int, typer.Option(help="Images per run.")] = 1,
    resolution: Annotated[int | None, typer.Option(help="In pixels. [default: each paper's]")] = None,
    device: Device = "local",
    seed: Annotated[int, typer.Option(help="Of the order and the intervals.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures published networks, all interleaved in fresh processes."""
    from mnas.console import ConsoleReporter
    from mnas.latency import parse_host
    from mnas.summary import zoo_table
    from mnas.zoobench import measure_zoo

    with ConsoleReporter() as reporter:
        result = measure_zoo(names, threads, batch, resolution, seed, reporter, host=parse_host(device))
    print_result(result, f"{zoo_table(result['networks'])}\n\n{result['conditions']}", as_json)
