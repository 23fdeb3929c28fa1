"""The charts of a bench: best reward and regret against evaluations."""

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from mnas.report.figure import ACCENT, INK, Figure, layout_of, safe

# The default controller has the accent colour; the others these, which people tell apart who see few colours:
# Okabe and Ito (2008), Color Universal Design, without its orange tones, which are too near to the accent.
COLOURS = ("#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#1c2430", "#8a8f98")
DASHES = ("solid", "dot", "dashdot")
# Regret below this is 0 but for rounding; a logarithmic axis has no place for it.
LEAST_REGRET = 1e-8


def styles(controllers: Sequence[str], default: str) -> dict[str, Figure]:
    """Colour, dash and width of each controller's line."""
    found = {}
    for number, name in enumerate(name for name in controllers if name != default):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        found[name] = {"color": colour, "dash": dash, "width": 2}
    return {default: {"color": ACCENT, "dash": "solid", "width": 3}, **found}


def best(entries: Sequence[Mapping[str, Any]], optimum: float, looks: Mapping[str, Figure]) -> Figure:
    """Mean best reward with its 95 % interval.

    Args:
        entries: of the result, all of one target; later ones are drawn above earlier ones.
        optimum: drawn as a line.
        looks: of `styles`.
    """
    trials = _trials(entries)
    bands = [_band(entry, trials, looks) for entry in entries if entry["curve"]["low"] is not None]
    traces = [_line(e["controller"], _points(e), looks) for e in entries]
    layout = layout_of("different networks evaluated", "best reward")
    layout["xaxis"] |= _counts(trials)
    floor = min(y for entry in entries for n, y in _points(entry) if n >= min(2 * _first(trials), trials))
    room = 0.06 * (optimum - floor) or 0.01
    layout["yaxis"]["range"] = [floor - room, max(optimum, floor) + room]
    line = {"color": INK, "width": 1.5, "dash": "dash"}
    ends = {"x0": 0, "x1": 1, "y0": optimum, "y1": optimum}
    layout["shapes"] = [{"type": "line", "xref": "paper", **ends, "line": line}]
    return {"data": bands + traces, "layout": layout}


def regret(entries: Sequence[Mapping[str, Any]], optimum: float, looks: Mapping[str, Figure]) -> Figure:
    """Optimum less mean best reward, on logarithmic axes."""
    traces = []
    for entry in entries:
        left = [(n, optimum - y) for n, y in _points(entry) if optimum - y > LEAST_REGRET]
        traces.append(_line(entry["controller"], left, looks))
    layout = layout_of("different networks evaluated", "regret, in reward")
    layout["xaxis"] |= _counts(_trials(entries))
    layout["yaxis"] |= {"type": "log", "dtick": 1, "exponentformat": "power"}
    return {"data": traces, "layout": layout}


def _trials(entries: Sequence[Mapping[str, Any]]) -> int:
    return max(int(entry["trials"]) for entry in entries)


def _first(trials: int) -> int:
    """Where the charts begin: after fewer evaluations all controllers are alike, and intervals as wide as the chart."""
    return 5 if trials >= 50 else 1


def _points(entry: Mapping[str, Any]) -> list[tuple[int, float]]:
    return list(zip(entry["curve"]["evaluations"], entry["curve"]["mean_best"], strict=True))


def _line(controller: str, points: Sequence[tuple[int, float]], looks: Mapping[str, Figure]) -> Figure:
    name = safe(controller)
    return {
        "type": "scatter", "mode": "lines", "name": name, "legendgroup": name, "line": looks[controller],
        "x": [n for n, _ in points], "y": [_short(y) for _, y in points],
        "hovertemplate": "%{y:.6g} after %{x}<extra>" + name + "</extra>",
    }  # fmt: skip


def _band(entry: Mapping[str, Any], trials: int, looks: Mapping[str, Figure]) -> Figure:
    """A line's interval as a veil of its colour."""
    curve, name = entry["curve"], entry["controller"]
    spans = [
        span
        for span in zip(curve["evaluations"], curve["low"], curve["high"], strict=True)
        if span[0] >= _first(trials)
    ]
    back = spans[::-1]
    red, green, blue = (int(looks[name]["color"][start : start + 2], 16) for start in (1, 3, 5))
    return {
        "type": "scatter", "mode": "lines", "showlegend": False, "legendgroup": safe(name), "hoverinfo": "skip",
        "x": [n for n, _, _ in spans] + [n for n, _, _ in back],
        "y": [_short(high) for _, _, high in spans] + [_short(low) for _, low, _ in back],
        "fill": "toself", "fillcolor": f"rgba({red},{green},{blue},0.1)", "line": {"width": 0},
    }  # fmt: skip


def _counts(trials: int) -> Figure:
    """A logarithmic axis of counts, with ticks at 1, 2 and 5."""
    ticks = [digit * 10**power for power in range(len(str(trials))) for digit in (1, 2, 5)]
    shown = [tick for tick in ticks if tick <= trials]
    axis = {"type": "log", "tickvals": shown, "ticktext": [f"{tick:,}" for tick in shown]}
    if trials > 1:  # of a single evaluation there is no range
        axis["range"] = [log10(_first(trials)), log10(trials)]
    return axis


def _short(value: float) -> float:
    """Six significant digits: rewards of good networks agree in the first three."""
    return float(f"{value:.6g}")
