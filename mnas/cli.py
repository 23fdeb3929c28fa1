"""The command line. Its top imports typer and the errors alone, so that `mnas --help` is quick."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from mnas.errors import MnasError, UnknownNameError

INTERRUPTED = 130
# The root of typer's usage errors. Newer typers carry a click of their own, so it is found, not imported.
_ClickException: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

app = typer.Typer(
    name="mnas",
    help="Finds the most accurate convolutional network that meets a latency budget on your own device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
zoo = typer.Typer(
    help="Published networks: list, show, measure.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(zoo, name="zoo")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
Own = "A name, or your own package.module:factory."
SpaceFlag = Annotated[str | None, typer.Option("--space", help=f"mbconv or mnasnet. {Own} [default: mbconv]")]
ControllerFlag = Annotated[
    str | None, typer.Option("--controller", help=f"reinforce or random. {Own} [default: reinforce]")
]
LatencyFlag = Annotated[
    str | None,
    typer.Option(
        "--latency",
        help=f"calibrated (a predictor fitted to networks measured here) or measure (every candidate). {Own} "
        "A plug-in's own estimates decide, since its device need not be this one. [default: calibrated]",
    ),
]
AccuracyFlag = Annotated[
    str | None,
    typer.Option(
        "--accuracy",
        help="imagenet-surrogate or imagenet-surrogate-additive (predicted top-1 under a short public training), "
        f"or proxy with --data. {Own} [default: imagenet-surrogate; proxy with --data]",
    ),
]


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


@app.command()
def search(
    target_latency: Annotated[
        str | None, typer.Option("--target-latency", help="The latency budget with its unit: 80ms, 0.08s.")
    ] = None,
    target_madds: Annotated[
        str | None,
        typer.Option("--target-madds", "--target-flops", help="A multiply-add budget instead: 400M."),
    ] = None,
    base_latency: Annotated[
        str | None,
        typer.Option(
            "--base-latency",
            help="For a target above the space's range: the budget of the baseline that is grown to fill it. "
            "[default: the measured latency of EfficientNet-B0]",
        ),
    ] = None,
    space: SpaceFlag = None,
    controller: ControllerFlag = None,
    reward: Annotated[
        str | None,
        typer.Option(
            "--reward",
            help="hard: accuracy within the target, less beyond it. soft: MnasNet's (latency/target)^-0.07 on both "
            "sides; with one exponent the best network is the same for every target. absolute: TuNAS's. "
            "[default: hard]",
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Networks to try. [default: 8000; 30 with --data]")
    ] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop sampling after this long: 30m.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Of the input, in pixels. [default: 224; with --data the data's own]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Of the classifier. [default: 1000; with --data its own]")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Train each candidate on these images: digits, fashion-mnist[:DIR].")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of proxy training for each candidate, with --data.")
    ] = None,
    latency: LatencyFlag = None,
    accuracy: AccuracyFlag = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the measured network. [default: 1]")] = None,
    batch: Annotated[
        int | None, typer.Option(help="Images per run of the measured network. [default: 1]")
    ] = None,
    max_params: Annotated[str | None, typer.Option(help="Refuse larger networks: 5M.")] = None,
    max_madds: Annotated[
        str | None, typer.Option(help="Refuse networks with more multiply-adds: 400M.")
    ] = None,
    ask_batch: Annotated[int | None, typer.Option(help="Networks per controller update.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random. [default: 0]")] = None,
    out: Annotated[Path | None, typer.Option(help="The run directory. [default: runs/<date>-<n>]")] = None,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of these flags; flags win.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Searches the best network for a latency (or multiply-add) budget."""
    local = dict(locals())
    from mnas.config import SearchConfig, make_config, read_config_file
    from mnas.console import ConsoleReporter
    from mnas.search import start_search

    values = read_config_file(config) if config is not None else {}
    values |= {key: local[key] for key in SearchConfig.model_fields if local[key] is not None}
    with ConsoleReporter() as reporter:
        result = start_search(make_config(values), out, reporter)
    _end_search(result, as_json)


@app.command()
def resume(
    run: Run,
    space: SpaceFlag = None,
    controller: ControllerFlag = None,
    latency: LatencyFlag = None,
    accuracy: AccuracyFlag = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Goes on with a search that was interrupted or killed; nothing is computed twice.

    A run that used your own module:factory needs that flag again.
    """
    from mnas.console import ConsoleReporter
    from mnas.search import resume_search

    given = {"space": space, "controller": controller, "latency": latency, "accuracy": accuracy}
    with ConsoleReporter() as reporter:
        result = resume_search(run, {k: v for k, v in given.items() if v is not None}, reporter)
    _end_search(result, as_json)


@app.command()
def status(run: Run, as_json: Json = False, debug: Debug = False) -> None:
    """Shows what a run has done so far; it may be running."""
    from mnas.search import run_status
    from mnas.summary import status_summary

    state = run_status(run)
    _print(state, status_summary(state), as_json)


@app.command()
def export(
    run: Run,
    form: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="The file. [default: RUN/baseline.onnx]")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Writes the baseline of a run as a model that runs without mnas, checked against torch."""
    if form != "onnx":
        raise UnknownNameError("format", form, ["onnx"])
    from mnas.search import export_run

    exported = export_run(run, out)
    text = (
        f"{exported['path']}: {exported['weights']}; ONNX Runtime and torch agree to "
        f"{exported['error']:.1e} standard deviations of the logits."
    )
    _print(exported, text, as_json)


@zoo.command("list")
def zoo_list(as_json: Json = False, debug: Debug = False) -> None:
    """Lists the published networks with their parameters, multiply-adds and activations."""
    from mnas.records import network_fields
    from mnas.summary import zoo_table
    from mnas.zoo import ZOO

    rows = [{"name": name, **network_fields(spec)} for name, spec in ZOO.items()]
    _print({"networks": rows}, zoo_table(rows), as_json)


@zoo.command("show")
def zoo_show(
    name: Annotated[str, typer.Argument(help="A published network, see `mnas zoo list`.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Shows one published network: its counts and blocks."""
    from mnas.records import network_fields
    from mnas.summary import zoo_table
    from mnas.zoo import published

    fields = {"name": name, **network_fields(published(name))}
    _print(fields, "\n".join([zoo_table([fields]), "", *(fields["block_strings"] or [])]), as_json)


@zoo.command("measure")
def zoo_measure(
    names: Annotated[list[str] | None, typer.Argument(help="Published networks. [default: all]")] = None,
    threads: Annotated[int, typer.Option(help="Threads of the network.")] = 1,
    batch: Annotated[int, typer.Option(help="Images per run.")] = 1,
    resolution: Annotated[int | None, typer.Option(help="In pixels. [default: each paper's]")] = None,
    seed: Annotated[int, typer.Option(help="Of the order and the intervals.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measures published networks on this device, all interleaved in fresh processes."""
    from mnas.console import ConsoleReporter
    from mnas.summary import zoo_table
    from mnas.zoobench import measure_zoo

    with ConsoleReporter() as reporter:
        result = measure_zoo(names, threads, batch, resolution, seed, reporter)
    _print(result, f"{zoo_table(result['networks'])}\n\n{result['conditions']}", as_json)


def _end_search(result: Mapping[str, Any], as_json: bool) -> None:
    from mnas.summary import search_summary

    _print(result, search_summary(result), as_json)
    if result["status"] != "done":
        raise typer.Exit(INTERRUPTED if result["status"] == "interrupted" else 1)


def _print(data: Mapping[str, Any], text: str, as_json: bool) -> None:
    print(json.dumps(data, allow_nan=False) if as_json else text)


def run() -> NoReturn:
    """Runs the command line and ends the process with its exit code."""
    arguments = sys.argv[1:]
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
