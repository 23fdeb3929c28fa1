"""How near the controllers come to the exact optimum, on made-up separable problems over the space `mbconv`.

    python benchmarks/controllers/made_up.py --problems 3 --seeds 3 --trials 8000

Prints one JSON object: best reward over the optimum's, by controller.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import numpy as np

from mnas.controllers import RandomController, ReinforceController
from mnas.controllers.exact import separable_front
from mnas.objective import Reward
from mnas.protocols import Controller, Observation
from mnas.search_space import mbconv_space

BLOCKS, CHOICES = 7, 4
CONTROLLERS: dict[str, Callable[..., Controller]] = {
    "random": RandomController,
    "reinforce without imitation": partial(ReinforceController, imitation_weight=0.0),
    "reinforce": ReinforceController,
}


def problem(seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores and milliseconds for each option of each block, with random interactions inside a block."""
    rng = np.random.default_rng(seed)
    choices = mbconv_space().choices
    scores, times = [], []
    for block in range(BLOCKS):
        shape = tuple(len(choice.options) for choice in choices[CHOICES * block : CHOICES * (block + 1)])
        expansion, kernel, layers, se = np.indices(shape)
        width = np.array([1, 4, 6])[expansion]
        score = 0.1 * np.log(width) + 0.05 * kernel + 0.12 * np.log(layers + 1) + 0.06 * se
        scores.append(score * (0.3 + block / 15) + rng.normal(0, 0.01, shape))
        ms = (layers + 1) * width * (0.3 + 0.12 * kernel) + 0.1 * se * (layers + 1) + 0.1
        times.append(ms * rng.uniform(0.8, 1.2, shape))
    return scores, times


def accuracy(score: np.ndarray) -> np.ndarray:
    return 0.7 - np.exp(-1.6 - score)


def run(controller: Controller, scores: list, times: list, reward: Reward, trials: int, batch: int) -> float:
    best = asked = 0
    while asked < trials:
        points = controller.ask(min(batch, trials - asked))
        asked += len(points)
        picks = [[p[CHOICES * b : CHOICES * (b + 1)] for b in range(BLOCKS)] for p in points]
        score = np.array([sum(s[pick] for s, pick in zip(scores, row, strict=True)) for row in picks])
        ms = np.array([sum(t[pick] for t, pick in zip(times, row, strict=True)) for row in picks])
        rewards = reward.score(accuracy(score), ms)
        best = max(best, float(rewards.max()))
        controller.tell([Observation(p, "done", float(r)) for p, r in zip(points, rewards, strict=True)])
    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--first-problem", type=int, default=100)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CONTROLLERS}
    for number in range(options.first_problem, options.first_problem + options.problems):
        scores, times = problem(number)
        front_score, front_ms = separable_front([s.ravel() for s in scores], [t.ravel() for t in times])
        low, high = sum(t.min() for t in times), sum(t.max() for t in times)
        for share in (0.1, 0.3, 0.6):
            reward = Reward("hard", low + share * (high - low))
            optimum = float(reward.score(accuracy(front_score), front_ms).max())
            for name, factory in CONTROLLERS.items():
                for seed in range(options.seeds):
                    controller = factory(mbconv_space(), seed=seed)
                    best = run(controller, scores, times, reward, options.trials, options.batch)
                    found[name].append(best / optimum)
    summary = {
        name: {
            "worst": min(v),
            "mean": float(np.mean(v)),
            "share_above_0.995": float(np.mean(np.array(v) >= 0.995)),
        }
        for name, v in found.items()
    }
    print(json.dumps({**vars(options), "runs_each": len(found["random"]), "results": summary}, indent=2))


if __name__ == "__main__":
    main()
