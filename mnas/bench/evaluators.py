"""What networks can be ranked by, by name: counts, zero-cost scores, short trainings, accuracy models."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mnas.accuracy.checked import check_accuracies
from mnas.accuracy.proxy import ProxyAccuracy
from mnas.data import ImageData
from mnas.errors import InputError, UnknownNameError
from mnas.protocols import AccuracyModel, PreparedAccuracyModel, TimedAccuracyModel
from mnas.registry import make
from mnas.search_space import NetworkSpec, SearchSpace, network_cost
from mnas.zerocost import SCORES, zero_cost_score

# As typed: epochs, then x images and @ pixels where they are fewer than there are.
_TRAINING = re.compile(r"([1-9]\d*)(?:x([1-9]\d*))?(?:@([1-9]\d*))?")


class Evaluator(Protocol):
    """Gives networks figures by which they are ranked; more is better."""

    def score(self, spec: NetworkSpec, seed: int) -> float:
        """The figure of a network.

        Raises:
            InputError: a network that does not fit.
            SearchError: one that has no figure.
        """
        ...

    def seconds(self, spec: NetworkSpec) -> float | None:
        """About how long `score` will take; None where nothing is known beforehand."""
        ...


@runtime_checkable
class PreparedEvaluator(Evaluator, Protocol):
    """One that does something once, before its first network, in each process."""

    def prepare(self, say: Callable[[str], None]) -> None:
        """Does it, or loads what was done; `say` is told how it goes."""
        ...

    def preparation_seconds(self) -> float:
        """About how long that will take."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """What evaluators are made for.

    Args:
        space: whose networks.
        data: their images; None where there are none.
        seed: of everything random.
        threads: of torch.
        folder: where an evaluator may keep what it prepared; not yet there.
    """

    space: SearchSpace
    data: ImageData | None
    seed: int
    threads: int
    folder: Path

    def images(self, name: str) -> ImageData:
        """Raises InputError where there are none."""
        if self.data is None:
            raise InputError(f"{name} needs images: name a folder or tar of them with --data.")
        return self.data


@dataclass(frozen=True, slots=True)
class Count:
    """Multiply-adds or parameters: the larger a network, the better."""

    field: str

    def score(self, spec: NetworkSpec, seed: int) -> float:
        """Of one image."""
        return float(getattr(network_cost(spec), self.field))

    def seconds(self, spec: NetworkSpec) -> float:
        """Next to nothing."""
        return 0.0


@dataclass(frozen=True, slots=True)
class ZeroCost:
    """A score of an untrained network."""

    name: str
    data: ImageData
    threads: int

    def score(self, spec: NetworkSpec, seed: int) -> float:
        """As `zero_cost_score`."""
        return zero_cost_score(self.name, spec, self.data, seed=seed, threads=self.threads)

    def seconds(self, spec: NetworkSpec) -> float:
        """What it takes once."""
        started = time.perf_counter()
        self.score(spec, 0)
        return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Trained:
    """An accuracy model, as a search has it."""

    model: AccuracyModel

    def score(self, spec: NetworkSpec, seed: int) -> float:
        """Accuracy as a fraction."""
        return check_accuracies(self.model.evaluate([spec], seed=seed), 1, type(self.model).__name__)[0].value

    def seconds(self, spec: NetworkSpec) -> float | None:
        """As the model says."""
        return self.model.seconds(spec) if isinstance(self.model, TimedAccuracyModel) else None


@dataclass(frozen=True, slots=True)
class Prepared(Trained):
    """One that prepares something in a folder of its own."""

    folder: Path

    @property
    def _prepared(self) -> PreparedAccuracyModel:
        assert isinstance(self.model, PreparedAccuracyModel)
        return self.model

    def prepare(self, say: Callable[[str], None]) -> None:
        """As the model does."""
        self._prepared.prepare(self.folder, say)

    def preparation_seconds(self) -> float:
        """As the model says."""
        return self._prepared.preparation_seconds(self.folder)


def parse_training(name: str, options: str, example: str) -> tuple[int, int | None, int | None]:
    """Epochs, images and pixels of a text such as `1x2000@16`; None for those left out.

    Raises:
        InputError: another form.

    >>> parse_training("proxy", "3@16", "proxy:1x2000@16")
    (3, None, 16)
    """
    match = _TRAINING.fullmatch(options)
    if match is None:
        raise InputError(
            f"{name} takes epochs, and images and pixels where they are fewer than there are: {example}; got "
            f"{f'{name}:{options}'!r}."
        )
    epochs, images, pixels = (None if part is None else int(part) for part in match.groups())
    assert epochs is not None
    return epochs, images, pixels


def _count(field: str) -> Callable[[str, Setting], Evaluator]:
    return lambda options, setting: Count(field)


def _zero_cost(name: str) -> Callable[[str, Setting], Evaluator]:
    return lambda options, setting: ZeroCost(name, setting.images(name), setting.threads)


def _proxy(options: str, setting: Setting) -> Evaluator:
    epochs, images, pixels = parse_training("proxy", options, "proxy:1x2000@16")
    model = ProxyAccuracy(
        setting.images("proxy"),
        epochs=epochs,
        proxy_images=images,
        proxy_resolution=pixels,
        threads=setting.threads,
    )
    return Trained(model)


def _model(options: str, setting: Setting) -> Evaluator:
    """Any accuracy model of the registry, offered what it can be given here."""
    offered: dict[str, Any] = {"seed": setting.seed}
    if setting.data is not None:
        offered |= {"space": setting.space, "data": setting.data, "threads": setting.threads, "device": "cpu"}
    return _trained(make("accuracy", options, offered, "evaluate"), f"model:{options}", setting)


def _supernet(options: str, setting: Setting) -> Evaluator:
    """Weights that all networks share, trained for so many epochs."""
    epochs, images, pixels = parse_training("supernet", options, "supernet:11@16")
    offered = {
        "space": setting.space,
        "data": setting.images("supernet"),
        "seed": setting.seed,
        "supernet_epochs": epochs,
        "proxy_images": images,
        "proxy_resolution": pixels,
        "threads": setting.threads,
        "device": "cpu",
    }
    return _trained(make("accuracy", "supernet", offered, "evaluate"), f"supernet:{options}", setting)


def _trained(model: AccuracyModel, name: str, setting: Setting) -> Evaluator:
    """With a folder of the evaluator's own, where the model prepares something."""
    if not isinstance(model, PreparedAccuracyModel):
        return Trained(model)
    return Prepared(model, setting.folder / re.sub(r"[^A-Za-z0-9@.]+", "-", name))


# To add one: a name, and what makes it of the text behind its colon. Those in BARE take no such text.
EVALUATORS: Mapping[str, Callable[[str, Setting], Evaluator]] = {
    "madds": _count("madds"),
    "params": _count("params"),
    **{name: _zero_cost(name) for name in SCORES},
    "proxy": _proxy,
    "supernet": _supernet,
    "model": _model,
}
BARE = frozenset({"madds", "params", *SCORES})


def make_evaluator(text: str, setting: Setting) -> Evaluator:
    """The evaluator that a text names: `madds`, `proxy:1x2000@16`, `model:my_package.my_module:factory`.

    Raises:
        UnknownNameError: no such evaluator; the nearest is named.
        InputError: a form that it does not take, or images that it lacks.
    """
    name, colon, options = text.partition(":")
    if name in ("smooth", "mean"):
        raise InputError(
            f"smooth: stands before anything else, mean: before what it joins by +; got {text!r}."
        )
    if name not in EVALUATORS:
        raise UnknownNameError(
            "evaluator",
            name,
            [*EVALUATORS, "mean", "smooth"],
            hint="Examples: madds, proxy:1x2000@16, smooth:naswot.",
        )
    if name in BARE and colon:
        raise InputError(f"the evaluator {name} takes nothing behind its name; got {text!r}.")
    return EVALUATORS[name](options, setting)
