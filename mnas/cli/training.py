"""Training a network to the end: `train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnas.cli.common import Debug, Json, app, print_result
from mnas.errors import InputError

INTERRUPTED = 130
_RESUMABLE = {"data", "device", "threads"}
_RECIPE = ("epochs", "batch_size", "accumulate", "lr")
_PLAN = (
    "source",
    "data",
    "network",
    "resolution",
    "seed",
    "device",
    "threads",
    "amp",
    "start",
    "tensorboard",
    "skip_unreadable",
)


@app.command()
def train(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN|SPEC]", help="A run directory, a network's JSON file, or a published network."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The images, named as for `mnas search`.")] = None,
    network: Annotated[
        str | None, typer.Option(help="Of a run: baseline or scaled. [default: baseline]")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="cifar (SGD, cosine), short (the same for few epochs), modern (progressive resolution, RandAugment, "
            "mixup), adamw (mixup, cutmix) or imagenet-b0 (EfficientNet's: RMSProp, moving average, AutoAugment). "
            "[default: cifar]"
        ),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="A TOML file with any field of a recipe in [recipe]; flags win.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the images. [default: the preset's]")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images of a step; the rate changes with it unless --lr is given.")
    ] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a batch is computed in.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    no_flip: Annotated[
        bool,
        typer.Option("--no-flip", help="Never mirror images: for letters and signs. Digits never are."),
    ] = False,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Weights to begin with: FILE.safetensors, or timm:NAME from the local cache. A classifier of other "
            "classes is replaced.",
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Of the input, in pixels. [default: the network's own]")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that is random. [default: 0]")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1. [default: a GPU if any]")] = None,
    threads: Annotated[
        int | None, typer.Option(help="Of torch; with 1 the result does not depend on the cores.")
    ] = None,
    amp: Annotated[
        bool | None, typer.Option("--amp", help="bf16 autocast, if a measurement finds it faster.")
    ] = None,
    skip_unreadable: Annotated[
        bool | None,
        typer.Option("--skip-unreadable", help="Leave out images and classes that cannot be used."),
    ] = None,
    tensorboard: Annotated[
        bool | None, typer.Option("--tensorboard", help="Write scalars to DIR/tensorboard too.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder. [default: RUN/train-<n>, or trainings/<date>-<n>]")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the training in this folder, exactly where it was.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Trains a network to the end, with checkpoints, and writes its weights and ONNX model."""
    names = (*_PLAN, *_RECIPE, "preset", "recipe", "out")
    local = dict(locals())
    given = {name: local[name] for name in names if local[name] is not None}
    if no_flip:
        given["no_flip"] = True
    if resume is not None:
        _check_resume(given)
    elif source is None or data is None:
        raise InputError(
            "name a network and its images: mnas train efficientnet_b0 --data digits - or go on with a training: "
            "mnas train --resume DIR"
        )
    from mnas.console import ConsoleReporter
    from mnas.trainer.plan import Plan, make_recipe
    from mnas.training_run import resume_training, start_training

    with ConsoleReporter() as reporter:
        if resume is not None:
            result = resume_training(resume, reporter, data=data, device=device, threads=threads)
        else:
            changes = {name: given[name] for name in _RECIPE if name in given}
            made = make_recipe(preset, recipe, changes | ({"flip": False} if no_flip else {}))
            plan = Plan(**{name: given[name] for name in _PLAN if name in given})
            result = start_training(plan, made, out, reporter)
    if result is None:  # one of torchrun's other processes
        return
    print_result(result, _summary(result), as_json)
    if result["status"] != "done":
        raise typer.Exit(INTERRUPTED)


def _check_resume(given: dict[str, Any]) -> None:
    others = [name for name in given if name not in _RESUMABLE]
    if others:
        raise InputError(
            f"--resume goes on with the stored recipe; of the flags only --data, --device and --threads may be given, "
            f"not {', '.join(others)}."
        )


def _summary(result: dict[str, Any]) -> str:
    if result["status"] != "done":
        return f"interrupted; go on with: mnas train --resume {result['run']}"
    return "\n".join(
        [
            f"test accuracy {result['test_accuracy']:.2%} (standard error {result['test_std']:.2%}), validation "
            f"{result['val_accuracy']:.2%}",
            f"{result['accuracy_source']}; {result['seconds']:.0f} s on {result['device']}",
            f"{result['params']:,} parameters, {result['madds']:,} MAdds at {result['resolution']} pixels",
            f"weights: {result['weights']}",
            f"onnx: {result['onnx']}",
        ]
    )
