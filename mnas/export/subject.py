"""What is exported: a network, its weights, what is said of them, and the image on which files are compared."""

import copy
import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mnas import __version__
from mnas.errors import InputError
from mnas.model import Residual, build_module
from mnas.search_space import NetworkSpec

UNTRAINED = "untrained weights"
GIVEN = "given weights"
# Values of a channel at the total stride of 32 from which an untrained network's norms take their statistics, and
# images at least (chosen here: with four values a deep network amplifies rounding errors to the size of its logits).
_VALUES, _IMAGES = 64, 2
# Characters of what torch says of weights that do not fit.
_LONGEST = 500


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A network about to be written.

    Args:
        spec: the network.
        module: with the weights that go into the file, in evaluation mode.
        compared: the module whose logits the file has to give: `module` itself where weights were given; for an
            untrained network a copy whose norms have the statistics of real signals.
        origin: what the weights are, in words.
        about: texts that came with the weights; empty without weights.
        image: (1, channels, height, width) float32.
    """

    spec: NetworkSpec
    module: nn.Module
    compared: nn.Module
    origin: str
    about: Mapping[str, str]
    image: Tensor

    @property
    def trained(self) -> bool:
        """Whether weights were given; otherwise they are the initial ones of the seed."""
        return self.compared is self.module

    @property
    def metadata(self) -> dict[str, str]:
        """Texts for the metadata of a file."""
        about = {name: text for name, text in self.about.items() if name != "trained"}
        ours = {
            "mnas_version": __version__,
            "weights": self.origin,
            "network": json.dumps(self.spec.to_dict()),
        }
        return {**about, **ours}

    def logits(self) -> Tensor:
        """(classes,) float32: what the torch module makes of the image."""
        with torch.no_grad():
            logits: Tensor = self.compared(self.image)[0]
        return logits


def make_subject(
    spec: NetworkSpec, weights: Mapping[str, np.ndarray] | None, about: Mapping[str, str] | None, seed: int
) -> Subject:
    """The network with the given weights, or with the initial ones of the seed.

    Raises:
        InputError: weights that do not fit the network, or that hold NaN or infinity.
    """
    module = build_module(spec, seed=seed, channels_last=False).eval()
    count = max(_IMAGES, -(-_VALUES // (-(-spec.resolution // 32)) ** 2))
    shape = (count, spec.in_channels, spec.resolution, spec.resolution)
    images = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))
    if weights is None:
        compared = copy.deepcopy(module)
        _shrink_branches(compared)
        _scale_signals(compared, images)
        return Subject(spec, module, compared, UNTRAINED, {}, images[:1])
    _load(module, weights)
    about = dict(about or {})
    return Subject(spec, module, module, about.get("trained", GIVEN), about, images[:1])


def _load(module: nn.Module, weights: Mapping[str, np.ndarray]) -> None:
    wrong = [
        f"{name} holds NaN or infinity" for name, array in weights.items() if not np.isfinite(array).all()
    ]
    if wrong:
        raise InputError(f"weights do not fit the network: {'; '.join(wrong)}.")
    try:
        module.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in weights.items()})
    except RuntimeError as error:
        problems = textwrap.shorten(str(error).partition(":")[2], _LONGEST, placeholder=" ...")
        raise InputError(f"weights do not fit the network: {problems}") from error


def _shrink_branches(module: nn.Module) -> None:
    """Scales the last norm of each of n residual branches by 1 / sqrt(n), so that together they weigh as one.

    With the initial scale of 1 rounding errors grow from block to block: ONNX Runtime's logits of an untrained
    ResNet-RS-420 (width 0.25, 96 pixels) were 0.8 % of their standard deviation away from torch's, with this 0.0005 %.
    """
    residuals = [part for part in module.modules() if isinstance(part, Residual)]
    for residual in residuals:
        norms = [part for part in residual.branch if isinstance(part, nn.BatchNorm2d)]
        if norms:
            nn.init.constant_(norms[-1].weight, len(residuals) ** -0.5)


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
