"""Published networks as measured: a table and two plots in one HTML file that asks nothing of the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnas.files import write_bytes
from mnas.report import words
from mnas.report.figure import Figure, bars, layout_of, logarithmic, per_cent, safe, short
from mnas.report.offline import figure_json, own, plotly, policy, template

Row = Mapping[str, Any]
# Of families; told apart by shape as well. Colours and shapes are as many as have no common divisor, so that pairs do
# not come again before there are ninety families.
_COLOURS = ("#c2410c", "#1d4ed8", "#15803d", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#475569", "#4d7c0f")
_SYMBOLS = (
    "circle",
    "diamond",
    "square",
    "triangle-up",
    "cross",
    "star",
    "x",
    "triangle-down",
    "hexagon",
    "pentagon",
)


def write_zoo_page(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page.

    Args:
        result: of `zoobench.measure_zoo` or `zoobench.compare_zoo`.
        path: the file; one that is there is replaced.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    write_bytes(path, render_zoo(result).encode())


def render_zoo(result: Mapping[str, Any]) -> str:
    """The page as text."""
    rows = result["networks"]
    measured = [row for row in rows if row["latency_ms"] is not None]
    accurate = [row for row in measured if row["top1"] is not None]
    library, script = plotly(), own("mnas.report", "page.js")
    figures = {
        "accuracy": _figure(
            accurate, "latency (ms)", "published top-1", _latency, _top1, "%{x:.4g} ms, %{y:.1f} %"
        ),
        "madds": _figure(
            measured, "multiply-adds (M)", "latency (ms)", _madds, _ms, "%{x:.4g}M MAdds, %{y:.4g} ms"
        ),
    }
    return template("mnas.report", "zoo.html.j2").render(
        rows=rows,
        compared=any("latency_ratio" in row for row in rows),
        unknown=len(measured) - len(accurate),
        sources=sorted({row["published_source"] for row in rows if row["top1"] is not None}),
        conditions=result["conditions"],
        figures={name: figure_json(figure) for name, figure in figures.items() if figure is not None},
        words=words,
        style=Markup(own("mnas.report", "page.css")),  # noqa: S704  ours, from the package
        library=Markup(library),  # noqa: S704  plotly's
        script=Markup(script),  # noqa: S704  ours, from the package
        policy=policy(library, script),
    )


def _latency(row: Row) -> float:
    return short(row["latency_ms"])


_ms = _latency


def _madds(row: Row) -> float:
    return short(row["madds"] / 1e6)


def _top1(row: Row) -> float:
    return per_cent(row["top1"])


def _figure(rows: Sequence[Row], x: str, y: str, x_of: Any, y_of: Any, hover: str) -> Figure | None:
    """A point for each network, one colour and shape for each family; latencies and multiply-adds on a log scale."""
    if len(rows) < 2:
        return None
    traces: list[Figure] = []
    for number, family in enumerate(dict.fromkeys(row["family"] for row in rows)):
        mine = sorted((row for row in rows if row["family"] == family), key=x_of)
        colour = _COLOURS[number % len(_COLOURS)]
        spans = [(row["latency_ms"], row["latency_low_ms"], row["latency_high_ms"]) for row in mine]
        trace: Figure = {
            "type": "scatter", "mode": "lines+markers", "name": safe(family),
            "x": [x_of(row) for row in mine], "y": [y_of(row) for row in mine],
            "text": [safe(row["name"]) for row in mine],
            "marker": {"size": 8, "color": colour, "symbol": _SYMBOLS[number % len(_SYMBOLS)]},
            "line": {"color": colour, "width": 1, "dash": "dot"},
            "hovertemplate": f"%{{text}}: {hover}<extra></extra>",
        }  # fmt: skip
        trace["error_x" if x_of is _latency else "error_y"] = bars(spans, 1) | {"color": colour}
        traces.append(trace)
    layout = layout_of(x, y)
    for axis, value_of in (("xaxis", x_of), ("yaxis", y_of)):
        if value_of is _top1:
            layout[axis]["ticksuffix"] = " %"
        else:
            values = [value_of(row) for row in rows]
            layout[axis] |= logarithmic(min(values) / 1.2, 1.2 * max(values))
    return {"data": traces, "layout": layout}
