"""What `mnas train` does, from a source to files: `recipe.toml`, checkpoint, log, weights, ONNX, result."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mnas.data import ImageData, load_data
from mnas.env import environment
from mnas.errors import InputError
from mnas.export import export_onnx
from mnas.files import read_json, write_bytes, write_json
from mnas.model import build_module
from mnas.records import network_fields
from mnas.rundir import RunDirectory
from mnas.search.reporting import Quiet, Reporter
from mnas.search_space import NetworkSpec
from mnas.sources import find_source
from mnas.threads import torch_threads
from mnas.trainer import (
    Recipe,
    State,
    Task,
    begin,
    fit,
    make_task,
    save_checkpoint,
    starting_weights,
)
from mnas.trainer.described import weights_metadata
from mnas.trainer.loop import CHECKPOINT_S
from mnas.trainer.machine import usable_device
from mnas.trainer.parallel import Group, joined
from mnas.trainer.plan import Plan, TrainingFolder, read_plan, write_plan
from mnas.trainer.schedule import RESOLUTION_STEP
from mnas.trainer.tensorboard import Board, check_tensorboard
from mnas.training import evaluate, standard_error
from mnas.weights import load_weights, save_weights
from mnas.zoo import is_published


def start_training(
    plan: Plan, recipe: Recipe, out: Path | None, reporter: Reporter, *, checkpoint_s: float = CHECKPOINT_S
) -> dict[str, Any] | None:
    """Trains a network from the beginning.

    Args:
        plan: what.
        recipe: how.
        out: the folder, new or empty; None is RUN/train-<n>, or trainings/<date>-<n> where there is no run.
        reporter: told of progress.
        checkpoint_s: seconds between checkpoints inside an epoch.

    Returns:
        What `result.json` holds; None in all but the first process of torchrun.

    Raises:
        InputError: something that does not fit, before anything is written.
        TrainingError: the training failed; the last checkpoint is whole.
    """
    with joined(usable_device(plan.device)) as (group, device), torch_threads(plan.threads):
        if group.rank:
            reporter = Quiet()
        source = _network(plan)
        data = _load(plan, _decoded_size(plan, source), reporter)
        spec = _fitted(plan, source, data)
        recipe = replace(recipe, flip=recipe.flip and data.flip)
        task = make_task(
            spec, recipe, data, seed=plan.seed, device=device, amp=plan.amp, processes=group.size
        )
        if spec.too_small is not None:
            reporter.warn(spec.too_small)
        initial = starting_weights(plan.start, spec, reporter.note)
        if plan.tensorboard:
            check_tensorboard()
        folder = None
        if group.rank == 0:
            folder = TrainingFolder.create(out, plan.source)
            write_plan(folder, plan, recipe, _images(task))
            write_json(folder.network, spec.to_dict())
            write_json(folder.environment, {**environment(), "threads": torch.get_num_threads()})
        reporter.stage(
            f"training {plan.source} on {data.name}: {len(data.train):,} images of {spec.resolution} pixels"
        )
        return _train(folder, plan, task, initial, reporter, group, checkpoint_s)


def resume_training(
    path: Path,
    reporter: Reporter,
    *,
    data: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> dict[str, Any] | None:
    """Goes on with a training that was interrupted or killed, exactly where its checkpoint is.

    Args:
        path: its folder.
        reporter: told of progress.
        data: where its images are now; None is where they were.
        device: another device; None is the one it began on.
        threads: another number; None is the one it began with.
        checkpoint_s: as of `start_training`.

    Returns:
        As `start_training`; of a training that is finished, its result.

    Raises:
        RunDirectoryError: not a training of this version, or a damaged file.
        InputError: the images are not those it began with.
        TrainingError: the training failed.
    """
    folder = TrainingFolder(path.absolute())
    plan, recipe, images = read_plan(folder)
    if folder.result.is_file():
        reporter.note(f"{path} is finished already.")
        return dict(read_json(folder.result))
    changes: dict[str, Any] = {"data": data, "device": device, "threads": threads}
    plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
    with joined(usable_device(plan.device)) as (group, device_name), torch_threads(plan.threads):
        if group.rank:
            reporter = Quiet()
        spec = NetworkSpec.from_dict(read_json(folder.network))
        task = make_task(
            spec,
            recipe,
            _load(plan, spec.resolution, reporter),
            seed=plan.seed,
            device=device_name,
            amp=plan.amp,
            processes=group.size,
        )
        if images != _images(task):
            raise InputError(
                f"{plan.data} does not hold the images that this training began with: it has {_images(task)}, "
                f"expected {images}. Name them with --data."
            )
        if plan.tensorboard:
            check_tensorboard()
        # Killed before its first checkpoint, it begins again.
        initial = None if folder.checkpoint.is_file() else starting_weights(plan.start, spec, reporter.note)
        reporter.stage(f"going on with {folder.path}")
        return _train(folder, plan, task, initial, reporter, group, checkpoint_s)


def _train(
    folder: TrainingFolder | None,
    plan: Plan,
    task: Task,
    initial: dict[str, torch.Tensor] | None,
    reporter: Reporter,
    group: Group,
    checkpoint_s: float,
) -> dict[str, Any] | None:
    checkpoint = None if folder is None else folder.checkpoint

    def start() -> State:
        return begin(task, checkpoint, initial)

    if folder is None or group.rank:
        fit(task, start, save=lambda state: None, listener=reporter, group=group)
        return None
    board = Board(folder.board) if plan.tensorboard else None

    def save(state: State) -> None:
        save_checkpoint(folder.checkpoint, state)
        lines = [json.dumps(row) + "\n" for row in state.progress.history]
        write_bytes(folder.log, "".join(lines).encode())
        if board is not None:
            board.write(state.progress.history)

    with RunDirectory(folder.path).locked():
        folder.tidy()
        try:
            state = fit(task, start, save=save, listener=reporter, group=group, checkpoint_s=checkpoint_s)
        except KeyboardInterrupt:
            return {"status": "interrupted", "run": str(folder.path)}
        return _finish(folder, plan, task, state, reporter)


def _finish(
    folder: TrainingFolder, plan: Plan, task: Task, state: State, reporter: Reporter
) -> dict[str, Any]:
    """Scores the best epoch on the test split, once, and writes weights, ONNX and the result."""
    reporter.stage("scoring the test split, writing the network")
    progress, data = state.progress, task.data
    module = build_module(task.spec)
    module.load_state_dict(state.best)
    test = evaluate(module.to(task.device), data.test, task.inputs)
    about = weights_metadata(task, progress)
    save_weights(folder.weights, state.best, about)
    exported = export_onnx(
        task.spec, folder.onnx, weights=load_weights(folder.weights), about=about, seed=plan.seed
    )
    result = {
        "run": str(folder.path),
        "status": "done",
        "source": plan.source,
        "data": plan.data,
        "preset": task.recipe.preset,
        "epochs": task.recipe.epochs,
        "best_epoch": progress.best_epoch,
        "val_accuracy": progress.best_accuracy,
        "val_std": standard_error(progress.best_accuracy, len(data.val)),
        "test_accuracy": test,
        "test_std": standard_error(test, len(data.test)),
        "accuracy_source": about["trained"],
        "seconds": progress.seconds,
        "device": task.device,
        "threads": torch.get_num_threads(),
        **network_fields(task.spec),
        "weights": str(folder.weights),
        "onnx": str(folder.onnx),
        "onnx_error": exported.error,
    }
    write_json(folder.result, result)
    return result


def _network(plan: Plan) -> NetworkSpec:
    """The source's network as it is."""
    return find_source(plan.source, plan.network).spec


def _decoded_size(plan: Plan, spec: NetworkSpec) -> int | None:
    """Height and width that photos are decoded to: the network's, or their own for a published network."""
    published = is_published(plan.source) and not Path(plan.source).exists()
    return plan.resolution or (None if published else spec.resolution)


def _fitted(plan: Plan, spec: NetworkSpec, data: ImageData) -> NetworkSpec:
    """The network with the data's classes; a published one is made no larger than the images."""
    size = _decoded_size(plan, spec)
    if size is None:
        size = min(spec.resolution, -(-data.native_size // RESOLUTION_STEP) * RESOLUTION_STEP)
    return replace(spec, num_classes=len(data.classes), resolution=size)


def _load(plan: Plan, size: int | None, reporter: Reporter) -> ImageData:
    """The images; how they are read and what was left out is said."""
    data = load_data(plan.data, resolution=size, skip_unreadable=plan.skip_unreadable)
    for text in data.notes:
        reporter.note(text)
    for text in data.left_out:
        reporter.warn(text)
    return data


def _images(task: Task) -> dict[str, Any]:
    """What tells one data set from another when a training goes on."""
    data = task.data
    counts = [len(split) for split in (data.train, data.val, data.test)]
    return {"counts": counts, "mean": list(task.inputs.mean), "std": list(task.inputs.std)}
