"""From a spec and its weights to a file that runs, checked against the torch module before it is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from mnas import __version__
from mnas.counting import count_madds
from mnas.errors import SearchError
from mnas.files import write_bytes
from mnas.graph import INPUT, build_graph
from mnas.model import build_module
from mnas.search_space import NetworkSpec, network_cost

UNTRAINED = "untrained weights"
# Greatest difference of the logits over their own standard deviation; float32 sums in another order and a folded
# batch norm stay a hundred times below it (tests/test_readers.py).
TOLERANCE = 1e-3
# Values of a channel at the total stride of 32 from which an untrained network's norms take their statistics, and
# images at least (chosen here: with four values a deep network amplifies rounding errors to the size of its logits).
_VALUES, _IMAGES = 64, 4


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """What was written: the weights' origin, and the logits' greatest difference in standard deviations."""

    path: Path
    weights: str
    error: float


def export_onnx(
    spec: NetworkSpec,
    path: Path,
    *,
    weights: Mapping[str, np.ndarray] | None = None,
    about: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ExportedModel:
    """Writes the network as ONNX after ONNX Runtime and torch have given the same logits for it.

    Args:
        spec: the network.
        path: the file; replaced atomically.
        weights: entries of the module's state dict; None initialises them from `seed`.
        about: texts for the file's metadata that go with `weights`: `trained` (how), `input` (what the network
            expects of an image). Without weights the metadata says "untrained weights".
        seed: of the initial weights and of the image that is compared.

    Raises:
        SearchError: the two disagree; nothing is written.
        InputError: weights that do not fit the network.
        RunDirectoryError: the file cannot be written.
    """
    module = build_module(spec, seed=seed).eval()
    if weights is not None:
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    about = dict(about or {}) if weights is not None else {}
    origin = about.pop("trained", "given weights" if weights is not None else UNTRAINED)
    metadata = {
        "mnas_version": __version__,
        "weights": origin,
        "network": json.dumps(spec.to_dict()),
        **about,
    }
    data = build_graph(spec, weights=_state(module), metadata=metadata).SerializeToString()

    count = max(_IMAGES, -(-_VALUES // (-(-spec.resolution // 32)) ** 2))
    shape = (count, spec.in_channels, spec.resolution, spec.resolution)
    images = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    compared = data
    if weights is None:
        _scale_signals(module, torch.from_numpy(images))
        compared = build_graph(spec, weights=_state(module)).SerializeToString()
    error = _difference(compared, module, images[:1])
    if not error <= TOLERANCE:
        raise SearchError(
            f"the exported graph and the torch module disagree by {error:.1e} standard deviations of the logits "
            f"(allowed: {TOLERANCE:.0e}); nothing was written. This is a bug of mnas: please report the network."
        )
    write_bytes(path, data)
    return ExportedModel(path, origin, error)


def _state(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def _scale_signals(module: nn.Module, images: Tensor) -> None:
    """Gives each norm the statistics of these images.

    With the initial ones (mean 0, variance 1) signals shrink from block to block; the logits of a deep network are
    then rounding errors, which no two runtimes share.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        module(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def _difference(data: bytes, module: nn.Module, images: np.ndarray) -> float:
    """Greatest difference of ONNX Runtime's and torch's logits, in standard deviations of the logits."""
    with torch.no_grad():
        expected = module(torch.from_numpy(images)).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {INPUT: images})
    return float(np.abs(logits - expected).max() / expected.std())


def verify_madds(spec: NetworkSpec) -> int:
    """The multiply-adds of the network, counted by fvcore on its torch module.

    Raises:
        SearchError: fvcore's count is not the analytic one.
    """
    counted = count_madds(build_module(spec), (spec.in_channels, spec.resolution, spec.resolution))
    analytic = network_cost(spec).madds
    if counted != analytic:
        raise SearchError(
            f"fvcore counts {counted} multiply-adds for the winner, its specification says {analytic}. "
            f"This is a bug of mnas: please report the network."
        )
    return counted
