"""A recipe: everything that decides a training except the network, the images and the seed; plain TOML both ways."""

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal, Self, get_args

from mnas.errors import InputError

Optimizer = Literal["sgd", "adamw", "rmsprop"]
Schedule = Literal["cosine", "step"]
Crop = Literal["none", "pad", "resized"]
Policy = Literal["none", "autoaugment", "randaugment"]
Ramp = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is trained. A ramp is a value at the first and at the last stage, linear between them.

    Args:
        preset: the name it began with; says nothing by itself.
        epochs: passes over the training split.
        batch_size: images of one optimizer step.
        accumulate: parts that a batch is computed in; the gradients are added.
        optimizer: `sgd` (Nesterov), `adamw`, or `rmsprop` (TensorFlow's).
        lr: peak learning rate, for this batch size.
        momentum: of sgd and rmsprop, in [0, 1).
        rms_decay: of rmsprop's mean square, in [0, 1).
        eps: of rmsprop, inside the root.
        weight_decay: of weights of convolutions and linear layers, not of norms and biases.
        schedule: after the warm-up `cosine` to zero, or `step`: times `decay_rate` every `decay_epochs`.
        warmup_epochs: linear warm-up from zero, less than `epochs`.
        decay_rate: of `step`.
        decay_epochs: of `step`.
        ema_decay: of the moving average of the weights, which is then what is scored and kept; 0 is none.
        label_smoothing: in [0, 1).
        dropout: before the classifier, a ramp in [0, 1).
        drop_path: stochastic depth of the last block, in [0, 1).
        crop: `pad` (zeros around, cut back at random), `resized` (a random part, resized) or `none`.
        flip: left to right, every second image, where the data set says that its images may be mirrored.
        policy: further changes, drawn for each image.
        magnitude: of randaugment, a ramp in 0 to 30, the greatest change (10 in the code of some papers).
        mixup: alpha of its beta distribution; 0 is none.
        cutmix: likewise; with both, each batch takes one of them.
        stages: of progressive training, of equal length.
        resolution: share of the network's resolution, a ramp in (0, 1]; rounded to a multiple of 32 pixels.

    Raises:
        InputError: every value outside its domain, all at once.
    """

    preset: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: Optimizer = "sgd"
    accumulate: int = 1
    momentum: float = 0.9
    rms_decay: float = 0.9
    eps: float = 1e-3
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    warmup_epochs: float = 0.0
    decay_rate: float = 0.97
    decay_epochs: float = 2.4
    ema_decay: float = 0.0
    label_smoothing: float = 0.0
    dropout: Ramp = (0.0, 0.0)
    drop_path: float = 0.0
    crop: Crop = "none"
    flip: bool = False
    policy: Policy = "none"
    magnitude: Ramp = (0.0, 0.0)
    mixup: float = 0.0
    cutmix: float = 0.0
    stages: int = 1
    resolution: Ramp = (1.0, 1.0)

    def __post_init__(self) -> None:
        problems = [text for text in map(self._problem, fields(self)) if text is not None]
        if not problems:
            problems = self._problems_together()
        if problems:
            raise InputError(f"the recipe cannot be used: {'; '.join(problems)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON and TOML types."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: unknown or missing fields, all at once with the nearest valid name, or a wrong value.
        """
        known = {item.name for item in fields(cls)}
        problems = [unknown_field(name, known) for name in data if name not in known]
        needed = ("preset", "epochs", "batch_size", "lr")
        problems += [f"missing field {name!r}" for name in needed if name not in data]
        if problems:
            raise InputError(f"the recipe cannot be used: {'; '.join(problems)}.")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**values)

    def _problem(self, item: Any) -> str | None:
        """What is wrong with one field by itself."""
        value = getattr(self, item.name)
        if item.type is str:
            return None if isinstance(value, str) else f"{item.name} must be a text, got {value!r}"
        if item.type is bool:
            return None if isinstance(value, bool) else f"{item.name} must be true or false, got {value!r}"
        if options := get_args(item.type) if item.type != Ramp else ():
            return (
                None
                if value in options
                else f"{item.name} must be one of {', '.join(options)}; got {value!r}"
            )
        if item.type is int:
            whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
            return None if whole else f"{item.name} must be a whole number of at least 1, got {value!r}"
        domain = _DOMAINS[item.name]
        numbers = value if item.type == Ramp else (value,)
        pair = item.type != Ramp or (isinstance(value, tuple) and len(value) == 2)
        if pair and all(_is_number(number) and domain.holds(number) for number in numbers):
            return None
        what = "two numbers (first and last stage)" if item.type == Ramp else "a number"
        return f"{item.name} must be {what} {domain.text}, got {value!r}"

    def _problems_together(self) -> list[str]:
        """What is wrong with fields that are right by themselves."""
        problems = []
        if self.warmup_epochs >= self.epochs:
            problems.append(f"a warm-up of {self.warmup_epochs:g} epochs leaves none of {self.epochs} epochs")
        if self.batch_size < 2 * self.accumulate:
            problems.append(
                f"a batch of {self.batch_size} images in {self.accumulate} parts leaves fewer than the 2 that a "
                f"batch norm needs"
            )
        if self.stages > self.epochs:
            problems.append(f"{self.stages} stages need at least as many epochs, got {self.epochs}")
        return problems


def unknown_field(name: str, known: set[str]) -> str:
    """What to say of a name that a recipe has no field for.

    >>> unknown_field("epoch", {"epochs", "lr"})
    "unknown field 'epoch' (did you mean 'epochs'?)"
    """
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"unknown field {name!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True, slots=True)
class _Domain:
    """An interval; `open_low` and `open_high` say which ends do not belong to it."""

    text: str
    low: float
    high: float = float("inf")
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)


_SHARE = _Domain("of at least 0 and less than 1", 0, 1, open_high=True)
_POSITIVE = _Domain("above 0", 0, open_low=True)
_NOT_NEGATIVE = _Domain("of at least 0", 0)
_TO_ONE = _Domain("above 0 and at most 1", 0, 1, open_low=True)
_DOMAINS: Mapping[str, _Domain] = {
    **dict.fromkeys(
        ("momentum", "rms_decay", "ema_decay", "label_smoothing", "dropout", "drop_path"), _SHARE
    ),
    **dict.fromkeys(("lr", "eps", "decay_epochs"), _POSITIVE),
    **dict.fromkeys(("weight_decay", "warmup_epochs", "mixup", "cutmix"), _NOT_NEGATIVE),
    **dict.fromkeys(("decay_rate", "resolution"), _TO_ONE),
    "magnitude": _Domain("from 0 to 30", 0, 30),
}
