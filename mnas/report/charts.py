"""The charts as plotly figures: plain JSON objects, so that nothing heavy is imported to write them.

One rule of colour: what was measured is in the accent colour, what was predicted is grey. Texts that come from the
run are escaped, since plotly reads tags in them.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from mnas.report import words
from mnas.report.data import Calibration, Family, Network, RunData, Tried
from mnas.report.figure import (
    ACCENT,
    FAINT,
    INK,
    SOFT,
    Figure,
    add_label,
    add_line,
    add_tick,
    bars,
    clip,
    layout_of,
    logarithmic,
    per_cent,
    points,
    safe,
    short,
)

# Other trials drawn beside the Pareto front and the finalists: more only makes the file slow to draw.
MOST_POINTS = 1000
# Trials in a running mean (chosen here: a few updates of the controller).
WINDOW = 200


def thinned(run: RunData) -> list[Tried]:
    """All of the Pareto front, all finalists, and evenly spaced others, at most `MOST_POINTS`; in the order asked."""
    kept = {finalist.trial for finalist in run.finalists} | {t.number for t in run.trials if t.on_front}
    others = [trial.number for trial in run.trials if trial.number not in kept]
    if len(others) > MOST_POINTS:
        others = [others[step * len(others) // MOST_POINTS] for step in range(MOST_POINTS)]
    kept.update(others)
    return [trial for trial in run.trials if trial.number in kept]


def shown_text(run: RunData) -> str:
    """Which of the finished trials are drawn."""
    trials, shown = len(run.trials), len(thinned(run))
    if shown == trials:
        return f"All {trials:,} finished trials are drawn."
    return (
        f"{shown:,} of {trials:,} finished trials are drawn: the whole Pareto front, every finalist, and an even "
        f"sample of the others."
    )


def pareto(run: RunData) -> Figure | None:
    """Accuracy against cost: every trial as predicted, the finalists as measured, published networks beside."""
    if not run.trials:
        return None
    unit = _unit(run)
    traces = [*_pool(run), *_finalists(run, unit), *_published(run, unit)]
    layout = _accuracy_layout(run)
    costs = [_x(run, trial.cost) for trial in run.trials]
    _lines(run, layout, max(costs))
    for network, cost in _placed(run):
        label = words.name_of(clip(network.name, 24))
        add_label(layout, _x(run, cost), per_cent(network.accuracy or 0.0), label)
    if run.kind == "latency":
        _rug(run, layout, max(costs))
    return {"data": traces, "layout": layout}


def overview(parts: Sequence[RunData]) -> Figure | None:
    """Accuracy against cost for all targets of a run: every trial as predicted, the finalists of each."""
    first = parts[0]
    if not first.trials:
        return None
    traces = _pool(first)
    layout = _accuracy_layout(first)
    most = max(_x(first, trial.cost) for trial in first.trials)
    named: set[str] = set()
    for part in parts:
        for trace in _finalists(part, _unit(part)):
            traces.append({**trace, "showlegend": trace.get("showlegend", trace.get("name") not in named)})
            named.add(str(trace.get("name")))
        _lines(part, layout, most)
    return {"data": traces, "layout": layout}


def _lines(run: RunData, layout: Figure, most: float) -> None:
    """The target and the budget, unless they lie far to the right of everything."""
    for value, label in _budgets(run):
        if _x(run, value) <= 1.3 * most:
            add_line(layout, _x(run, value), label)


def _accuracy_layout(run: RunData) -> Figure:
    layout = layout_of(
        f"{'latency' if run.kind == 'latency' else 'multiply-adds'} ({_unit(run)})", _accuracy_axis(run)
    )
    layout["yaxis"] |= {"ticksuffix": " %", "range": _view(run)}
    return layout | {"shapes": [], "annotations": []}


def _pool(run: RunData) -> list[Figure]:
    """The trials and their Pareto front."""
    front = sorted((t for t in run.trials if t.on_front), key=lambda t: t.cost)
    rest = [trial for trial in thinned(run) if not trial.on_front]
    unit = _unit(run)
    return [
        points(
            f"trial{_how(run)}", [_x(run, t.cost) for t in rest], [t.accuracy for t in rest],
            [f"trial {t.number}" for t in rest], unit, {"size": 4, "color": FAINT, "opacity": 0.45},
        ),
        {
            **points(
                f"Pareto front{_how(run)}", [_x(run, t.cost) for t in front], [t.accuracy for t in front],
                [f"trial {t.number}" for t in front], unit, {"size": 5, "color": SOFT},
            ),
            "mode": "lines+markers",
            "line": {"color": SOFT, "width": 1, "shape": "hv"},
        },
    ]  # fmt: skip


def unplaced(run: RunData) -> list[Network]:
    """Published networks whose latency is known and whose accuracy is not."""
    return [n for n in run.comparison if n.accuracy is None and n.latency is not None]


def below(run: RunData) -> int:
    """Trials that lie below what the chart of accuracies shows at first."""
    floor, _ = _view(run)
    return sum(1 for trial in run.trials if per_cent(trial.accuracy) < floor)


def rewards(run: RunData) -> Figure | None:
    """Reward of each trial, the mean of the last `WINDOW`, and the best so far; a baseline's best beside it."""
    mine = [trial for trial in run.trials if not trial.baseline]
    if not mine:
        return None
    shown = [trial for trial in thinned(run) if not trial.baseline]
    best = list(accumulate((t.reward for t in mine), max))
    sums = [0.0, *accumulate(t.reward for t in mine)]
    every = range(min(WINDOW, len(best)) - 1, len(best), max(1, len(best) // 400))
    means = [(sums[i + 1] - sums[max(0, i + 1 - WINDOW)]) / min(i + 1, WINDOW) for i in every]
    number = [t.number for t in mine]
    traces: list[Figure] = [
        {
            "type": "scatter", "mode": "markers", "name": "trial",
            "x": [t.number for t in shown], "y": [short(t.reward) for t in shown],
            "marker": {"size": 4, "color": FAINT, "opacity": 0.5},
            "hovertemplate": "trial %{x}: %{y:.4f}<extra></extra>",
        },
        {
            "type": "scatter", "mode": "lines", "name": f"mean of the last {WINDOW}",
            "x": [number[i] for i in every], "y": [short(value) for value in means],
            "line": {"color": SOFT, "width": 2}, "hoverinfo": "skip",
        },
        _best_so_far("best so far", mine, {"color": INK}),
    ]  # fmt: skip
    theirs = [trial for trial in run.trials if trial.baseline]
    if theirs:
        traces.append(_best_so_far("best so far, of the baseline", theirs, {"color": INK, "dash": "dot"}))
    return {"data": traces, "layout": layout_of("trial", "reward")}


def _best_so_far(name: str, trials: Sequence[Tried], line: Figure) -> Figure:
    """A staircase over the numbers of the trials."""
    best = list(accumulate((t.reward for t in trials), max))
    steps = [i for i, value in enumerate(best) if i == 0 or value > best[i - 1]]
    corners = [*steps, len(best) - 1]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [trials[i].number for i in corners],
        "y": [short(best[i]) for i in corners],
        "line": {"width": 2, "shape": "hv", **line},
        "hovertemplate": "best after trial %{x}: %{y:.4f}<extra></extra>",
    }


def calibration(found: Calibration | None) -> Figure | None:
    """Held-out predictions against measurements, with the band of 10 %."""
    drawn = [] if found is None else [p for p in found.points if p.predicted_ms and p.measured_ms]
    if found is None or not drawn:
        return None
    values = [value for p in drawn for value in (p.measured_ms, p.predicted_ms or 0.0)]
    low, high = 0.85 * min(values), 1.15 * max(values)
    ends = [low, high]
    traces: list[Figure] = [
        {
            "type": "scatter", "mode": "lines", "name": "within 10 %", "fill": "toself", "hoverinfo": "skip",
            "x": [low, high, high, low], "y": [0.9 * low, 0.9 * high, 1.1 * high, 1.1 * low],
            "line": {"width": 0}, "fillcolor": "rgba(100,116,139,0.14)",
        },
        {
            "type": "scatter", "mode": "lines", "name": "equal", "hoverinfo": "skip", "showlegend": False,
            "x": ends, "y": ends, "line": {"color": SOFT, "width": 1},
        },
    ]  # fmt: skip
    groups = list(dict.fromkeys(point.group for point in drawn))
    for number, group in enumerate(groups):
        mine = [point for point in drawn if point.group == group]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": safe(group),
                "x": [short(p.measured_ms) for p in mine],
                "y": [short(p.predicted_ms or 0) for p in mine],
                "error_x": bars([(p.measured_ms, p.low_ms, p.high_ms) for p in mine], 1),
                "text": [safe(clip(p.name)) for p in mine],
                "marker": {"size": 7, "color": ACCENT, "symbol": _SYMBOLS[number % len(_SYMBOLS)]},
                "hovertemplate": "%{text}<br>measured %{x:.2f} ms<br>predicted %{y:.2f} ms<extra></extra>",
            }
        )
    layout = layout_of("measured (ms)", "predicted, held out (ms)")
    if high > 5 * low:
        for axis in ("xaxis", "yaxis"):
            layout[axis] |= logarithmic(low, high)
    return {"data": traces, "layout": layout}


def family(found: Family | None) -> Figure | None:
    """Latency of the members against their multiply-adds."""
    members = [] if found is None else [m for m in found.members if m.latency is not None]
    if len(members) < 2:
        return None
    spans = [(m.latency.ms, m.latency.low_ms, m.latency.high_ms) for m in members if m.latency is not None]
    trace: Figure = {
        "type": "scatter", "mode": "lines+markers+text", "name": "member, measured",
        "x": [short(m.madds / 1e6) for m in members], "y": [short(ms) for ms, _, _ in spans],
        "error_y": bars(spans, 1),
        "text": [safe(clip(m.name, 24)) for m in members], "textposition": "top left",
        "customdata": [[m.resolution, words.count(m.params)] for m in members],
        "marker": {"size": 9, "color": ACCENT}, "line": {"color": ACCENT, "width": 1},
        "hovertemplate": "%{text}: %{y:.2f} ms<br>%{x:.4g}M MAdds, %{customdata[1]} parameters"
        "<br>%{customdata[0]} pixels<extra></extra>",
    }  # fmt: skip
    layout = layout_of("multiply-adds (M)", "latency (ms)")
    layout["showlegend"] = False
    for axis, values in (("xaxis", trace["x"]), ("yaxis", trace["y"])):
        if max(values) > 5 * min(values) > 0:
            layout[axis] |= logarithmic(min(values) / 1.4, 1.4 * max(values))
    return {"data": [trace], "layout": layout}


def _view(run: RunData) -> tuple[float, float]:
    """Accuracies in per cent that are shown: without the worst twentieth, which would flatten the front."""
    accuracies = sorted(per_cent(trial.accuracy) for trial in run.trials)
    shown = [per_cent(finalist.accuracy) for finalist in run.finalists]
    shown += [per_cent(network.accuracy) for network in run.comparison if network.accuracy is not None]
    low, high = min([accuracies[len(accuracies) // 20], *shown]), max([accuracies[-1], *shown])
    room = 0.06 * (high - low) or 1.0
    return short(low - room), short(high + 1.5 * room)


_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "triangle-down")


def _finalists(run: RunData, unit: str) -> list[Figure]:
    """As measured with their intervals; where nothing was timed, as estimated."""
    if run.kind == "madds" or any(f.latency is None for f in run.finalists):
        rows = [(f, (f.predicted, f.predicted, f.predicted), False) for f in run.finalists]
    else:
        rows = [
            (f, (f.latency.ms, f.latency.low_ms, f.latency.high_ms), f.latency.measured)
            for f in run.finalists
            if f.latency is not None
        ]
    if not rows:
        return []
    measured = all(flag for _, _, flag in rows)
    traces: list[Figure] = []
    if measured:
        gap: list[Any] = [None]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "hoverinfo": "skip",
                "showlegend": False,
                "x": [v for f, (ms, _, _), _ in rows for v in (short(f.predicted), short(ms), *gap)],
                "y": [v for f, _, _ in rows for v in (per_cent(f.accuracy), per_cent(f.accuracy), *gap)],
                "line": {"color": ACCENT, "width": 1, "dash": "dot"},
            }
        )
    colour = ACCENT if measured else INK
    won = run.baseline.architecture if run.baseline is not None else None
    for wins in (False, True):
        mine = [row for row in rows if (row[0].architecture == won) == wins]
        how = "measured" if measured else "exact" if run.kind == "madds" else "estimated"
        symbols = ["circle-open" if f.status == "noisy" else "circle" for f, _, _ in mine]
        trace = points(
            f"{'winner' if wins else 'finalist'}, {how}",
            [_x(run, span[0]) for _, span, _ in mine],
            [f.accuracy for f, _, _ in mine],
            [f"trial {f.trial}{', noisy' if f.status == 'noisy' else ''}" for f, _, _ in mine],
            unit,
            {"size": 8, "color": colour, "symbol": symbols, "line": {"color": colour, "width": 1.5}},
        )
        if wins:
            trace["marker"] = {
                "size": 15,
                "color": colour,
                "symbol": "star",
                "line": {"color": "#fff", "width": 1},
            }
        if measured:
            trace["error_x"] = bars([span for _, span, _ in mine], 1.5)
        if mine:
            traces.append(trace)
    return traces


def _placed(run: RunData) -> list[tuple[Network, float]]:
    """Published networks that the accuracy model covers, with their costs."""
    known = [(n, _network_cost(run, n)) for n in run.comparison if n.accuracy is not None]
    return [(n, cost) for n, cost in known if cost is not None]


def _published(run: RunData, unit: str) -> list[Figure]:
    """Published networks, where the accuracy model puts them."""
    placed = _placed(run)
    if not placed:
        return []
    latency = run.kind == "latency"
    colour = ACCENT if latency else INK
    trace = points(
        f"published network{', measured' if latency else ''}",
        [_x(run, cost) for _, cost in placed],
        [n.accuracy or 0.0 for n, _ in placed],
        [words.name_of(clip(n.name)) for n, _ in placed],
        unit,
        {"size": 10, "color": "#fff", "symbol": "diamond", "line": {"color": colour, "width": 2}},
    )
    return [trace]


def _rug(run: RunData, layout: Figure, most: float) -> None:
    """Published networks of unknown accuracy: a tick at their latency, named on its left and right by turns."""
    shown = sorted((n.latency.ms, n.name) for n in unplaced(run) if n.latency and n.latency.ms <= 1.3 * most)
    for number, (ms, name) in enumerate(shown):
        side = ("right", "left")[number % 2]
        add_tick(layout, short(ms), words.name_of(clip(name, 24)), side, ACCENT)


def _network_cost(run: RunData, network: Network) -> float | None:
    if run.kind == "madds":
        return float(network.madds)
    return None if network.latency is None else network.latency.ms


def _budgets(run: RunData) -> list[tuple[float, str]]:
    lines = [(run.target, f"target {words.target(run)}")]
    if run.budget is not None and run.budget < run.target:
        lines.append((run.budget, f"searched at {words.cost(run, run.budget)}"))
    return lines


def _accuracy_axis(run: RunData) -> str:
    return {
        "predicted": "predicted top-1",
        "trained": "validation accuracy",
        "plug-in": "accuracy (plug-in)",
    }[run.accuracy_kind]


def _how(run: RunData) -> str:
    """Where the trials' costs come from, for the legend; multiply-adds are simply known."""
    if run.kind == "madds":
        return ""
    return ", measured" if run.latency_name == "measure" else ", predicted"


def _unit(run: RunData) -> str:
    return "ms" if run.kind == "latency" else "M"


def _x(run: RunData, cost: float) -> float:
    return short(cost if run.kind == "latency" else cost / 1e6)
