"""Trains shared weights: in each step a few networks of the space on one batch.

The sandwich rule has the largest network learn the labels, and the smallest and some random ones what the largest says
of the same images. Random numbers of a step depend on the seed and its number alone, so that a training that was killed
goes on exactly as if it had not been.

Reference: sandwich rule and in-place distillation: US-Nets (arXiv 1903.05134), sec. 3; BigNAS (arXiv 2003.11142). One
random network a step, and no distillation: single-path sampling (arXiv 1904.00420).
"""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mnas.data import ImageData
from mnas.data.feed import Feed, resident_feed
from mnas.errors import InputError
from mnas.files import make_folder
from mnas.inputs import InputTransform, input_transform
from mnas.protocols import Objective
from mnas.search_space import Architecture, NetworkSpec, SearchSpace
from mnas.seeds import derive_seed
from mnas.supernet.checkpoint import FILE, Progress, load_state, save_state
from mnas.supernet.recipe import Recipe, ends_of
from mnas.supernet.sampling import PolicySampler, Uniform
from mnas.supernet.weights import Supernet
from mnas.training import (
    LABEL_SMOOTHING,
    TrainingError,
    batch_size_of,
    check_learning,
    check_loss,
    free_memory,
    learning_rate,
    out_of_memory,
    peak_rate,
    repeatable,
    sgd,
)
from mnas.units import format_duration

CHECKPOINT_S = 180.0  # between checkpoints inside an epoch (chosen here: the most that a kill can cost)


def train_supernet(
    space: SearchSpace,
    data: ImageData,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    device: str = "cpu",
    folder: Path | None = None,
    say: Callable[[str], None] | None = None,
    checkpoint_s: float = CHECKPOINT_S,
) -> Supernet:
    """Shared weights of a space, trained on `data.train`; global random state is untouched.

    Args:
        space: whose networks they are for.
        data: the images.
        recipe: how they are trained. The same arguments give the same weights, on the CPU as long as torch has the same
            number of threads.
        objective: what accuracies are worth to the controller that samples, where one does.
        device: where they are trained, as torch names it, and left.
        folder: made if it is not there, and where the state is kept after each epoch, and every `checkpoint_s` seconds;
            a training that is there goes on, one that is finished is loaded. None keeps nothing.
        say: is told of each epoch.
        checkpoint_s: see `folder`.

    Raises:
        InputError: a space that shared weights do not express, or networks that do not fit the data.
        TrainingError: a loss that is NaN or infinite, or grows past all learning; memory runs out for two images.
        RunDirectoryError: the folder cannot be written, or holds something else.
    """
    training = Training(space, data, recipe, device, objective)
    if folder is not None:
        training.resume(folder)
    with repeatable(device):
        training.run(folder, say or (lambda text: None), checkpoint_s)
    return training.net


class Training:
    """The parts of one training of shared weights, from its first step or from where a checkpoint was."""

    def __init__(
        self,
        space: SearchSpace,
        data: ImageData,
        recipe: Recipe,
        device: str = "cpu",
        objective: Objective | None = None,
    ) -> None:
        self.space, self.data, self.recipe = space, data, recipe
        self.inputs: InputTransform = input_transform(space.decode(space.first), data)
        self.net = Supernet(space, seed=derive_seed(recipe.seed, "weights")).to(device)
        self.optimizer = sgd(self.net)
        self.progress = Progress()
        self.device = device
        self.parts = 1  # of a batch, one after the other; more where memory ran out
        self._say: Callable[[str], None] = lambda text: None
        count = len(data.train)
        self.size = recipe.batch_size or batch_size_of(count)
        self.batches = math.ceil(count / self.size)
        self.steps = recipe.epochs * self.batches
        self.ends = ends_of(space) if recipe.sandwich else ()
        self.sampler: Uniform | PolicySampler = Uniform(space, recipe.seed)
        if recipe.sampling == "controller":
            if objective is None:
                raise InputError("a controller that samples needs an objective: what accuracies are worth.")
            self.sampler = PolicySampler(space, recipe.seed, objective, self.steps)

    @property
    def task(self) -> dict[str, Any]:
        """What a checkpoint must be of."""
        return {
            **asdict(self.recipe),
            "batch_size": self.size,
            "space": self.space.name,
            "tensors": self.net.plan.fingerprint,
            "data": self.data.name,
            "images": len(self.data.train),
            "classes": list(self.data.classes),
            "resolution": self.inputs.resolution,
        }

    @property
    def done(self) -> bool:
        """Whether no step is left."""
        return self.progress.step >= self.steps

    def resume(self, folder: Path) -> None:
        """Goes on from the checkpoint in a folder, where there is one; raises as `load_state`."""
        file = folder / FILE
        if file.exists():
            policy = self.sampler if isinstance(self.sampler, PolicySampler) else None
            self.progress = load_state(file, self.net, self.optimizer, policy, self.task)

    def run(self, folder: Path | None, say: Callable[[str], None], checkpoint_s: float) -> None:
        """The steps that are left."""
        if self.done:
            return
        if folder is not None:
            make_folder(folder)
        feed = resident_feed(self.data.train, self.device)
        self._scored = Feed(self.data.val, torch.device(self.device))
        self._say = say
        first = self.progress.step // self.batches
        for epoch in range(first, self.recipe.epochs):
            self._epoch(epoch, feed, folder, checkpoint_s)
            self._end_epoch(epoch)
            self._save(folder)

    def members(self, step: int) -> list[NetworkSpec]:
        """The networks of a step, counted from 0: the largest and the smallest first, where they are among them."""
        return [*self.ends, *map(self.space.decode, self._drawn(step))]

    def _drawn(self, step: int) -> list[Architecture]:
        return self.sampler.draw(step, self.recipe.members - len(self.ends))

    def _epoch(self, epoch: int, feed: Feed, folder: Path | None, checkpoint_s: float) -> None:
        """The steps that are left of an epoch, counted from 0."""
        generator = torch.Generator().manual_seed(derive_seed(self.recipe.seed, "order", epoch))
        order = torch.randperm(len(self.data.train), generator=generator)
        done = self.progress.step - epoch * self.batches
        batches = order.tensor_split(self.batches)[done:]  # equal ones, to within one image
        clock = saved = time.monotonic()
        with closing(feed.batches(batches)) as loaded:
            for number, (images, labels) in enumerate(loaded, done + 1):
                value = self._step(self.inputs(images), labels)
                check_loss(
                    value, f"in epoch {epoch + 1} of {self.recipe.epochs}, step {number} of {self.batches}"
                )
                self.progress.step += 1
                self.progress.loss_sum += value * len(labels)
                now = time.monotonic()
                self.progress.seconds += now - clock
                clock = now
                if now - saved >= checkpoint_s and number < self.batches:
                    self._save(folder)
                    saved = now

    def _step(self, x: Tensor, labels: Tensor) -> float:
        """One step of the optimizer with the gradients of all members; the loss of the first."""
        rate = learning_rate(self.progress.step + 1, self.steps, peak_rate(self.size))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._gradients_that_fit(x, labels)
        self.optimizer.step()
        if isinstance(self.sampler, PolicySampler) and self.sampler.learns(self.progress.step):
            self._teach(self.sampler)
        return loss

    def _gradients_that_fit(self, x: Tensor, labels: Tensor) -> float:
        """As `_gradients`; where memory runs out, in twice as many parts from then on."""
        while True:
            try:
                return self._gradients(x, labels)
            except (RuntimeError, MemoryError) as error:
                part = math.ceil(len(labels) / self.parts)
                if not out_of_memory(error):
                    raise
                if part < 4:  # norms need two images
                    raise TrainingError(
                        f"memory ran out with {part} images at once ({error}). Use a smaller --proxy-resolution, "
                        f"--resolution or space."
                    ) from error
            free_memory(self.device)
            self.parts *= 2
            self._say(
                f"shared weights: out of memory; going on with batches of {len(labels)} images in {self.parts} parts"
            )

    def _gradients(self, x: Tensor, labels: Tensor) -> float:
        """Those of all members' losses, added up; the loss of the first member."""
        self.optimizer.zero_grad()
        members = self.members(self.progress.step)
        value = torch.zeros((), device=x.device)
        for images, wanted in zip(x.tensor_split(self.parts), labels.tensor_split(self.parts), strict=True):
            target, share = wanted, len(wanted) / len(labels)
            for number, spec in enumerate(members):
                logits = self.net.bind(spec).train()(images)
                smoothing = LABEL_SMOOTHING if target is wanted else 0.0
                loss = share * functional.cross_entropy(logits, target, label_smoothing=smoothing)
                loss.backward()  # type: ignore[no-untyped-call]
                if number == 0:
                    value += loss.detach()
                    if self.ends and self.recipe.distil:
                        target = logits.detach().softmax(1)
        return float(value)

    def _teach(self, sampler: PolicySampler) -> None:
        """Tells the policy how the networks that it drew do on a batch of validation images."""
        step = self.progress.step
        points = self._drawn(step)
        generator = torch.Generator().manual_seed(derive_seed(self.recipe.seed, "validation", step))
        chosen = torch.randperm(len(self.data.val), generator=generator)[: self.size]
        with closing(self._scored.batches([chosen])) as loaded, torch.no_grad():
            ((images, labels),) = loaded
            x = self.inputs(images)
            hits = [self.net.bind(self.space.decode(point))(x).argmax(1) == labels for point in points]
        sampler.learn(step, points, [float(hit.float().mean()) for hit in hits])

    def _end_epoch(self, epoch: int) -> None:
        mean = self.progress.loss_sum / len(self.data.train)
        where = f"in epoch {epoch + 1} of {self.recipe.epochs}"
        check_learning(mean, self.progress.before, math.log(len(self.data.classes)), where)
        self.progress.before, self.progress.loss_sum = mean, 0.0
        left = self.progress.seconds / self.progress.step * (self.steps - self.progress.step)
        more = f", {format_duration(left)} left" if left else ""
        self._say(f"shared weights: epoch {epoch + 1} of {self.recipe.epochs}, mean loss {mean:.3f}{more}")

    def _save(self, folder: Path | None) -> None:
        if folder is not None:
            policy = self.sampler if isinstance(self.sampler, PolicySampler) else None
            save_state(folder / FILE, self.net, self.optimizer, policy, self.progress, self.task)
