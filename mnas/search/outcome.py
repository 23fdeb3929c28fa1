"""What a search ends with, as one JSON object (the `--json` of the command line, `result.json` of the run)."""

from collections.abc import Mapping
from typing import Any

from mnas.search.history import Trial


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
    status: str,
    target: Mapping[str, Any],
    trials: int,
    seconds: float,
    baseline: Mapping[str, Any] | None,
    scaled: Mapping[str, Any] | None,
    **more: Any,
) -> dict[str, Any]:
    """The object; `scaled` is null where the target lies inside the range of the space."""
    return {
        "run": run,
        "status": status,
        "target": dict(target),
        "trials": trials,
        "seconds": round(seconds, 3),
        "baseline": dict(baseline) if baseline is not None else None,
        "scaled": dict(scaled) if scaled is not None else None,
        **more,
    }
