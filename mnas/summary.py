"""The short texts that commands end with."""

from collections.abc import Mapping, Sequence
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
    target, baseline = result["target"], result["baseline"]
    latency = target["kind"] == "latency"
    wanted = f"{target['value']:g} ms" if latency else f"{format_count(target['value'])} multiply-adds"
    head = f"{result['trials']} networks of {result['space']} tried in {result['seconds']:.0f} s for {wanted}"
    if baseline is None:
        return f"{head}: {_WITHOUT[result['status']]}\nrun: {result['run']}"
    lines = [f"{head} ({result['conditions']}).", "", _finalists(result, latency), ""]
    lines += _network("baseline", baseline)
    if result["scaled"] is not None:
        lines += ["", *_network("scaled", result["scaled"])]
    lines += ["", f"run: {result['run']}", f"next: mnas export {result['run']} --format onnx"]
    return "\n".join(lines)


def _network(name: str, network: Mapping[str, Any]) -> list[str]:
    """One network's counts, latency, accuracy and blocks."""
    origin = network.get("architecture") or f"by phi {network['phi']:.2f}, {network['resolution']} pixels"
    lines = [f"{name} {origin}: {network['params']:,} parameters, {network['madds']:,} MAdds"]
    if network.get("latency_ms") is not None:
        raw = network["latency_raw_ms"]
        wall = "" if raw is None else f"; plain wall clock {raw:.2f}"
        span = f"{network['latency_low_ms']:.2f} to {network['latency_high_ms']:.2f}"
        lines.append(f"  latency  {network['latency_ms']:.2f} ms ({span}{wall}), {network['latency_source']}")
    if network["accuracy"] is None:
        lines.append(f"  accuracy unknown: {network['accuracy_reason']}")
    else:
        lines.append(f"  accuracy {network['accuracy']:.2%}: {network['accuracy_source']}")
    if "test_accuracy" in network:
        lines.append(
            f"  accuracy {network['test_accuracy']:.2%} on the test split, which the search never saw"
        )
    lines.append(f"  weights  {network['weights']}")
    return lines + [f"  {text}" for text in network["block_strings"] or []]


_WITHOUT = {
    "interrupted": "interrupted; every finished trial is kept.",
    "noisy": "the machine was too noisy to decide. End other work on it and run: mnas resume RUN",
    "no_feasible": "no finalist was within the target as measured. Raise the target a little, or try more --trials.",
}


def _finalists(result: Mapping[str, Any], latency: bool) -> str:
    rows = []
    for row in result["finalists"]:
        won = row["architecture"] == result["baseline"]["architecture"]
        cost = f"{row['predicted']:.2f} ms" if latency else format_count(row["predicted"])
        measured = f"{row['latency_ms']:.2f} ms" if latency and row["latency_raw_ms"] is not None else "-"
        within = "yes" if row["within_target"] else row["status"] if row["status"] == "noisy" else "no"
        mark = "<- baseline" if won else ""
        rows.append([f"trial {row['trial']}", f"{row['accuracy']:.2%}", cost, measured, within, mark])
    return table(["finalist", "accuracy", "predicted", "measured", "within", ""], rows)


def status_summary(status: Mapping[str, Any]) -> str:
    """The state of a run in a few lines."""
    counts = ", ".join(f"{number} {name}" for name, number in status["trials_by_status"].items())
    best = status["best"]
    lines = [f"{status['run']}: {status['status']}", f"  trials {counts} of {status['trials_wanted']}"]
    if best is not None:
        lines.append(
            f"  best reward {best['reward']:.4f} with accuracy {best['accuracy']:.2%}: {best['architecture']}"
        )
    if status["resume"] is not None:
        lines.append(f"  go on with: {status['resume']}")
    return "\n".join(lines)


def zoo_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Published networks with their counts, and their latency where it was measured."""
    measured = any("latency_ms" in row for row in rows)
    header = [
        "network",
        "params",
        "MAdds",
        "activations",
        "resolution",
        *(["latency", "interval"] if measured else []),
    ]
    body = []
    for row in rows:
        cells = [
            row["name"],
            *(f"{row[key]:,}" for key in ("params", "madds", "activations")),
            str(row["resolution"]),
        ]
        if measured:
            cells.append(f"{row['latency_ms']:.2f} ms")
            cells.append(f"{row['latency_low_ms']:.2f}-{row['latency_high_ms']:.2f} {row['status']}")
        body.append(cells)
    return table(header, body)
