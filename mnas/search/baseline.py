"""The winner as files: the specification, the weights where it was trained, and an ONNX model that runs."""

import json
from dataclasses import asdict
from typing import Any

from mnas.errors import SearchError
from mnas.files import write_json
from mnas.protocols import TrainingAccuracyModel
from mnas.records import network_fields
from mnas.rundir import RunDirectory
from mnas.search.final import Final
from mnas.search.history import Trial
from mnas.search.outcome import accuracy_fields
from mnas.search.problem import Problem
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed


def write_baseline(run: RunDirectory, problem: Problem, final: Final) -> dict[str, Any]:
    """Writes `baseline.json`, `baseline.onnx` and, where candidates are trained, `baseline.safetensors`.

    A winner that was trained is trained once more from the seed of its trial, which gives the same weights, and
    scored on the test split, which nothing else touches.

    Returns:
        The `baseline` object of the result.

    Raises:
        SearchError: fvcore's multiply-adds are not the analytic ones, the exported graph differs from the torch
            module, or the winner cannot be trained again.
    """
    from mnas.export import export_onnx, verify_madds  # imports torch

    assert final.winner is not None
    trial = final.winner.candidate.trial
    spec = problem.space.decode(problem.space.from_key(trial.key))
    fields: dict[str, Any] = {"architecture": trial.key, **network_fields(spec), "madds": verify_madds(spec)}
    fields |= {**final.latency, **accuracy_fields(trial)}
    weights = about = None
    if isinstance(problem.accuracy, TrainingAccuracyModel):
        weights, about, fields["test_accuracy"] = _train_again(run, problem, problem.accuracy, spec, trial)
    write_json(run.baseline, spec.to_dict())
    exported = export_onnx(spec, run.onnx, weights=weights, about=about, seed=problem.config.seed)
    return {**fields, "weights": exported.weights}


def _train_again(
    run: RunDirectory, problem: Problem, accuracy: TrainingAccuracyModel, spec: NetworkSpec, trial: Trial
) -> tuple[dict[str, Any], dict[str, str], float]:
    """The winner's weights, what goes with them, and its accuracy on the test split."""
    from mnas.weights import load_weights, save_weights

    network = accuracy.train(spec, seed=derive_seed(problem.config.seed, "trial", trial.number))
    if abs(network.accuracy - trial.metrics["accuracy"]) > 3 * trial.metrics["accuracy_std"]:
        raise SearchError(
            f"trained again, the winner scores {network.accuracy:.1%} where its trial scored "
            f"{trial.metrics['accuracy']:.1%}; the training is not repeatable on this machine."
        )
    assert problem.data is not None
    about = {
        "trained": str(trial.source),
        "input": json.dumps(asdict(network.inputs)),
        "classes": json.dumps(problem.data.classes),
    }
    save_weights(run.weights, network.module, about)
    return load_weights(run.weights), about, accuracy.test_accuracy(network)
