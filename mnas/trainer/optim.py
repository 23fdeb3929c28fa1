"""Optimizers by name, TensorFlow's RMSProp, and the moving average of a network."""

import copy
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from mnas.trainer.recipe import Recipe


class RMSPropTF(torch.optim.Optimizer):
    """RMSProp as TensorFlow computes it; torch's own differs in three places and trains these networks worse.

    With gradient g and rate lr, for each weight w::

        s <- decay s + (1 - decay) g^2        s begins at 1, not at 0
        m <- momentum m + lr g / sqrt(s + eps)  eps inside the root; lr inside the momentum
        w <- w - m

    Weight decay adds weight_decay x w to g.

    Args:
        params: tensors or groups of them.
        lr: learning rate.
        decay: of the mean square.
        momentum: of the update.
        eps: added to the mean square.
        weight_decay: of the loss's L2 term, half of it times the squared weights.

    Reference: tf.train.RMSPropOptimizer: tensorflow/python/training/rmsprop.py (slot "rms" initialised with ones)
    and ApplyRMSProp in tensorflow/core/kernels/training_ops.cc.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        decay: float = 0.9,
        momentum: float = 0.9,
        eps: float = 1e-3,
        weight_decay: float = 0.0,
    ) -> None:
        settings = {"lr": lr, "decay": decay, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update from the gradients; `closure` is not used here."""
        if closure is not None:
            raise NotImplementedError("RMSPropTF takes no closure; call backward() before step().")
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight] = {
                        "square": torch.ones_like(weight),
                        "update": torch.zeros_like(weight),
                    }
            self._update(group, weights)

    def _update(self, group: dict[str, Any], weights: list[Tensor]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        squares = [self.state[weight]["square"] for weight in weights]
        updates = [self.state[weight]["update"] for weight in weights]
        if group["weight_decay"]:
            gradients = list(torch._foreach_add(gradients, weights, alpha=group["weight_decay"]))
        torch._foreach_mul_(squares, group["decay"])
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - group["decay"])
        roots = torch._foreach_sqrt(torch._foreach_add(squares, group["eps"]))
        torch._foreach_mul_(updates, group["momentum"])
        torch._foreach_addcdiv_(updates, gradients, roots, value=group["lr"])
        torch._foreach_sub_(weights, updates)


def make_optimizer(module: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The optimizer of a recipe; norms and biases are not decayed (arXiv 1812.01187, section 3.1).

    AdamW's betas and eps are torch's, which are those of its paper (arXiv 1711.05101).
    """
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [
        {"params": weights, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    match recipe.optimizer:
        case "sgd":
            nesterov = recipe.momentum > 0
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov)
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.lr)
        case "rmsprop":
            decay, momentum, eps = recipe.rms_decay, recipe.momentum, recipe.eps
            return RMSPropTF(groups, recipe.lr, decay=decay, momentum=momentum, eps=eps)


class Ema:
    """A copy of a network whose weights and statistics are moving averages of the trained one's.

    After step t the average moves by 1 - min(decay, (1 + t) / (10 + t)), so that it soon forgets the initial weights.

    Args:
        module: the network that is trained.
        decay: in [0, 1).

    Reference: tf.train.ExponentialMovingAverage with num_updates, as main.py of EfficientNet's code uses it.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average towards the network as it is after `step`, from 1; counters are copied."""
        decay = min(self.decay, (1 + step) / (10 + step))
        averages = list(self.module.state_dict().values())
        values = list(module.state_dict().values())
        floating = [number for number, value in enumerate(values) if value.is_floating_point()]
        torch._foreach_lerp_([averages[n] for n in floating], [values[n] for n in floating], 1 - decay)
        for average, value in zip(averages, values, strict=True):
            if not value.is_floating_point():
                average.copy_(value)
