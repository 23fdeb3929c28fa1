"""Writes a network in one of the formats: aside, checked there by a process without mnas, then moved to its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mnas.errors import InputError, RunDirectoryError
from mnas.export.check import load_again
from mnas.export.formats import Staged, format_named
from mnas.export.loader import digest
from mnas.export.staging import move, put, staging
from mnas.export.subject import Subject, make_subject
from mnas.export.torch_files import weights_bytes, weights_metadata
from mnas.search_space import NetworkSpec
from mnas.threads import torch_threads
from mnas.weights import load_metadata, load_weights


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What was written.

    Args:
        path: the file of the format.
        weights: what its weights are, in words; a json file has none.
        error: the logits' greatest difference from the torch module's in standard deviations of the logits; 0 for
            safetensors and json, which are compared bit for bit.
        format: its name.
        files: every file that belongs to the export, `path` first.
    """

    path: Path
    weights: str
    error: float
    format: str
    files: tuple[Path, ...]


def file_names(stem: str, form: str, *, trained: bool) -> tuple[str, ...]:
    """Names of the files that a network called `stem` is exported to, the one of the format first.

    Weights that were never trained say so in the name of their file, so that it is not mistaken for a trained one.

    Raises:
        UnknownNameError: no such format.

    >>> file_names("baseline", "python", trained=False)
    ('baseline.py', 'baseline-untrained.safetensors')
    """
    row = format_named(form)
    weights = f"{stem}{'' if trained else '-untrained'}.safetensors"
    if form == "safetensors":
        return (weights,)
    return (f"{stem}{row.suffix}", *([weights] if row.weights_beside else []))


def target_files(path: Path, form: str, *, trained: bool) -> tuple[Path, ...]:
    """The files that an export to `path` writes, `path` first.

    Raises:
        UnknownNameError: no such format.
        InputError: `path` has the name of the weights that lie beside it.
    """
    suffix = format_named(form).suffix
    stem = path.name.removesuffix(suffix) if path.name.endswith(suffix) else path.stem
    beside = [path.with_name(name) for name in file_names(stem, form, trained=trained)[1:]]
    if path in beside:
        raise InputError(
            f"{path} is where the weights go; give the {form} file a name that ends in {suffix}."
        )
    return (path, *beside)


@torch_threads(1)
def export_network(
    spec: NetworkSpec,
    path: Path,
    form: str,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    about: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ExportedModel:
    """Writes the network after another process, which has no mnas, has loaded it and gives what the torch module gives.

    Given weights are compared as they are: every bit of them (for ONNX, which folds norms, by the logits) and the
    logits of one image. The logits of an untrained network may be rounding errors; there every bit of the weights
    (for ONNX: every folded number, against torch's own folding) is compared in the file itself, and the logits after
    weights whose norms have the statistics of real signals took their place (for ONNX: in the same graph).

    Args:
        spec: the network.
        path: the file; replaced atomically. `python` and `timm` put the weights beside it, see `file_names`; a file
            there that holds the same weights already is left as it is.
        form: one of `FORMATS`.
        weights: entries of the module's state dict; None initialises them from `seed`.
        about: texts for the file's metadata that go with `weights`: `trained` (how), `input` (what the network
            expects of an image). Without weights the metadata says "untrained weights".
        seed: of the initial weights and of the image that is compared.

    Raises:
        UnknownNameError: no such format.
        InputError: weights that do not fit the network, something that the format cannot hold, timm not installed.
        SearchError: what was loaded differs, or the process that loads it died or hung; nothing is written.
        RunDirectoryError: the files cannot be written.
    """
    row = format_named(form)
    if row.refuse is not None:
        row.refuse(spec)
    subject = make_subject(spec, weights, about, seed)
    targets = target_files(path, form, trained=subject.trained)
    for target in targets:
        if target.is_dir():
            raise RunDirectoryError(f"cannot write {target}: it is a folder. Name a file with --out.")
    with staging(path) as folder:
        staged = [folder / target.name for target in targets]
        data = row.write(subject, targets[0].name, targets[-1].name)
        put(staged[0], data)
        if row.weights_beside:
            put(staged[1], weights_bytes(subject.module, weights_metadata(subject)))
        stand_in = None
        if row.stand_in is not None and not subject.trained:
            stand_in = row.stand_in(subject, subject.compared)
            put(folder / ".stand-in", stand_in)
        reply = load_again(form, staged, subject, folder / ".stand-in" if stand_in is not None else None)
        error = row.check(reply, subject, Staged(data, stand_in))
        # The weights first: a source never stands beside those of an older export.
        for new, target in reversed(list(zip(staged, targets, strict=True))):
            if target == targets[0] or not _holds(target, subject):
                move(new, target)
    origin = "no weights" if form == "json" else subject.origin
    return ExportedModel(path, origin, error, form, targets)


def export_onnx(
    spec: NetworkSpec,
    path: Path,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    about: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ExportedModel:
    """`export_network` as ONNX."""
    return export_network(spec, path, "onnx", weights=weights, about=about, seed=seed)


def _holds(path: Path, subject: Subject) -> bool:
    """Whether the file holds the weights of the subject, bit for bit, and says the same of their training."""
    if not path.is_file():
        return False
    try:
        same = digest(load_weights(path)) == digest(subject.module.state_dict())
        return same and load_metadata(path).get("trained") == subject.about.get("trained")
    except RunDirectoryError:  # damaged: replaced
        return False
