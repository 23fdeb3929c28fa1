"""A run's stored trials under another target: one pool of trials serves many."""

from pathlib import Path
from typing import Any

from mnas.accuracy.made import make_data, make_space
from mnas.config import SearchConfig
from mnas.errors import InputError, RunDirectoryError, SearchError
from mnas.files import write_json
from mnas.objective import latency_quantile, worth
from mnas.records import latency_fields, network_fields
from mnas.registry import is_reference
from mnas.rundir import RunDirectory
from mnas.search.history import History, Trial
from mnas.search.outcome import accuracy_fields
from mnas.search.run import stored_config
from mnas.search_space import SearchSpace
from mnas.store import EventStore
from mnas.units import format_count, parse_count, parse_latency_ms


def best_trial(
    path: Path, target_latency: str | None, target_madds: str | None, space: str | None, out: Path | None
) -> dict[str, Any]:
    """The most accurate stored trial within a target, by the latency that the search knew of it at last.

    Of a training-aware search that of most worth, accuracy x S^w x P^v.

    Nothing is measured: the latency is what the search predicted or measured, with its interval, and its quantile that
    the search judged by has to be within.

    Args:
        path: the run; it may be running.
        target_latency: text with its unit; or
        target_madds: likewise.
        space: the run's own `module:factory`, needed again where it used one.
        out: where the network's specification is written as JSON; None is nowhere.

    Raises:
        RunDirectoryError: not a run, damaged, or without a finished trial.
        InputError: no target or two, a target in latency for a run that knows none, or a space that is not the run's.
        SearchError: no stored trial is within the target.
    """
    run = RunDirectory.open(path)
    config = stored_config(run)
    kind, value = _target(target_latency, target_madds, config)
    trials = _done(run)
    costs = {
        trial.number: latency_quantile(trial.metrics, config.quantile)
        if kind == "latency"
        else trial.metrics["madds"]
        for trial in trials
    }
    within = [trial for trial in trials if costs[trial.number] <= value]
    if not within:
        raise SearchError(
            f"none of {len(trials)} stored trials is within {_show(kind, value)}; the cheapest takes "
            f"{_show(kind, min(costs.values()))}. Raise the target, or search for it with mnas search."
        )
    best = max(within, key=lambda trial: (worth(trial.metrics), -costs[trial.number], -trial.number))
    members = _space(run, config, space)
    spec = members.decode(members.from_key(best.key))
    metrics = best.metrics
    latency = latency_fields(
        metrics.get("latency_ms"),
        metrics.get("latency_raw_ms"),
        metrics.get("latency_low_ms"),
        metrics.get("latency_high_ms"),
        "measured in the search"
        if "latency_raw_ms" in metrics
        else f"as the search knew it ({config.latency})",
    )
    if out is not None:
        write_json(out, spec.to_dict())
    return {
        "run": str(run.path),
        "target": {"kind": kind, "value": value},
        "trials": len(trials),
        "within": len(within),
        "trial": best.number,
        "architecture": best.key,
        **network_fields(spec),
        **latency,
        **accuracy_fields(best),
        "searched_for": {"kind": config.target_kind, "values": [value for _, value in config.targets]},
        "path": None if out is None else str(out.absolute()),
    }


def _target(latency: str | None, madds: str | None, config: SearchConfig) -> tuple[str, float]:
    if (latency is None) == (madds is None):
        raise InputError("give exactly one target: --target-latency 50ms or --target-madds 400M")
    if madds is not None:
        return "madds", float(parse_count(madds, what="target MAdds"))
    assert latency is not None
    if config.target_kind == "madds":
        raise InputError(
            "this run searched by multiply-adds and knows no trial's latency; give --target-madds 400M."
        )
    return "latency", parse_latency_ms(latency, what="target latency")


def _done(run: RunDirectory) -> list[Trial]:
    trials: list[Trial] = []
    if run.trials.exists():
        with EventStore.open(run.trials) as store:
            trials = [trial for trial in History.read(store.events()).known_now() if trial.status == "done"]
    if not trials:
        raise RunDirectoryError(f"{run.path} has no finished trial yet; go on with: mnas resume {run.path}")
    return trials


def _space(run: RunDirectory, config: SearchConfig, given: str | None) -> SearchSpace:
    """The run's space; one of the user's own only where it is named again.

    Raises:
        InputError: it is the user's own and not named, or another one was named.
    """
    if given is not None and given != config.space:
        raise InputError(f"this run searched --space {config.space}, not {given!r}.")
    if given is None and is_reference(config.space):
        raise InputError(
            f"this run uses your own space, which is loaded only when you name it again: --space {config.space}"
        )
    return make_space(config, make_data(config), run.space)


def _show(kind: str, value: float) -> str:
    return f"{value:.3g} ms" if kind == "latency" else f"{format_count(value)} MAdds"
