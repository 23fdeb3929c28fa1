"""The winner grown by compound scaling, and written as files beside the baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from mnas.env import memory_bytes
from mnas.errors import MeasurementError
from mnas.files import write_json
from mnas.records import network_fields
from mnas.rundir import RunDirectory
from mnas.scaling import COMPOUND, SHORTFALL, Judge, Scaled, Verdict, fill_budget
from mnas.search.problem import Goal, Problem
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler, madds_of
from mnas.search_space import NetworkSpec, network_cost
from mnas.search_space.rules import Rule
from mnas.seeds import derive_seed

NO_ACCURACY = "no accuracy model covers a scaled network; train it to know"
# The share of the machine's memory that measuring a network may take (chosen here).
MEMORY_SHARE = 0.5
# Seconds of measuring: for one network that guides the search (one process), and for those judged with care (so many
# processes together); chosen here.
QUICK_S, CAREFUL_S, CAREFUL_PROCESSES = 2.0, 10.0, 5

Fields = Mapping[str, Any]


def grow(
    run: RunDirectory,
    problem: Problem,
    goal: Goal,
    ruler: Ruler,
    base: NetworkSpec,
    base_cost: float,
    reporter: Reporter,
) -> dict[str, Any]:
    """Writes `scaled.json` and `scaled.onnx`: the base grown until it fills the target.

    Args:
        run: where to.
        problem: what was searched.
        goal: whose target is to be filled.
        ruler: how latency is known.
        base: the winner of the search.
        base_cost: its cost as judged, in the unit of the target.
        reporter: told of progress.

    Returns:
        The `scaled` object of the result.

    Raises:
        SearchError: no network within memory fills the target.
        MeasurementError: a measurement failed, or the machine is too noisy to say.
    """
    from mnas.export import export_onnx  # imports torch

    target, files = goal.target, run.outputs(goal.label)
    reporter.stage("growing the baseline to fill the target")
    if problem.config.target_kind == "madds":
        scaled = fill_madds(base, target)
        latency = _measure_one(ruler, scaled.spec, problem.config.seed, reporter)
    else:
        scaled = fill_latency(base, target, base_cost, ruler, problem.config.seed, reporter)
        latency = scaled.verdict.evidence
    if scaled.verdict.cost < (1 - SHORTFALL) * target:
        verdict = scaled.verdict
        reporter.warn(
            f"the scaled network fills only {verdict.cost / target:.0%} of the target, and may take "
            f"{verdict.upper / target:.0%} of it by its interval and the wall clock: the larger ones judged may "
            f"exceed it."
        )
    write_json(files.scaled, scaled.spec.to_dict())
    exported = export_onnx(scaled.spec, files.scaled_onnx, seed=problem.config.seed)
    return {**scaled_fields(scaled), **latency, "weights": exported.weights}


def fill_madds(base: NetworkSpec, target: float, rule: Rule = COMPOUND) -> Scaled[Fields]:
    """The base grown to a number of multiply-adds; raises as `fill_budget`."""

    def counted(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[Fields]]:
        return [Verdict(madds, madds, {}) for madds in map(madds_of, specs)]

    return fill_budget(
        base,
        target,
        base_cost=madds_of(base),
        estimate=madds_of,
        judge=counted,
        rule=rule,
        memory=measured_memory(),
        exact=True,
    )


def fill_latency(
    base: NetworkSpec,
    target_ms: float,
    base_ms: float,
    ruler: Ruler,
    seed: int,
    reporter: Reporter,
    rule: Rule = COMPOUND,
) -> Scaled[Fields]:
    """The base grown to a latency, as measured on this device or as a plug-in says; raises as `fill_budget`.

    Args:
        base: takes `base_ms`.
        target_ms: to be filled.
        base_ms: of the base.
        ruler: how latency is known.
        seed: of measurements.
        reporter: told of progress.
        rule: how it grows.
    """
    return fill_budget(
        base,
        target_ms,
        base_cost=base_ms,
        estimate=ruler.estimate,
        judge=_measuring(ruler, seed, reporter) if ruler.measures else _asking(ruler),
        rule=rule,
        memory=measured_memory(),
        exact=not ruler.measures,  # a plug-in says the same again
    )


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


def _asking(ruler: Ruler) -> Judge[Fields]:
    """A plug-in's estimates with their intervals."""
    predict = ruler.predict
    assert predict is not None

    def judge(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[Fields]]:
        return [Verdict(e.ms, e.high_ms, ruler.estimate_fields(e)) for e in predict(specs)]

    return judge


def _measuring(ruler: Ruler, seed: int, reporter: Reporter) -> Judge[Fields]:
    """Networks interleaved in five fresh processes, or quickly in one."""

    def judge(specs: Sequence[NetworkSpec], careful: bool) -> list[Verdict[Fields]]:
        names = {_name(spec): spec for spec in specs}
        found = ruler.measure(
            names,
            processes=CAREFUL_PROCESSES if careful else 1,
            budget_s=CAREFUL_S if careful else QUICK_S,
            seed=derive_seed(seed, "grow", *names),
            reporter=reporter,
        )
        verdicts: list[Verdict[Fields]] = []
        for name, latency in found.by_name.items():
            reporter.note(f"{name}: {latency.ms:.1f} ms, at most {latency.upper_ms:.1f}")
            if careful and latency.status == "noisy":
                raise MeasurementError(
                    f"the machine was too noisy to say what the scaled network takes at {name}. End other work on it "
                    f"and go on."
                )
            verdicts.append(Verdict(latency.ms, latency.upper_ms, latency.fields))
        return verdicts

    return judge


def _name(spec: NetworkSpec) -> str:
    cost = network_cost(spec)
    return f"{spec.resolution} pixels, {cost.params:,} parameters, {cost.madds:,} MAdds"


def _measure_one(ruler: Ruler, spec: NetworkSpec, seed: int, reporter: Reporter) -> Fields:
    (verdict,) = _measuring(ruler, seed, reporter)([spec], True)
    return verdict.evidence


def measured_memory() -> int | None:
    """Bytes that a network that is measured may take, None where the system does not tell of its memory."""
    memory = memory_bytes()
    return None if memory is None else int(MEMORY_SHARE * memory)
