"""Latency: `latency measure`, `latency calibrate`, `latency validate`, `latency devices`."""

from pathlib import Path
from typing import Annotated

import typer

from mnas.cli.common import Debug, Device, Json, app, print_result, split_list

latency = typer.Typer(
    help="Latency on a device: measured, calibrated, validated.", no_args_is_help=True, rich_markup_mode=None
)
devices = typer.Typer(
    help="Calibrations of devices: list, export, import.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(latency, name="latency")
latency.add_typer(devices, name="devices")

Threads = Annotated[int, typer.Option(help="Threads of the network.")]
Batch = Annotated[int, typer.Option(help="Images per run.")]
Precision = Annotated[str, typer.Option(help="fp32 or int8.")]
Provider = Annotated[str, typer.Option(help="ONNX Runtime's execution provider.")]
Seed = Annotated[int, typer.Option(help="Of order, inputs and intervals.")]
CPU = "CPUExecutionProvider"


@latency.command("measure")
def latency_measure(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="An .onnx file, a run directory, a network's JSON file, or a published network.",
        ),
    ],
    network: Annotated[
        str, typer.Option(help="Of a run: baseline, scaled, or a member of its family (phi-2).")
    ] = "baseline",
    threads: Threads = 1,
    batch: Annotated[
        int | None, typer.Option(help="Images per run. [default: what an .onnx file fixes, or 1]")
    ] = None,
    precision: Precision = "fp32",
    provider: Provider = CPU,
    resolution: Annotated[int | None, typer.Option(help="In pixels. [default: the model's own]")] = None,
    device: Device = "local",
    reference: Annotated[
        str | None,
        typer.Option(
            help="efficientnet_b0, mobilenetv2 or dense. [default: the one with the nearest kernels]"
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Fresh processes.")] = 9,
    budget: Annotated[str, typer.Option(help="Time for all of them: 30s, 2m.")] = "30s",
    profile: Annotated[bool, typer.Option("--profile", help="Time each operator as well.")] = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None,
        typer.Option(help="File of the record with all raw samples. [default: in the user's cache]"),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures one model in fresh processes, interleaved with a reference network, with a 95 % interval."""
    from mnas.console import ConsoleReporter
    from mnas.latency import parse_host
    from mnas.measuring import Wanted, measure_model, measured_text
    from mnas.units import parse_duration_s

    wanted = Wanted(
        threads=threads,
        batch=batch,
        precision=precision,
        provider=provider,
        resolution=resolution,
        reference=reference,
        processes=processes,
        budget_s=parse_duration_s(budget, what="--budget"),
        profile=profile,
        seed=seed,
        out=out,
    )
    with ConsoleReporter() as reporter:
        result = measure_model(model, wanted, reporter, network=network, host=parse_host(device))
    print_result(result, measured_text(result), as_json)
    if result["status"] == "noisy":
        raise typer.Exit(1)


@latency.command("validate")
def latency_validate(
    predictor: Annotated[
        str,
        typer.Argument(
            help="calibrated (this device's calibration), madds, or your own: package.module:factory."
        ),
    ] = "calibrated",
    space: Annotated[str, typer.Option(help="Whose members are measured.")] = "mbconv",
    networks: Annotated[int, typer.Option(help="How many.")] = 50,
    phi: Annotated[
        str | None, typer.Option(help="Scale each by a phi of this range: 0.5,3. [default: as they are]")
    ] = None,
    resolution: Annotated[int, typer.Option(help="In pixels.")] = 224,
    classes: Annotated[int, typer.Option(help="Of the classifier.")] = 1000,
    threads: Threads = 1,
    batch: Batch = 1,
    precision: Precision = "fp32",
    provider: Provider = CPU,
    device: Device = "local",
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file with each network's figures.")] = None,
    plot: Annotated[Path | None, typer.Option(help="HTML file: predicted against measured.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures random networks that no calibration saw and scores the predictions of their latencies."""
    from mnas.console import ConsoleReporter
    from mnas.errors import InputError
    from mnas.latency import Conditions, parse_host
    from mnas.validating import Unseen, validate, validated_text

    span = split_list(phi, float, "--phi", "0.5,3")
    if span and (len(span) != 2 or span[0] > span[1]):
        raise InputError(f"--phi takes the ends of a range, 0.5,3 for example; got {phi!r}.")
    unseen = Unseen(space, networks, (span[0], span[1]) if span else None, resolution, classes, seed)
    conditions = Conditions(threads=threads, batch=batch, precision=precision, provider=provider)
    with ConsoleReporter() as reporter:
        result = validate(
            predictor, unseen, conditions, reporter, host=parse_host(device), out=out, plot=plot
        )
    print_result(result, validated_text(result), as_json)


@latency.command("calibrate")
def latency_calibrate(
    threads: Threads = 1,
    batch: Batch = 1,
    precision: Precision = "fp32",
    provider: Provider = CPU,
    device: Device = "local",
    like: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A calibration of another device or other conditions, its name (`mnas latency devices list`) or file: "
            "few networks are measured, the rest is told from it.",
        ),
    ] = None,
    networks: Annotated[
        int | None, typer.Option(help="With --like: how many to measure, 10 to 60. [default: 20]")
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures 108 networks, fits this device's predictor and keeps it for later searches."""
    from mnas.calibrating import calibrate_device, calibrated_text
    from mnas.console import ConsoleReporter
    from mnas.latency import Conditions, parse_host

    conditions = Conditions(threads=threads, batch=batch, precision=precision, provider=provider)
    with ConsoleReporter() as reporter:
        result = calibrate_device(
            conditions, reporter, host=parse_host(device), seed=seed, like=like, networks=networks
        )
    print_result(result, calibrated_text(result), as_json)


@devices.command("list")
def devices_list(as_json: Json = False, debug: Debug = False) -> None:
    """Lists the kept calibrations: device, conditions, date, error; and which of them is this device's."""
    from mnas.calibrating import device_rows, devices_text

    rows = device_rows()
    print_result({"devices": rows}, devices_text(rows), as_json)


@devices.command("export")
def devices_export(
    name: Annotated[str, typer.Argument(help="Of a kept calibration, or the beginning of it.")],
    out: Annotated[Path, typer.Argument(metavar="FILE", help="JSON file to write.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Writes a kept calibration to a file, for another machine."""
    from mnas.calibrating import export_calibration

    result = export_calibration(name, out)
    print_result(result, f"{result['path']}: {result['device']}, {result['conditions']}", as_json)


@devices.command("import")
def devices_import(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="What devices export wrote.")],
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of one that is kept.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Keeps a calibration that was made elsewhere; it serves searches on the device that it was made on."""
    from mnas.calibrating import import_device

    result = import_device(path, replace)
    print_result(result, f"kept as {result['name']}: {result['device']}, {result['conditions']}", as_json)
