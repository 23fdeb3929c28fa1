"""Trains one network for a stated number of epochs on a training split and scores it on images it never saw.

A short budget is another problem than a long one: with some 200 steps nothing overfits, and what decides is how
fast a deep network starts to learn. Hence no dropout, drop path or augmentation, residual branches that start at
zero, and batch norm statistics that are estimated anew at the end.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mnas.data import ImageData, Split
from mnas.errors import InputError, SearchError
from mnas.model import Residual, ShortcutResidual, build_module
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed

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
# Pixels below which images are not shrunk; chosen here: one pixel is left after five layers of stride 2.
SMALLEST = 32

OnEpoch = Callable[[int, float], None]


class TrainingError(SearchError):
    """A training that ended without a usable network: its loss or its outputs are not finite."""


@dataclass(frozen=True, slots=True)
class InputTransform:
    """How images become what a network is given.

    Args:
        channels: of the network's input; grey images are replicated.
        resolution: height and width in pixels that images are resized to (bilinear, antialiased).
        mean: of each channel of the training split, pixels in 0..1.
        std: likewise; at least one grey level, 1/255.
    """

    channels: int
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) uint8 -> (n, channels, resolution, resolution) float32, channels-last."""
        x = images.float() / 255
        if x.shape[2:] != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            x = functional.interpolate(x, size=size, mode="bilinear", antialias=True)
        mean, std = (x.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        x = ((x - mean) / std).expand(-1, self.channels, -1, -1)
        return x.contiguous(memory_format=torch.channels_last)


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
    on_epoch: OnEpoch | None = None,
) -> TrainedNetwork:
    """Trains on `data.train`, scores on `data.val`, and leaves `data.test` and global random state alone.

    Args:
        spec: the network; its dropout and drop path are not used (see above), the rest is.
        data: the images.
        epochs: passes over the training split, at least 1.
        seed: of initial weights and order of images. On the CPU the same arguments give the same network, as
            long as torch has the same number of threads.
        device: where it is trained, as torch names it.
        on_epoch: called after each epoch with its number, from 1, and its mean loss.

    Raises:
        InputError: a network that does not fit the data, or no epochs.
        TrainingError: the loss is NaN or infinite.
    """
    started = time.perf_counter()
    if epochs < 1:
        raise InputError(f"epochs must be at least 1, got {epochs}.")
    inputs = input_transform(spec, data)
    module = build_module(replace(spec, dropout=0.0, drop_path=0.0), seed=derive_seed(seed, "weights"))
    start_branches_at_zero(module)
    module.to(device)
    images, labels = torch.tensor(data.train.images), torch.tensor(data.train.labels)
    generator = torch.Generator().manual_seed(derive_seed(seed, "order"))
    _descend(module, inputs, images, labels, epochs, generator, on_epoch)
    some = torch.randperm(len(labels), generator=generator)[:NORM_IMAGES]
    _estimate_norms(module, inputs, images[some])
    accuracy = evaluate(module, data.val, inputs)
    seconds = time.perf_counter() - started
    std = standard_error(accuracy, len(data.val))
    return TrainedNetwork(spec, module.cpu(), inputs, accuracy, std, seconds, epochs)


def estimate_seconds(spec: NetworkSpec, data: ImageData, *, epochs: int, device: str = "cpu") -> float:
    """Seconds that `train` will take, extrapolated from the fastest of a few of its steps.

    A scored image costs a third of a trained one: the pass back is as dear as two forward (chosen here, as often
    counted). Data that lie in memory cost next to nothing beside either.

    Raises:
        InputError: as `train`.
    """
    inputs = input_transform(spec, data)
    module = build_module(replace(spec, dropout=0.0, drop_path=0.0), seed=0).to(device).train()
    count = len(data.train)
    size = math.ceil(count / math.ceil(count / _batch_size(count)))
    images = torch.tensor(data.train.images[:size]).to(device)
    labels = torch.tensor(data.train.labels[:size]).to(device)
    times = []
    for _ in range(TIMED_STEPS):
        started = time.perf_counter()
        loss = functional.cross_entropy(module(inputs(images)), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for the device
        times.append(time.perf_counter() - started)
    scored = min(count, NORM_IMAGES) + len(data.val)
    return min(times) / size * (epochs * count + scored / 3)


def evaluate(module: nn.Module, split: Split, inputs: InputTransform) -> float:
    """Top-1 accuracy on a split, 0 to 1, in evaluation mode, which the module is left in.

    Raises:
        TrainingError: outputs that are NaN or infinite.
    """
    module.eval()
    device = next(module.parameters()).device
    images, labels = torch.tensor(split.images), torch.tensor(split.labels)
    correct = 0
    with torch.inference_mode():
        for start in range(0, len(labels), SCORING_BATCH):
            part = slice(start, start + SCORING_BATCH)
            logits = module(inputs(images[part].to(device)))
            if not logits.isfinite().all():
                raise TrainingError("the trained network's outputs are NaN or infinite: it is not usable.")
            correct += int((logits.argmax(1).cpu() == labels[part]).sum())
    return correct / len(labels)


def standard_error(accuracy: float, count: int) -> float:
    """Binomial standard error of an accuracy on `count` images; two hits and two misses are added first.

    Thus 359 of 359 is not without error. Reference: Agresti and Coull, The American Statistician 52 (1998).

    >>> round(standard_error(0.9, 396), 4)  # 358.4 of 400: sqrt(0.896 x 0.104 / 400)
    0.0153
    """
    share = (accuracy * count + 2) / (count + 4)
    return math.sqrt(share * (1 - share) / (count + 4))


def input_transform(spec: NetworkSpec, data: ImageData) -> InputTransform:
    """What turns images of the data set into the network's input, with mean and std of the training split.

    Raises:
        InputError: classes, channels or resolution of the network do not fit, or there is no batch to train on.
    """
    channels = data.train.images.shape[1]
    problems = []
    if spec.num_classes != len(data.classes):
        problems.append(f"it has {spec.num_classes} outputs for {len(data.classes)} classes")
    if channels not in (1, spec.in_channels):
        problems.append(f"its input has {spec.in_channels} channels, the images have {channels}")
    if spec.resolution < min(data.native_size, SMALLEST):
        problems.append(f"its input of {spec.resolution} pixels is smaller than images of {data.native_size}")
    if len(data.train) < 2:
        problems.append("batch norm needs at least 2 training images, there is 1")
    if problems:
        raise InputError(f"the network does not fit the data set {data.name}: {'; '.join(problems)}.")
    mean, std = zip(*(_mean_and_std(data.train.images[:, c]) for c in range(channels)), strict=True)
    return InputTransform(spec.in_channels, spec.resolution, mean, std)


def _mean_and_std(pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Of pixels (n, h, w) in 0..1, from counts of the 256 levels: numpy's own take 8 bytes a pixel at once."""
    counts = np.zeros(256, np.int64)
    for start in range(0, len(pixels), SCORING_BATCH):
        counts += np.bincount(pixels[start : start + SCORING_BATCH].ravel(), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    std = math.sqrt(counts @ (levels - mean) ** 2 / counts.sum())
    return mean / 255, max(std, 1.0) / 255


def start_branches_at_zero(module: nn.Module) -> None:
    """Zeroes the scale of the norm that ends a residual branch, so that each such block begins as the identity.

    A branch that ends in an activation is left alone: behind a zero scale, ReLU would have no gradient.

    Reference: arXiv 1706.02677, section 5.1.
    """
    for part in module.modules():
        if not isinstance(part, Residual | ShortcutResidual):
            continue
        *_, last = part if isinstance(part, Residual) else list(part)[:-1]  # the last is the shortcut
        if isinstance(last, nn.BatchNorm2d):
            nn.init.zeros_(last.weight)


def _batch_size(count: int) -> int:
    low, high = BATCH_SIZES
    return min(max(1 << (max(count // STEPS_PER_EPOCH, 1).bit_length() - 1), low), high)


def _rate(step: int, steps: int, peak: float) -> float:
    """Of step 1 to `steps`: linear warm-up, then half a cosine to zero (arXiv 1608.03983, without restarts)."""
    done = step / steps
    if done < WARM_UP:
        return peak * done / WARM_UP
    return peak * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP)))


def _descend(
    module: nn.Module,
    inputs: InputTransform,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    generator: torch.Generator,
    on_epoch: OnEpoch | None,
) -> None:
    size = _batch_size(len(labels))
    batches = math.ceil(len(labels) / size)
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in module.parameters() if parameter.ndim <= 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True)
    device = next(module.parameters()).device
    peak = BASE_RATE * math.sqrt(size / BASE_BATCH)
    module.train()
    step = 0
    for epoch in range(1, epochs + 1):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator)
        for number, chosen in enumerate(order.tensor_split(batches), 1):  # equal batches, to within one image
            step += 1
            for group in optimizer.param_groups:
                group["lr"] = _rate(step, epochs * batches, peak)
            logits = module(inputs(images[chosen].to(device)))
            target = labels[chosen].to(device)
            loss = functional.cross_entropy(logits, target, label_smoothing=LABEL_SMOOTHING)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss is {value} in epoch {epoch} of {epochs}, step {number} of {batches}: "
                    f"this network cannot be trained with this recipe."
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value * len(chosen)
        if on_epoch is not None:
            on_epoch(epoch, total / len(labels))


def _estimate_norms(module: nn.Module, inputs: InputTransform, images: Tensor) -> None:
    """Replaces the norms' moving statistics, which lag behind a short training, by means over training images.

    Reference: arXiv 2105.07576 (PreciseBN), section 3.
    """
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the mean over all batches
    device = next(module.parameters()).device
    module.train()
    with torch.no_grad():
        for batch in images.tensor_split(math.ceil(len(images) / SCORING_BATCH)):
            module(inputs(batch.to(device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
