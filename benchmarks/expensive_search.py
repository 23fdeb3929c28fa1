"""A search with few, dear trials: with and without leaving out what is above the target, for each controller.

    python benchmarks/expensive_search.py [--trials 30] [--seeds 10] [--noise 0.003]

The accuracy is that of `imagenet-surrogate` with noise, as a short training has it, asked one network at a time; cost
is multiply-adds at 224 pixels. A figure is the true accuracy of the network that the search would choose.
"""

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from mnas.accuracy.surrogate import QuadraticSurrogate, imagenet_surrogate
from mnas.controllers import RandomController, ReinforceController
from mnas.objective import Reward
from mnas.protocols import AccuracyEstimate
from mnas.search.costing import Costing, Limits
from mnas.search.history import History
from mnas.search.lanes import Lane
from mnas.search.loop import Loop
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, mbconv_space
from mnas.store import EventStore

TARGETS = (150e6, 250e6, 350e6)
CONTROLLERS = {"random": RandomController, "reinforce": ReinforceController}
SPACE = mbconv_space(resolution=224, num_classes=1000)


class Dear:
    """The surrogate as if it trained."""

    expensive = True

    def __init__(self, surrogate: QuadraticSurrogate, noise: float) -> None:
        self.surrogate, self.noise = surrogate, noise

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        rng = np.random.default_rng(seed)
        known = self.surrogate.evaluate(specs, seed=seed)
        return [replace(k, value=float(np.clip(k.value + self.noise * rng.normal(), 0, 1))) for k in known]


def chosen(
    controller: str, target: float, seed: int, proposals: int, trials: int, accuracy: Dear
) -> float | None:
    """The true accuracy of the best within the target as the search sees it; None where it found none."""
    with tempfile.TemporaryDirectory() as folder, EventStore.create(Path(folder) / "trials.db") as store:
        reward = Reward("hard", target)
        loop = Loop(
            lanes=[Lane(CONTROLLERS[controller](SPACE, seed=seed), reward)],
            costing=Costing(SPACE, None, Limits(trials, ask_batch=5), reward.quantile),
            accuracy=accuracy,
            accuracy_name="imagenet-surrogate",
            seed=seed,
            store=store,
            history=History(),
            reporter=Quiet(),
            proposals=proposals,
        )
        loop.run()
        within = [t for t in loop.history.trials if t.status == "done" and t.metrics["madds"] <= target]
    if not within:
        return None
    best = max(within, key=lambda trial: trial.metrics["accuracy"])
    return accuracy.surrogate.evaluate([SPACE.decode(SPACE.from_key(best.key))], seed=0)[0].value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.003)
    options = parser.parse_args()
    accuracy = Dear(imagenet_surrogate(), options.noise)
    print(f"{options.trials} trials, {options.seeds} seeds, noise {options.noise:g}")
    for target in TARGETS:
        for proposals in (1, 64):
            for controller in CONTROLLERS:
                found = [
                    chosen(controller, target, seed, proposals, options.trials, accuracy)
                    for seed in range(options.seeds)
                ]
                known = [value for value in found if value is not None]
                figure = f"{fmean(known):.4f} +- {stdev(known):.4f}" if len(known) > 1 else "-"
                print(
                    f"{target / 1e6:.0f}M, {proposals:2} proposals a trial, {controller:9} {figure}, none within: "
                    f"{found.count(None)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
