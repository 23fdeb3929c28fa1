"""Parts of a plotly figure as plain JSON objects, in the one look that all charts of a report share."""

import html
import math
from collections.abc import Sequence
from typing import Any

Figure = dict[str, Any]

ACCENT, INK, SOFT, FAINT, GRID = "#c2410c", "#1c2430", "#64748b", "#a9b4c2", "#e6eaf0"
BEHIND = "rgba(255,255,255,0.82)"  # a text, so that it can be read over points and lines
TICK = 0.1  # of the chart's height


def add_line(layout: Figure, x: float, label: str) -> None:
    """A dashed line over the whole height, its label at the top left."""
    _add_vertical(layout, x, 1.0, {"color": INK, "width": 1.5, "dash": "dash"})
    _add_note(
        layout, x, 1.0, label, {"xanchor": "right", "yanchor": "top", "xshift": -4, "font": {"color": INK}}
    )


def add_tick(layout: Figure, x: float, label: str, side: str, colour: str) -> None:
    """A short line at the bottom, its label upright beside it, on the left for `right`: where the text is anchored."""
    _add_vertical(layout, x, TICK, {"color": colour, "width": 2})
    look = {"xanchor": side, "yanchor": "bottom", "textangle": -90, "font": {"color": SOFT}}
    _add_note(layout, x, TICK / 2, label, look)


def add_label(layout: Figure, x: float, y: float, label: str) -> None:
    """A text below a point and to its right, where no better network lies."""
    look = {
        "yref": "y",
        "xanchor": "left",
        "yanchor": "top",
        "xshift": 4,
        "yshift": -4,
        "font": {"color": INK},
    }
    _add_note(layout, x, y, label, look)


def _add_vertical(layout: Figure, x: float, height: float, line: Figure) -> None:
    ends = {"x0": x, "x1": x, "y0": 0, "y1": height}
    layout["shapes"].append({"type": "line", "xref": "x", "yref": "paper", **ends, "line": line})


def _add_note(layout: Figure, x: float, y: float, label: str, look: Figure) -> None:
    note = {"x": x, "y": y, "xref": "x", "yref": "paper", "text": safe(label), "showarrow": False, **look}
    note |= {"font": {"size": 12, **look["font"]}, "bgcolor": BEHIND, "borderpad": 1}
    layout["annotations"].append(note)


def points(
    name: str, x: Sequence[float], accuracy: Sequence[float], text: Sequence[str], unit: str, marker: Figure
) -> Figure:
    """Markers at costs `x` and accuracies (fractions), each with its text."""
    return {
        "type": "scatter", "mode": "markers", "name": name, "x": list(x),
        "y": [per_cent(value) for value in accuracy], "text": [safe(t) for t in text], "marker": marker,
        "hovertemplate": f"%{{text}}<br>%{{x:.4g}} {unit}, %{{y:.2f}} %<extra>{name}</extra>",
    }  # fmt: skip


def bars(spans: Sequence[tuple[float, float, float]], width: float) -> Figure:
    """Error bars of `(middle, low, high)`."""
    return {
        "type": "data", "symmetric": False, "array": [short(max(0.0, high - ms)) for ms, _, high in spans],
        "arrayminus": [short(max(0.0, ms - low)) for ms, low, _ in spans],
        "color": ACCENT, "thickness": width, "width": 3,
    }  # fmt: skip


def layout_of(x: str, y: str) -> Figure:
    """The shared look, with the titles of the axes."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": FAINT, "ticks": "outside", "tickcolor": FAINT}
    return {
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}, "automargin": True, "showgrid": False},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}, "automargin": True},
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": INK},
        "hovermode": "closest", "dragmode": False,
    }  # fmt: skip


def logarithmic(low: float, high: float) -> Figure:
    """A logarithmic axis with ticks at 1, 2 and 5."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
    }


def per_cent(accuracy: float) -> float:
    """A fraction as per cent, shortened."""
    return short(100 * accuracy)


def short(value: float) -> float:
    """Five significant digits: finer than a pixel, and half the bytes."""
    return float(f"{value:.5g}")


def clip(text: str, length: int = 60) -> str:
    """A text that is not too long for a label."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def safe(text: str) -> str:
    """Text that plotly shows as it is."""
    return html.escape(text, quote=False)
