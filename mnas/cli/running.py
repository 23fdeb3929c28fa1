"""What a finished run is made into: `scale`, `export`, `report`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.common import DEVICE_HELP, Debug, Json, Run, app, print_result, split_list
from mnas.cli.searching import LatencyFlag
from mnas.errors import InputError


@app.command()
def scale(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RUN|SPEC", help="A run directory, a network's JSON file, or a published network."
        ),
    ],
    network: Annotated[
        str, typer.Option(help="Of a run: baseline, or one of several: baseline-40ms.")
    ] = "baseline",
    phi: Annotated[
        str | None, typer.Option(help="Compound coefficients: 1,2,3. [default: 1,2,3 unless --to]")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", help="Latencies to fill on the device: 20ms,40ms.")
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
    rule: Annotated[
        str,
        typer.Option(
            help="compound, depth, width, resolution, resnet-rs (long trainings), resnet-rs-short, fast, or latency "
            "(with --to and --accuracy); docs/scaling.md."
        ),
    ] = "compound",
    accuracy: Annotated[
        str | None, typer.Option(help="module:factory of a model that judges each step of --rule latency.")
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Of compound: depth grows by alpha^phi. [default: 1.2]")
    ] = None,
    beta: Annotated[float | None, typer.Option(help="Width grows by beta^phi. [default: 1.1]")] = None,
    gamma: Annotated[
        float | None, typer.Option(help="Resolution grows by gamma^phi. [default: 1.15]")
    ] = None,
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Measure each member on the device.")
    ] = True,
    latency: LatencyFlag = None,
    device: Annotated[
        str | None, typer.Option("--device", help=f"{DEVICE_HELP} [default: the run's, or local]")
    ] = None,
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
    """Grows a network into a family by a scaling rule, each member with its counts and measured latency."""
    from mnas.console import ConsoleReporter
    from mnas.family import Growth, run_conditions, run_host, scale_family
    from mnas.greedily import GREEDY, greedy_accuracy
    from mnas.search_space.rules import chosen_rule
    from mnas.sources import find_source
    from mnas.summary import family_summary

    growth = Growth(
        phis=split_list(phi, float, "--phi", "1,2,3"),
        latencies=split_list(to, str, "--to", "20ms,40ms"),
        madds=split_list(to_madds, str, "--to-madds", "600M,1G"),
        by_table=released,
        rule=chosen_rule("compound" if rule == GREEDY else rule, alpha=alpha, beta=beta, gamma=gamma),
        accuracy=greedy_accuracy(rule, accuracy),
    )
    found = find_source(source, network)
    with ConsoleReporter() as reporter:
        family = scale_family(
            found,
            growth,
            measured=measured,
            conditions=run_conditions(found, threads, batch),
            latency=latency,
            host=run_host(found, device),
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
    int8: Annotated[
        bool,
        typer.Option(
            "--int8",
            help="ONNX in 8-bit integers, of a trained run or a folder of `mnas train`; its accuracy before and after.",
        ),
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="With --int8: the images that the network was trained on.")
    ] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images and classes that cannot be used.")
    ] = False,
    measured: Annotated[
        bool, typer.Option("--measure/--no-measure", help="With --int8: time both files on this device.")
    ] = True,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Writes a network of a run as files that work without mnas, loaded again and compared with torch."""
    if int8 or data is not None or skip_unreadable:
        _check_int8(run, int8, data, form, network)
        assert data is not None
        from mnas.console import ConsoleReporter
        from mnas.export.int8 import export_int8
        from mnas.measuring import compare_int8

        with ConsoleReporter() as reporter:
            quantized = export_int8(
                run, data, out, reporter, network=network, skip_unreadable=skip_unreadable
            )
            if measured:
                files = Path(quantized["fp32_path"]), Path(quantized["path"])
                quantized |= compare_int8(*files, reporter)
        print_result(quantized, _int8_summary(quantized), as_json)
        return
    from mnas.search import export_run
    from mnas.summary import export_summary

    exported = export_run(run, form, out, network)
    print_result(exported, export_summary(exported), as_json)


def _check_int8(run: Path, int8: bool, data: str | None, form: str, network: str) -> None:
    if not int8:
        raise InputError("--data and --skip-unreadable go with --int8.")
    problems = []
    if data is None:
        problems.append(
            f"--int8 fits its integers to images: name those that the network was trained on: "
            f"mnas export {run} --int8 --data DATA"
        )
    if form != "onnx":
        problems.append(f"--int8 writes onnx, not {form}")
    if not network.startswith("baseline"):
        problems.append(
            f"of a run's networks only the baseline can have trained weights: train {network} with mnas train and "
            f"export the folder that this makes"
        )
    if problems:
        raise InputError(f"{'; '.join(problems)}.")


def _int8_summary(result: Mapping[str, Any]) -> str:
    from mnas.measuring import int8_text

    return "\n".join(
        [
            f"{result['path']}: {result['weights']}; int8 weights of {result['weight_bits']} bits, uint8 activations "
            f"by the ranges of {result['calibration_images']} training images",
            f"accuracy {result['accuracy_fp32']:.2%} in fp32 (standard error {result['accuracy_fp32_std']:.2%}), "
            f"{result['accuracy_int8']:.2%} in int8, on {result['images']:,} test images of {result['data']}",
            f"size {result['bytes_fp32'] / 1e6:.2f} MB in fp32 ({result['fp32_path']}), "
            f"{result['bytes_int8'] / 1e6:.2f} MB in int8",
            *([int8_text(result)] if "int8_verdict" in result else []),
        ]
    )


@app.command()
def report(run: Run, as_json: Json = False, debug: Debug = False) -> None:
    """Makes RUN/report.html again from the run directory alone: one file that opens offline."""
    from mnas.report import write_report

    path = write_report(run)
    print_result({"run": str(run.absolute()), "path": str(path)}, f"{path}", as_json)
