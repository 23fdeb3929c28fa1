"""Controllers side by side: one for each target, and baselines that are to be beaten, on one pool of trials.

Lanes ask in turn. What comes of a trial is told to every lane on the same side, each with the reward of its own target;
a baseline is told of nothing that the search itself tried, nor the other way round, so that the two can be compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnas.objective import Reward, worth
from mnas.protocols import Controller, Observation
from mnas.search.costing import Limits, judged_cost
from mnas.search.history import Batch, Trial
from mnas.search.objective import SearchObjective
from mnas.search_space import SearchSpace


@dataclass(frozen=True, slots=True)
class Lane:
    """A controller with its target.

    Args:
        controller: what proposes networks.
        reward: with the target, or the budget that stands for it.
        name: of the controller, as in the configuration.
        label: of the target, as in the names of files; empty where the search has one target.
        share: of the trials.
        baseline: whether it is there to be beaten.
        objective: what the controller plans with; None where it plans with nothing.
    """

    controller: Controller
    reward: Reward
    name: str = ""
    label: str = ""
    share: float = 1.0
    baseline: bool = False
    objective: SearchObjective | None = None


def whose_turn(lanes: Sequence[Lane], spent: Mapping[int, int], ended: Iterable[int] = ()) -> int | None:
    """The lane furthest behind its share, the first of equals; None once all have ended.

    Args:
        lanes: in order.
        spent: trials of each lane so far.
        ended: lanes that have nothing more to propose.
    """
    left = [number for number in range(len(lanes)) if number not in set(ended)]
    return min(left, key=lambda number: (spent.get(number, 0) / lanes[number].share, number), default=None)


def observations(
    batch: Batch, mine: int, lanes: Sequence[Lane], space: SearchSpace, limits: Limits, *, timed: bool
) -> list[Observation]:
    """What a lane is told of a batch: nothing of the other side's, and not what was refused for another target only.

    As accuracy it is told what the reward multiplies: in a training-aware search that is less than the accuracy.

    Args:
        batch: of trials with the same lane.
        mine: the lane that is told.
        lanes: all of them.
        space: of the trials.
        limits: a trial outside them is infeasible for every target.
        timed: whether the cost is latency.
    """
    lane, asker = lanes[mine], batch.lane
    if lanes[asker].baseline != lane.baseline:
        return []
    told = []
    for trial in batch.trials:
        reward = trial.reward
        if asker != mine:
            if trial.status == "infeasible" and limits.refusal(trial.metrics) is None:
                continue
            if reward is not None:
                reward = trial_reward(trial, lane.reward, timed=timed)
        if trial.status != "waiting":
            metrics = trial.metrics
            if "accuracy" in metrics:
                metrics = {**metrics, "accuracy": worth(metrics)}
            told.append(Observation(space.from_key(trial.key), trial.status, reward, metrics))
    return told


def trial_reward(trial: Trial, reward: Reward, *, timed: bool) -> float:
    """Of a done trial for any target."""
    cost = judged_cost(trial.metrics, reward.quantile, timed=timed)
    return float(reward.score(worth(trial.metrics), cost))


def best_trial_for(trials: Iterable[Trial], reward: Reward, *, timed: bool) -> tuple[Trial, float] | None:
    """The done trial of greatest reward for a target, the earliest of equals, with that reward; None without any."""
    done = [trial for trial in trials if trial.status == "done"]
    if not done:
        return None
    costs = [judged_cost(trial.metrics, reward.quantile, timed=timed) for trial in done]
    rewards = reward.score([worth(trial.metrics) for trial in done], costs)
    best = int(rewards.argmax())
    return done[best], float(rewards[best])
