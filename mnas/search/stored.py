"""What other commands ask of a stored run: its status, its baseline as a file."""

from pathlib import Path
from typing import Any

from mnas.errors import RunDirectoryError
from mnas.files import read_json
from mnas.rundir import RunDirectory
from mnas.search.history import History
from mnas.search.run import resume_command, stored_config
from mnas.search_space import NetworkSpec
from mnas.store import EventStore


def run_status(path: Path) -> dict[str, Any]:
    """Trials by status, the best so far, and how to go on; the run may be running.

    Raises:
        RunDirectoryError: not a run, or damaged.
    """
    run = RunDirectory.open(path)
    config = stored_config(run)
    history = History()
    if run.trials.exists():
        with EventStore.open(run.trials) as store:
            history = History.read(store.events())
    best = history.best()
    status = "unfinished" if history.result is None else history.result["status"]
    return {
        "run": str(run.path),
        "status": status,
        "trials_by_status": history.counts(),
        "trials_wanted": config.trials,
        "seconds": round(history.seconds, 3),
        "best": None
        if best is None
        else {"architecture": best.key, "reward": best.reward, "trial": best.number, **best.metrics},
        "resume": resume_command(run, config) if status in ("unfinished", "noisy") else None,
    }


def export_run(path: Path, out: Path | None) -> dict[str, Any]:
    """Writes the baseline of a run as ONNX, with its trained weights where it has any.

    Raises:
        RunDirectoryError: not a run, or one without a baseline.
        SearchError: ONNX Runtime and torch disagree.
    """
    run = RunDirectory.open(path)
    if not run.baseline.is_file():
        raise RunDirectoryError(
            f"{run.path} has no baseline yet; finish the search first: {resume_command(run, stored_config(run))}"
        )
    from mnas.export import export_onnx

    spec = NetworkSpec.from_dict(read_json(run.baseline))
    weights = about = None
    if run.weights.is_file():
        from mnas.weights import load_metadata, load_weights

        weights, about = load_weights(run.weights), load_metadata(run.weights)
    target = out.absolute() if out is not None else run.onnx
    exported = export_onnx(spec, target, weights=weights, about=about, seed=stored_config(run).seed)
    return {
        "path": str(exported.path),
        "format": "onnx",
        "weights": exported.weights,
        "error": exported.error,
    }
