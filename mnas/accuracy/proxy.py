"""Proxy accuracy: each candidate is trained a few epochs and scored on images that its training never saw."""

import math
import time
from collections.abc import Callable, Sequence
from statistics import mean, variance

from mnas.config import DEFAULT_TRAIN_THREADS
from mnas.data import ImageData
from mnas.data.reduced import reduced
from mnas.errors import InputError
from mnas.protocols import AccuracyEstimate
from mnas.search_space import NetworkSpec
from mnas.search_space.scaling import scale
from mnas.seeds import derive_seed
from mnas.threads import torch_threads
from mnas.training import (
    GoOn,
    TrainedNetwork,
    TrainingError,
    batch_size_of,
    estimate_seconds,
    free_memory,
    out_of_memory,
    train,
)
from mnas.units import format_duration


class ProxyAccuracy:
    """Trains every network that it is asked about; nothing is predicted.

    Candidates may be trained on less than what they are for: fewer images, a lower resolution, a narrower network. Then
    the figure is of that, which its source says, and serves to compare candidates.

    Args:
        data: the images; candidates are compared on its validation split.
        epochs: of each training, at least 1.
        proxy_images: training images, each class with its share; None is all.
        proxy_resolution: height and width in pixels that images and networks are brought to; None is the network's own.
        proxy_width: share of the channels of stem, stages and head, in (0, 1].
        proxy_seeds: trainings of each network, whose mean counts.
        halving: eta of successive halving: a network may be stopped after epochs / eta, epochs / eta^2, ...
        timeout_s: seconds after which a network has failed, all its trainings together; None is any number.
        device: where to train, as torch names it.
        threads: of torch while it trains.

    Raises:
        InputError: no epochs, or more images than there are.

    Reference: successive halving is that of arXiv 1502.07943; that a network is compared with those that came before
    it, without waiting for others, is ASHA's (arXiv 1810.05934).
    """

    expensive = True  # the search asks about one network at a time, and stores each answer at once

    def __init__(
        self,
        data: ImageData,
        *,
        epochs: int,
        proxy_images: int | None = None,
        proxy_resolution: int | None = None,
        proxy_width: float | None = None,
        proxy_seeds: int | None = None,
        halving: int | None = None,
        timeout_s: float | None = None,
        device: str = "cpu",
        threads: int = DEFAULT_TRAIN_THREADS,
    ) -> None:
        if epochs < 1:
            raise InputError(f"epochs must be at least 1, got {epochs}. Example: --epochs 6.")
        self.data = reduced(data, proxy_images, proxy_resolution)
        self.epochs, self.device, self.threads = epochs, device, threads
        self.resolution, self.width = proxy_resolution, proxy_width or 1.0
        self.seeds, self.eta, self.timeout_s = proxy_seeds or 1, halving, timeout_s

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs, in order, after which a network may be stopped; none without halving."""
        return () if self.eta is None else rungs_of(self.epochs, self.eta)

    def source(self, epochs: int, batch_size: int | None = None) -> str:
        """What the figure of a network is that was trained so long, in batches of that size if not the usual ones."""
        size = "" if self.resolution is None else f" of {self.resolution} pixels"
        trained = f"trained {epochs} epoch{'s' if epochs > 1 else ''} on {self.data.name}"
        parts = [f"{trained} ({len(self.data.train):,} images{size})"]
        if self.width != 1.0:
            parts.append(f"with {self.width:g} of its channels")
        if self.seeds > 1:
            parts.append(f"mean of {self.seeds} seeds")
        if batch_size is not None:
            parts.append(f"in batches of {batch_size} after memory ran out")
        if epochs < self.epochs:
            parts.append(f"stopped by successive halving before epoch {self.epochs}")
        return f"{', '.join(parts)}, scored on {len(self.data.val):,} validation images"

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """Validation accuracy of each network with its standard error; all start from the same seed.

        Raises:
            InputError: a network whose classes, channels or resolution do not fit the data.
            TrainingError: a loss that is NaN, infinite or diverges; time or memory that ran out.
        """
        return [self.evaluate_staged(spec, seed=seed) for spec in specs]

    def evaluate_staged(
        self, spec: NetworkSpec, *, seed: int, go_on: Callable[[int, float], bool] | None = None
    ) -> AccuracyEstimate:
        """As `evaluate` for one network, which ends early at a rung where `go_on(epoch, accuracy)` says no."""
        started = time.monotonic()
        batch_size = None
        trained = []
        for number in range(self.seeds):
            own_seed = derive_seed(seed, "proxy", number) if number else seed
            network, batch_size = self._train(spec, own_seed, batch_size, started, go_on)
            trained.append(network)
        accuracy = mean(network.accuracy for network in trained)
        of_seeds = (
            variance([network.accuracy for network in trained]) / len(trained) if self.seeds > 1 else 0.0
        )
        epochs = trained[-1].epochs
        return AccuracyEstimate(
            accuracy,
            math.hypot(mean(network.std for network in trained), math.sqrt(of_seeds)),
            self.source(epochs, batch_size),
            fidelity=epochs / self.epochs,
        )

    def seconds(self, spec: NetworkSpec) -> float:
        """What a network will take, from a few steps of it; raises as `evaluate` does."""
        with torch_threads(self.threads):
            once = estimate_seconds(self._reduce(spec), self.data, epochs=self.epochs, device=self.device)
        return once * self.seeds

    def _reduce(self, spec: NetworkSpec) -> NetworkSpec:
        """The network that is trained for it; raises InputError where it is smaller than the proxy's resolution."""
        if self.resolution is None and self.width == 1.0:
            return spec
        if self.resolution is not None and self.resolution > spec.resolution:
            raise InputError(
                f"--proxy-resolution must be at most {spec.resolution}, the networks' own; got {self.resolution}."
            )
        return scale(spec, depth=1.0, width=self.width, resolution=self.resolution or spec.resolution)

    def _train(
        self, spec: NetworkSpec, seed: int, batch_size: int | None, started: float, go_on: GoOn | None
    ) -> tuple[TrainedNetwork, int | None]:
        """One training, and the size of its batches where it is not the usual; out of memory, once more at half."""
        try:
            return self._train_once(spec, seed, batch_size, started, go_on), batch_size
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            if batch_size is not None:
                raise TrainingError(
                    f"memory ran out again with batches of {batch_size} images ({error}). Use --proxy-resolution, "
                    f"--proxy-width or a smaller --resolution."
                ) from error
        free_memory(self.device)
        return self._train(spec, seed, batch_size_of(len(self.data.train)) // 2, started, go_on)

    def _train_once(
        self, spec: NetworkSpec, seed: int, batch_size: int | None, started: float, go_on: GoOn | None
    ) -> TrainedNetwork:
        left = None
        if self.timeout_s is not None:
            left = self.timeout_s - (time.monotonic() - started)
            if left <= 0:
                raise TrainingError(f"its time of {format_duration(self.timeout_s)} was over.")
        with torch_threads(self.threads):
            return train(
                self._reduce(spec),
                self.data,
                epochs=self.epochs,
                seed=seed,
                device=self.device,
                batch_size=batch_size,
                timeout_s=left,
                rungs=self.rungs,
                go_on=go_on,
            )


def rungs_of(epochs: int, eta: int) -> tuple[int, ...]:
    """Where a training of so many epochs may be stopped by successive halving: epochs / eta, epochs / eta^2, ...

    >>> rungs_of(9, 3)
    (1, 3)
    """
    return () if epochs < eta else (*rungs_of(epochs // eta, eta), epochs // eta)
