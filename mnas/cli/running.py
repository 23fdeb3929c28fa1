"""What a finished run is made into: `scale`, `export`, `report`."""

from pathlib import Path
from typing import Annotated

import typer

from mnas.cli.common import Debug, Json, Run, app, print_result, split_list
from mnas.cli.searching import LatencyFlag


@app.command()
def scale(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SPEC", help="A run directory, a network's JSON file, or a published network."
        ),
    ],
    phi: Annotated[
        str | None, typer.Option(help="Compound coefficients: 1,2,3. [default: 1,2,3 unless --to]")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Latencies to fill on this device: 20ms,40ms.")
    ] = None,
    to_madds: Annotated[
        str | None, typer.Option("--to-madds", help="Multiply-adds to fill: 600M,1G.")
    ] = None,
    released: Annotated[
        bool,
        typer.Option(
            "--released",
            help="EfficientNet's released coefficients instead: B0 to B7, which follow the rule only roughly.",
        ),
    ] = False,
    alpha: Annotated[float, typer.Option(help="Depth grows by alpha^phi.")] = 1.2,
    beta: Annotated[float, typer.Option(help="Width grows by beta^phi.")] = 1.1,
    gamma: Annotated[float, typer.Option(help="Resolution grows by gamma^phi.")] = 1.15,
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure each member on this device.")
    ] = True,
    latency: LatencyFlag = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the network. [default: the run's, or 1]")
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Images per run. [default: the run's, or 1]")] = None,
    seed: Annotated[int, typer.Option(help="Of measurements and initial weights.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the members' files. [default: RUN/family; without a run no files]"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Grows a network into a family by compound scaling, each member with its counts and measured latency."""
    from mnas.console import ConsoleReporter
    from mnas.family import Growth, find_source, run_conditions, scale_family
    from mnas.search_space import Coefficients
    from mnas.summary import family_summary

    growth = Growth(
        phis=split_list(phi, float, "--phi", "1,2,3"),
        latencies=split_list(to, str, "--to", "20ms,40ms"),
        madds=split_list(to_madds, str, "--to-madds", "600M,1G"),
        by_table=released,
        coefficients=Coefficients(alpha, beta, gamma),
    )
    found = find_source(source)
    with ConsoleReporter() as reporter:
        family = scale_family(
            found,
            growth,
            measured=measured,
            conditions=run_conditions(found, threads, batch),
            latency=latency,
            out=out,
            seed=seed,
            reporter=reporter,
        )
    print_result(family, family_summary(family), as_json)


@app.command()
def export(
    run: Run,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx; pt2 (torch.export); safetensors (weights alone); python (one file that needs only torch, and "
            "its weights); timm (keyword arguments of timm's builder, and weights); json (the specification).",
        ),
    ] = "onnx",
    network: Annotated[
        str, typer.Option(help="baseline, scaled, or a member of the family: phi-2.")
    ] = "baseline",
    out: Annotated[
        Path | None, typer.Option(help="The file. [default: RUN/NETWORK with the format's suffix]")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Writes a network of a run as files that work without mnas, loaded again and compared with torch."""
    from mnas.search import export_run
    from mnas.summary import export_summary

    exported = export_run(run, form, out, network)
    print_result(exported, export_summary(exported), as_json)


@app.command()
def report(run: Run, as_json: Json = False, debug: Debug = False) -> None:
    """Makes RUN/report.html again from the run directory alone: one file that opens offline."""
    from mnas.report import write_report

    path = write_report(run)
    print_result({"run": str(run.absolute()), "path": str(path)}, f"{path}", as_json)
