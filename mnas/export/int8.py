"""`mnas export --int8`: a trained network in 8-bit integers, calibrated on the images that it was trained on."""

import json
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnas.data import SPLIT_SEED, ImageData, load_data, stratified
from mnas.errors import InputError, RunDirectoryError
from mnas.export.quantize import quantize_onnx, score_onnx, weight_bits
from mnas.export.staging import explained, move, put, staging
from mnas.export.write import export_onnx
from mnas.files import read_json
from mnas.inputs import InputTransform, input_transform
from mnas.rundir import RunDirectory
from mnas.search_space import NetworkSpec
from mnas.sources import BASELINE, run_network_file
from mnas.trainer.loop import Listener
from mnas.trainer.plan import TrainingFolder
from mnas.training import standard_error
from mnas.weights import load_metadata, load_weights

# Training images from which the ranges of activations are taken, each class with its share (chosen here: more widen a
# range by its rarest values, which costs the others resolution).
CALIBRATION_IMAGES = 256
_SHOWN = 5  # classes in a message


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A network with the weights that a search or a training gave it.

    Args:
        spec: the network.
        weights: entries of the module's state dict.
        about: the texts with them; `trained` is one.
        onnx: where its fp32 model lies.
    """

    spec: NetworkSpec
    weights: Mapping[str, np.ndarray]
    about: Mapping[str, str]
    onnx: Path


def trained_network(source: Path, network: str = BASELINE) -> TrainedNetwork:
    """Of a folder of `mnas train`, or of a run whose baseline was trained; `network` says which where it has several.

    Raises:
        RunDirectoryError: neither, one that is not finished, or a damaged file.
        InputError: a network without trained weights.
    """
    train = f"Train it first: mnas train {source} --data DATA --out DIR && mnas export DIR --int8 --data DATA"
    if not source.is_dir():
        raise InputError(
            f"--int8 needs trained weights, and {source} is neither a run directory nor a folder of mnas train. {train}"
        )
    training = TrainingFolder(source.absolute())
    if training.recipe.is_file():
        if not training.result.is_file():
            raise RunDirectoryError(
                f"the training in {source} is not finished; go on with: mnas train --resume {source}"
            )
        return _read(training.network, training.weights, training.onnx, train)
    run = RunDirectory.open(source)
    file = run_network_file(run, network)
    return _read(file, file.with_suffix(".safetensors"), file.with_suffix(".onnx"), train)


def _read(network: Path, weights: Path, onnx: Path, train: str) -> TrainedNetwork:
    about = load_metadata(weights) if weights.is_file() else {}
    if "trained" not in about:
        raise InputError(f"--int8 needs trained weights, and those of {network} were never trained. {train}")
    return TrainedNetwork(NetworkSpec.from_dict(read_json(network)), load_weights(weights), about, onnx)


def export_int8(
    source: Path,
    data: str,
    out: Path | None,
    listener: Listener,
    *,
    network: str = BASELINE,
    skip_unreadable: bool = False,
) -> dict[str, Any]:
    """Quantises the network with training images and scores it before and after on the test split.

    Args:
        source: a run directory or a folder of `mnas train`.
        data: the data set that it was trained on, as `load_data` takes it; another one must have the same classes.
        out: the int8 file; None is beside the fp32 file, with `-int8` in its name.
        listener: told of progress.
        network: of a run, as `sources.run_network_file`.
        skip_unreadable: leave out images that cannot be used.

    Returns:
        `path` (int8) and `fp32_path`, the file that it was made from, which is written again; `accuracy_fp32` and
        `accuracy_int8` on `images` test images with their standard errors; `bytes_fp32`, `bytes_int8`;
        `calibration_images`, `weight_bits`, `weights`, `data`, `seconds`.

    Raises:
        InputError: a network that is not trained, or images that are not of its classes.
        RunDirectoryError: as `trained_network`, or a file that cannot be written.
        SearchError: the fp32 file differs from the torch module, or outputs are not finite.
    """
    started = time.perf_counter()
    trained = trained_network(source, network)
    target = _target(trained, out)
    images = load_data(data, resolution=trained.spec.resolution, skip_unreadable=skip_unreadable)
    for text in images.notes:
        listener.note(text)
    for text in images.left_out:
        listener.warn(text)
    inputs = _inputs(trained, images)
    plain = export_onnx(trained.spec, trained.onnx, weights=trained.weights, about=trained.about)
    chosen = np.flatnonzero(_calibration(images))
    bits, done, total = weight_bits(), 0, len(chosen) + len(images.test)

    def step(text: str) -> None:
        nonlocal done
        done += 1
        listener.progress(done, total, text)

    about = {
        "precision": f"int8 weights ({bits} bits, one scale a channel), uint8 activations (ranges of {len(chosen)} "
        f"training images of {images.name})"
    }
    with staging(target) as folder:
        quantized = folder / target.name
        some = images.train.take(chosen)
        with explained(target):
            data_int8 = quantize_onnx(plain.path, folder / "draft.onnx", some, inputs, bits, about, step)
        put(quantized, data_int8)
        before, after = score_onnx([plain.path, quantized], images.test, inputs, step)
        move(quantized, target)
    count = len(images.test)
    return {
        "path": str(target),
        "fp32_path": str(plain.path),
        "format": "onnx",
        "precision": "int8",
        "weights": plain.weights,
        "data": images.name,
        "images": count,
        "accuracy_fp32": before,
        "accuracy_fp32_std": standard_error(before, count),
        "accuracy_int8": after,
        "accuracy_int8_std": standard_error(after, count),
        "bytes_fp32": plain.path.stat().st_size,
        "bytes_int8": len(data_int8),
        "calibration_images": len(chosen),
        "weight_bits": bits,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _target(network: TrainedNetwork, out: Path | None) -> Path:
    plain = network.onnx
    target = (out if out is not None else plain.with_name(f"{plain.stem}-int8.onnx")).absolute()
    if target.suffix != ".onnx" or target.is_dir():
        raise InputError(f"--out of an int8 network is a file whose name ends in .onnx, got {out}.")
    if target.resolve() == plain.resolve():
        raise RunDirectoryError(f"{target} is the fp32 network; give the int8 one another name with --out.")
    return target


def _calibration(data: ImageData) -> np.ndarray:
    """Which training images are used, (n,) bool."""
    count = min(CALIBRATION_IMAGES, len(data.train))
    return stratified(data.train.labels, count, SPLIT_SEED, "calibration")


def _inputs(network: TrainedNetwork, data: ImageData) -> InputTransform:
    """How the network was given images in its training, if these are of its classes and shape.

    Raises:
        InputError: they are not, or the weights do not say.
    """
    input_transform(network.spec, data)  # for what it refuses
    try:
        classes, stored = json.loads(network.about["classes"]), json.loads(network.about["input"])
        mean, std = (tuple(float(value) for value in stored[name]) for name in ("mean", "std"))
        inputs = InputTransform(stored["channels"], stored["resolution"], mean, std)
    except (KeyError, TypeError, ValueError) as error:
        raise _unsaid(network) from error
    spec = network.spec
    if (
        not isinstance(classes, list)
        or (inputs.channels, inputs.resolution) != (spec.in_channels, spec.resolution)
        or not len(mean) == len(std) == data.train.shape[0]
        or not all(map(math.isfinite, (*mean, *std)))
        or min(std) <= 0
    ):
        raise _unsaid(network)
    if list(data.classes) != classes:
        raise InputError(
            f"the network tells apart {_some(classes)}; the classes of {data.name} are {_some(data.classes)}. "
            f"Name the images that it was trained on with --data."
        )
    return inputs


def _unsaid(network: TrainedNetwork) -> InputError:
    return InputError(
        f"the weights beside {network.onnx} do not say of which classes and how images become their input, as those "
        f"that mnas trains do, or say it of other images. Train the network again: mnas train"
    )


def _some(classes: Iterable[object]) -> str:
    names = [str(name) for name in classes]
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
