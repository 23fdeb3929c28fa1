"""Accuracy by shared weights: trained once for a whole space, then a candidate is a part of them and takes seconds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch

from mnas.config import DEFAULT_SUPERNET_EPOCHS, DEFAULT_TRAIN_THREADS
from mnas.data import SPLIT_SEED, ImageData, LabelledImages, stratified
from mnas.data.feed import Feed, resident_feed
from mnas.data.reduced import reduced
from mnas.errors import InputError, SearchError
from mnas.inputs import InputTransform, input_transform
from mnas.model import build_module
from mnas.protocols import AccuracyEstimate, Objective
from mnas.search_space import NetworkSpec, SearchSpace
from mnas.seeds import derive_seed
from mnas.supernet.checkpoint import FILE, read_progress
from mnas.supernet.recipe import Recipe, Sampling
from mnas.supernet.sampling import Uniform
from mnas.supernet.train import CHECKPOINT_S, Training
from mnas.supernet.weights import Supernet
from mnas.threads import torch_threads
from mnas.training import (
    SCORING_BATCH,
    TIMED_STEPS,
    estimate_norms,
    evaluate,
    repeatable,
    seconds_an_image,
    standard_error,
)
from mnas.units import format_duration

# Images that the statistics of a candidate's norms are estimated from, and validation images that it is scored on at
# least, where there are as many. Chosen here so that a network of 50 million multiply-adds takes at most 3 s on two
# cores; images of fewer pixels than `WIDTH` x `WIDTH` cost less, so that there can be more of them.
NORM_IMAGES, VALIDATION_IMAGES, WIDTH = 512, 1000, 32
SAMPLED = 3  # random networks whose training step is timed for an estimate (chosen here)


class SupernetAccuracy:
    """Scores every network that it is asked about on weights that are shared in its space.

    `prepare` trains them, or loads them. The accuracy is not what the network would have if it were trained by itself;
    it serves to compare candidates.

    Args:
        space: whose networks it will be asked about.
        data: the images; candidates are compared on its validation split.
        seed: of the training of the shared weights.
        supernet_epochs: of that training, at least 1.
        proxy_images: training images, each class with its share; None is all.
        proxy_resolution: height and width in pixels that images and networks are brought to; None is the networks' own.
        supernet_sampling: how the random networks of a step are drawn, `uniform` or by a `controller`.
        objective: what accuracies are worth to that controller; otherwise unused.
        validation_images: that a network is scored on, at most, each class with its share; None is a thousand, and more
            of fewer than 32 x 32 pixels.
        device: where to train and score, as torch names it.
        threads: of torch meanwhile.
        recipe: how the shared weights are trained, instead of `seed` and the two of the supernet.

    Raises:
        InputError: a space that shared weights do not express, no epochs, more images than there are, or networks that
            do not fit the data.
    """

    expensive = True  # the search asks about one network at a time, and stores each answer at once

    def __init__(
        self,
        space: SearchSpace,
        data: ImageData,
        *,
        seed: int = 0,
        supernet_epochs: int = DEFAULT_SUPERNET_EPOCHS,
        proxy_images: int | None = None,
        proxy_resolution: int | None = None,
        supernet_sampling: Sampling = "uniform",
        objective: Objective | None = None,
        validation_images: int | None = None,
        device: str = "cpu",
        threads: int = DEFAULT_TRAIN_THREADS,
        recipe: Recipe | None = None,
    ) -> None:
        self.recipe = recipe or Recipe(supernet_epochs, seed, sampling=supernet_sampling)
        self.space = space if proxy_resolution is None else _resized(space, proxy_resolution)
        self.resolution = proxy_resolution
        self.data = reduced(data, proxy_images, proxy_resolution)
        self.device, self.threads = device, threads
        self.training = Training(self.space, self.data, self.recipe, device, objective)
        self.val = _share(self.data.val, validation_images or _scored(self.training.inputs.resolution))
        self._net: Supernet | None = None
        self._feed: Feed | None = None

    @property
    def source(self) -> str:
        """What the figure of a network is."""
        epochs, data = self.recipe.epochs, self.data
        size = "" if self.resolution is None else f" of {self.resolution} pixels"
        scored = f"{len(self.val):,}" + (f" of {len(data.val):,}" if len(self.val) < len(data.val) else "")
        return (
            f"shared weights trained {epochs} epoch{'s' if epochs > 1 else ''} on {data.name} "
            f"({len(data.train):,} images{size}), scored on {scored} validation images"
        )

    def preparation_seconds(self, folder: Path) -> float:
        """What `prepare` will take, from a few steps; 0 where the folder holds the trained weights.

        Raises:
            RunDirectoryError: the folder holds something else.
        """
        training, file = self.training, folder / FILE
        others = self.recipe.members - len(training.ends)
        left = 1.0
        if file.exists():
            left -= read_progress(file, training.task).step / training.steps
        if left <= 0:
            return 0.0
        uniform = Uniform(self.space, self.recipe.seed)
        drawn = [self.space.decode(uniform.draw(step, 1)[0]) for step in range(SAMPLED)]
        with torch_threads(self.threads):
            each = {
                spec: seconds_an_image(spec, self.data, device=self.device)
                for spec in {*training.ends, *drawn}
            }
        of_all = sum(each[spec] for spec in training.ends) + others * mean(each[spec] for spec in drawn)
        return left * self.recipe.epochs * len(self.data.train) * of_all

    def prepare(self, folder: Path, say: Callable[[str], None]) -> None:
        """Trains the shared weights in a folder: once, from where it was, or not at all where they are there.

        Args:
            folder: of these weights alone; made where it is not there.
            say: is told of what was found, and of each epoch.

        Raises:
            TrainingError: the loss is NaN or infinite, or grows past all learning; memory runs out for two images.
            RunDirectoryError: the folder cannot be written, or holds something else.
        """
        training = self.training
        training.resume(folder)
        step, steps = training.progress.step, training.steps
        if 0 < step < steps:
            say(f"shared weights: going on after step {step} of {steps}")
        started = time.monotonic()
        with torch_threads(self.threads), repeatable(self.device):
            training.run(folder, say, CHECKPOINT_S)
        if step < steps:
            say(f"shared weights: trained in {format_duration(time.monotonic() - started)}")
        self._net = training.net.requires_grad_(False)
        self._feed = resident_feed(self.data.train, self.device)

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """Validation accuracy of each network with its standard error.

        All are scored alike, whatever the seed: the same images for the norms' statistics, and the same to score on.

        Raises:
            SearchError: before `prepare`.
            InputError: a network that is not of the space, or does not fit the data.
            TrainingError: outputs that are NaN or infinite.
        """
        return [AccuracyEstimate(*self._score(self._own(spec)), self.source) for spec in specs]

    def seconds(self, spec: NetworkSpec) -> float:
        """What scoring a network will take, from a few batches of it; raises as `evaluate` does."""
        spec = self._own(spec)
        inputs = input_transform(spec, self.data)
        count = min(len(self.data.train), SCORING_BATCH)
        first = self.data.train.take(np.arange(count))
        times = []
        with torch_threads(self.threads), torch.no_grad():
            module = build_module(replace(spec, dropout=0.0, drop_path=0.0)).to(self.device)
            images = torch.tensor(first.images).to(self.device)
            for _ in range(TIMED_STEPS):
                started = time.perf_counter()
                float(module(inputs(images)).sum())  # waits for the device
                times.append(time.perf_counter() - started)
        return min(times) / count * (min(len(self.data.train), NORM_IMAGES) + len(self.val))

    def _own(self, spec: NetworkSpec) -> NetworkSpec:
        """The network that is scored for it."""
        return spec if self.resolution is None else _at(spec, self.resolution)

    def _score(self, spec: NetworkSpec) -> tuple[float, float]:
        """Accuracy and its standard error."""
        if self._net is None or self._feed is None:
            raise SearchError(
                "the shared weights are not there yet: call prepare(folder, say) before evaluate."
            )
        inputs: InputTransform = input_transform(spec, self.data)
        with torch_threads(self.threads), repeatable(self.device):
            module = self._net.extract(spec)
            norms = derive_seed(self.recipe.seed, "norms")
            estimate_norms(module, inputs, self._feed, norms, images=NORM_IMAGES)
            accuracy = evaluate(module, self.val, inputs)
        return accuracy, standard_error(accuracy, len(self.val))


def _resized(space: SearchSpace, resolution: int) -> SearchSpace:
    """The space at another resolution in pixels, at most its own."""
    build = space.build
    return replace(space, build=lambda values: _at(build(values), resolution))


def _at(spec: NetworkSpec, resolution: int) -> NetworkSpec:
    if resolution > spec.resolution:
        raise InputError(
            f"--proxy-resolution must be at most {spec.resolution}, the networks' own; got {resolution}."
        )
    return replace(spec, resolution=resolution)


def _scored(resolution: int) -> int:
    """Validation images of so many pixels in height and width.

    >>> _scored(16), _scored(32), _scored(224)
    (4000, 1000, 1000)
    """
    return max(VALIDATION_IMAGES, VALIDATION_IMAGES * WIDTH**2 // resolution**2)


def _share(split: LabelledImages, count: int) -> LabelledImages:
    """At most `count` of the images, in memory; each class has its share."""
    if len(split) <= count:
        return split
    return split.take(np.flatnonzero(stratified(split.labels, count, SPLIT_SEED, "supernet validation")))
