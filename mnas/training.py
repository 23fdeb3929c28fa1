"""Trains one network for a stated number of epochs on a training split and scores it on images it never saw.

A short budget is another problem than a long one: with some 200 steps nothing overfits, and what decides is how
fast a deep network starts to learn. Hence no dropout, drop path or augmentation, residual branches that start at
zero, and batch norm statistics that are estimated anew at the end.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mnas.data import ImageData, LabelledImages
from mnas.data.feed import Feed, resident_feed
from mnas.errors import InputError, SearchError
from mnas.inputs import InputTransform, input_transform
from mnas.model import Residual, build_module
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.units import format_duration

# Stochastic gradient descent with Nesterov momentum and linear warm-up: arXiv 1706.02677. As the budget is short,
# the rate is higher than its 0.1 for 256 images and the warm-up a fifth of all steps. Chosen here on `digits`
# (0.0125 to 0.05 for 32 images: 0.05 cost deep networks most); the rate grows as the square root of the batch
# (arXiv 1404.5997), as 0.1 for 128 images was worse than 0.05 on 10,000 images of Fashion-MNIST.
MOMENTUM = 0.9
BASE_RATE, BASE_BATCH = 0.025, 32
WARM_UP = 0.2
# arXiv 1801.04381 (MobileNetV2), section 6.1; not on norms and biases: arXiv 1812.01187, section 3.1.
WEIGHT_DECAY = 4e-5
LABEL_SMOOTHING = 0.1  # arXiv 1512.00567, section 7
# Images in a batch: a power of 2 that leaves at least 128 steps an epoch, within these limits (chosen here: small
# batches learn more in an epoch, large ones are faster).
BATCH_SIZES, STEPS_PER_EPOCH = (32, 128), 128
SCORING_BATCH = 128  # chosen here: 0.6 GB for the widest layer of EfficientNet-B0 at 224 pixels
NORM_IMAGES = 8192  # chosen here: enough for means and variances, a sixth of Fashion-MNIST's training split
TIMED_STEPS = 3  # chosen here: the first is slower, of the others the fastest counts

# A mean loss of an epoch above so many times that of guessing, the log of the number of classes, and above that of the
# epoch before, is no longer learning. Chosen here: first epochs of three times that were seen to come back.
DIVERGED = 3.0

GoOn = Callable[[int, float], bool]


class TrainingError(SearchError):
    """A training that ended without a usable network: its loss or its outputs are not finite."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedNetwork:
    """A trained network, and how it did.

    Args:
        spec: as it was asked for.
        module: in evaluation mode, on the CPU.
        inputs: what turns images into its input.
        accuracy: on the validation split, 0 to 1.
        std: standard error of that accuracy.
        seconds: wall clock, scoring included.
        epochs: passes over the training split.
    """

    spec: NetworkSpec
    module: nn.Module
    inputs: InputTransform
    accuracy: float
    std: float
    seconds: float
    epochs: int


def train(
    spec: NetworkSpec,
    data: ImageData,
    *,
    epochs: int,
    seed: int,
    device: str = "cpu",
    batch_size: int | None = None,
    timeout_s: float | None = None,
    rungs: Sequence[int] = (),
    go_on: GoOn | None = None,
) -> TrainedNetwork:
    """Trains on `data.train`, scores on `data.val`, and leaves `data.test` and global random state alone.

    Args:
        spec: the network; its dropout and drop path are not used (see above), the rest is.
        data: the images.
        epochs: passes over the training split, at least 1.
        seed: of initial weights and order of images. The same arguments give the same network, on the CPU as long as
            torch has the same number of threads.
        device: where it is trained, as torch names it.
        batch_size: images of a step; None is `batch_size_of` the training split.
        timeout_s: seconds after which it has failed; None is any number.
        rungs: epochs after which it is scored in between, which does not change what it becomes.
        go_on: told a rung's epoch and accuracy; where it says no, the training ends there.

    Raises:
        InputError: a network that does not fit the data, or no epochs.
        TrainingError: the loss is NaN or infinite, or grows past all learning, or time is over.
    """
    started = time.perf_counter()
    if epochs < 1:
        raise InputError(f"epochs must be at least 1, got {epochs}.")
    inputs = input_transform(spec, data)
    module = build_module(replace(spec, dropout=0.0, drop_path=0.0), seed=derive_seed(seed, "weights"))
    start_branches_at_zero(module)
    module.to(device)
    size = batch_size or batch_size_of(len(data.train))
    feed = resident_feed(data.train, device)

    def score() -> float:
        estimate_norms(module, inputs, feed, derive_seed(seed, "norms"))
        return evaluate(module, data.val, inputs)

    done, accuracy = 0, None
    guessing = math.log(len(data.classes))
    with repeatable(device):
        for done in _descend(
            module, inputs, feed, epochs, size, derive_seed(seed, "order"), guessing, timeout_s
        ):
            if go_on is not None and done in rungs and done < epochs:
                accuracy = score()
                if not go_on(done, accuracy):
                    break
                accuracy = None
        if accuracy is None:
            accuracy = score()
    seconds = time.perf_counter() - started
    std = standard_error(accuracy, len(data.val))
    return TrainedNetwork(spec, module.cpu(), inputs, accuracy, std, seconds, done)


def estimate_seconds(
    spec: NetworkSpec, data: ImageData, *, epochs: int, device: str = "cpu", scorings: int = 1
) -> float:
    """Seconds that training will take, extrapolated from a few of its steps.

    The validation split is scored `scorings` times: once by `train`, after each epoch by `mnas.trainer`. A scored image
    costs a third of a trained one: the pass back is as dear as two forward (chosen here, as often counted). Data that
    lie in memory cost next to nothing beside either.

    Raises:
        InputError: as `train`.
    """
    count = len(data.train)
    scored = min(count, NORM_IMAGES) + scorings * len(data.val)
    return seconds_an_image(spec, data, device=device) * (epochs * count + scored / 3)


def seconds_an_image(spec: NetworkSpec, data: ImageData, *, device: str = "cpu") -> float:
    """Seconds that training takes for each image, from the fastest of a few of its steps.

    Raises:
        InputError: as `train`.
    """
    inputs = input_transform(spec, data)
    module = build_module(replace(spec, dropout=0.0, drop_path=0.0), seed=0).to(device).train()
    count = len(data.train)
    size = math.ceil(count / math.ceil(count / batch_size_of(count)))
    first = data.train.take(np.arange(size))
    images, labels = torch.tensor(first.images).to(device), torch.tensor(first.labels).to(device)
    times = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        loss = functional.cross_entropy(module(inputs(images)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for the device
        times.append(time.perf_counter() - started)
    return min(times) / size


def evaluate(module: nn.Module, split: LabelledImages, inputs: InputTransform) -> float:
    """Top-1 accuracy on a split, 0 to 1, in evaluation mode, which the module is left in.

    Raises:
        TrainingError: outputs that are NaN or infinite.
    """
    module.eval()
    feed = Feed(split, next(module.parameters()).device)
    correct = 0
    parts = torch.split(torch.arange(len(split)), SCORING_BATCH)
    with torch.inference_mode(), closing(feed.batches(parts)) as loaded:
        for images, labels in loaded:
            logits = module(inputs(images))
            if not logits.isfinite().all():
                raise TrainingError("the trained network's outputs are NaN or infinite: it is not usable.")
            correct += int((logits.argmax(1) == labels).sum())
    return correct / len(split)


def standard_error(accuracy: float, count: int) -> float:
    """Binomial standard error of an accuracy on `count` images; two hits and two misses are added first.

    Thus 359 of 359 is not without error. Reference: Agresti and Coull, The American Statistician 52 (1998).

    >>> round(standard_error(0.9, 396), 4)  # 358.4 of 400: sqrt(0.896 x 0.104 / 400)
    0.0153
    """
    share = (accuracy * count + 2) / (count + 4)
    return math.sqrt(share * (1 - share) / (count + 4))


def start_branches_at_zero(module: nn.Module) -> None:
    """Zeroes the scale of the norm that ends a residual branch, so that each such block begins as the identity.

    A branch that ends in an activation is left alone: behind a zero scale, ReLU would have no gradient.

    Reference: arXiv 1706.02677, section 5.1.
    """
    for part in module.modules():
        if not isinstance(part, Residual):
            continue
        last = part.branch[-1]
        if isinstance(last, nn.BatchNorm2d):
            nn.init.zeros_(last.weight)


@contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Convolutions that add their terms in the same order each time, then as before; the CPU's always do.

    Without it, cuDNN may choose kernels for the gradients of weights that add with atomics, and two trainings from one
    seed differ. Nothing else in a training here depends on the order in which a GPU's threads finish.

    Args:
        device: as torch names it; only a GPU is concerned.

    Reference: torch's notes on reproducibility, "CUDA convolution determinism".
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    if device.startswith("cuda"):
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def batch_size_of(count: int) -> int:
    """Images of a step for a training split of `count`.

    >>> [batch_size_of(count) for count in (1_000, 10_000, 50_000)]
    [32, 64, 128]
    """
    low, high = BATCH_SIZES
    return min(max(1 << (max(count // STEPS_PER_EPOCH, 1).bit_length() - 1), low), high)


def peak_rate(batch_size: int) -> float:
    """Of stochastic gradient descent, for batches of this size.

    >>> peak_rate(128)
    0.05
    """
    return BASE_RATE * math.sqrt(batch_size / BASE_BATCH)


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of this training; its rate, 0 at first, is set before each step."""
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)


def free_memory(device: str) -> None:
    """Gives back what a training held that ended for want of memory; module and optimizer may hold each other."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(
        words in str(error) for words in ("can't allocate memory", "ALLOC_FAILED")
    )  # the CPU's; cuBLAS, cuDNN


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Of step 1 to `steps`: linear warm-up, then half a cosine to zero (arXiv 1608.03983, without restarts)."""
    done = step / steps
    if done < WARM_UP:
        return peak * done / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def check_loss(value: float, where: str) -> None:
    """Refuses the loss of a step that is NaN or infinite; `where` is the step, in words.

    Raises:
        TrainingError: it is not finite.
    """
    if not math.isfinite(value):
        raise TrainingError(f"the loss is {value} {where}: this network cannot be trained with this recipe.")


def check_learning(mean: float, before: float, guessing: float, where: str) -> None:
    """Refuses the mean loss of an epoch from which nothing comes back; see `DIVERGED`.

    Args:
        mean: of this epoch.
        before: of the epoch before; infinite for the first.
        guessing: the loss of guessing.
        where: the epoch, in words.

    Raises:
        TrainingError: it grew past all learning.
    """
    if mean > max(DIVERGED * guessing, before):
        raise TrainingError(
            f"the training diverged: the mean loss grew from {before:.3g} to {mean:.3g} {where}; "
            f"guessing has {guessing:.3g}."
        )


def _descend(
    module: nn.Module,
    inputs: InputTransform,
    feed: Feed,
    epochs: int,
    size: int,
    seed: int,
    guessing: float,
    timeout_s: float | None,
) -> Iterator[int]:
    """Trains in batches of `size` and yields the number of each epoch done; `guessing` is the loss of that.

    Raises as `train` does.
    """
    started = time.perf_counter()
    generator = torch.Generator().manual_seed(seed)
    count = len(feed.split)
    batches = math.ceil(count / size)
    optimizer = sgd(module)
    peak = peak_rate(size)
    step, before = 0, math.inf
    for epoch in range(1, epochs + 1):
        module.train()
        total = 0.0
        order = torch.randperm(count, generator=generator)
        with closing(
            feed.batches(order.tensor_split(batches))
        ) as loaded:  # equal batches, to within one image
            for number, (images, target) in enumerate(loaded, 1):
                step += 1
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(step, epochs * batches, peak)
                logits = module(inputs(images))
                loss = functional.cross_entropy(logits, target, label_smoothing=LABEL_SMOOTHING)
                value = loss.item()
                where = f"in epoch {epoch} of {epochs}, step {number} of {batches}"
                check_loss(value, where)
                if timeout_s is not None and time.perf_counter() - started > timeout_s:
                    raise TrainingError(f"its time of {format_duration(timeout_s)} was over {where}.")
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += value * len(target)
        mean = total / count
        check_learning(mean, before, guessing, f"in epoch {epoch} of {epochs}")
        before = mean
        yield epoch


def estimate_norms(
    module: nn.Module, inputs: InputTransform, feed: Feed, seed: int, *, images: int = NORM_IMAGES
) -> None:
    """Replaces the norms' moving statistics, which lag behind a short training, by means over training images.

    Args:
        module: whose; left in training mode.
        inputs: what turns images into its input.
        feed: of the training split.
        seed: of which images are taken.
        images: how many, at most.

    Reference: arXiv 2105.07576 (PreciseBN), section 3.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the mean over all batches
    order = torch.randperm(len(feed.split), generator=torch.Generator().manual_seed(seed))
    some = order[:images]
    module.train()
    with (
        torch.no_grad(),
        closing(feed.batches(some.tensor_split(math.ceil(len(some) / SCORING_BATCH)))) as loaded,
    ):
        for batch, _ in loaded:
            module(inputs(batch))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
