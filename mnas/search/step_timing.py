"""How the training steps of a training-aware search come to be known: some members timed, the finalists too.

Thousands of networks cannot be timed. Some members of the space are, on the machine that trains, and structural sums
are fitted to their times, as for latency; the error on networks held out from the fit is said. Finalists are timed.
"""

import random
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mnas.errors import RunDirectoryError
from mnas.latency import StructuralPredictor, default_reference, score
from mnas.search.history import History
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search.steps import Steps
from mnas.search_space import Architecture, NetworkSpec, SearchSpace, extremes, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore

if TYPE_CHECKING:
    from mnas.step_time import StepTimes

# Members that are timed at the least (chosen here: with ten folds, three of them are held out at a time).
NETWORKS = 30
# Images of a step where no data say so (chosen here): on a CPU few, as a step of EfficientNet-B0 at 224 pixels takes
# about a second with eight; on a GPU enough that kernels take longer than launching them.
BATCH, BATCH_ON_GPU = 8, 64


def prepare_steps(problem: Problem, store: EventStore, history: History, reporter: Reporter) -> Steps | None:
    """The training steps of the space: of the stored run, or timed and fitted now. None where the reward does not ask.

    Raises:
        RunDirectoryError: what is stored of them is damaged.
    """
    if problem.config.reward != "training-aware":
        return None
    if history.steps is not None:
        try:
            steps = Steps.from_dict(history.steps)
        except (KeyError, TypeError, ValueError) as error:
            raise RunDirectoryError(f"the stored event on training steps is damaged: {error!r}.") from error
    else:
        steps = _fit(problem, reporter)
        store.append("steps", [steps.to_dict()])
        store.commit()
        history.steps = steps.to_dict()
    reporter.note(
        "reward: accuracy x S^-0.07 x P^-0.05 within the target, which stays a hard one; S is the time of a training "
        f"step ({steps.about['conditions']}), predicted: {steps.about['said']}"
    )
    return steps


def timed_steps(
    problem: Problem, steps: Steps, specs: Mapping[str, NetworkSpec], number: int, reporter: Reporter
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Metrics of networks by their timed steps, and the times as JSON."""
    reporter.stage(f"timing training steps of {len(specs)} finalists")
    found = _time(problem, specs, derive_seed(problem.config.seed, "steps of finalists", number), reporter)
    metrics = {
        name: steps.metrics(spec, found.ratio(name) * steps.reference_ms) for name, spec in specs.items()
    }
    return metrics, found.to_dict()


def _fit(problem: Problem, reporter: Reporter) -> Steps:
    space, seed = problem.space, derive_seed(problem.config.seed, "steps")
    specs = [space.decode(point) for point in sample_of_all(space, NETWORKS, random.Random(seed))]
    reporter.stage(f"timing training steps of {len(specs)} networks of {space.name}")
    found = _time(problem, {str(n): spec for n, spec in enumerate(specs)}, seed, reporter)
    times_ms = [found.ratio(str(n)) * found.reference_ms for n in range(len(specs))]
    predictor, held_out = StructuralPredictor.fit(specs, times_ms, device=found.conditions, seed=seed)
    error = score(times_ms, held_out)
    fastest, _ = extremes(space, lambda spec: float(predictor.network_ms([spec])[0]))
    smallest, _ = extremes(space, lambda spec: float(network_cost(spec).params))
    return Steps(
        predictor,
        found.reference_ms,
        float(predictor.network_ms([space.decode(fastest)])[0]),
        network_cost(space.decode(smallest)).params,
        {
            "conditions": found.conditions,
            "networks": len(specs),
            "seconds": found.seconds,
            "spread": found.spread,
            "error": error.to_dict(),
            "said": error.describe(),
        },
    )


def _time(problem: Problem, specs: Mapping[str, NetworkSpec], seed: int, reporter: Reporter) -> "StepTimes":
    from mnas.step_time import time_steps  # imports torch

    threads = problem.config.train_threads
    assert threads is not None
    return time_steps(
        specs,
        reference=default_reference(problem.space),
        batch=_batch(problem),
        device=problem.device,
        threads=threads,
        seed=seed,
        on_progress=reporter.progress,
    )


def _batch(problem: Problem) -> int:
    """Images of a step: as candidates are trained, where they are."""
    if problem.data is not None:
        from mnas.training import batch_size_of

        return batch_size_of(len(problem.data.train))
    return BATCH if problem.device == "cpu" else BATCH_ON_GPU


def sample_of_all(space: SearchSpace, count: int, rng: random.Random) -> list[Architecture]:
    """Different members, `count` or a few more: random ones, then one for each option that none of them has.

    A space of fewer members gives those that were found.
    """
    found: dict[Architecture, None] = {}
    for _ in range(10 * count):
        if len(found) >= count:
            break
        found[space.sample(rng)] = None
    for position, choice in enumerate(space.choices):
        for option in range(len(choice.options)):
            if not any(point[position] == option for point in found):
                genes: Sequence[int] = space.sample(rng)
                found[space.architecture([*genes[:position], option, *genes[position + 1 :]])] = None
    return list(found)
