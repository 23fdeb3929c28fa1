"""What stands under the headings below the first screen, in words."""

from mnas.report import charts, words
from mnas.report.data import Family, RunData
from mnas.search.refits import describe_refits


def pareto_caption(run: RunData) -> str:
    """What the chart of accuracies shows and what not."""
    text = charts.shown_text(run)
    below = charts.below(run)
    if below:
        text += f" Of all, {below:,} lie{'s' if below == 1 else ''} below the edge, less accurate."
    if run.scaled is not None:
        text += " The scaled network is not here: its accuracy is unknown."
    if run.kind == "latency" and charts.unplaced(run):
        text += " A tick at the bottom is a published network's latency, where no accuracy is known that compares."
    return text


def finalists_text(run: RunData) -> str:
    """How the finalists were chosen and judged."""
    aim = words.target(run) if run.budget in (None, run.target) else words.cost(run, run.budget or 0.0)
    if run.kind == "madds":
        how = "by their multiply-adds, which are exact."
    elif run.finalists_measured:
        how = (
            "timed together in five fresh processes, where the run after each switch between networks is not counted. "
            "A network is within when its interval and its plain wall clock both are."
        )
    else:
        how = "by estimates, nothing was timed. A network is within when its interval is."
    first = "most accurate"
    if run.reward == "training-aware":
        first = "best by accuracy x S^-0.07 x P^-0.05"
        how += " S is the time of a training step, which was timed of each; P its parameters."
    trained = sum(finalist.trained is not None for finalist in run.finalists)
    longer = f" Of those within, the {trained} {first} were trained for longer." if trained else ""
    winner = "Of these" if trained else "Of those within"
    return (
        f"The search aimed at {aim}. At its end the {first} networks that may take no more "
        f"were judged, at most eight at a time: {how}{longer} {winner}, the {first} wins; accuracies closer than "
        f"their error are a tie, which the fastest wins."
    )


def predictor_text(run: RunData) -> str:
    """What predicted latency during the search, and how far off it was; empty where nothing did."""
    error = run.calibration.error if run.calibration is not None else run.error
    if error is None:
        return ""
    text = (
        f"During the search latency was predicted, by a model fitted to networks that were timed on the device. For "
        f"networks held out from the fit its mean error is {words.percent(error.mape, 1)} %, "
        f"{words.percent(error.within_10, 0)} % of them are within 10 %, and Spearman's rank correlation is "
        f"{error.spearman:.3f} (n = {error.n})."
    )
    if run.refits:
        text += f" {describe_refits(run.refits)}"
    if run.latency_name == "calibrated" and run.finalists_measured:
        predicted = [f for f in run.finalists if f.predicted and not f.measured_before]
        off = [f.latency.ms / f.predicted - 1 for f in predicted if f.latency is not None]
        if off:
            text += (
                f" The finalists, as measured at the end, lay {100 * min(off):+.1f} to {100 * max(off):+.1f} % off "
                f"their predictions."
            )
    return text


def family_text(family: Family) -> str:
    """By which rule a family was grown, and what is known of its members."""
    if family.rule == "latency":
        rule = (
            "The baseline grown step by step, each time in the one of depth, width and resolution that brings most "
            "accuracy for a millisecond, as the accuracy model that was named says."
        )
    elif family.coefficients is None:
        rule = "The baseline grown by the coefficients that EfficientNet was released with."
    else:
        depth, width, resolution = map(words.number, family.coefficients)
        rule = (
            f"The baseline grown by the rule {family.rule}: with each step of phi, {words.TIMES}{depth} in depth, "
            f"{words.TIMES}{width} in width and {words.TIMES}{resolution} in resolution."
        )
    latencies = [member.latency for member in family.members if member.latency is not None]
    if not latencies:
        known = "Latencies were not measured (--no-measure)"
    elif all(latency.measured for latency in latencies):
        known = f"Latencies were measured on the device in fresh processes ({family.conditions})"
    else:
        known = f"Latencies are estimates ({latencies[0].source})"
    return f"{rule} {known}; what a grown network's accuracy is, training it tells."
