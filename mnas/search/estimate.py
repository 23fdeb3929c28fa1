"""What a search with training will take, said before it is spent."""

import random
from statistics import mean

from mnas.protocols import TrainingAccuracyModel
from mnas.search.history import History
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.seeds import derive_seed
from mnas.units import format_duration

# Random members whose training is timed for a few steps; chosen here: a space's members differ by a factor of ten.
SAMPLE = 6


def say_estimate(problem: Problem, history: History, reporter: Reporter) -> None:
    """Says what a candidate and the rest of the search will take; nothing where candidates are not trained.

    Raises:
        InputError: a network that does not fit the data.
    """
    accuracy = problem.accuracy
    left = problem.limits.trials - sum(history.counts().values()) + history.counts()["waiting"]
    if not isinstance(accuracy, TrainingAccuracyModel) or left <= 0:
        return
    rng = random.Random(derive_seed(problem.config.seed, "estimate"))
    specs = [problem.space.decode(problem.space.sample(rng)) for _ in range(SAMPLE)]
    each = [accuracy.seconds(spec) for spec in specs]
    total = mean(each) * (left + 1)  # the winner is trained once more
    limit = problem.config.max_time
    reporter.note(
        f"training a candidate takes {format_duration(min(each))} to {format_duration(max(each))} "
        f"({SAMPLE} random ones, a few steps each); {left} of them and the winner again about "
        f"{format_duration(total)}{f', or what --max-time {limit} allows' if limit else ''}."
    )
