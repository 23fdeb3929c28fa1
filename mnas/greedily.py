"""`mnas scale --rule latency`: a model of accuracy and a device judge each step of `greedy.grow_greedily`."""

from collections.abc import Sequence

from mnas.accuracy.checked import check_accuracies
from mnas.errors import InputError
from mnas.greedy import GreedyStep, grow_greedily
from mnas.protocols import AccuracyModel
from mnas.registry import BUILTIN, make
from mnas.search.grow import QUICK_S
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.units import parse_latency_ms

GREEDY = "latency"


def greedy_accuracy(rule: str, accuracy: str | None) -> str | None:
    """The model that judges the rule `latency`; None for another rule.

    Raises:
        InputError: that rule without a model or with one that knows no grown network, or a model for another rule.
    """
    if rule != GREEDY:
        if accuracy is not None:
            raise InputError(f"--accuracy goes with --rule latency; --rule {rule} asks nobody.")
        return None
    if accuracy is None:
        raise InputError(
            "--rule latency grows whatever brings most accuracy for a millisecond, so it has to be told the accuracy "
            "of networks that no model of mnas covers: --accuracy module:factory of your own. Rules that need none: "
            "--rule compound, fast, resnet-rs."
        )
    if accuracy in BUILTIN["accuracy"]:
        raise InputError(
            f"--rule latency cannot ask {accuracy!r}: the surrogates cover the mbconv space at 224 pixels, with "
            f"EfficientNet-B0's widths and depths, and no network grown from it; proxy training needs the images of a "
            f"search. Name a model of your own that covers grown networks: --accuracy module:factory."
        )
    return accuracy


def grow_to_latencies(
    base: NetworkSpec,
    base_ms: float,
    latencies: Sequence[str],
    accuracy: str,
    ruler: Ruler,
    seed: int,
    reporter: Reporter,
) -> list[GreedyStep]:
    """The last network within each latency on the way of the rule `latency`.

    Args:
        base: what is grown.
        base_ms: what it takes, as measured.
        latencies: texts with units.
        accuracy: name of the model that judges networks.
        ruler: how latency is known: predictions are brought to the base's level; where nothing predicts, each network
            is measured.
        seed: of the model and the measurements.
        reporter: told of progress.

    Raises:
        UnknownNameError, InputError: the model cannot be made.
        SearchError: it fails, or no step is more accurate within a latency.
        MeasurementError: a measurement failed.
    """
    model: AccuracyModel = make("accuracy", accuracy, {"seed": derive_seed(seed, "accuracy")}, "evaluate")
    factor = base_ms / ruler.estimate(base)

    def judge(specs: Sequence[NetworkSpec]) -> list[tuple[float, float]]:
        values = check_accuracies(model.evaluate(specs, seed=seed), len(specs), accuracy)
        times = _milliseconds(specs, ruler, factor, seed, reporter)
        return [(item.value, ms) for item, ms in zip(values, times, strict=True)]

    steps = []
    for text in latencies:
        reporter.stage(f"growing to {text}, a dimension at a time")
        path = grow_greedily(base, parse_latency_ms(text), judge)
        reporter.note(f"{text}: grew {', '.join(step.grown for step in path[1:])}")
        steps.append(path[-1])
    return steps


def _milliseconds(
    specs: Sequence[NetworkSpec], ruler: Ruler, factor: float, seed: int, reporter: Reporter
) -> list[float]:
    if ruler.predict is not None:
        return [factor * estimate.ms for estimate in ruler.predict(specs)]
    names = {str(number): spec for number, spec in enumerate(specs)}
    found = ruler.measure(names, processes=1, budget_s=QUICK_S, seed=seed, reporter=reporter)
    return [found.by_name[name].ms for name in names]
