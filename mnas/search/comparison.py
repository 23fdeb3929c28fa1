"""Published networks beside the winner: measured in the same processes as the finalists."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mnas.accuracy.checked import check_accuracies
from mnas.errors import MnasError
from mnas.protocols import is_expensive
from mnas.records import network_fields
from mnas.search.problem import Problem
from mnas.search_space import NetworkSpec
from mnas.zoo import published

COMPARED = ("efficientnet_b0", "mnasnet_a1", "mobilenetv2")


def compared_networks(problem: Problem) -> dict[str, NetworkSpec]:
    """By name, with the resolution, classes and channels of the space's members."""
    member = problem.space.decode(problem.space.first)
    shape = {name: getattr(member, name) for name in ("resolution", "num_classes", "in_channels")}
    return {name: replace(published(name), **shape) for name in COMPARED}


def comparison_rows(problem: Problem, latencies: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The compared networks as JSON objects, each with its counts, latency and accuracy where a model covers it.

    Args:
        problem: whose accuracy model is asked where that is cheap.
        latencies: latency fields and the measurement's `status` by name.
    """
    rows = []
    for name, spec in compared_networks(problem).items():
        if name in latencies:
            rows.append({"name": name, **network_fields(spec), **latencies[name], **_accuracy(problem, spec)})
    return rows


def _accuracy(problem: Problem, spec: NetworkSpec) -> dict[str, Any]:
    if is_expensive(problem.accuracy):
        reason = f"not evaluated: {problem.accuracy_name} trains each network"
        return {"accuracy": None, "accuracy_reason": reason, "accuracy_source": None}
    try:
        (estimate,) = check_accuracies(problem.accuracy.evaluate([spec], seed=0), 1, problem.accuracy_name)
    except Exception as error:  # a plug-in need not cover networks of other spaces, and may say so in any way
        reason = str(error) if isinstance(error, MnasError) else f"{type(error).__name__}: {error}"
        return {"accuracy": None, "accuracy_reason": reason, "accuracy_source": None}
    return {"accuracy": estimate.value, "accuracy_std": estimate.std, "accuracy_source": estimate.source}
