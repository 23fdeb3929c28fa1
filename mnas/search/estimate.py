"""What a search with training will take, said before it is spent."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from mnas.protocols import PreparedAccuracyModel, StagedAccuracyModel, TimedAccuracyModel
from mnas.search.halving import mean_epochs
from mnas.search.history import History
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec
from mnas.units import format_duration

# Members whose training is timed for a few steps; chosen here: a space's members differ by a factor of ten.
SAMPLE = 6


def say_estimate(
    problem: Problem, specs: Sequence[NetworkSpec], history: History, reporter: Reporter, folder: Path
) -> float:
    """Says what a candidate, the rest of the candidates and the finalists will take; nothing where none is trained.

    Args:
        problem: what is searched.
        specs: a few networks such as the search evaluates.
        history: the trials so far.
        reporter: told.
        folder: of an accuracy model that prepares something.

    Returns:
        Seconds of what is known of the whole; 0 for nothing.

    Raises:
        InputError: a network that does not fit the data.
    """
    accuracy, config = problem.accuracy, problem.config
    waiting = history.counts()["waiting"]
    left = problem.limits.trials - history.spent(expensive=True) + waiting
    parts = []
    total = 0.0
    prepared = isinstance(accuracy, PreparedAccuracyModel)
    if isinstance(accuracy, PreparedAccuracyModel) and left > 0:
        total = accuracy.preparation_seconds(folder)
        beside = ", which --max-time does not count" if config.max_time else ""
        if total:
            once = f"preparing {problem.accuracy_name} once takes about {format_duration(total)}{beside}"
            parts.append(once)
    if isinstance(accuracy, TimedAccuracyModel) and left > 0:
        each = [accuracy.seconds(spec) for spec in specs]
        share = _share(accuracy)
        workers = config.workers or 1
        all_of_them = mean(each) * left * share / workers
        total += all_of_them
        what = "scoring" if prepared else "training"
        by = "batches" if prepared else "steps"
        limit = f" or what --max-time {config.max_time} allows" if config.max_time else ""
        early = " (some stopped early)" if share < 1 else ""
        early += f" by {workers} workers" if workers > 1 else ""
        parts.append(
            f"{what} a candidate takes {format_duration(min(each))} to {format_duration(max(each))} "
            f"({len(specs)} random ones, a few {by} each); {left} of them{early} about "
            f"{format_duration(all_of_them)}{limit}"
        )
    if problem.data is not None:
        seconds = _finals_seconds(problem, specs)
        total += seconds
        parts.append(
            f"{config.finals} finalist{'' if config.finals == 1 else 's'} for {config.final_epochs} epochs each about "
            f"{format_duration(seconds)}"
        )
    if parts:
        reporter.note(f"{'; then '.join(parts)}: {format_duration(total)} in all, measuring not counted.")
    return total


def _share(accuracy: object) -> float:
    """Of its epochs that a candidate is trained on average."""
    if not isinstance(accuracy, StagedAccuracyModel) or accuracy.eta is None:
        return 1.0
    return mean_epochs(accuracy.epochs, accuracy.rungs, accuracy.eta) / accuracy.epochs


def _finals_seconds(problem: Problem, specs: Sequence[NetworkSpec]) -> float:
    """What the longer training of the finalists will take, if they are as large as these networks on average."""
    from mnas.threads import torch_threads
    from mnas.training import estimate_seconds

    config, data = problem.config, problem.data
    assert data is not None
    assert config.final_epochs is not None
    assert config.finals is not None
    device, epochs = problem.device, config.final_epochs
    with torch_threads(config.train_threads):
        return config.finals * mean(
            estimate_seconds(spec, data, epochs=epochs, device=device, scorings=epochs) for spec in specs
        )
