"""What other commands ask of a stored run: its status, its networks as files."""

from pathlib import Path
from typing import Any

from mnas.config import SearchConfig
from mnas.errors import RunDirectoryError
from mnas.files import read_json
from mnas.objective import Reward
from mnas.rundir import RunDirectory
from mnas.search.history import History
from mnas.search.lanes import best_trial_for
from mnas.search.run import resume_command, stored_config
from mnas.search_space import NetworkSpec
from mnas.sources import run_network_file
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
    status = "unfinished" if history.result is None else history.result["status"]
    bests = [_best(config, history, target) for _, target in config.targets]
    several = len(bests) > 1
    labels = [label for label, _ in config.targets]
    return {
        "run": str(run.path),
        "status": status,
        "trials_by_status": history.counts(),
        "trials_wanted": config.trials,
        "seconds": round(history.seconds, 3),
        "best": dict(zip(labels, bests, strict=True)) if several else bests[0],
        "resume": resume_command(run, config) if status in ("unfinished", "noisy") else None,
    }


def _best(config: SearchConfig, history: History, target: float) -> dict[str, Any] | None:
    """The trial of greatest reward so far for a target."""
    reward = Reward(config.reward, target, config.quantile)
    best = best_trial_for(history.trials, reward, timed=config.target_kind == "latency")
    if best is None:
        return None
    trial, value = best
    return {"architecture": trial.key, "reward": value, "trial": trial.number, **trial.metrics}


def export_run(path: Path, form: str, out: Path | None, network: str = "baseline") -> dict[str, Any]:
    """Writes a network of a run in one of the formats; the baseline has its trained weights where the run has any.

    Args:
        path: the run; nothing in it is run as code.
        form: a format of `mnas.export`.
        out: the file; None is RUN/<network> with the suffix of the format, beside the network's own JSON. Where
            weights are written and were never trained, their file is called <network>-untrained.safetensors.
        network: as `sources.run_network_file`.

    Raises:
        RunDirectoryError: not a run, one without a baseline, or a file that would replace one of the run's own.
        UnknownNameError: no such format, or no network of that name in the run.
        InputError: the format cannot hold the network.
        SearchError: what was written differs from the torch module.
    """
    run = RunDirectory.open(path)
    source = run_network_file(run, network)
    from mnas.export import export_network, file_names, target_files

    spec = NetworkSpec.from_dict(read_json(source))
    weights, about = trained_weights(source)
    trained = weights is not None
    default = source.with_name(file_names(source.stem, form, trained=trained)[0])
    target = out.absolute() if out is not None else default
    kept = source.with_suffix(".safetensors")
    own = {(kept, "safetensors"), (kept, "weights")} if trained else set()
    _spare(run, target_files(target, form, trained=trained), form, {(source, "json"), *own})
    seed = stored_config(run).seed
    exported = export_network(spec, target, form, weights=weights, about=about, seed=seed)
    return {
        "path": str(exported.path),
        "format": exported.format,
        "weights": exported.weights,
        "error": exported.error,
        "files": [str(file) for file in exported.files],
    }


def _spare(run: RunDirectory, targets: tuple[Path, ...], form: str, own: set[tuple[Path, str]]) -> None:
    """Refuses to replace a file of the run by something else; `own` are file and content that belong together."""
    kept = {run.config, run.environment, run.trials, run.calibration, run.finalists, run.result, run.family}
    kept |= {file.with_suffix(end) for file in run.networks() for end in (".json", ".safetensors")}
    kept |= set(run.family_folder.glob("*.json"))
    for target, content in zip(targets, (form, "weights"), strict=False):
        for file in kept:
            if target.resolve() == file.resolve() and (file, content) not in own:
                raise RunDirectoryError(
                    f"{target} belongs to the run and is not replaced by another file; give another name with --out."
                )


def trained_weights(network: Path) -> tuple[dict[str, Any] | None, dict[str, str] | None]:
    """The weights beside a network's JSON file and the texts with them; None where it was not trained.

    The file says itself that it was trained: an export of initial weights does not.
    """
    weights = network.with_suffix(".safetensors")
    if not weights.is_file():
        return None, None
    from mnas.weights import load_metadata, load_weights

    about = load_metadata(weights)
    return (load_weights(weights), about) if "trained" in about else (None, None)
