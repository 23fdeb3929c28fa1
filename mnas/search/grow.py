"""The winner grown by compound scaling, and written as files beside the baseline."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from mnas.errors import MeasurementError
from mnas.files import write_json
from mnas.latency import measure_each
from mnas.records import latency_fields, network_fields
from mnas.rundir import RunDirectory
from mnas.scaling import AIM, Scaled, Verdict, fill_budget
from mnas.search.measured import DeviceLatency
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search.timing import Timing
from mnas.search_space import NetworkSpec, network_cost
from mnas.seeds import derive_seed

NO_ACCURACY = "no accuracy model covers a scaled network; train it to know"
# The share of the machine's memory that measuring a network may take (chosen here).
MEMORY_SHARE = 0.5
# Seconds for a network in bisection (one process) and in the verdict (three processes together); chosen here.
QUICK_S, CAREFUL_S = 1.5, 12.0

Fields = Mapping[str, Any]


def grow(
    run: RunDirectory, problem: Problem, timing: Timing, base: NetworkSpec, reporter: Reporter
) -> dict[str, Any]:
    """Writes `scaled.json` and `scaled.onnx`: the base grown until it fills the target.

    Returns:
        The `scaled` object of the result.

    Raises:
        SearchError: no network within memory fills the target.
        MeasurementError: a measurement failed, or the machine is too noisy to say.
    """
    from mnas.export import export_onnx  # imports torch

    target = problem.config.target_value
    reporter.stage("growing the baseline to fill the target")
    scaled = fill_budget(
        base,
        target,
        quick=cache(_quick(problem, timing, reporter)),
        careful=_careful(problem, timing, reporter),
        memory=_memory(),
        aim=AIM if problem.config.target_kind == "latency" else 1.0,
    )
    latency = dict(scaled.verdict.evidence)
    if problem.config.target_kind == "madds":
        latency = _measure(problem, timing, scaled.spec, reporter).fields
    write_json(run.scaled, scaled.spec.to_dict())
    exported = export_onnx(scaled.spec, run.scaled_onnx, seed=problem.config.seed)
    return {**scaled_fields(scaled), **latency, "weights": exported.weights}


def scaled_fields(scaled: Scaled[Any]) -> dict[str, Any]:
    """The JSON fields of a scaled network without its latency."""
    return {
        **network_fields(scaled.spec),
        "phi": scaled.phi,
        "depth": scaled.depth,
        "width": scaled.width,
        "accuracy": None,
        "accuracy_reason": NO_ACCURACY,
        "accuracy_source": None,
    }


def _quick(problem: Problem, timing: Timing, reporter: Reporter) -> Callable[[NetworkSpec], float]:
    """Multiply-adds, a plug-in's estimate, or one short measurement in one process."""
    if problem.config.target_kind == "madds":
        return lambda spec: float(network_cost(spec).madds)
    if not timing.measured:
        return lambda spec: timing.predict([spec])[0].ms

    def measured(spec: NetworkSpec) -> float:
        name = f"{spec.resolution} pixels, {network_cost(spec).params / 1e6:.1f}M parameters"
        result = measure_each(
            {name: spec},
            reference=timing.reference,
            conditions=problem.conditions,
            processes=1,
            reference_ms=timing.reference_ms,
            budget_s=QUICK_S,
            seed=derive_seed(problem.config.seed, "grow"),
        )
        reporter.note(f"{name}: {result[name].latency_ms:.1f} ms")
        return result[name].latency_ms

    return measured


def _careful(
    problem: Problem, timing: Timing, reporter: Reporter
) -> Callable[[NetworkSpec], Verdict[Fields]]:
    """Exact multiply-adds, a plug-in's estimate with its interval, or three fresh processes."""

    def counted(spec: NetworkSpec) -> Verdict[Fields]:
        madds = float(network_cost(spec).madds)
        return Verdict(madds, madds, {})

    def estimated(spec: NetworkSpec) -> Verdict[Fields]:
        (estimate,) = timing.predict([spec])
        fields = latency_fields(estimate.ms, None, estimate.low_ms, estimate.high_ms, timing.source)
        return Verdict(estimate.ms, estimate.high_ms, fields)

    def measured(spec: NetworkSpec) -> Verdict[Fields]:
        latency = _measure(problem, timing, spec, reporter)
        if latency.status == "noisy":
            raise MeasurementError(
                f"the machine was too noisy to say what the scaled network takes at {spec.resolution} pixels. "
                f"End other work on it and go on."
            )
        return Verdict(latency.ms, latency.upper_ms, latency.fields)

    if problem.config.target_kind == "madds":
        return counted
    return measured if timing.measured else estimated


def _measure(problem: Problem, timing: Timing, spec: NetworkSpec, reporter: Reporter) -> DeviceLatency:
    name = f"{spec.resolution} pixels"
    found = timing.measure(
        {name: spec},
        processes=3,
        budget_s=CAREFUL_S,
        seed=derive_seed(problem.config.seed, "scaled", spec.resolution),
        reporter=reporter,
    )
    latency = found.by_name[name]
    reporter.note(f"{name}: {latency.ms:.1f} ms, at most {latency.upper_ms:.1f}")
    return latency


def _memory() -> int | None:
    """Half of the machine's memory in bytes, where the system tells."""
    try:
        return int(MEMORY_SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (ValueError, OSError):
        return None
