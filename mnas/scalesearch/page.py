"""The search for coefficients as one HTML file that asks nothing of the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mnas.files import write_bytes
from mnas.report import words
from mnas.report.figure import ACCENT, INK, Figure, layout_of, per_cent, short
from mnas.report.offline import figure_json, own, plotly, policy, template
from mnas.scalesearch.fit import is_between
from mnas.scalesearch.text import budget_text, times_text, verdict_text

# Steps of a share in which the surface is drawn (chosen here).
STEPS = 40


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Writes `scaling.html`; raises RunDirectoryError where it cannot be written."""
    write_bytes(path, render_page(result).encode())


def render_page(result: Mapping[str, Any]) -> str:
    """The page as text."""
    library, script = plotly(), own("mnas.report", "page.js")
    return template("mnas.scalesearch", "scaling.html.j2").render(
        result=result,
        budget=budget_text(result),
        verdict=verdict_text(result),
        times=times_text(result),
        timed=result["budget"]["kind"] == "latency",
        figures={"surface": figure_json(_surface(result))},
        words=words,
        style=Markup(own("mnas.report", "page.css")),  # noqa: S704  ours, from the package
        library=Markup(library),  # noqa: S704  plotly's
        script=Markup(script),  # noqa: S704  ours, from the package
        policy=policy(library, script),
    )


def _surface(result: Mapping[str, Any]) -> Figure:
    """Contours over the shares of depth and width between the points that count; all points, the published one."""
    b = result["surface"]["coefficients"]
    shares = [number / STEPS for number in range(STEPS + 1)]
    used = np.array([row["shares"][:2] for row in result["points"] if row["in_fit"]])

    def height(depth: float, width: float) -> float | None:
        if not is_between((depth, width), used):  # what the surface says there is a guess
            return None
        terms = (1.0, depth, width, depth * depth, depth * width, width * width)
        return per_cent(sum(factor * term for factor, term in zip(b, terms, strict=True)))

    heights = [[height(depth, width) for depth in shares] for width in shares]
    axis = [short(100 * share) for share in shares]
    contour: Figure = {
        "type": "contour", "x": axis, "y": axis, "z": heights, "connectgaps": False,
        "colorscale": [[0, "#f1f5f9"], [1, "#64748b"]], "contours": {"coloring": "heatmap", "showlabels": True},
        "colorbar": {"title": {"text": "fitted, %"}, "thickness": 12},
        "hovertemplate": "%{x:.0f} % depth, %{y:.0f} % width: %{z:.2f} %<extra>fitted</extra>", "showscale": True,
    }  # fmt: skip
    rows = result["points"]
    inside, outside = ([row for row in rows[1:] if row["in_fit"] == counts] for counts in (True, False))
    grid = _points("trained", inside, {"size": 9, "color": "#ffffff", "line": {"color": INK, "width": 1.5}})
    left_out = _points(
        "left out", outside, {"size": 8, "color": INK, "symbol": "x-thin", "line": {"width": 1.5}}
    )
    published = _points("published", rows[:1], {"size": 13, "color": ACCENT, "symbol": "star"})
    layout = layout_of("share of depth, %", "share of width, % (the rest is resolution's)")
    return {"data": [contour, grid, *([left_out] if outside else []), published], "layout": layout}


def _points(name: str, rows: list[Mapping[str, Any]], marker: Figure) -> Figure:
    return {
        "type": "scatter", "mode": "markers", "name": name, "marker": marker,
        "x": [short(100 * row["shares"][0]) for row in rows],
        "y": [short(100 * row["shares"][1]) for row in rows],
        "text": ["failed" if row["accuracy"] is None else f"{100 * row['accuracy']:.2f} %" for row in rows],
        "hovertemplate": "%{x:.0f} % depth, %{y:.0f} % width: %{text}<extra>" + name + "</extra>",
    }  # fmt: skip
