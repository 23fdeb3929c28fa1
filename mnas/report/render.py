"""The page: data, charts and style sheet in one HTML file that asks nothing of the network."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from markupsafe import Markup

from mnas.files import write_bytes
from mnas.report import blocks, charts, compared, words
from mnas.report.data import Network, RunData
from mnas.report.offline import figure_json, own, plotly, policy, template
from mnas.report.overview import render_overview
from mnas.report.reading import count_targets, read_run
from mnas.report.sections import family_text, finalists_text, pareto_caption, predictor_text
from mnas.report.story import tell
from mnas.units import format_duration

FILE = "report.html"


@dataclass(frozen=True, slots=True)
class Drawing:
    """One network drawn: a title, a line about it, its rows, and its block strings."""

    title: str
    about: str
    rows: list[blocks.Row]
    block_strings: tuple[str, ...]

    @property
    def most(self) -> float:
        """The greatest share of multiply-adds of a row."""
        return max(row.madds_share for row in self.rows)


def write_report(path: Path) -> Path:
    """Writes `report.html` into a run directory from what lies there, and nothing else.

    For a run with several targets that is an overview, and `report-<target>.html` beside it is about one of them.

    The page shows what the directory says, escaped; its content policy lets run only the scripts written here and
    loads nothing.

    Args:
        path: the run directory; the search may be unfinished.

    Returns:
        The file.

    Raises:
        RunDirectoryError: not a run directory, a damaged one, or one that cannot be written; an earlier report stays.
    """
    parts = [read_run(path, number) for number in range(count_targets(path))]
    target = parts[0].path / FILE
    if len(parts) == 1:
        write_bytes(target, render(parts[0]).encode())
        return target
    pages = [f"{target.stem}-{part.label}{target.suffix}" for part in parts]
    for part, page in zip(parts, pages, strict=True):
        write_bytes(target.with_name(page), render(part).encode())
    write_bytes(target, render_overview(parts, pages).encode())
    return target


def render(run: RunData) -> str:
    """The page as text; equal data give equal pages."""
    figures = {
        "pareto": charts.pareto(run),
        "rewards": charts.rewards(run),
        "family": charts.family(run.family),
        "calibration": charts.calibration(run.calibration),
    }
    library, script = plotly(), own("mnas.report", "page.js")
    return template("mnas.report", "template.html.j2").render(
        run=run,
        story=tell(run),
        pareto_caption=pareto_caption(run) if run.trials else "",
        finalists_text=words.unbroken(finalists_text(run)),
        predictor_text=words.unbroken(predictor_text(run)),
        family_text="" if run.family is None else words.unbroken(family_text(run.family)),
        accuracy="predicted top-1" if run.accuracy_kind == "predicted" else "accuracy",
        words=words,
        duration=format_duration,
        figures={name: figure_json(figure) for name, figure in figures.items() if figure is not None},
        drawings=_drawings(run),
        compared=compared.rows(run),
        sources=compared.sources(run),
        window=charts.WINDOW,
        began="" if run.began is None else _date(run.began),
        style=Markup(own("mnas.report", "page.css")),  # noqa: S704  ours, from the package
        library=Markup(library),  # noqa: S704  plotly's
        script=Markup(script),  # noqa: S704  ours, from the package
        policy=policy(library, script),
    )


def _date(seconds: float) -> str:
    """`22 November 2026`, in UTC; empty for a time that no calendar has."""
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return ""
    return f"{moment.day} {moment:%B %Y}"


def _drawings(run: RunData) -> list[Drawing]:
    found = [
        (n, title) for n, title in ((run.baseline, "Baseline"), (run.scaled, "Scaled by")) if n is not None
    ]
    drawn = [(network, network.spec, title) for network, title in found if network.spec is not None]
    if not drawn:
        return []
    widest = blocks.widest_of(*(spec for _, spec, _ in drawn))
    return [
        Drawing(
            f"{title} {words.rule(network)}".strip(),
            _about(network),
            blocks.draw(spec, widest),
            network.block_strings,
        )
        for network, spec, title in drawn
    ]


def _about(network: Network) -> str:
    """One line: pixels, blocks and counts."""
    assert network.spec is not None
    number = sum(stage.repeats for stage in network.spec.stages)
    return (
        f"{network.resolution} pixels, {number} blocks, {words.count(network.madds)} MAdds, "
        f"{words.count(network.params)} parameters"
    )
