"""Searching: `search`, `resume`, `status`, `best`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.common import DEVICE_HELP, Debug, Json, Run, app, print_result
from mnas.errors import MnasError

INTERRUPTED = 130
Own = "A name, or your own package.module:factory."
SpaceFlag = Annotated[
    str | None,
    typer.Option(
        "--space",
        help="mbconv, mnasnet, efficientnetv2, resnet-rs, regnet, igcv3, ghost or macro; a file my_space.toml of your "
        "own (docs/plugins.md), or package.module:factory. [default: mbconv]",
    ),
]
ControllerFlag = Annotated[
    str | None,
    typer.Option(
        "--controller",
        help=f"guided (practises on a model of the evaluations so far), reinforce, ppo, evolution, exhaustive (small "
        f"spaces), random, or a bridge such as optuna:tpe. {Own} [default: guided; reinforce for more "
        "than 1000 trials, or where every candidate is measured]",
    ),
]
BaselineFlag = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        help="A second controller, random for example, to compare the first with: the report says whether that earned "
        f"its keep. {Own} [default: none]",
    ),
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
        "or, with --data, proxy (each candidate is trained) or supernet (all share weights that are trained once). "
        f"{Own} [default: imagenet-surrogate; proxy with --data]",
    ),
]
ExecutorFlag = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="Where candidates are trained: inline (one after the other), processes (of this machine, one for each GPU "
        "or set of cores), or ray (a Ray cluster; needs mnas[ray]). [default: inline]",
    ),
]
WorkersFlag = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Candidates trained at once. [default: as many as GPUs, else as cores, --train-threads for each]",
    ),
]
AddressFlag = Annotated[
    str | None,
    typer.Option(
        "--address", help="Of a running Ray cluster. [default: one on this machine for this search]"
    ),
]


@app.command()
def search(
    target_latency: Annotated[
        str | None,
        typer.Option(
            "--target-latency",
            help="The latency budget with its unit: 80ms, 0.08s. Several with commas, 40ms,80ms, share their trials; "
            "each ends with a network.",
        ),
    ] = None,
    target_madds: Annotated[
        str | None,
        typer.Option(
            "--target-madds", "--target-flops", help="A multiply-add budget instead, or several: 400M."
        ),
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
    baseline: BaselineFlag = None,
    baseline_share: Annotated[
        float | None,
        typer.Option(
            help="Of the trials that the baseline gets, 0.05 to 0.5; as many of the controller's are compared with it. "
            "[default: 0.5]"
        ),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            "--reward",
            help="hard: accuracy within the target, less beyond it. soft: MnasNet's (latency/target)^-0.07 on both "
            "sides; with one exponent the best network is the same for every target. absolute: TuNAS's. "
            "training-aware: EfficientNetV2's accuracy x (time of a training step)^-0.07 x parameters^-0.05, within "
            "the target, which stays hard; steps are timed here. [default: hard]",
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Networks to try. [default: 8000; with --data 30, of shared weights 300]"),
    ] = None,
    max_time: Annotated[str | None, typer.Option(help="Stop sampling after this long: 30m.")] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Of the input, in pixels. [default: 224; with --data the data's own]")
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Of the classifier. [default: 1000; with --data its own]")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Train each candidate on these images: a folder of yours with a folder for each class, or with "
            "train, val and test around those; a .tar, .tar.gz or .tar.xz of it; cifar10:DIR, cifar100:DIR, "
            "fashion-mnist[:DIR], digits."
        ),
    ] = None,
    skip_unreadable: Annotated[
        bool | None,
        typer.Option(
            "--skip-unreadable",
            help="Leave out images and classes of --data that cannot be used, instead of refusing them.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Of proxy training for each candidate, with --data. [default: 6]")
    ] = None,
    supernet_epochs: Annotated[
        int | None,
        typer.Option(help="Of the shared weights' training, with --accuracy supernet. [default: 20]"),
    ] = None,
    supernet_sampling: Annotated[
        str | None,
        typer.Option(
            metavar="HOW",
            help="Which networks that training draws: uniform, or controller (after a quarter of it, ever more those "
            "that are best for the target, as in TuNAS). [default: uniform]",
        ),
    ] = None,
    proxy_images: Annotated[
        int | None, typer.Option(help="Training images for each candidate. [default: all]")
    ] = None,
    proxy_resolution: Annotated[
        int | None, typer.Option(help="Candidates are trained at this resolution. [default: their own]")
    ] = None,
    proxy_width: Annotated[
        float | None, typer.Option(help="Candidates are trained with this share of their channels: 0.5.")
    ] = None,
    proxy_seeds: Annotated[
        int | None, typer.Option(help="Trainings of each candidate, whose mean counts. [default: 1]")
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(
            metavar="ETA",
            help="Successive halving: only the best 1/ETA go on after 1/ETA of the epochs, and so on. [default: off]",
        ),
    ] = None,
    candidate_timeout: Annotated[
        str | None, typer.Option(help="A candidate that trains longer has failed: 10m. [default: none]")
    ] = None,
    final_epochs: Annotated[
        int | None, typer.Option(help="Of the finalists' training, with --data. [default: 4 x --epochs]")
    ] = None,
    finals: Annotated[
        int | None, typer.Option(help="Finalists within the target that are trained longer. [default: 3]")
    ] = None,
    rank_check: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Before the trials, with --data: N random networks are ranked as candidates are and by a training as "
            "long as the finalists', and Kendall's tau is told; at least 6, 0 is off. [default: as many as 10 % of the "
            "estimated time allow, none where that is fewer than 6]",
        ),
    ] = None,
    train_device: Annotated[
        str | None,
        typer.Option(help="Where networks are trained: cpu, cuda, cuda:1. [default: a GPU if any]"),
    ] = None,
    train_threads: Annotated[
        int | None, typer.Option(help="Of torch in training; with 1 the result does not depend on the cores.")
    ] = None,
    executor: ExecutorFlag = None,
    workers: WorkersFlag = None,
    address: AddressFlag = None,
    latency: LatencyFlag = None,
    latency_quantile: Annotated[
        float | None,
        typer.Option(
            "--latency-quantile",
            metavar="Q",
            help="A network is judged in the search by this quantile of its latency as its interval tells it, 0.05 to "
            "0.95: with 0.9 it is within the target nine times in ten. [default: 0.5, the estimate itself]",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help=f"{DEVICE_HELP} Training stays here. [default: local]")
    ] = None,
    recalibrate: Annotated[
        bool | None,
        typer.Option("--recalibrate", help="Measure the device anew instead of using its kept calibration."),
    ] = None,
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
    """Searches the best network for a latency (or multiply-add) budget, or one for each of several."""
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
    baseline: BaselineFlag = None,
    latency: LatencyFlag = None,
    accuracy: AccuracyFlag = None,
    executor: ExecutorFlag = None,
    workers: WorkersFlag = None,
    address: AddressFlag = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Goes on with a search that was interrupted or killed; nothing is computed twice.

    A run that used your own module:factory needs that flag again. Candidates may be trained elsewhere than before.
    """
    from mnas.console import ConsoleReporter
    from mnas.search import resume_search

    given = {
        "space": space,
        "controller": controller,
        "baseline": baseline,
        "latency": latency,
        "accuracy": accuracy,
    }
    where = {"executor": executor, "workers": workers, "address": address}
    with ConsoleReporter() as reporter:
        result = resume_search(
            run,
            {k: v for k, v in given.items() if v is not None},
            reporter,
            executor={k: v for k, v in where.items() if v is not None},
        )
    _end_search(result, as_json)


@app.command()
def status(run: Run, as_json: Json = False, debug: Debug = False) -> None:
    """Shows what a run has done so far; it may be running."""
    from mnas.search import run_status
    from mnas.summary import status_summary

    state = run_status(run)
    print_result(state, status_summary(state), as_json)


@app.command()
def best(
    run: Run,
    target_latency: Annotated[
        str | None, typer.Option("--target-latency", help="Another budget with its unit: 50ms.")
    ] = None,
    target_madds: Annotated[
        str | None,
        typer.Option("--target-madds", "--target-flops", help="A multiply-add budget instead: 400M."),
    ] = None,
    space: SpaceFlag = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the network's specification to this JSON file.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Finds the best stored trial for another target; nothing is evaluated or measured again."""
    from mnas.search import best_trial
    from mnas.summary import best_summary

    found = best_trial(run, target_latency, target_madds, space, out)
    print_result(found, best_summary(found), as_json)


def _end_search(result: Mapping[str, Any], as_json: bool) -> None:
    from mnas.summary import search_summary

    result = {**result, "report": _report(Path(result["run"]))}
    print_result(result, search_summary(result), as_json)
    if result["status"] != "done":
        raise typer.Exit(INTERRUPTED if result["status"] == "interrupted" else 1)


def _report(run: Path) -> str | None:
    """Writes the report; what keeps it from being written is said, and does not undo the search."""
    from mnas.report import write_report

    try:
        return str(write_report(run))
    except MnasError as error:
        print(f"  warning: no report was written: {error} Again with: mnas report {run}", file=sys.stderr)
        return None
