"""From a spec and its weights to a file that runs, checked against the torch module before it is written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

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
    import torch

    module = build_module(spec, seed=seed).eval()
    if weights is not None:
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    about = dict(about or {}) if weights is not None else {}
    origin = about.pop("trained", "given weights" if weights is not None else UNTRAINED)
    metadata = {
        "mnas_version": __version__,
        "weights": origin,
        "network": json.dumps(spec.to_dict()),
        **about,
    }
    data = build_graph(spec, weights=state, metadata=metadata).SerializeToString()

    shape = (1, spec.in_channels, spec.resolution, spec.resolution)
    image = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {INPUT: image})
    error = float(np.abs(logits - expected).max() / expected.std())
    if not error <= TOLERANCE:
        raise SearchError(
            f"the exported graph and the torch module disagree by {error:.1e} standard deviations of the logits "
            f"(allowed: {TOLERANCE:.0e}); nothing was written. This is a bug of mnas: please report the network."
        )
    write_bytes(path, data)
    return ExportedModel(path, origin, error)


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
