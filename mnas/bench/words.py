"""The figures of a bench in words and tables, for the terminal and the page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnas.summary import table

HEADINGS = (
    "controller",
    "best reward",
    "95 % interval",
    "regret",
    "optimum in",
    "within 0.1 %",
    "evaluations",
    "ms/ask",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One controller at one target, as texts."""

    controller: str
    default: bool
    mean_best: str
    interval: str
    regret: str
    hits: str
    hits_interval: str
    near: str
    to_optimum: str
    ask_ms: str
    stopped: str


def rows(result: Mapping[str, Any], target: float | None) -> list[Row]:
    """Of one target, the greatest mean first."""
    found = [entry for entry in result["results"] if entry["target"] == target]
    found.sort(key=lambda entry: -entry["mean_best"])
    return [_row(entry, result["default"]) for entry in found]


def _row(entry: Mapping[str, Any], default: str) -> Row:
    interval, middle = entry["ci95"], entry["evaluations_to_optimum_median"]
    return Row(
        controller=entry["controller"],
        default=entry["controller"] == default,
        mean_best=f"{entry['mean_best']:.5f}",
        interval="-" if interval is None else f"{interval[0]:.5f} to {interval[1]:.5f}",
        regret=f"{entry['regret']:.2g}",
        hits=_percent(entry["hit_rate"]),
        hits_interval=" to ".join(_percent(end) for end in entry["hit_rate_ci95"]),
        near=_percent(entry["share_within_0.1_percent"]),
        to_optimum="-" if middle is None else f"{middle:g}",
        ask_ms=f"{1000 * entry['seconds_per_ask']:.3g}",
        stopped="; ".join(entry["stopped"]),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def optimum_text(target: Mapping[str, Any]) -> str:
    """The greatest reward, and how it is known."""
    if target["optimum_is"] == "exact":
        return f"the exact optimum is {target['optimum']:.5f}"
    bound = target["bound"]
    proved = (
        "nothing proves it to be the optimum"
        if bound is None
        else f"no network can have more than {bound:.5f}"
    )
    return f"the best seen in these runs is {target['optimum']:.5f}; {proved}"


def bench_text(result: Mapping[str, Any], path: str) -> str:
    """What the terminal shows: a table for each target."""
    parts = []
    for target in result["targets"]:
        lines = [
            (r.controller, r.mean_best, r.interval, r.regret, r.hits, r.near, r.to_optimum, r.ask_ms)
            for r in rows(result, target["target"])
        ]
        parts.append(f"{target['label']}: {optimum_text(target)}\n\n{table(HEADINGS, lines)}")
    how = f"{result['seeds']} seeds, {result['trials']} evaluations each, in asks of {result['batch']}"
    noise = ", noisy" if result["noisy"] else ""
    return "\n\n".join(
        [f"{result['benchmark']}: {how}, {result['reward']} reward{noise}.", *parts, f"plot: {path}"]
    )
