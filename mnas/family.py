"""A network grown into a family: by phi, to latencies or multiply-adds, or by the released coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnas.errors import InputError
from mnas.files import make_folder, write_json
from mnas.greedily import GREEDY, grow_to_latencies
from mnas.latency import (
    LOCAL,
    Conditions,
    Host,
    calibration_path,
    check_conditions,
    describe_conditions,
    measure_each,
    parse_host,
    read_calibration,
    reference_for,
    reference_ms_of,
)
from mnas.protocols import LatencyModel
from mnas.records import latency_fields, network_fields
from mnas.registry import BUILTIN, is_reference, make
from mnas.rundir import RunDirectory
from mnas.scaling import COMPOUND, SHORTFALL, Scaled
from mnas.search.device_timing import drift_since
from mnas.search.grow import NO_ACCURACY, fill_latency, fill_madds
from mnas.search.measured import measured_on
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler, checked
from mnas.search.run import stored_config
from mnas.search_space import NetworkSpec, released
from mnas.search_space.rules import Rule
from mnas.search_space.scaling import RELEASED
from mnas.seeds import derive_seed
from mnas.sources import Source
from mnas.units import parse_count, parse_latency_ms

# Members when nothing says which (chosen here: each costs about twice the one before).
PHIS = (1.0, 2.0, 3.0)
OF_THE_BASE = "what is known of the base stands with the run that found it"
# Pixels of the baseline that the released table begins with: efficientnet_builder.py.
RELEASED_FROM = 224
# Seconds of measuring for a member in each of three processes (chosen here).
BUDGET_S = 1.5


@dataclass(frozen=True, slots=True)
class Growth:
    """How a family is grown: one of the four ways; by `PHIS` where none is given.

    Args:
        phis: of the rule.
        latencies: texts with units, `20ms`.
        madds: texts with units, `1G`.
        by_table: EfficientNet's released coefficients, B0 to B7.
        rule: how, but for the table.
        accuracy: name of the model that judges each step of the rule `latency`; None for every other rule.

    Raises:
        InputError: more than one way, a rule beside the table, or a text that is no quantity.
    """

    phis: tuple[float, ...] = ()
    latencies: tuple[str, ...] = ()
    madds: tuple[str, ...] = ()
    by_table: bool = False
    rule: Rule = COMPOUND
    accuracy: str | None = None

    def __post_init__(self) -> None:
        ways = (self.phis, self.latencies, self.madds, self.by_table)
        if sum(map(bool, ways)) > 1:
            raise InputError("give one of --phi, --to, --to-madds and --released.")
        if self.by_table and (self.rule != COMPOUND or self.accuracy is not None):
            raise InputError(
                "--released is a table of its own: leave out --rule, --alpha, --beta and --gamma."
            )
        if self.accuracy is not None and not self.latencies:
            raise InputError("the rule 'latency' grows to latencies: give --to 20ms,40ms.")
        for text in self.latencies:
            parse_latency_ms(text, what="--to")
        for text in self.madds:
            parse_count(text, what="--to-madds")


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a family: phi (None by the table), depth and width coefficients, and its latency if known."""

    name: str
    spec: NetworkSpec
    phi: float | None
    depth: float
    width: float
    latency: dict[str, Any]


def run_conditions(source: Source, threads: int | None, batch: int | None) -> Conditions:
    """What was asked for, else the run's own conditions, else one thread and one image; raises InputError."""
    config = None if source.run is None else stored_config(source.run)
    return Conditions(
        threads=threads or (1 if config is None else config.threads),
        batch=batch or (1 if config is None else config.batch),
    )


def run_host(source: Source, device: str | None) -> Host:
    """The device that was asked for, else the run's own, else this one; raises InputError."""
    if device is None and source.run is not None:
        device = stored_config(source.run).device
    return LOCAL if device is None else parse_host(device)


def scale_family(
    source: Source,
    growth: Growth,
    *,
    measured: bool,
    conditions: Conditions,
    latency: str | None,
    host: Host = LOCAL,
    out: Path | None,
    seed: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Grows the family and writes each member as JSON and ONNX.

    Args:
        source: what to grow; the first member.
        growth: how.
        measured: whether members are measured; those grown to a latency are in any case.
        conditions: threads and batch of a measurement.
        latency: a plug-in's name, whose word then stands for a measurement; None measures.
        host: where.
        out: folder for the files; None is the run's own, or no files where there is no run.
        seed: of measurements and initial weights.
        reporter: told of progress.

    Returns:
        `source`, `coefficients`, `conditions`, and `members`: one object each, the source first. It is kept as
        `family.json`.

    Raises:
        InputError: a target that the source exceeds already, coefficients that do not apply, or conditions that the
            host does not offer.
        SearchError: a target that cannot be reached.
        MeasurementError: a measurement failed.
    """
    _check(source, growth, latency)
    ruler = None
    if measured or growth.latencies:
        ruler = make_ruler(source.spec, conditions, latency, host, seed, reporter)
    first = Member("base", source.spec, 0.0, 1.0, 1.0, {})
    if ruler is not None:
        (first,) = _timed([first], ruler, seed, reporter)
    members = [first, *_grown(first, growth, ruler, seed, reporter)]
    if ruler is not None:
        members = _timed(members, ruler, seed, reporter)
    family: dict[str, Any] = {
        "source": source.name,
        "rule": _rule_name(growth),
        "coefficients": None
        if growth.by_table or growth.accuracy is not None
        else {name: getattr(growth.rule.coefficients, name) for name in ("alpha", "beta", "gamma")},
        "conditions": describe_conditions(conditions, LOCAL if ruler is None else ruler.host),
        "members": [_fields(member, growth, source.spec) for member in members],
    }
    if out is not None or source.run is not None:
        _write(family, members, source.run, out, seed, reporter)
    return family


def _check(source: Source, growth: Growth, latency: str | None) -> None:
    """Refuses what cannot be meant.

    Raises:
        InputError: a run whose latency is a plug-in's without it, the released table for another resolution, or a
            rule that does not apply.
    """
    if source.run is not None and latency is None:
        stored = stored_config(source.run).latency
        if is_reference(stored):
            raise InputError(
                f"this run's latencies are those of {stored!r}, which is loaded only when you name it again: "
                f"mnas scale {source.run.path} --latency {stored}. Or measure on this device: --latency measure"
            )
    if growth.by_table and source.spec.resolution != RELEASED_FROM:
        raise InputError(
            f"the released coefficients are for a baseline at {RELEASED_FROM} pixels; this one is at "
            f"{source.spec.resolution}. Use --phi or --to."
        )
    if not growth.by_table and growth.accuracy is None:
        growth.rule.check(source.spec)


def make_ruler(
    spec: NetworkSpec,
    conditions: Conditions,
    latency: str | None,
    host: Host,
    seed: int,
    reporter: Reporter,
) -> Ruler:
    """A plug-in's, or a device's; that is guided by its calibration where one is kept."""
    reference = reference_for(spec)
    if latency is not None and latency not in BUILTIN["latency"]:
        model: LatencyModel = make("latency", latency, {"conditions": conditions, "seed": seed}, "predict")
        return Ruler(conditions, reference, checked(model, latency), plugin=latency)
    check_conditions(conditions, host)
    reporter.stage(f"timing the reference on {host.name}")
    reference_ms = reference_ms_of(
        reference,
        conditions=conditions,
        seed=derive_seed(seed, "reference"),
        host=host,
        on_progress=reporter.progress,
    )
    ruler = Ruler(conditions, reference, reference_ms=reference_ms, host=host)
    path = calibration_path(host.device, conditions)
    if not path.is_file():
        return ruler
    try:
        calibration = read_calibration(path, host.device, conditions)
    except InputError as error:
        reporter.warn(f"{error} Going on without it.")
        return ruler
    factor = drift_since(calibration, reference, reference_ms, seed, reporter, host=host)
    return replace(ruler, predict=checked(calibration.predictor.scaled(factor), "calibrated"))


def _grown(first: Member, growth: Growth, ruler: Ruler | None, seed: int, reporter: Reporter) -> list[Member]:
    base, rule = first.spec, growth.rule
    if growth.by_table:
        members = []
        for name, (width, depth, _, _) in RELEASED.items():
            if name != "efficientnet_b0":
                member = Member(
                    name.removeprefix("efficientnet_"), released(base, name), None, depth, width, {}
                )
                members.append(member)
        return members
    if growth.accuracy is not None:
        assert ruler is not None
        _base_ms(first, min(growth.latencies, key=parse_latency_ms))
        found = grow_to_latencies(
            base, first.latency["latency_ms"], growth.latencies, growth.accuracy, ruler, seed, reporter
        )
        return [
            Member(text, step.spec, None, step.rule.coefficients.alpha, step.rule.coefficients.beta, {})
            for text, step in zip(growth.latencies, found, strict=True)
        ]
    if growth.latencies:
        assert ruler is not None
        members = []
        for text in growth.latencies:
            reporter.stage(f"growing to {text}")
            target = parse_latency_ms(text)
            base_ms = _base_ms(first, text)
            scaled = fill_latency(base, target, base_ms, ruler, seed, reporter, rule)
            _warn_if_short(text, scaled, target, rule, reporter)
            members.append(_member(text, scaled, dict(scaled.verdict.evidence)))
        return members
    if growth.madds:
        members = []
        for text in growth.madds:
            scaled = fill_madds(base, parse_count(text), rule)
            _warn_if_short(text, scaled, parse_count(text), rule, reporter)
            members.append(_member(text, scaled, {}))
        return members
    return [
        Member(f"phi-{phi:g}", rule.grow(base, phi), phi, *rule.factors(base.resolution, phi), {})
        for phi in growth.phis or PHIS
    ]


def _warn_if_short(text: str, scaled: Scaled[Any], target: float, rule: Rule, reporter: Reporter) -> None:
    if scaled.verdict.cost < (1 - SHORTFALL) * target:
        reporter.warn(
            f"{text}: filled to {scaled.verdict.cost / target:.0%} only. The rule {rule.name!r} grows this network in "
            f"steps, and the next one may exceed the target."
        )


def _base_ms(first: Member, text: str) -> float:
    """What the base takes; raises InputError where that is more than the text says."""
    base_ms = float(first.latency["latency_ms"])
    if base_ms > parse_latency_ms(text):
        raise InputError(
            f"the base takes {base_ms:.3g} ms, more than --to {text}. For less, search again: "
            f"mnas search --target-latency {text}"
        )
    return base_ms


def _rule_name(growth: Growth) -> str:
    if growth.accuracy is not None:
        return GREEDY
    return "released" if growth.by_table else growth.rule.name


def _member(name: str, scaled: Scaled[Any], latency: dict[str, Any]) -> Member:
    return Member(name, scaled.spec, scaled.phi, scaled.depth, scaled.width, latency)


def _timed(members: Sequence[Member], ruler: Ruler, seed: int, reporter: Reporter) -> list[Member]:
    """Each with its latency, found now where it is not known."""
    unknown = [member for member in members if not member.latency]
    if not unknown:
        return list(members)
    found: dict[str, dict[str, Any]] = {}
    if ruler.plugin is not None:
        assert ruler.predict is not None
        estimates = ruler.predict([member.spec for member in unknown])
        for member, e in zip(unknown, estimates, strict=True):
            found[member.name] = ruler.estimate_fields(e)
    else:
        reporter.stage(f"measuring {len(unknown)} network{'s' * (len(unknown) != 1)} in fresh processes")
        result = measure_each(
            {member.name: member.spec for member in unknown},
            reference=ruler.reference,
            conditions=ruler.conditions,
            budget_s=BUDGET_S,
            seed=derive_seed(seed, "family", len(unknown)),
            host=ruler.host,
            on_progress=reporter.progress,
        )
        for text in result.warnings:
            reporter.warn(text)
        for m in result.measurements:
            latency = latency_fields(m.latency_ms, m.raw_ms, m.low_ms, m.high_ms, measured_on(ruler.host))
            found[m.name] = {**latency, "latency_status": m.status}
    return [replace(member, latency=found.get(member.name, member.latency)) for member in members]


def _fields(member: Member, growth: Growth, base: NetworkSpec) -> dict[str, Any]:
    """The JSON object of a member; latency fields are null where nothing was measured."""
    fixed = growth.by_table or growth.accuracy is not None
    magnitude = None if fixed else growth.rule.training_of(base, member.spec).magnitude
    unknown = latency_fields(None, None, None, None, "not measured")
    return {
        "name": member.name,
        **network_fields(member.spec),
        "phi": member.phi,
        "depth": member.depth,
        "width": member.width,
        "dropout": member.spec.dropout,
        "drop_path": member.spec.drop_path,
        "magnitude": magnitude,
        "accuracy": None,
        "accuracy_reason": OF_THE_BASE if member.phi == 0 else NO_ACCURACY,
        "accuracy_source": None,
        **(member.latency or unknown),
    }


def _write(
    family: dict[str, Any],
    members: Sequence[Member],
    run: RunDirectory | None,
    out: Path | None,
    seed: int,
    reporter: Reporter,
) -> None:
    """Each member's specification and ONNX model, untrained; then `family.json`."""
    from mnas.export import export_onnx  # imports torch

    folder = out if out is not None else run.family_folder  # type: ignore[union-attr]
    make_folder(folder)
    for number, (member, fields) in enumerate(zip(members, family["members"], strict=True), 1):
        reporter.progress(number - 1, len(members), f"writing {member.name}")
        write_json(folder / f"{member.name}.json", member.spec.to_dict())
        fields["weights"] = export_onnx(member.spec, folder / f"{member.name}.onnx", seed=seed).weights
        fields["path"] = str(folder / f"{member.name}.onnx")
    index = run.family if run is not None and out is None else folder / "family.json"
    write_json(index, family)
