"""A run directory as data. Nothing that the run names is imported; every field is checked."""

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from mnas.config import DEFAULT_QUANTILE, TRAINED, parse_targets
from mnas.errors import InputError, RunDirectoryError
from mnas.objective import Reward
from mnas.registry import is_reference
from mnas.report.data import AccuracyKind, Finalist, Network, RunData, Tried
from mnas.report.fields import Fields
from mnas.report.measured import (
    read_calibration,
    read_error,
    read_family,
    read_latency,
    read_network,
)
from mnas.rundir import RunDirectory
from mnas.search import History, Trial
from mnas.search.finalists import candidates, pareto_front
from mnas.search.history import TrialStatus
from mnas.search.lanes import trial_reward
from mnas.search.optimum import describe_optimum
from mnas.search_space import NetworkSpec
from mnas.store import Event, EventStore

STATUSES = ("done", "noisy", "no_feasible")
# Of a network that is drawn, at most (chosen here: EfficientNet-B7 has 55 blocks, and 2560 channels).
MOST_BLOCKS, MOST_CHANNELS = 400, 100_000


def count_targets(path: Path) -> int:
    """How many targets the run has; raises RunDirectoryError as `read_run`."""
    run = RunDirectory.open(path)
    return len(_targets(Fields.of(run.config, "", run.read_config())))


def read_run(path: Path, number: int = 0) -> RunData:
    """What the run directory says of its target of this number.

    Raises:
        RunDirectoryError: not a run directory, or a damaged one; the file and the field are named.
    """
    run = RunDirectory.open(path)
    config = Fields.of(run.config, "", run.read_config())
    kind, targets = _kind(config), _targets(config)
    label, target = targets[number] if len(targets) > 1 else ("", targets[0][1])
    history, began = _history(run)
    result = _result(run, history, number)
    predictor = None if result is None else result.maybe_object("calibration")
    budget = None if result is None else result.maybe_amount("budget")
    quantile = config.maybe_amount("latency_quantile") or DEFAULT_QUANTILE
    kind_of_reward = config.maybe_text("reward") or "hard"
    aim = _aim(run, kind_of_reward, budget or target, quantile) if len(targets) > 1 else None
    goal = _GoalOf(run, number, len(targets), aim)
    trials = _tried(run, history, kind, goal, "baseline" in config)
    files = run.outputs(label)
    baseline = _winner(result, "baseline", files.baseline)
    if _status(result) == "done" and baseline is None:
        raise RunDirectoryError(f"{run.result} is damaged: the search is done, but has no 'baseline'.")
    names = {
        name: config.maybe_text(name) for name in ("space", "controller", "baseline", "latency", "accuracy")
    }
    flags = [f" --{name} {value}" for name, value in names.items() if value and is_reference(value)]
    return RunData(
        path=run.path,
        place=shlex.quote(_place(run.path)),
        label=label,
        status=_status(result),
        kind=kind,
        target=target,
        budget=budget,
        space=names["space"] or "mbconv",
        controller=names["controller"] or "reinforce",
        reward=kind_of_reward,
        quantile=quantile,
        accuracy_kind=_accuracy_kind(names["accuracy"]),
        accuracy_name=names["accuracy"] or "imagenet-surrogate",
        accuracy_source=_source(run, history),
        latency_name=names["latency"] or "calibrated",
        conditions=None if result is None else result.maybe_text("conditions"),
        seconds=history.seconds if result is None else result.amount("seconds"),
        wanted=config.maybe_whole("trials"),
        counts=history.counts(),
        trials=trials,
        finalists=() if result is None else tuple(map(_finalist, result.objects("finalists"))),
        baseline=baseline,
        scaled=_winner(result, "scaled", files.scaled),
        comparison=() if result is None else tuple(_compared(item) for item in result.objects("comparison")),
        error=None if predictor is None or "mape" not in predictor else read_error(predictor),
        range_ms=_range(predictor),
        reference_ms=None if predictor is None else predictor.maybe_amount("reference_ms"),
        refits=tuple(history.refits),
        drift=history.drift,
        optimum=_optimum(result),
        against=_said(result, "against"),
        ranking=_said(result, "rank_check"),
        calibration=read_calibration(run.calibration),
        family=read_family(run.path / "family.json"),
        warnings=() if result is None else result.texts("warnings"),
        began=began,
        config=_plain(config),
        plugin_flags="".join(flags),
        environment=_environment(run.environment),
    )


def _optimum(result: Fields | None) -> str | None:
    """In words, where the result has it; runs of earlier versions do not."""
    found = None if result is None else result.maybe_object("optimum")
    if result is None or found is None or found.text("kind") == "unknown":
        return None
    best = result.maybe_amount("best_reward")
    said = {"kind": found.text("kind"), "reason": found.maybe_text("reason")}
    numbers = {name: found.maybe_amount(name) for name in ("reward", "gap")}
    if best is None or None in numbers.values():
        return None
    return describe_optimum(said | numbers, best)


def _said(result: Fields | None, name: str) -> str | None:
    """The words of a part of the result; runs of earlier versions may not have it."""
    found = None if result is None else result.maybe_object(name)
    return None if found is None else found.text("text")


@dataclass(frozen=True, slots=True)
class _GoalOf:
    """One of the targets of a run, and its rewards; `aim` is None where there is one target."""

    run: RunDirectory
    number: int
    targets: int
    aim: Reward | None

    def reward(self, trial: Trial, kind: str) -> float:
        """Of a done trial: as it was told to the controller of this target."""
        if self.aim is None or trial.lane % self.targets == self.number:
            return Fields(self.run.trials, f"trial {trial.number}", {"reward": trial.reward}).number("reward")
        return trial_reward(trial, self.aim, timed=kind == "latency")


def _aim(run: RunDirectory, kind: str, budget: float, quantile: float) -> Reward:
    try:
        return Reward(cast(Any, kind), budget, quantile)
    except InputError as error:
        raise RunDirectoryError(f"{run.config} is damaged: {error}") from error


def _place(path: Path) -> str:
    """The path as a command names it: from the current folder where it lies below that, else absolute."""
    try:
        below = str(path.relative_to(Path.cwd()))
    except (OSError, ValueError):  # no current folder any more; not below it
        return str(path)
    return f"./{below}" if below.startswith("-") else below


def _targets(config: Fields) -> tuple[tuple[str, float], ...]:
    """Label and value, ms or multiply-adds, of each."""
    kind = _kind(config)
    text = config.text("target_latency" if kind == "latency" else "target_madds")
    try:
        return parse_targets(text, kind)
    except InputError as error:
        raise RunDirectoryError(f"{config.file} is damaged: {error}") from error


def _kind(config: Fields) -> Literal["latency", "madds"]:
    return "latency" if "target_latency" in config else "madds"


def _history(run: RunDirectory) -> tuple[History, float | None]:
    """The events, and when the first was written; a run that was cut off before its store has neither."""
    if not run.trials.exists():
        return History(), None
    times: list[float] = []

    def watched(events: Iterable[Event]) -> Iterator[Event]:
        for event in events:
            times.append(event.time)
            yield event

    with EventStore.open(run.trials) as store:
        try:
            history = History.read(watched(store.events()))
            for trial in history.trials:
                _check(run.trials, trial)
            Fields(run.trials, "told", {"seconds": history.seconds}).amount("seconds")
        except (LookupError, RecursionError, TypeError) as error:
            raise RunDirectoryError(f"the store {run.trials} is damaged: {error!r}.") from error
    began = Fields(run.trials, "events", {"time": times[0] if times else None}).maybe_amount("time")
    return history, began


def _check(store: Path, trial: Trial) -> None:
    """Refuses a trial whose fields are not what a search writes."""
    fields = Fields(store, f"trial {trial.number!r:.20}", {"key": trial.key, "status": trial.status})
    fields.text("key")
    if fields.text("status") not in get_args(TrialStatus) or type(trial.number) is not int:
        raise RunDirectoryError(
            f"the store {store} is damaged: {fields.where} has status {trial.status!r:.20}."
        )


def _result(run: RunDirectory, history: History, number: int) -> Fields | None:
    """What the search ended with for a target: `result.json`, or the store's copy of it; None for an unfinished run."""
    if run.result.is_file():
        result = Fields.read(run.result)
    elif history.result is not None:
        result = Fields.of(run.trials, "finished", history.result)
    else:
        return None
    if "results" not in result:
        return result
    parts = list(result.objects("results"))
    if number >= len(parts):
        raise RunDirectoryError(
            f"{result.file} is damaged: it has results for {len(parts)} targets, not for all."
        )
    warnings = [*result.texts("warnings"), *parts[number].texts("warnings")]
    return Fields(
        result.file, parts[number].where, {**result.data, **parts[number].data, "warnings": warnings}
    )


def _status(result: Fields | None) -> Any:
    status = "unfinished" if result is None else result.text("status")
    return status if status in STATUSES else "unfinished"


def _accuracy_kind(name: str | None) -> AccuracyKind:
    if name is None or name.startswith("imagenet-surrogate"):
        return "predicted"
    return "trained" if name in TRAINED else "plug-in"


def _tried(
    run: RunDirectory, history: History, kind: str, goal: _GoalOf, compared: bool
) -> tuple[Tried, ...]:
    """The finished trials in the order asked, with latencies as they were known at last, and rewards as then."""
    cost = "latency_ms" if kind == "latency" else "madds"
    names = ("latency_low_ms", "latency_high_ms") if kind == "latency" else ()
    rows = []
    for trial in history.trials:
        if trial.status == "done":
            metrics = Fields.of(run.trials, f"trial {trial.number}", trial.metrics)
            for name in (cost, *names, "accuracy", "accuracy_std"):
                metrics.amount(name)
    rewards = {trial.number: goal.reward(trial, kind) for trial in history.trials if trial.status == "done"}
    done = [trial for trial in history.known_now() if trial.status == "done"]
    for trial in done:
        value, accuracy = trial.metrics[cost], trial.metrics["accuracy"]
        low, high = (trial.metrics[name] for name in names) if names else (value, value)
        other = compared and trial.lane >= goal.targets
        rows.append((trial.number, trial.key, accuracy, value, low, high, rewards[trial.number], other))
    front = {c.trial.number for c in pareto_front(candidates(done, cast(Any, cost)))}
    return tuple(Tried(*row, on_front=row[0] in front) for row in rows)


def _source(run: RunDirectory, history: History) -> str | None:
    """What the trials' accuracies are, by the first that says so."""
    said = next((trial.source for trial in history.trials if trial.status == "done" and trial.source), None)
    return Fields(run.trials, "trials", {"source": said}).maybe_text("source")


def _finalist(row: Fields) -> Finalist:
    return Finalist(
        trial=row.whole("trial"),
        architecture=row.text("architecture"),
        accuracy=row.amount("accuracy"),
        predicted=row.amount("predicted"),
        within=row.flag("within_target"),
        status=row.text("status"),
        latency=read_latency(row),
        trained=row.maybe_amount("trained_accuracy"),
        measured_before="measured_before" in row and row.flag("measured_before"),
    )


def _range(predictor: Fields | None) -> tuple[float, float] | None:
    if predictor is None or "fastest_ms" not in predictor:
        return None
    return predictor.amount("fastest_ms"), predictor.amount("slowest_ms")


def _winner(result: Fields | None, name: str, file: Path) -> Network | None:
    fields = None if result is None else result.maybe_object(name)
    return None if fields is None else read_network(fields, name, _spec(file))


def _compared(fields: Fields) -> Network:
    return read_network(fields, fields.text("name"), None)


def _spec(file: Path) -> NetworkSpec:
    data = Fields.read(file).data
    try:
        spec = NetworkSpec.from_dict(data)
    except InputError as error:
        raise RunDirectoryError(f"{file} is damaged: {error}") from error
    widest = max(spec.stem_channels, spec.head_channels, *(stage.out_channels for stage in spec.stages))
    if sum(stage.repeats for stage in spec.stages) > MOST_BLOCKS or widest > MOST_CHANNELS:
        raise RunDirectoryError(
            f"{file} has more than {MOST_BLOCKS} blocks or {MOST_CHANNELS} channels, which no network of ours has."
        )
    return spec


def _plain(fields: Fields) -> tuple[tuple[str, str], ...]:
    """Keys and values as texts, in order."""
    rows = []
    for key, value in fields.data.items():
        if not isinstance(value, str | int | float | bool):
            raise RunDirectoryError(f"{fields.file} is damaged: {key!r:.60} should be a plain value.")
        rows.append((key, f"{value}".lower() if isinstance(value, bool) else f"{value}"))
    return tuple(rows)


def _environment(file: Path) -> tuple[tuple[str, str], ...]:
    """Versions and platform; empty where the file is not there."""
    if not file.is_file():
        return ()
    fields = Fields.read(file)
    packages = fields.maybe_object("packages") or Fields(file, "packages", {})
    cores = fields.maybe_whole("cores")
    platform = {
        "mnas": fields.text("mnas"),
        "Python": fields.text("python"),
        "system": f"{fields.text('system')} {fields.text('release')}",
        "machine": f"{fields.text('machine')}{'' if cores is None else f', {cores} usable cores'}",
    }
    versions = {str(name): packages.text(name) for name in packages.data if name in packages}
    return tuple((platform | versions).items())
