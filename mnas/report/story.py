"""The first screen in words: what was found, how it is known, and what to type next."""

import math
import shlex
from dataclasses import dataclass, field, replace

from mnas.config import DEFAULT_QUANTILE, SearchConfig
from mnas.report import words
from mnas.report.data import Network, RunData
from mnas.units import format_duration

# What the built-in surrogates predict, in one sentence; docs of `mnas.accuracy.surrogate` say more.
PROXY = (
    "Networks score about 60 % under that training, where full training brings EfficientNet-B0 to 77 %: "
    "the figure ranks networks, it is no promise."
)
# The configuration's keys that a new search is given anew.
_BUDGETS = ("target_latency", "target_madds", "base_latency")


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One large number; `measured` draws it in the accent colour."""

    label: str
    value: str
    unit: str
    note: str
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Story:
    """The first screen: `notes` are pairs of a word and a sentence; `command` is None where there is none."""

    headline: str
    lead: str
    why: str
    command: str | None
    figures: list[KeyFigure] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def tell(run: RunData) -> Story:
    """What the first screen says of this run."""
    story = _tell(run)
    return replace(
        story,
        headline=words.unbroken(story.headline),
        lead=words.unbroken(story.lead),
        notes=[(word, words.unbroken(text)) for word, text in story.notes],
    )


def _tell(run: RunData) -> Story:
    if run.status == "done" and run.chosen is not None:
        return _found(run, run.chosen)
    if run.status == "no_feasible":
        return _no_feasible(run)
    return _not_done(run)


def export_command(run: RunData) -> str:
    """How to get the network that was found as a file."""
    name = "baseline" if run.scaled is None else "scaled"
    name += f"-{run.label}" if run.label else ""
    network = "" if name == "baseline" else f" --network {name}"
    return f"mnas export {run.place}{network} --format onnx"


def resume_command(run: RunData) -> str:
    """How to go on, as `mnas.search.run.resume_command` says it, from the stored texts alone."""
    return f"mnas resume {run.place}{run.plugin_flags}"


def _found(run: RunData, network: Network) -> Story:
    grown = network is run.scaled
    return Story(
        headline=f"A network for your {words.target(run)}: {_cost(run, network)}, {_accuracy(run, network)}",
        lead=_lead(run),
        why="Get the network as an ONNX file:",
        command=export_command(run),
        figures=_figures(run, network),
        notes=[
            _accuracy_note(run, grown),
            _latency_note(run, network),
            _weights_note(network),
            *([("Optimum", run.optimum)] if run.optimum else []),
            *([("Controller", run.against)] if run.against else []),
            *([("Ranking", run.ranking)] if run.ranking else []),
        ],
    )


def _cost(run: RunData, network: Network) -> str:
    if run.kind == "madds":
        return f"{words.count(network.madds)} MAdds"
    if network.latency is None:
        return "latency unknown"
    how = "measured" if network.latency.measured else "estimated"
    return f"{words.number(network.latency.ms)} ms {how}"


def _accuracy(run: RunData, network: Network) -> str:
    if network.test_accuracy is not None:
        return f"{words.percent(network.test_accuracy, 1)} % on images it never saw"
    if network.accuracy is None:
        return "accuracy not known before it is trained"
    what = {
        "predicted": "predicted top-1",
        "trained": "on the validation images",
        "plug-in": f"by {run.accuracy_name}",
    }
    return f"{words.percent(network.accuracy, 1)} % {what[run.accuracy_kind]}"


def _lead(run: RunData) -> str:
    text = f"{run.tried:,} networks of the space {run.space} tried in {format_duration(run.seconds)}"
    if run.accuracy_kind == "trained" and run.counts["infeasible"]:
        text += f" ({run.counts['infeasible']:,} others were too costly to be trained)"
    if run.conditions:
        text += f"; latency is for {run.conditions}"
    text += "."
    if run.kind == "latency" and run.quantile != DEFAULT_QUANTILE:
        text += f" Each was judged at the {words.percent(run.quantile, 0)} % quantile of its latency."
    if run.reward == "training-aware":
        text += " It was rewarded by accuracy x (time of a training step)^-0.07 x parameters^-0.05 within the target."
    if run.scaled is not None and run.budget is not None:
        spread = "" if run.range_ms is None else f" (about {words.between(run.range_ms)} ms)"
        text += (
            f" Every network of the space is within the target{spread}, so a baseline was searched at "
            f"{words.cost(run, run.budget)} and grown by compound scaling ({words.rule(run.scaled)}, "
            f"{run.scaled.resolution} pixels) to fill it."
        )
    return text


def _figures(run: RunData, network: Network) -> list[KeyFigure]:
    figures = []
    latency = network.latency
    if latency is not None:
        note = f"{words.span(latency)} (95 %)" if latency.measured else latency.source
        label = "Latency, measured" if latency.measured else "Latency, estimated"
        figures.append(KeyFigure(label, words.number(latency.ms), "ms", note, latency.measured))
    figures.append(_accuracy_figure(run, network))
    size = f"{words.square(network.resolution)} pixels"
    figures.append(KeyFigure("Multiply-adds", words.count(network.madds), "", size))
    memory = f"{4 * network.params / 1e6:,.0f} MB in fp32"
    figures.append(KeyFigure("Parameters", words.count(network.params), "", memory))
    return figures


def _accuracy_figure(run: RunData, network: Network) -> KeyFigure:
    if network.test_accuracy is not None:
        note = "split that the search never saw"
        if network.val_accuracy is not None:
            note += f"; validation {words.percent(network.val_accuracy, 1)} %"
        return KeyFigure("Test accuracy", words.percent(network.test_accuracy, 1), "%", note, True)
    if network.accuracy is None:
        note = ""
        if run.baseline is not None and run.baseline.accuracy is not None:
            how = {"predicted": ", predicted", "trained": "", "plug-in": ""}[run.accuracy_kind]
            note = f"its baseline: {words.percent(run.baseline.accuracy, 1)} %{how}"
        return KeyFigure("Accuracy", "unknown", "", note)
    label = {"predicted": "Top-1, predicted", "trained": "Accuracy, trained", "plug-in": "Accuracy, plug-in"}
    note = ""
    if network.accuracy_std:
        note = f"standard error {words.percent(network.accuracy_std)} points"
    measured = run.accuracy_kind == "trained"
    return KeyFigure(label[run.accuracy_kind], words.percent(network.accuracy, 1), "%", note, measured)


def _accuracy_note(run: RunData, grown: bool) -> tuple[str, str]:
    source = (run.baseline and run.baseline.accuracy_source) or run.accuracy_source or "of unknown origin"
    whose = "The baseline's accuracy" if grown else "Accuracy"
    unknown = ""
    if grown and run.scaled is not None and run.scaled.accuracy_reason:
        unknown = f" That of the scaled network is unknown: {run.scaled.accuracy_reason}."
    if run.accuracy_kind == "predicted":
        return "Predicted", f"{whose} is {source}. {PROXY}{unknown}"
    if run.accuracy_kind == "trained":
        return "Trained", f"{whose}: {source}.{unknown}"
    return "Plug-in", f"{whose} is what the plug-in {run.accuracy_name} says: {source}.{unknown}"


def _latency_note(run: RunData, network: Network) -> tuple[str, str]:
    latency = network.latency
    if latency is None:
        return "Latency", "No latency is known of this network."
    if not latency.measured:
        return (
            "Not measured",
            f"Latency is the estimate of the run's own plug-in ({latency.source}); nothing was timed, since its "
            f"device need not be the machine that searched.",
        )
    one_thread = dict(run.config).get("threads", "1") == "1"
    wall = f", {words.ms(latency.raw_ms or 0)} ms by the wall clock" if one_thread else ""
    clock = " on the core" if one_thread else " by the wall clock"
    hangs = "" if run.kind == "latency" else " Nothing hung on it: the target counts multiply-adds."
    return (
        "Measured",
        f"Latency was timed on the device: the network's median over five fresh processes is "
        f"{words.ms(latency.ms)} ms{clock}{wall}. A reference network ran in between, to tell noise.{hangs}",
    )


def _weights_note(network: Network) -> tuple[str, str]:
    weights = network.weights or "not stored"
    if weights.startswith("untrained"):
        return (
            "Untrained",
            "The weights are random: the exported model runs as fast as it will, and knows nothing.",
        )
    return "Weights", f"The exported model's weights: {weights}."


def _no_feasible(run: RunData) -> Story:
    uppers = [f.latency.upper_ms for f in run.finalists if f.latency is not None and f.status != "noisy"]
    if run.kind == "madds":
        uppers = [finalist.predicted for finalist in run.finalists]
    nearest = min(uppers or [trial.high for trial in run.trials], default=None)
    lead, command = _lead(run), None
    headline = f"No network within {words.target(run)} was found"
    if run.budget is not None and run.budget < run.target:
        headline = f"No network within {words.cost(run, run.budget)} was found to grow to {words.target(run)}"
    if nearest is not None:
        lead += f" The nearest may take {words.cost(run, nearest)}."
        command = _search_command(run, nearest)
    why = "Search again with a budget that the nearest one meets:"
    return Story(
        headline=headline,
        lead=lead,
        why=why if command else "Search again with more --trials.",
        command=command,
        figures=_counts(run),
        notes=_open_notes(run),
    )


def _search_command(run: RunData, value: float) -> str:
    """The same search for a budget of at least `value`, rounded up to two digits."""
    step = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    wanted = math.ceil(round(value / step, 6)) * step
    stored = dict(run.config)
    grows = run.budget is not None and run.budget < run.target
    if run.kind == "madds":
        budget = {"target_madds": f"{wanted / 1e6:.12g}M"}
    elif grows:
        budget = {"target_latency": run.label or stored["target_latency"], "base_latency": f"{wanted:.12g}ms"}
    else:
        budget = {"target_latency": f"{wanted:.12g}ms"}
    usual = SearchConfig(target_latency="1ms", data=stored.get("data")).resolved().to_toml()
    usual = {
        key: f"{value}".lower() if isinstance(value, bool) else f"{value}" for key, value in usual.items()
    }
    usual.pop("data", None)
    kept = {
        key: text
        for key, text in run.config
        if key in SearchConfig.model_fields and key not in _BUDGETS and text != usual.get(key)
    }
    return " ".join(["mnas search", *(_flag(key, text) for key, text in (budget | kept).items())])


def _flag(key: str, text: str) -> str:
    name = f"--{key.replace('_', '-')}"
    return name if text == "true" else f"{name} {shlex.quote(text)}"


def _not_done(run: RunData) -> Story:
    wanted = f" of {run.wanted:,}" if run.wanted else ""
    best = run.best
    lead = f"{run.tried:,}{wanted} networks of the space {run.space} tried so far; nothing of it is lost."
    if best is not None:
        lead += (
            f" The best of them: {words.percent(best.accuracy, 1)} % at {words.cost(run, best.cost)} "
            f"(trial {best.number}; both as the search knows them, not measured as a finalist)."
        )
    headline, why = f"The search for {words.target(run)} is not finished", "Go on with it:"
    if run.status == "noisy":
        headline = f"Too noisy to decide on a network for {words.target(run)}"
        lead = f"{run.tried:,} networks of the space {run.space} tried; the finalists could not be timed steadily."
        why = "End other work on the machine, then go on:"
    return Story(headline, lead, why, resume_command(run), _counts(run), _open_notes(run))


def _counts(run: RunData) -> list[KeyFigure]:
    figures = [KeyFigure("Networks tried", f"{run.tried:,}", "", f"of {run.wanted:,}" if run.wanted else "")]
    if run.best is not None:
        note = f"trial {run.best.number}"
        figures.append(KeyFigure("Best reward", f"{run.best.reward:.4f}", "", note))
    judged = "measured" if run.finalists_measured else "judged" if run.finalists else "none"
    figures.append(KeyFigure("Finalists", f"{len(run.finalists)}", "", judged))
    if run.seconds:
        figures.append(KeyFigure("Searched for", format_duration(run.seconds), "", ""))
    return figures


def _open_notes(run: RunData) -> list[tuple[str, str]]:
    """What the figures of a run without a winner are."""
    notes = []
    if run.trials:
        notes.append(_accuracy_note(run, False))
    if run.finalists_measured:
        text = "The finalists were timed together on the device, in five fresh processes."
        notes.append(("Measured", text))
    return notes
