"""Proxy accuracy: each candidate is trained a few epochs and scored on images that its training never saw."""

from collections.abc import Sequence

from mnas.data import ImageData
from mnas.errors import InputError
from mnas.protocols import AccuracyEstimate
from mnas.search_space import NetworkSpec
from mnas.threads import torch_threads
from mnas.training import TrainedNetwork, estimate_seconds, evaluate, train

# Threads of torch while a candidate is trained, chosen here: at 32 pixels two gain a quarter on free cores, but
# where another process wants a core they wait for each other (302 s instead of 5 s), and one thread gives the same
# weights whatever the number of cores.
TRAINING_THREADS = 1


class ProxyAccuracy:
    """Trains every network that it is asked about; nothing is predicted.

    Args:
        data: the images; candidates are compared on its validation split.
        epochs: of each training, at least 1.
        device: where to train, as torch names it.

    Raises:
        InputError: fewer than 1 epoch.
    """

    expensive = True  # the search asks about one network at a time, and stores each answer at once

    def __init__(self, data: ImageData, *, epochs: int, device: str = "cpu") -> None:
        if epochs < 1:
            raise InputError(f"epochs must be at least 1, got {epochs}. Example: --epochs 6.")
        self.data, self.epochs, self.device = data, epochs, device

    @property
    def source(self) -> str:
        """What its figures are."""
        return (
            f"trained {self.epochs} epoch{'s' if self.epochs > 1 else ''} on {self.data.name} "
            f"({len(self.data.train):,} images), scored on {len(self.data.val):,} validation images"
        )

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        """Validation accuracy of each network with its standard error; all start from the same seed.

        Raises:
            InputError: a network whose classes, channels or resolution do not fit the data.
            TrainingError: a loss that is NaN or infinite.
        """
        trained = (self.train(spec, seed=seed) for spec in specs)
        return [AccuracyEstimate(network.accuracy, network.std, self.source) for network in trained]

    def train(self, spec: NetworkSpec, *, seed: int) -> TrainedNetwork:
        """The network with its weights, trained exactly as `evaluate` does; raises as it does."""
        with torch_threads(TRAINING_THREADS):
            return train(spec, self.data, epochs=self.epochs, seed=seed, device=self.device)

    def seconds(self, spec: NetworkSpec) -> float:
        """What one training of the network will take, from a few steps of it; raises as `evaluate` does."""
        with torch_threads(TRAINING_THREADS):
            return estimate_seconds(spec, self.data, epochs=self.epochs, device=self.device)

    def test_accuracy(self, trained: TrainedNetwork) -> float:
        """Accuracy on the test split, which nothing else reads: for the chosen network, once."""
        with torch_threads(TRAINING_THREADS):
            return evaluate(trained.module, self.data.test, trained.inputs)
