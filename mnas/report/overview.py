"""The first page of a run with several targets: a network for each, and the pool that they share."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mnas.report import charts, words
from mnas.report.data import Network, RunData
from mnas.report.offline import figure_json, own, plotly, policy, template
from mnas.report.story import export_command
from mnas.units import format_duration

_WITHOUT = {
    "noisy": "the device was too noisy to decide",
    "no_feasible": "no network within it was found",
    "unfinished": "the search has not ended",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One target: what was found, or what is said instead, and where more is."""

    label: str
    network: Network | None
    said: str
    page: str
    command: str
    against: str | None


def render_overview(parts: Sequence[RunData], pages: Sequence[str]) -> str:
    """The page as text.

    Args:
        parts: the run at each of its targets.
        pages: file names of the pages about each.
    """
    first = parts[0]
    rows = [
        Row(
            part.label,
            part.chosen,
            "" if part.chosen is not None else _WITHOUT[part.status],
            page,
            "" if part.chosen is None else export_command(part),
            part.against,
        )
        for part, page in zip(parts, pages, strict=True)
    ]
    warnings = dict.fromkeys(text for part in parts for text in part.warnings)
    figure = charts.overview(parts)
    library, script = plotly(), own("mnas.report", "page.js")
    return template("mnas.report", "overview.html.j2").render(
        run=first,
        rows=rows,
        warnings=list(warnings),
        headline=_headline(rows),
        lead=_lead(first, len(parts)),
        accuracy="predicted top-1" if first.accuracy_kind == "predicted" else "accuracy",
        front=f"{sum(trial.on_front for trial in first.trials):,}",
        figure=None if figure is None else figure_json(figure),
        caption=charts.shown_text(first) if first.trials else "",
        words=words,
        style=Markup(own("mnas.report", "page.css")),  # noqa: S704  ours, from the package
        library=Markup(library),  # noqa: S704  plotly's
        script=Markup(script),  # noqa: S704  ours, from the package
        policy=policy(library, script),
    )


def _headline(rows: Sequence[Row]) -> str:
    found = [row.label for row in rows if row.network is not None]
    if len(found) == len(rows):
        return f"A network for each of {len(rows)} targets: {', '.join(found)}"
    if not found:
        return f"No network yet for {', '.join(row.label for row in rows)}"
    missing = ", ".join(row.label for row in rows if row.network is None)
    return f"A network for {', '.join(found)}; none for {missing}"


def _lead(run: RunData, targets: int) -> str:
    text = f"{run.tried:,} networks of the space {run.space} tried in {format_duration(run.seconds)}"
    conditions = f"; latency is for {run.conditions}" if run.conditions else ""
    return f"{text}, with {run.controller} for each of {targets} targets{conditions}."
