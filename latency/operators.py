"""What a run is made of: ONNX Runtime's operators with their times."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator of the graph as ONNX Runtime optimised it.

    Args:
        name: of the node; where nodes were fused, of the first.
        kind: operator type, `Conv` or `ReorderOutput` for example.
        provider: where it ran.
        ms: median over the profiled runs.
        output_shape: of its first output; empty where the profile does not tell.
    """

    name: str
    kind: str
    provider: str
    ms: float
    output_shape: tuple[int, ...]

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """From the worker's list: name, kind, provider, ms, output shape."""
        return cls(row[0], row[1], row[2], float(row[3]), tuple(row[4]) if len(row) > 4 else ())


def median_operators(profiles: Sequence[Sequence[Operator]]) -> tuple[Operator, ...]:
    """The operators of the first process, each with the median of its times over the processes that had it."""
    if not profiles:
        return ()
    times: dict[str, list[float]] = {}
    for operators in profiles:
        for operator in operators:
            times.setdefault(operator.name, []).append(operator.ms)
    return tuple(replace(operator, ms=median(times[operator.name])) for operator in profiles[0])
