"""The short texts that commands end with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnas.units import format_count


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, the first to the left and the others to the right."""
    cells = [header, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join(line.rstrip() for line in [lines[0], "-" * len(lines[0]), *lines[1:]])


def search_summary(result: Mapping[str, Any]) -> str:
    """What was found, under which conditions, and what to do next."""
    if "results" in result:
        return _several(result)
    target, baseline = result["target"], result["baseline"]
    latency = target["kind"] == "latency"
    tried = f"{result['trials']} networks of {result['space']} tried in {result['seconds']:.0f} s"
    if "val_accuracy" in (baseline or {}) and result["infeasible"]:
        tried += f" ({result['infeasible']} others too costly to be trained)"
    head = f"{tried} for {_quantity(target)}"
    if baseline is None:
        return f"{head}: {_WITHOUT[result['status']]}\nrun: {result['run']}"
    lines = [f"{head} ({result['conditions']}){_judged(result)}.", "", _finalists(result, latency), ""]
    lines += [*timed, ""] if (timed := _timed(result)) else []
    lines += _network("baseline", baseline)
    if result["scaled"] is not None:
        lines += ["", *_network("scaled", result["scaled"])]
    if result["comparison"]:
        lines += ["", _comparison(result)]
    lines += ["", f"run: {result['run']}"]
    if result.get("report"):
        lines.append(f"report: {result['report']}")
    which = " --network scaled" if result["scaled"] is not None else ""
    if result["scaled"] is not None and "val_accuracy" in baseline:
        lines.append(f"next: mnas train {result['run']} --network scaled --data ... (the same images)")
    lines.append(f"next: mnas export {result['run']}{which} --format onnx")
    return "\n".join(lines)


def _several(result: Mapping[str, Any]) -> str:
    """A network for each of several targets."""
    tried = f"{result['trials']} networks of {result['space']} tried in {result['seconds']:.0f} s"
    labels = ", ".join(part["label"] for part in result["results"])
    lines = [f"{tried} for {labels} ({result['conditions']}){_judged(result)}.", ""]
    rows = []
    for part in result["results"]:
        network = part["scaled"] or part["baseline"]
        if network is None:
            rows.append([part["label"], *["-"] * 4, part["status"]])
            continue
        known, exact = network["accuracy"], network.get("latency_ms")
        rows.append(
            [
                part["label"],
                "unknown" if known is None else f"{known:.2%}",
                "-" if exact is None else f"{exact:.2f} ms",
                format_count(network["madds"]),
                format_count(network["params"]),
                network.get("architecture") or f"by phi {network['phi']:.2f}",
            ]
        )
    lines += [table(["target", "accuracy", "latency", "MAdds", "params", "network"], rows), ""]
    for part in result["results"]:
        notes = _timed({**part, "refits": [], "references": [], "rank_check": None})
        notes += [] if part["status"] == "done" else [_WITHOUT[part["status"]]]
        lines += [f"{part['label']}: {text}" for text in notes]
    lines += _timed({**result, "best_reward": None})
    lines += ["", f"run: {result['run']}"]
    if result.get("report"):
        lines.append(f"report: {result['report']}")
    for part in result["results"]:
        if (part["scaled"] or part["baseline"]) is not None:
            name = "baseline" if part["scaled"] is None else "scaled"
            lines.append(f"next: mnas export {result['run']} --network {name}-{part['label']} --format onnx")
    return "\n".join(lines)


def _judged(result: Mapping[str, Any]) -> str:
    """Which latency of a network decided in the search, where it was not the estimate itself."""
    from mnas.config import DEFAULT_QUANTILE

    quantile = result.get("latency_quantile")
    return (
        "" if quantile in (None, DEFAULT_QUANTILE) else f", judged at the {quantile:.0%} quantile of latency"
    )


def _timed(result: Mapping[str, Any]) -> list[str]:
    """How near the search came to the optimum, where that is known; what it timed, and the device's drift if any."""
    from mnas.latency.intervals import DRIFT_WARNS
    from mnas.search.drift import drift_of
    from mnas.search.optimum import describe_optimum
    from mnas.search.refits import Refit, describe_refits

    refits = [Refit.from_dict(refit) for refit in result.get("refits", [])]
    lines = [describe_refits(refits)] if refits else []
    if result.get("steps") is not None:
        lines.append(
            f"Training-aware: accuracy x S^-0.07 x P^-0.05 within the target. Training steps were predicted "
            f"({result['steps']['said']}), those of the finalists timed ({result['steps']['conditions']})."
        )
    if result.get("rank_check") is not None:
        lines.append(result["rank_check"]["text"])
    optimum = result.get("optimum")
    if optimum is not None and optimum["kind"] != "unknown" and result["best_reward"] is not None:
        lines.append(describe_optimum(optimum, result["best_reward"]))
    if result.get("against") is not None:
        lines.append(result["against"]["text"])
    drift = drift_of(result.get("references", []))
    if drift is not None and abs(drift.fraction) > DRIFT_WARNS:
        lines.append(f"The device's speed moved: {drift.describe()}.")
    return lines


def _network(name: str, network: Mapping[str, Any]) -> list[str]:
    """One network's counts, latency, accuracy and blocks."""
    origin = network.get("architecture") or f"by phi {network['phi']:.2f}, {network['resolution']} pixels"
    lines = [f"{name} {origin}: {network['params']:,} parameters, {network['madds']:,} MAdds"]
    if network.get("latency_ms") is not None:
        raw = network["latency_raw_ms"]
        wall = "" if raw is None else f"; plain wall clock {raw:.2f}"
        span = f"{network['latency_low_ms']:.2f} to {network['latency_high_ms']:.2f}"
        lines.append(f"  latency  {network['latency_ms']:.2f} ms ({span}{wall}), {network['latency_source']}")
    if "step_ms" in network:
        lines.append(f"  training {network['step_ms']:.3g} ms a step, timed")
    if network["accuracy"] is None:
        lines.append(f"  accuracy unknown: {network['accuracy_reason']}")
    else:
        lines.append(f"  accuracy {network['accuracy']:.2%}: {network['accuracy_source']}")
    if "val_accuracy" in network:
        lines.append(
            f"           {network['val_accuracy']:.2%} on the validation images; {network['proxy_accuracy']:.2%} in "
            f"the search: {network['proxy_source']}"
        )
    if "weights" in network:
        lines.append(f"  weights  {network['weights']}")
    return lines + [f"  {text}" for text in network["block_strings"] or []]


_WITHOUT = {
    "interrupted": "interrupted; every finished trial is kept.",
    "noisy": "the machine was too noisy to decide. End other work on it and run: mnas resume RUN",
    "no_feasible": "no finalist was within the target as measured. Raise the target a little, or try more --trials.",
}


def _finalists(result: Mapping[str, Any], latency: bool) -> str:
    rows = []
    trains = any("trained_accuracy" in row for row in result["finalists"])
    for row in result["finalists"]:
        won = row["architecture"] == result["baseline"]["architecture"]
        cost = f"{row['predicted']:.2f} ms" if latency else format_count(row["predicted"])
        measured = f"{row['latency_ms']:.2f} ms" if latency and row["latency_raw_ms"] is not None else "-"
        within = "yes" if row["within_target"] else row["status"] if row["status"] == "noisy" else "no"
        mark = "<- baseline" if won else ""
        trained = row.get("trained_accuracy")
        longer = ["-" if trained is None else f"{trained:.2%}"] if trains else []
        rows.append(
            [f"trial {row['trial']}", f"{row['accuracy']:.2%}", cost, measured, within, *longer, mark]
        )
    known = "in the search" if any(row.get("measured_before") for row in result["finalists"]) else "predicted"
    longer = ["trained longer"] if trains else []
    return table(["finalist", "accuracy", known, "measured", "within", *longer, ""], rows)


def _comparison(result: Mapping[str, Any]) -> str:
    """The baseline beside published networks, measured in the same processes."""
    baseline = result["baseline"]
    rows = []
    for row in [{"name": "this baseline", **baseline}, *result["comparison"]]:
        accuracy = "-" if row["accuracy"] is None else f"{row['accuracy']:.2%}"
        counts = [format_count(row["madds"]), format_count(row["params"])]
        rows.append([row["name"], accuracy, f"{row['latency_ms']:.2f} ms", *counts])
    return table(["measured together", "accuracy", "latency", "MAdds", "params"], rows)


def family_summary(family: Mapping[str, Any]) -> str:
    """The members of a family, and where their files are."""
    rows = []
    for m in family["members"]:
        phi = "-" if m["phi"] is None else f"{m['phi']:.2f}"
        shape = [phi, f"{m['depth']:.2f}", f"{m['width']:.2f}", str(m["resolution"])]
        if m["latency_ms"] is None:
            latency = "-"
        else:
            latency = f"{m['latency_ms']:.2f} ms ({m['latency_low_ms']:.2f}-{m['latency_high_ms']:.2f})"
        rows.append([m["name"], *shape, f"{m['params']:,}", f"{m['madds']:,}", latency])
    header = ["member", "phi", "depth", "width", "pixels", "params", "MAdds", "latency"]
    lines = [table(header, rows), "", f"{family['source']} scaled; {family['conditions']}"]
    lines.append("accuracies are unknown: train a member to know its own.")
    if "path" in family["members"][0]:
        lines.append(f"files: {Path(family['members'][0]['path']).parent} (untrained weights)")
    return "\n".join(lines)


def best_summary(found: Mapping[str, Any]) -> str:
    """The stored trial that is best for another target."""
    target, searched = found["target"], found["searched_for"]
    count = f"{found['within']} of {found['trials']} stored trials are within {_quantity(target)}"
    wanted = " and ".join(
        _quantity({"kind": searched["kind"], "value": value}) for value in searched["values"]
    )
    lines = [f"{count}; the search was for {wanted}. The most accurate of them:", ""]
    lines += _network(f"trial {found['trial']}", found)
    if found["path"] is not None:
        lines += ["", f"written: {found['path']}", f"next: mnas scale {found['path']}"]
    return "\n".join(lines)


def _quantity(target: Mapping[str, Any]) -> str:
    if target["kind"] == "latency":
        return f"{target['value']:g} ms"
    return f"{format_count(target['value'])} multiply-adds"


def export_summary(exported: Mapping[str, Any]) -> str:
    """What was written, with which weights, and how it was checked."""
    files = " and ".join(exported["files"])
    checked = "loaded again without mnas, equal to the torch module"
    if exported["error"]:
        checked = (
            f"loaded again without mnas, equal to the torch module within {exported['error']:.1e} standard deviations "
            f"of the logits"
        )
    return f"{files}: {exported['weights']}; {checked}."


def doctor_summary(result: Mapping[str, Any]) -> str:
    """Each finding, and the command that mends it where one does."""
    marks = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}
    lines = []
    for finding in result["findings"]:
        lines.append(f"{marks[finding['verdict']]}  {finding['name']}: {finding['text']}")
        if finding["remedy"] is not None:
            lines.append(f"         -> {finding['remedy']}")
    return "\n".join(lines)


def status_summary(status: Mapping[str, Any]) -> str:
    """The state of a run in a few lines."""
    counts = ", ".join(f"{number} {name}" for name, number in status["trials_by_status"].items())
    best = status["best"]
    bests = {"": best} if best is None or "reward" in best else best
    lines = [f"{status['run']}: {status['status']}", f"  trials {counts} of {status['trials_wanted']}"]
    for label, best in bests.items():
        if best is not None:
            lines.append(
                f"  {label and f'for {label}: '}best reward {best['reward']:.4f} with accuracy {best['accuracy']:.2%}: "
                f"{best['architecture']}"
            )
    if status["resume"] is not None:
        lines.append(f"  go on with: {status['resume']}")
    return "\n".join(lines)
