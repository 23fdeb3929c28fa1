"""What a search ends with, as one JSON object (the `--json` of the command line, `result.json` of the run)."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mnas.search.finalists import candidates, pareto_front
from mnas.search.history import History, Trial
from mnas.search.lanes import best_trial_for
from mnas.search.problem import Goal


def accuracy_fields(trial: Trial) -> dict[str, Any]:
    """Accuracy as a fraction, its standard error, and what the figure is."""
    return {
        "accuracy": trial.metrics["accuracy"],
        "accuracy_std": trial.metrics["accuracy_std"],
        "accuracy_source": trial.source,
    }


def search_result(
    *,
    run: str,
    kind: str,
    parts: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    trials: int,
    seconds: float,
    warnings: Sequence[str],
    **more: Any,
) -> dict[str, Any]:
    """The object: what is said of the one target stands in it; of several, in `results`, with the `label` of each.

    `status` is `done` where every target has its baseline, else that of the first that has none.
    """
    status = next((part["status"] for part in parts if part["status"] != "done"), "done")
    common = {"trials": trials, "seconds": round(seconds, 3), **more}
    if len(parts) == 1:
        return {"run": run, **parts[0], **common, "warnings": [*warnings, *parts[0]["warnings"]]}
    values = [part["target"]["value"] for part in parts]
    results = [{"label": label, **part} for label, part in zip(labels, parts, strict=True)]
    return {
        "run": run,
        "status": status,
        "target": {"kind": kind, "values": values},
        **common,
        "warnings": list(warnings),
        "results": results,
    }


def unfinished(kind: str, goal: Goal, history: History) -> dict[str, Any]:
    """What is said of a target of a search that was interrupted."""
    best = best_trial_for(history.trials, goal.reward, timed=kind == "latency")
    return {
        "status": "interrupted",
        "target": {"kind": kind, "value": goal.target},
        "budget": goal.budget,
        "baseline": None,
        "scaled": None,
        "best_reward": None if best is None else best[1],
        "optimum": None,
        "against": None,
        "finalists": [],
        "comparison": [],
        "warnings": [],
    }


def front_rows(history: History, kind: str) -> list[dict[str, Any]]:
    """The exact Pareto front of all trials in accuracy and cost, most accurate first, with costs as known at last."""
    cost: Literal["latency_ms", "madds"] = "latency_ms" if kind == "latency" else "madds"
    return [
        {
            "trial": candidate.trial.number,
            "architecture": candidate.trial.key,
            "accuracy": candidate.accuracy,
            cost: candidate.cost,
        }
        for candidate in pareto_front(candidates(history.known_now(), cost))
    ]
