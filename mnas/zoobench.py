"""Published networks in rows, and measured on a device: many in groups, or a few beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mnas.errors import InputError, MeasurementError
from mnas.latency import LOCAL, Conditions, Host, Measurement, MeasurementSet, measure
from mnas.records import latency_fields, network_fields
from mnas.search.measured import measured_on
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec, network_cost
from mnas.zoo import MEMBERS, member, own_name, published

# Networks that share processes. Chosen here: all of a group are in memory at once (EfficientNet-B7 alone takes some 2
# GiB), and the more there are the rarer each is timed.
GROUP, GROUP_MADDS = 8, 12e9
# Seconds for the first try of a group, and for each of the networks that are compared.
GROUP_S, COMPARED_S = 24.0, 8.0
LISTED = 5  # names in a warning; chosen here


@dataclass(frozen=True, slots=True)
class Wanted:
    """How published networks are measured.

    Args:
        conditions: threads and batch.
        resolution: in pixels; None is each network's own.
        seed: of order and intervals.
        host: where.
    """

    conditions: Conditions = field(default_factory=Conditions)
    resolution: int | None = None
    seed: int = 0
    host: Host = LOCAL


def network_row(name: str, resolution: int | None = None) -> dict[str, Any]:
    """What is known of a published network without a measurement: its own counts, and the published figures.

    Args:
        name: of `mnas.zoo`, or an alias.
        resolution: in pixels; None is the network's own.

    Raises:
        UnknownNameError: no such network.
        InputError: a resolution below 8 pixels.
    """
    found = member(name)
    return {
        "name": own_name(name),
        **network_fields(found.at(resolution)),
        **found.published_fields(resolution),
        "aliases": list(found.aliases),
    }


def list_zoo(resolution: int | None, reporter: Reporter) -> list[dict[str, Any]]:
    """The row of every published network at a resolution in pixels, None is each network's own.

    Raises:
        InputError: a resolution below 8 pixels.
    """
    _warn_of_small({name: entry.at(resolution) for name, entry in MEMBERS.items()}, reporter)
    return [network_row(name, resolution) for name in MEMBERS]


def show_member(name: str, resolution: int | None, reporter: Reporter) -> dict[str, Any]:
    """The row of one published network; raises as `network_row`."""
    row = network_row(name, resolution)
    _warn_of_small({row["name"]: member(name).at(resolution)}, reporter)
    return row


def measure_zoo(
    names: Sequence[str] | None, below: int | None, wanted: Wanted, reporter: Reporter
) -> dict[str, Any]:
    """Times published networks in groups of like cost, each interleaved with EfficientNet-B0 in three processes.

    A group whose measurement fails does not end the others: its networks have no latency, and `failed` says why.

    Args:
        names: of `mnas.zoo`; None is all.
        below: only networks of fewer multiply-adds at their resolution; None is all.
        wanted: how.
        reporter: told of progress.

    Raises:
        UnknownNameError: no such network.
        InputError: nothing is left to measure, or conditions that the device does not offer.
        MeasurementError: the measurement of every group failed.
    """
    specs = _chosen(names, below, wanted)
    _warn_of_small(specs, reporter)
    reference = published("efficientnet_b0")
    groups = grouped(specs)
    rows: dict[str, dict[str, Any]] = {}
    where: MeasurementSet | None = None
    for number, group in enumerate(groups, 1):
        reporter.stage(f"measuring group {number} of {len(groups)}: {', '.join(group)}")
        try:
            found = _measure({name: specs[name] for name in group}, reference, GROUP_S, wanted, reporter)
        except MeasurementError as error:
            reporter.warn(f"{', '.join(group)} could not be measured: {error}")
            if where is None and number == len(groups):
                raise
            rows |= {name: {**_unmeasured(), "failed": str(error)} for name in group}
            continue
        where = found
        rows |= {name: _latency(found[name], wanted.host) for name in group}
    assert where is not None
    networks = [{**network_row(name, wanted.resolution), **rows[name]} for name in specs]
    return {"networks": networks, "conditions": _described(where)}


def compare_zoo(names: Sequence[str], wanted: Wanted, reporter: Reporter) -> dict[str, Any]:
    """Times published networks beside the first of them, in the same processes; ratios are to it.

    Args:
        names: at least two, each once.
        wanted: how.
        reporter: told of progress.

    Raises:
        UnknownNameError: no such network.
        InputError: fewer than two, or conditions that the device does not offer.
        MeasurementError: the measurement failed.
    """
    specs = _chosen(names, None, wanted)
    _warn_of_small(specs, reporter)
    if len(specs) < 2:
        raise InputError("name at least two different networks to compare: mnas zoo compare NAME NAME ...")
    first, *others = specs
    reporter.stage(f"measuring {', '.join(others)} beside {first}")
    budget_s = COMPARED_S * len(specs)
    found = _measure({name: specs[name] for name in others}, specs[first], budget_s, wanted, reporter)
    base = network_cost(specs[first])
    own = latency_fields(
        found.reference_ms,
        found.reference_raw_ms,
        found.reference_ms,
        found.reference_ms,
        measured_on(wanted.host),
    )
    rows = [{"name": first, **_ratios(base, specs[first]), "latency_ratio": 1.0, "status": "ok", **own}]
    for name in others:
        item = found[name]
        ratio = {
            "latency_ratio": item.ratio,
            "latency_ratio_low": item.ratio_low,
            "latency_ratio_high": item.ratio_high,
        }
        rows.append({"name": name, **_ratios(base, specs[name]), **ratio, **_latency(item, wanted.host)})
    networks = [{**network_row(row["name"], wanted.resolution), **row} for row in rows]
    return {"networks": networks, "conditions": _described(found)}


def grouped(specs: Mapping[str, NetworkSpec]) -> list[list[str]]:
    """Names in groups, the cheapest first: at most `GROUP` of at most `GROUP_MADDS` in all, a larger one by itself."""
    groups: list[list[str]] = []
    total = 0.0
    for name in sorted(specs, key=lambda name: network_cost(specs[name]).madds):
        madds = network_cost(specs[name]).madds
        if not groups or len(groups[-1]) == GROUP or total + madds > GROUP_MADDS:
            groups.append([])
            total = 0.0
        groups[-1].append(name)
        total += madds
    return groups


def _chosen(names: Sequence[str] | None, below: int | None, wanted: Wanted) -> dict[str, NetworkSpec]:
    """By their own names, each once, in the order given."""
    asked = list(MEMBERS) if names is None else [own_name(name) for name in names]
    specs = {name: MEMBERS[name].at(wanted.resolution) for name in asked}
    if below is not None:
        specs = {name: spec for name, spec in specs.items() if network_cost(spec).madds < below}
    if not specs:
        raise InputError("no published network has so few multiply-adds; raise --below.")
    return specs


def _warn_of_small(specs: Mapping[str, NetworkSpec], reporter: Reporter) -> None:
    """One line for all that are too small in the same way."""
    names: dict[str, list[str]] = {}
    for name, spec in specs.items():
        if spec.too_small is not None:
            names.setdefault(spec.too_small, []).append(name)
    for text, small in names.items():
        who = ", ".join(small) if len(small) <= LISTED else f"{len(small)} networks"
        reporter.warn(f"{who}: {text}")


def _measure(
    specs: Mapping[str, NetworkSpec],
    reference: NetworkSpec,
    budget_s: float,
    wanted: Wanted,
    reporter: Reporter,
) -> MeasurementSet:
    found = measure(
        specs,
        reference=reference,
        conditions=wanted.conditions,
        budget_s=budget_s,
        seed=wanted.seed,
        host=wanted.host,
        on_progress=reporter.progress,
    )
    for text in found.warnings:
        reporter.warn(text)
    return found


def _latency(item: Measurement, host: Host) -> dict[str, Any]:
    source = measured_on(host)
    return {
        "status": item.status,
        **latency_fields(item.latency_ms, item.raw_ms, item.low_ms, item.high_ms, source),
    }


def _unmeasured() -> dict[str, Any]:
    return {"status": "failed", **latency_fields(None, None, None, None, "not measured")}


def _ratios(base: Any, spec: NetworkSpec) -> dict[str, float]:
    cost = network_cost(spec)
    return {"params_ratio": cost.params / base.params, "madds_ratio": cost.madds / base.madds}


def _described(found: MeasurementSet) -> str:
    return f"{found.conditions.describe(found.device)}; {found.device.describe()}"
