"""One run from its directory: begin or resume, search, measure the finalists, write the baseline."""

import random
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from mnas.config import SearchConfig, make_config
from mnas.env import environment
from mnas.errors import InputError, MnasError, RunDirectoryError
from mnas.executors import Executor
from mnas.executors.made import make_executor, with_workers
from mnas.files import write_json
from mnas.latency import describe_conditions
from mnas.protocols import PreparedAccuracyModel, is_expensive
from mnas.registry import is_reference, is_space_file
from mnas.rundir import RunDirectory
from mnas.search.costing import Costing
from mnas.search.ending import Ending, end_search
from mnas.search.estimate import SAMPLE, say_estimate
from mnas.search.history import History
from mnas.search.loop import Loop
from mnas.search.objective import CostModel
from mnas.search.outcome import front_rows, search_result, unfinished
from mnas.search.problem import Problem, flags_needed, make_problem
from mnas.search.rank_check import RankCheck, rank_fields
from mnas.search.remeasure import Remeasurer
from mnas.search.reporting import Reporter
from mnas.search.step_timing import prepare_steps
from mnas.search.timing import Timing, prepare_timing
from mnas.seeds import derive_seed
from mnas.store import EventStore

# Chosen here: enough to find a network where one in some ten is within the target; a plug-in may be slow to answer.
PROPOSALS, PROPOSALS_OF_PLUGIN = 64, 8


def start_search(config: SearchConfig, out: Path | None, reporter: Reporter) -> dict[str, Any]:
    """A new search in a new run directory.

    Args:
        config: what was asked for.
        out: the run directory, not there or empty; None is `runs/<date>-<n>`.
        reporter: told of progress.

    Returns:
        The result, as `outcome.search_result` describes it.

    Raises:
        InputError: something is wrong with the input; nothing was run.
        SearchError: a target out of range, or a predictor that fails; the run can be resumed.
    """
    config = with_workers(config).resolved()
    reporter.stage("preparing")
    if config.data is not None:
        from mnas.data import located

        config = config.model_copy(update={"data": located(config.data)})
    problem = make_problem(config)
    run = RunDirectory.create(out)
    with run.locked():
        run.write_config(config.to_toml())
        if is_space_file(config.space):
            run.keep_space(Path(config.space))
        write_json(run.environment, environment())
        with EventStore.create(run.trials) as store:
            try:
                return _search(run, store, problem, reporter)
            except MnasError:
                began = any(event.kind in ("asked", "rank") for event in store.events())
                if not began and not run.is_prepared:
                    run.discard()
                raise


def resume_search(
    path: Path,
    flags: Mapping[str, str],
    reporter: Reporter,
    *,
    executor: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Goes on with an interrupted search; a finished one gives its result again.

    Args:
        path: the run directory.
        flags: `space`, `controller`, `baseline`, `latency` or `accuracy` as given on the command line, needed again
            where the run used a `module:factory` of the user's.
        reporter: told of progress.
        executor: `executor`, `workers` and `address`, where candidates are to be trained elsewhere than before; that
            does not change what the run is.

    Raises:
        RunDirectoryError: not a run, damaged, of another version, or in use.
        InputError: a needed flag is missing or differs from the run's.
        SearchError: as for a new search.
    """
    run = RunDirectory.open(path)
    with run.locked():
        config = stored_config(run)
        for name in ("space", "controller", "baseline", "latency", "accuracy"):
            stored, given = getattr(config, name), flags.get(name)
            if given is not None and given != stored:
                raise InputError(
                    f"this run was begun with --{name} {stored}; it cannot go on with {given!r}."
                )
            if stored and is_reference(stored) and given is None:
                raise InputError(
                    f"this run uses your own {name} {stored!r}, which is loaded only when you name it again: "
                    f"{resume_command(run, config)}"
                )
        with EventStore.open(run.trials) if run.trials.exists() else EventStore.create(run.trials) as store:
            history = History.read(store.events())
            ended = history.result
            if ended is not None and _whole(run, ended):
                reporter.note("this search had ended; nothing was left to do.")
                return dict(ended)
            reporter.stage("preparing")
            config = _elsewhere(config, executor or {})
            return _search(run, store, make_problem(config, run.space), reporter)


def _elsewhere(config: SearchConfig, executor: Mapping[str, Any]) -> SearchConfig:
    """The same run with another executor, or another number of workers; raises InputError where they do not fit."""
    values = config.to_toml()
    if executor.get("executor") == "inline" and config.data is None:
        values.pop("candidate_timeout", None)  # which it could not enforce on a model of the user's
    if executor.get("executor", config.executor) != config.executor:
        values = {key: value for key, value in values.items() if key not in ("workers", "address")}
    return with_workers(make_config({**values, **executor}))


def _whole(run: RunDirectory, ended: Mapping[str, Any]) -> bool:
    """Whether nothing is left to do: every target has its baseline, or no network for one."""
    parts = ended.get("results", [ended])
    return all(
        part["status"] == "no_feasible" or run.outputs(part.get("label", "")).baseline.exists()
        for part in parts
    )


def stored_config(run: RunDirectory) -> SearchConfig:
    """The configuration of a run.

    Raises:
        RunDirectoryError: it is damaged.
    """
    values = {key: value for key, value in run.read_config().items() if key != "format"}
    try:
        return make_config(values)
    except InputError as error:
        raise RunDirectoryError(f"{run.config} is damaged or from another version: {error}") from error


def resume_command(run: RunDirectory, config: SearchConfig) -> str:
    """What to type to go on with this run."""
    return f"mnas resume {run.path}{flags_needed(config)}"


def _search(run: RunDirectory, store: EventStore, problem: Problem, reporter: Reporter) -> dict[str, Any]:
    started = time.monotonic()
    history = History.read(store.events())
    before = history.seconds
    for text in () if problem.data is None else problem.data.notes:
        reporter.note(text)
    for text in (*_left_out(problem), *_too_small(problem)):
        reporter.warn(text)
    try:
        timing = prepare_timing(problem, run, store, history, reporter)
        timing = replace(timing, steps=prepare_steps(problem, store, history, reporter))
        problem = problem.at(timing.budgets)
        with closing(make_executor(problem.config, run.path, problem.accuracy, reporter.note)) as executor:
            loop = _loop(problem, timing, executor, store, history, reporter)
            loop.replay()
            if is_expensive(problem.accuracy):
                _before_trials(run, loop, problem, store, history, reporter)
            reporter.stage(f"searching {problem.space.name} with {_controllers(problem)}")
            loop.run()
        evidence: dict[str, Any] = {}
        endings = [
            end_search(run, store, problem, goal, timing, history, evidence, reporter)
            for goal in problem.goals
        ]
        store.append("finalists", [{"finalists": ending.final.rows} for ending in endings])
        seconds = before + time.monotonic() - started
        result = _result(run, problem, history, seconds, endings)
        for text in _drift_warnings(history):
            reporter.warn(text)
        write_json(run.result, result)
        store.append("finished", [result])
        store.commit()
    except KeyboardInterrupt:
        store.commit()
        seconds = before + time.monotonic() - started
        reporter.note(f"interrupted; nothing is lost. Go on with: {resume_command(run, problem.config)}")
        return _result(run, problem, history, seconds, None)
    except MnasError as error:
        if history.trials or history.ranks or run.is_prepared:
            kept = (
                f"{_tried(problem, history)} trials are"
                if history.trials
                else "what was prepared before the first trial is"
            )
            error.add_note(f"{kept} kept in {run.path}. Go on with: {resume_command(run, problem.config)}")
        raise
    return result


def _before_trials(
    run: RunDirectory, loop: Loop, problem: Problem, store: EventStore, history: History, reporter: Reporter
) -> None:
    """Says what the search will take, prepares its accuracy model, and looks how well that ranks networks."""
    sample = loop.typical(SAMPLE, random.Random(derive_seed(problem.config.seed, "estimate")))
    total = say_estimate(problem, sample, history, reporter, run.supernet)
    if isinstance(problem.accuracy, PreparedAccuracyModel):
        reporter.stage(f"preparing {problem.accuracy_name}")
        problem.accuracy.prepare(run.supernet, reporter.note)
    if problem.data is not None:
        RankCheck(problem, loop, sample, store, history, reporter).run(total)


def _loop(
    problem: Problem,
    timing: Timing,
    executor: Executor,
    store: EventStore,
    history: History,
    reporter: Reporter,
) -> Loop:
    """The search itself; controllers that plan with costs know them from now on."""
    latencies = timing.predict if problem.config.target_kind == "latency" else None
    quantile, limits = problem.config.quantile, problem.limits
    if problem.costs is not None:
        plain = None if latencies is None else timing.uncorrected or latencies
        problem.costs.bind(CostModel(problem.space, limits.refusal, plain, quantile, history))
    return Loop(
        lanes=problem.lanes,
        costing=Costing(problem.space, latencies, limits, quantile, timing.steps),
        accuracy=problem.accuracy,
        accuracy_name=problem.accuracy_name,
        seed=problem.config.seed,
        store=store,
        history=history,
        reporter=reporter,
        proposals=_proposals(problem.config),
        remeasure=_remeasurer(problem, timing, history, reporter),
        costs=problem.costs,
        executor=executor,
    )


def _controllers(problem: Problem) -> str:
    """Who searches, in words."""
    config = problem.config
    several = f", one for each of {len(problem.goals)} targets" if len(problem.goals) > 1 else ""
    if config.baseline is None:
        return f"{config.controller}{several}"
    compared = f"{config.baseline} to compare it with ({config.baseline_share:.0%} of the trials)"
    return f"{config.controller}{several}, and {compared}"


def _tried(problem: Problem, history: History) -> int:
    """Trials that have ended, those not counted that were refused before anything was spent on them."""
    return history.spent(expensive=is_expensive(problem.accuracy)) - history.counts()["waiting"]


def _predicts(config: SearchConfig) -> bool:
    """Whether latency is predicted in the search, and measured on a device at its end."""
    return config.target_kind == "latency" and config.latency == "calibrated"


def _remeasurer(problem: Problem, timing: Timing, history: History, reporter: Reporter) -> Remeasurer | None:
    """What measures near the target; None where nothing is predicted, or for a device that is not at hand."""
    if not _predicts(problem.config):
        return None
    return Remeasurer(
        ruler=timing.ruler,
        space=problem.space,
        targets=tuple(dict.fromkeys(goal.budget for goal in problem.goals)),
        seed=problem.config.seed,
        history=history,
        reporter=reporter,
    )


def _proposals(config: SearchConfig) -> int:
    """Networks asked for, at most, for each that is trained: many where a cost takes no time to know."""
    if config.target_kind == "madds" or _predicts(config):
        return PROPOSALS
    return 1 if config.latency == "measure" else PROPOSALS_OF_PLUGIN


def _drift_warnings(history: History) -> list[str]:
    drift = history.drift
    return [] if drift is None or drift.warning is None else [drift.warning]


def _left_out(problem: Problem) -> list[str]:
    """What was left out of the data by explicit choice."""
    return [] if problem.data is None else list(problem.data.left_out)


def _too_small(problem: Problem) -> list[str]:
    """What is to be said of a resolution below the strides of the space's first member."""
    first = problem.space.decode(problem.space.first)
    return [] if first.too_small is None else [first.too_small]


def _result(
    run: RunDirectory,
    problem: Problem,
    history: History,
    seconds: float,
    endings: Sequence[Ending] | None,
) -> dict[str, Any]:
    """The object; `endings` is None where the search was interrupted."""
    config = problem.config
    counts = history.counts()
    drift = history.drift
    return search_result(
        run=str(run.path),
        kind=config.target_kind,
        parts=[
            unfinished(config.target_kind, goal, history)
            if endings is None
            else endings[number].to_dict(config.target_kind, history)
            for number, goal in enumerate(problem.goals)
        ],
        labels=[goal.label for goal in problem.goals],
        trials=_tried(problem, history),
        seconds=seconds,
        space=config.space,
        controller=config.controller,
        reward=config.reward,
        failed=counts["failed"],
        infeasible=counts["infeasible"],
        front=front_rows(history, config.target_kind),
        conditions=describe_conditions(problem.conditions, problem.host),
        calibration=None if endings is None else endings[0].final.calibration,
        latency_quantile=config.quantile if config.target_kind == "latency" else None,
        refits=[refit.to_dict() for refit in history.refits],
        references=[{name: timed[name] for name in ("when", "ms")} for timed in history.references],
        drift=None if drift is None else drift.fraction,
        rank_check=rank_fields(history.ranks, config.seed),
        steps=None if history.steps is None else history.steps["about"],
        warnings=[*_left_out(problem), *_too_small(problem), *_drift_warnings(history)],
        classes=None if problem.data is None else list(problem.data.classes),
    )
