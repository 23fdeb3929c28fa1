"""The winner as files: the specification, the weights where it was trained, and an ONNX model that runs."""

from typing import Any

from mnas.files import write_bytes, write_json
from mnas.records import network_fields
from mnas.rundir import RunDirectory
from mnas.search.final import Final
from mnas.search.finals import final_weights
from mnas.search.history import History
from mnas.search.outcome import accuracy_fields
from mnas.search.problem import Problem
from mnas.search_space import NetworkSpec


def write_baseline(
    run: RunDirectory, problem: Problem, label: str, final: Final, history: History
) -> dict[str, Any]:
    """Writes `baseline.json`, `baseline.onnx` and, where there are images to train on, `baseline.safetensors`.

    `label` is the target's, in their names where the search has several. A winner that was trained is scored on the
    test split, which nothing else touches.

    Returns:
        The `baseline` object of the result.

    Raises:
        SearchError: fvcore's multiply-adds are not the analytic ones, or the exported graph differs from the torch
            module.
    """
    from mnas.export import export_onnx, verify_madds  # imports torch

    assert final.winner is not None
    files = run.outputs(label)
    trial = final.winner.candidate.trial
    spec = problem.space.decode(problem.space.from_key(trial.key))
    fields: dict[str, Any] = {"architecture": trial.key, **network_fields(spec), "madds": verify_madds(spec)}
    fields |= {**final.latency, **accuracy_fields(trial)}
    weights = about = None
    if problem.data is not None:
        from mnas.weights import load_metadata, load_weights

        kept = final_weights(run, trial.number)
        weights, about = load_weights(kept), load_metadata(kept)
        trained = history.trained[trial.number]
        test = _test_accuracy(problem, spec, weights)
        fields |= {
            **test,
            "accuracy_source": f"{trained['accuracy_source']}; scored on {len(problem.data.test):,} test images that "
            f"the search never saw",
            "test_accuracy": test["accuracy"],
            "val_accuracy": trained["accuracy"],
            "proxy_accuracy": trial.metrics["accuracy"],
            "proxy_source": trial.source,
        }
        write_bytes(files.weights, kept.read_bytes())
    write_json(files.baseline, spec.to_dict())
    exported = export_onnx(spec, files.onnx, weights=weights, about=about, seed=problem.config.seed)
    return {**fields, "weights": exported.weights}


def _test_accuracy(problem: Problem, spec: NetworkSpec, weights: dict[str, Any]) -> dict[str, float]:
    """Accuracy on the test split and its standard error."""
    import torch

    from mnas.inputs import input_transform
    from mnas.model import build_module
    from mnas.threads import torch_threads
    from mnas.training import evaluate, standard_error

    config, data = problem.config, problem.data
    assert data is not None
    module = build_module(spec)
    module.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    with torch_threads(config.train_threads):
        module.to(problem.device)
        accuracy = evaluate(module, data.test, input_transform(spec, data))
    return {"accuracy": accuracy, "accuracy_std": standard_error(accuracy, len(data.test))}
