"""The figures of a bench of evaluators as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from mnas.summary import table

HEADINGS = ("evaluator", "networks", "tau", "90 % interval", "core-min", "core-s each", "tau/core-min")


def proxy_text(result: Mapping[str, Any], out: str) -> str:
    """The greatest tau first; then the best within each budget, and how a tau is to be read."""
    if result["status"] != "done":
        return f"interrupted; scores are kept in {result['scores']}. The same command goes on."
    rows = sorted(result["evaluators"], key=lambda row: -2.0 if row["tau"] is None else -row["tau"])
    rows.sort(key=lambda row: row["tau"] is None)
    lines = [f"{result['networks']} random networks of {result['space']}. {_sentence(result['about'])}", ""]
    lines += [table(HEADINGS, [_cells(row, result["networks"]) for row in rows]), ""]
    lines += [
        f"within {best['core_minutes']:g} core-minutes: {best['evaluator']}, tau {best['tau']:.3f}"
        for best in _changes(result["best_within"])
    ]
    lines += [
        f"{row['name']}: {row['failed']} networks could not be evaluated and rank last ({row['error']})"
        for row in rows
        if row["failed"]
    ]
    cheapest = next((row for row in rows if row["name"] == "madds" and row["tau"] is not None), None)
    if cheapest is not None:
        worse = [row["name"] for row in rows if row["tau"] is not None and row["tau"] < cheapest["tau"]]
        if worse:
            lines.append(f"ranked worse than by multiply-adds alone, which cost nothing: {', '.join(worse)}")
    return "\n".join([*lines, "", f"result: {out}", f"scores: {result['scores']}"])


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _changes(best: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the budgets at which nothing new is best."""
    return [b for n, b in enumerate(best) if n == 0 or b["evaluator"] != best[n - 1]["evaluator"]]


def _cells(row: Mapping[str, Any], networks: int) -> list[str]:
    reached = f"{row['evaluated']}" + (f" of {networks}" if row["evaluated"] < networks else "")
    each = "-" if row["core_seconds_each"] is None else f"{row['core_seconds_each']:.3g}"
    if row["tau"] is None:
        return [row["name"], reached, "-", "-", f"{row['core_minutes']:.3g}", each, "-"]
    rate = row["tau_per_core_minute"]
    return [
        row["name"],
        reached,
        f"{row['tau']:.3f}",
        f"{row['low']:.3f} to {row['high']:.3f}",
        f"{row['core_minutes']:.3g}",
        each,
        "-" if rate is None else f"{rate:.3g}",
    ]
