"""What one pool of trials for several targets is worth: against a search for each with its share of the trials.

    python benchmarks/controllers/several.py --controllers guided,reinforce --trials 600 --seeds 10

`mbconv`, additive accuracy, multiply-adds as cost: the exact optimum is known (`controllers.exact`). Prints for each
target the mean regret in per cent of the optimum's reward, of one search for all targets and of one for each, with the
same number of trials in all.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean

from mnas.accuracy.surrogate import AdditiveSurrogate, imagenet_surrogate_additive
from mnas.objective import Reward
from mnas.registry import make
from mnas.search.costing import Costing, Limits
from mnas.search.history import History
from mnas.search.lanes import Lane, best_trial_for
from mnas.search.loop import Loop
from mnas.search.objective import CostModel, SearchCosts, SearchObjective
from mnas.search.optimum import find_optimum
from mnas.search.reporting import Quiet
from mnas.search_space import mbconv_space
from mnas.seeds import derive_seed
from mnas.store import EventStore

SPACE = mbconv_space(resolution=224, num_classes=1000)
TARGETS = (200e6, 250e6, 300e6, 350e6)


def best_rewards(
    name: str, targets: tuple[float, ...], trials: int, seed: int, accuracy: AdditiveSurrogate
) -> list[float]:
    """Of one search for these targets."""
    history, costs = History(), SearchCosts()
    limits = Limits(trials, ask_batch=8)
    costs.bind(CostModel(SPACE, limits.refusal, None, 0.5, history))
    lanes = []
    for number, target in enumerate(targets):
        objective = SearchObjective(costs)
        objective.aim(Reward("hard", target))
        offered = {"space": SPACE, "seed": derive_seed(seed, target, number), "objective": objective}
        lanes.append(Lane(make("controller", name, offered, "ask"), Reward("hard", target)))
    with tempfile.TemporaryDirectory() as folder, EventStore.create(Path(folder) / "trials.db") as store:
        loop = Loop(
            lanes=lanes,
            costing=Costing(SPACE, None, limits, 0.5),
            accuracy=accuracy,
            accuracy_name="additive",
            seed=seed,
            store=store,
            history=history,
            reporter=Quiet(),
            costs=costs,
        )
        loop.run()
    found = [best_trial_for(history.trials, lane.reward, timed=False) for lane in lanes]
    return [best[1] for best in found if best is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--controllers", default="reinforce,guided")
    parser.add_argument("--trials", type=int, default=400, help="in all")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    accuracy = imagenet_surrogate_additive()
    optima = [find_optimum(SPACE, accuracy, Reward("hard", target), "madds").reward for target in TARGETS]
    assert None not in optima
    each = options.trials // len(TARGETS)
    print(
        f"{options.trials} trials in all, {options.seeds} seeds; regret in per cent of the optimum's reward"
    )
    for name in options.controllers.split(","):
        pooled = [
            best_rewards(name, TARGETS, options.trials, seed, accuracy) for seed in range(options.seeds)
        ]
        apart = [
            [best_rewards(name, (target,), each, seed, accuracy)[0] for target in TARGETS]
            for seed in range(options.seeds)
        ]
        for number, target in enumerate(TARGETS):
            one, many = (
                fmean(100 * (1 - run[number] / (optima[number] or 1.0)) for run in runs)
                for runs in (pooled, apart)
            )
            print(
                f"{name:10} {target / 1e6:.0f}M: one pool {one:.3f}, apart ({each} trials each) {many:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
