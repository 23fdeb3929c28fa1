"""Shared weights: one tensor for each key of a plan, and networks that run on parts of them."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mnas.model import build_frame
from mnas.search_space import NetworkSpec, SearchSpace
from mnas.supernet.parts import Shape
from mnas.supernet.plan import Piece, make_plan

KEPT = 256  # networks whose modules are kept; chosen here: some MB of small objects, no weights


class Supernet(nn.Module):
    """The shared weights of a space.

    Args:
        space: whose networks they are for.
        seed: of the initial weights, drawn from a generator of their own.

    Raises:
        InputError: a space that shared weights do not express, and why.

    Statistics of norms are no part of it: they are those of one network, and made anew from images.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        super().__init__()
        self.plan = make_plan(space)
        generator = torch.Generator().manual_seed(seed)
        self.shared = nn.ParameterDict(
            {
                key: nn.Parameter(_initial(key, shape, key in self.plan.ending, generator))
                for key, shape in sorted(self.plan.shapes.items())
            }
        )
        self._members: OrderedDict[NetworkSpec, Member] = OrderedDict()

    def bind(self, spec: NetworkSpec) -> "Member":
        """The network on parts of the shared weights, which its gradients go to.

        The module is made once for a spec. It has no dropout and no drop path, and its norms use the statistics of the
        batch that they are given, in evaluation mode too.

        Raises:
            InputError: not a network of the space.
        """
        member = self._members.get(spec)
        if member is None:
            member = self._members[spec] = Member(_plain(spec), self.shared, self.plan.pieces(spec))
            if len(self._members) > KEPT:
                self._members.popitem(last=False)
        self._members.move_to_end(spec)
        return member

    def extract(self, spec: NetworkSpec) -> nn.Module:
        """The network as an ordinary module with weights of its own, copied, on the device of the shared ones.

        It is in training mode, without dropout and drop path; the statistics of its norms are new ones, to be estimated
        before it is used in evaluation mode.

        Raises:
            InputError: not a network of the space.
        """
        module = build_frame(_plain(spec))
        pieces = self.plan.pieces(spec)
        own = {name: cut(self.shared[piece.key].detach(), piece) for name, piece in pieces.items()}
        copies = {
            name: tensor.clone(
                memory_format=torch.channels_last if tensor.ndim == 4 else torch.contiguous_format
            )
            for name, tensor in own.items()
        }
        module.load_state_dict(copies, strict=False, assign=True)
        module.requires_grad_()
        return module.to(next(iter(self.shared.values())).device)


class Member(nn.Module):
    """A network whose parameters are parts of shared tensors; (n, c, h, w) float32 -> logits (n, classes)."""

    def __init__(self, spec: NetworkSpec, shared: nn.ParameterDict, pieces: Mapping[str, Piece]) -> None:
        super().__init__()
        self.body = build_frame(spec)
        for layer in self.body.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        self.pieces = dict(pieces)
        self._shared = (shared,)  # in a tuple: no module of this one

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch."""
        (shared,) = self._shared
        parameters = {name: cut(shared[piece.key], piece) for name, piece in self.pieces.items()}
        logits: Tensor = functional_call(self.body, parameters, (x,))
        return logits


def cut(shared: Tensor, piece: Piece) -> Tensor:
    """The part of a shared tensor that is a parameter: the first along each axis, the middle of kernels; a view.

    >>> cut(torch.arange(25.0).view(1, 1, 5, 5), Piece("", (1, 1, 3, 3))).flatten().tolist()
    [6.0, 7.0, 8.0, 11.0, 12.0, 13.0, 16.0, 17.0, 18.0]
    """
    part = shared
    for axis, (have, want) in enumerate(zip(shared.shape, piece.shape, strict=True)):
        if have != want:
            is_kernel = shared.ndim >= 4 and axis >= shared.ndim - 2
            part = part.narrow(axis, (have - want) // 2 if is_kernel else 0, want)
    return part.flatten(0, 1) if piece.grouped else part


def _plain(spec: NetworkSpec) -> NetworkSpec:
    """As candidates are trained: a short training overfits nothing."""
    return replace(spec, dropout=0.0, drop_path=0.0)


def _initial(key: str, shape: Shape, ending: bool, generator: torch.Generator) -> Tensor:
    """As `mnas.model` initialises a module; scales that end residual branches are 0 (`start_branches_at_zero`)."""
    if key.endswith("/bias"):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.zeros(shape) if ending else torch.ones(shape)
    tensor = torch.empty(shape)
    if len(shape) == 2:
        bound = 1.0 / sqrt(shape[0])
        return nn.init.uniform_(tensor, -bound, bound, generator=generator)
    depthwise = len(shape) == 4 and "/depthwise/" in key
    fan_out = prod(shape[-2:]) * (1 if depthwise else shape[-4])
    nn.init.normal_(tensor, 0.0, sqrt(2.0 / fan_out), generator=generator)
    return tensor.to(memory_format=torch.channels_last) if len(shape) == 4 else tensor
