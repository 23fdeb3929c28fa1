"""The result of a bench as one HTML file that asks nothing of the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mnas.bench import charts
from mnas.bench.words import optimum_text, rows
from mnas.env import BRIDGED
from mnas.files import write_bytes
from mnas.report.offline import figure_json, own, plotly, policy, template
from mnas.units import format_duration


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Writes the page.

    Args:
        result: of `bench_controllers`.
        path: the file; one that is there is replaced.

    Raises:
        RunDirectoryError: it cannot be written.
    """
    write_bytes(path, render(result).encode())


def render(result: Mapping[str, Any]) -> str:
    """The page as text."""
    library, script = plotly(), own("mnas.report", "page.js")
    return template("mnas.bench", "page.html.j2").render(
        result=result,
        headline=f"{len(result['controllers'])} controllers on {result['benchmark']}",
        targets=[_target(result, target) for target in result["targets"]],
        curve="the true reward of what it would hand over" if result["noisy"] else "the best reward so far",
        conditions=_conditions(result),
        machine=_machine(result["environment"]),
        style=Markup(own("mnas.report", "page.css")),  # noqa: S704  ours, from the package
        library=Markup(library),  # noqa: S704  plotly's
        script=Markup(script),  # noqa: S704  ours, from the package
        policy=policy(library, script),
    )


def _target(result: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, Any]:
    """What the section of a target shows."""
    entries = [entry for entry in result["results"] if entry["target"] == target["target"]]
    entries.sort(key=lambda entry: entry["controller"] == result["default"])  # drawn last, above the others
    looks, optimum = charts.styles(result["controllers"], result["default"]), target["optimum"]
    label = target["label"]
    return {
        "title": label[:1].upper() + label[1:],
        "about": f"In reward, {optimum_text(target)}.",
        "line": "optimum" if target["optimum_is"] == "exact" else "best seen",
        "rows": rows(result, target["target"]),
        "best": figure_json(charts.best(entries, optimum, looks)),
        "regret": figure_json(charts.regret(entries, optimum, looks)),
    }


def _conditions(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    noisy = "one training of each network is told; the true reward is scored"
    return [
        ("benchmark", result["benchmark"]),
        ("reward", result["reward"]),
        ("evaluations", f"{result['trials']} in each run, in asks of {result['batch']}"),
        ("seeds", f"{result['seeds']}, from 0"),
        ("noise", noisy if result["noisy"] else "none"),
        ("took", f"{format_duration(result['seconds'])}, {result['processes']} at once"),
    ]


def _machine(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = ("numpy", "torch", *BRIDGED)
    versions = [(name, text) for name, text in environment["packages"].items() if text and name in shown]
    return [
        ("mnas", environment["mnas"]),
        ("Python", environment["python"]),
        *versions,
        ("processor", f"{environment['cpu']}, {environment['cores']} cores"),
        ("system", f"{environment['system']} {environment['release']} {environment['machine']}"),
    ]
