"""What a search for coefficients found, in words."""

from collections.abc import Mapping
from typing import Any

from mnas.summary import family_summary, table
from mnas.units import format_count, format_duration


def scale_text(result: Mapping[str, Any]) -> str:
    """The grid as a table, the verdict, the caveat, and the family; of an interrupted search how to go on."""
    if result["status"] != "done":
        return f"interrupted; go on with: mnas scale search --resume {result['path']}"
    timed = result["budget"]["kind"] == "latency"
    header = [
        "alpha",
        "beta",
        "gamma",
        "phi",
        "pixels",
        "MAdds",
        *(["latency"] if timed else []),
        "accuracy",
        "fitted",
    ]
    rows = []
    for point in result["points"]:
        c = point["coefficients"]
        rows.append(
            [
                *(f"{c[name]:.3f}" for name in ("alpha", "beta", "gamma")),
                f"{point['phi']:.2f}",
                str(point["resolution"]),
                format_count(point["madds"]),
                *([f"{point['latency_ms']:.2f} ms"] if timed else []),
                "failed" if point["accuracy"] is None else f"{point['accuracy']:.2%}",
                f"{point['fitted']:.2%}" if point["in_fit"] else "left out",
            ]
        )
    return "\n".join(
        [
            table(header, rows),
            "",
            f"{budget_text(result)}; the first is the published one",
            f"each {result['trained']}, {times_text(result)}",
            verdict_text(result),
            result["caveat"],
            "",
            "no family was grown" if result["family"] is None else family_summary(result["family"]),
            "",
            f"{format_duration(result['seconds'])} in this part, {result['seconds_per_training']:.1f} s a training; "
            f"{result['path']}/scaling.html",
        ]
    )


def budget_text(result: Mapping[str, Any]) -> str:
    """How many points there are, and the cost that they were brought to."""
    points, budget = result["points"], result["budget"]
    used = [point for point in points if point["in_fit"]]
    if budget["kind"] == "latency":
        costs = [point["latency_ms"] for point in used]
        grown = f"{budget['value']:.3g} ms as measured ({min(costs):.3g} to {max(costs):.3g})"
    else:
        least, most = (format_count(end(point["madds"] for point in used)) for end in (min, max))
        grown = f"{format_count(budget['value'])} multiply-adds ({least} to {most})"
    return f"{len(points)} points, {len(used)} of them in the surface, grown to {grown}"


def times_text(result: Mapping[str, Any]) -> str:
    """How often each point was trained."""
    return "once" if result["seeds"] == 1 else f"{result['seeds']} times"


def verdict_text(result: Mapping[str, Any]) -> str:
    """Whether any coefficients beat the published ones, and which are recommended."""
    best, gain = result["best"], 100 * result["gain"]
    named = ", ".join(f"{name} {best[name]:.2f}" for name in ("alpha", "beta", "gamma"))
    std = 100 * result["gain_std"]
    found = (
        f"The top of the fitted surface is at {named}: {gain:+.2f} points (standard error {std:.2f}) over the "
        "published 1.2, 1.1, 1.15"
    )
    chance = f"as much comes of chance in {result['chance']:.0%} of searches where all are equally good"
    if result["verdict"] == "better":
        return f"{found}, more than two standard errors: recommended; {chance}."
    return f"{found}. That is not distinguishable, so the published ones are kept; {chance}."
