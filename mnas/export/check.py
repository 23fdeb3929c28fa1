"""The check before a file appears: another process, without mnas, loads it, and its answer is held to the module's."""

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import safetensors
import torch

from mnas.errors import SearchError
from mnas.export.loader import digest
from mnas.export.subject import Subject

LOADER = Path(__file__).with_name("loader.py")
# Greatest difference of the logits over their own standard deviation; float32 sums in another order and a folded
# batch norm stay a hundred times below it (tests/test_readers.py).
TOLERANCE = 1e-3
# Seconds after which the loading process counts as hung: EfficientNet-B7 at 600 pixels takes about a minute on one
# slow thread (chosen here).
LIMIT_S = 600.0
# Characters of what the loading process wrote before it failed.
_LAST_WORDS = 800


def load_again(
    form: str, files: Sequence[Path], subject: Subject, stand_in: Path | None, *, limit_s: float = LIMIT_S
) -> dict[str, Any]:
    """What a fresh process without mnas finds in the files (`loader.py`).

    Raises:
        SearchError: it could not load them, died, or hung.
    """
    libraries = {str(Path(str(part.__file__)).parents[1]) for part in (np, onnxruntime, safetensors, torch)}
    job = {
        "format": form,
        "files": [str(path) for path in files],
        "stand_in": stand_in and str(stand_in),
        "image": base64.b64encode(subject.image.numpy().tobytes()).decode(),
        "shape": list(subject.image.shape),
        "libraries": sorted(libraries),
    }
    failed = f"the {form} export was loaded again in a process without mnas, which"
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(LOADER)],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SearchError(
            f"{failed} gave no answer in {limit_s:g} s and was ended; nothing was written.{_tail(error.stderr)}"
        ) from error
    if done.returncode != 0:
        how = f"status {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise SearchError(f"{failed} ended with {how}; nothing was written.{_tail(done.stderr)}")
    try:
        reply = json.loads(done.stdout)
    except ValueError as error:
        raise SearchError(
            f"{failed} answered {done.stdout[:200]!r}, which is no JSON; nothing was written."
        ) from error
    assert isinstance(reply, dict)
    return reply


def _tail(stderr: bytes | None) -> str:
    text = (stderr or b"").decode(errors="replace").strip()
    return f" Its last words: {text[-_LAST_WORDS:]}" if text else ""


def logits_error(form: str, reply: Mapping[str, Any], subject: Subject) -> float:
    """Greatest difference of the logits in standard deviations of the torch module's (of one class: in its logit).

    Raises:
        SearchError: they differ by more than `TOLERANCE`.
    """
    expected = subject.logits().numpy().astype(np.float64)
    logits = np.array(reply["logits"], np.float64)
    unit = expected.std() if len(expected) > 1 else abs(expected[0])
    error = np.inf
    if logits.shape == expected.shape and unit > 0:
        error = float(np.abs(logits - expected).max() / unit)
    if not error <= TOLERANCE:
        raise SearchError(
            f"the exported {form} file and the torch module disagree by {error:.1e} standard deviations of the "
            f"logits (allowed: {TOLERANCE:.0e}); nothing was written. {BUG}"
        )
    return error


def same_weights(form: str, reply: Mapping[str, Any], subject: Subject) -> None:
    """Holds the weights as loaded to the module's: names, types, shapes and every bit.

    Raises:
        SearchError: they differ.
    """
    if reply["digest"] != digest(subject.module.state_dict()):
        raise SearchError(
            f"the weights of the exported {form} file are not the torch module's; nothing was written. {BUG}"
        )


BUG = "This is a bug of mnas: please report the network."
