"""A latency predictor held against fresh measurements of networks that it never saw: `mnas latency validate`."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnas.errors import InputError, MeasurementError
from mnas.files import write_bytes, write_json
from mnas.latency import (
    LOCAL,
    Calibration,
    Conditions,
    Host,
    Measurement,
    calibration_path,
    coverage,
    measure_spread,
    noise_ceiling,
    read_calibration,
    reference_for,
    score,
)
from mnas.protocols import LatencyEstimate
from mnas.registry import make, resolve
from mnas.search.reporting import Reporter
from mnas.search.ruler import checked
from mnas.search_space import NetworkSpec, SearchSpace, compound_scale, network_cost
from mnas.seeds import derive_seed
from mnas.summary import table

MADDS, CALIBRATED = "madds", "calibrated"
# Fresh processes for each network, and its seconds in each of them (chosen here: more than a calibration takes).
PASSES, NETWORK_S = 4, 0.4
# Fewest networks whose shares within 5 % mean anything (chosen here).
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Unseen:
    """Which networks: random members of a space, all different.

    Args:
        space: its name.
        networks: how many.
        phi: of compound scaling, drawn evenly from this range for each; None leaves members as they are.
        resolution: in pixels, of the unscaled members.
        classes: of the classifier.
        seed: of the draws.
    """

    space: str = "mbconv"
    networks: int = 50
    phi: tuple[float, float] | None = None
    resolution: int = 224
    classes: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.networks < FEWEST:
            raise InputError(
                f"a validation needs at least {FEWEST} networks, got {self.networks} (--networks)."
            )

    def draw(self) -> dict[str, NetworkSpec]:
        """By name, the key of the member and its phi.

        Raises:
            InputError: the space has fewer members.
        """
        space: SearchSpace = resolve("space", self.space)(
            resolution=self.resolution, num_classes=self.classes
        )
        members = space.distinct or space.size
        if members < self.networks:
            raise InputError(f"{space.name} has {members} members, fewer than the {self.networks} asked for.")
        rng = random.Random(derive_seed(self.seed, "unseen"))
        chosen: dict[str, NetworkSpec] = {}
        while len(chosen) < self.networks:
            member = space.sample(rng)
            spec = space.decode(member)
            if self.phi is None:
                chosen[member.key] = spec
            else:
                phi = rng.uniform(*self.phi)
                chosen[f"{member.key} phi {phi:.2f}"] = compound_scale(spec, phi)
        return chosen


def validate(
    predictor: str,
    unseen: Unseen,
    conditions: Conditions,
    reporter: Reporter,
    *,
    host: Host = LOCAL,
    out: Path | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Measures networks and scores the predictions of their latencies.

    Args:
        predictor: `calibrated` (the device's kept calibration), `madds` (proportional to multiply-adds, by the median
            network's factor, which favours it), or a plug-in.
        unseen: which networks.
        conditions: of the measurements.
        reporter: told of progress and warnings.
        host: where.
        out: JSON of everything, each network's figures too; None writes none.
        plot: HTML file of predicted against measured latency; None draws none.

    Returns:
        `predictor`, `scores` (with `coverage` of its intervals, None without any), `ceiling` (what a perfect predictor
        would score, given the noise of the measurements), `madds` (the naive predictor's scores), `networks`.

    Raises:
        InputError: an unknown predictor, or no calibration of this device under these conditions.
        MeasurementError: a measurement failed, or too few networks could be measured steadily.
        SearchError: the predictor fails.
    """
    calibration = _calibration(conditions, host) if predictor == CALIBRATED else None
    model = None
    if predictor not in (CALIBRATED, MADDS):
        model = make("latency", predictor, {"conditions": conditions, "seed": unseen.seed}, "predict")
    specs = unseen.draw()
    reference = reference_for(next(iter(specs.values()))) if calibration is None else calibration.reference
    measured, reference_ms = _measured(specs, reference, conditions, host, unseen.seed, reporter)
    kept = [specs[item.name] for item in measured]
    truth = [item.latency_ms for item in measured]
    naive = _by_madds(kept, truth)
    if calibration is not None:
        # Paired with the same reference, measured in the same way: the device's speed then and now cancels.
        model = calibration.predictor.scaled(reference_ms / calibration.spread_ms)
    estimates = naive if model is None else checked(model, predictor)(kept)
    halves = [(item.ratio_high - item.ratio_low) / 2 / item.ratio for item in measured]
    result = {
        "predictor": predictor,
        "space": unseen.space,
        "conditions": conditions.describe(host.device),
        "device": host.device.describe(),
        "scores": _scores(truth, estimates),
        "ceiling": {f"within_{n}": noise_ceiling(halves, n / 100) for n in (5, 10)},
        "madds": _scores(truth, naive),
        "noisy": len(specs) - len(measured),
        "networks": [_row(item, e, s) for item, e, s in zip(measured, estimates, kept, strict=True)],
    }
    if out is not None:
        write_json(out, result)
    if plot is not None:
        write_bytes(plot, _plot(result))
    return result


def validated_text(result: Mapping[str, Any]) -> str:
    """The scores as a table: the predictor, the naive one, and the ceiling that the noise sets."""
    rows = [
        [result["predictor"], *_cells(result["scores"])],
        ["multiply-adds alone", *_cells(result["madds"])],
        [
            "a perfect predictor",
            "-",
            "-",
            *(f"{result['ceiling'][f'within_{n}']:.1%}" for n in (5, 10)),
            *"---",
        ],
    ]
    header = ["", "mean error", "RMSPE", "within 5 %", "within 10 %", "Spearman", "Kendall", "inside 90 %"]
    noisy = f"; {result['noisy']} were too noisy to count" if result["noisy"] else ""
    return (
        f"{result['scores']['n']} networks of {result['space']} measured{noisy} ({result['conditions']}; "
        f"{result['device']})\n\n{table(header, rows)}"
    )


def _cells(scores: Mapping[str, Any]) -> list[str]:
    inside = scores["coverage"]
    return [
        *(f"{scores[name]:.1%}" for name in ("mape", "rmspe", "within_5", "within_10")),
        *(f"{scores[name]:.3f}" for name in ("spearman", "kendall")),
        "-" if inside is None else f"{inside:.0%}",
    ]


def _calibration(conditions: Conditions, host: Host) -> Calibration:
    """The device's kept one."""
    path = calibration_path(host.device, conditions)
    if not path.is_file():
        raise InputError(
            f"{host.device.describe()} has no calibration for {conditions.describe(host.device)} yet: "
            "mnas latency calibrate"
        )
    return read_calibration(path, host.device, conditions)


def _measured(
    specs: Mapping[str, NetworkSpec],
    reference: NetworkSpec,
    conditions: Conditions,
    host: Host,
    seed: int,
    reporter: Reporter,
) -> tuple[list[Measurement], float]:
    """Each in several processes in changing company, the noisy left out; and the reference's milliseconds there."""
    reporter.stage(f"measuring {len(specs)} networks in {PASSES} processes each")
    result = measure_spread(
        specs,
        reference=reference,
        conditions=conditions,
        passes=PASSES,
        budget_s=NETWORK_S,
        seed=seed,
        host=host,
        on_progress=reporter.progress,
    )
    found = [item for item in result.measurements if item.status != "noisy"]
    if len(found) < max(FEWEST, len(specs) // 2):
        raise MeasurementError(
            f"only {len(found)} of {len(specs)} networks could be measured steadily: end other work on the device and "
            "try again; `mnas doctor` measures the noise."
        )
    return found, result.reference_ms


def _by_madds(specs: Sequence[NetworkSpec], truth: Sequence[float]) -> list[LatencyEstimate]:
    madds = np.array([network_cost(spec).madds for spec in specs], dtype=np.float64)
    ms = madds * float(np.median(np.asarray(truth) / madds))
    return [LatencyEstimate(value, value, value, MADDS, "any") for value in ms.tolist()]


def _scores(truth: Sequence[float], estimates: Sequence[LatencyEstimate]) -> dict[str, Any]:
    lows, highs = [e.low_ms for e in estimates], [e.high_ms for e in estimates]
    inside = coverage(truth, lows, highs) if any(a < b for a, b in zip(lows, highs, strict=True)) else None
    return {**score(truth, [e.ms for e in estimates]).to_dict(), "coverage": inside}


def _row(item: Measurement, estimate: LatencyEstimate, spec: NetworkSpec) -> dict[str, Any]:
    return {
        "name": item.name,
        "status": item.status,
        "madds": network_cost(spec).madds,
        "measured_ms": item.latency_ms,
        "measured_low_ms": item.low_ms,
        "measured_high_ms": item.high_ms,
        "predicted_ms": estimate.ms,
        "predicted_low_ms": estimate.low_ms,
        "predicted_high_ms": estimate.high_ms,
    }


def _plot(result: Mapping[str, Any]) -> bytes:
    """Predicted against measured latency with both intervals and the bands of 5 and 10 %, as one HTML file."""
    import plotly.graph_objects as go

    rows = result["networks"]
    low, high = (f(row["measured_ms"] for row in rows) for f in (min, max))
    ends = [low * 0.9, high * 1.1]
    figure = go.Figure()
    for share, colour in ((0.10, "#eeeeee"), (0.05, "#dddddd")):
        figure.add_scatter(
            x=[*ends, *reversed(ends)],
            y=[end * (1 + share) for end in ends] + [end * (1 - share) for end in reversed(ends)],
            fill="toself",
            fillcolor=colour,
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            name=f"within {share:.0%}",
        )
    figure.add_scatter(
        x=[row["measured_ms"] for row in rows],
        y=[row["predicted_ms"] for row in rows],
        error_x=_bars(rows, "measured"),
        error_y=_bars(rows, "predicted"),
        mode="markers",
        marker={"size": 6, "color": "#0b6e99"},
        text=[row["name"] for row in rows],
        name="networks",
    )
    scores = result["scores"]
    figure.update_layout(
        template="plotly_white",
        title=f"{result['predictor']} on {scores['n']} networks of {result['space']}: mean error {scores['mape']:.1%}, "
        f"{scores['within_5']:.0%} within 5 %<br><sub>{result['conditions']}; {result['device']}</sub>",
        xaxis={"title": "measured, ms (95 % interval)", "type": "log"},
        yaxis={"title": "predicted, ms (90 % interval)", "type": "log"},
    )
    return str(figure.to_html(include_plotlyjs=True)).encode()


def _bars(rows: Sequence[Mapping[str, Any]], which: str) -> dict[str, Any]:
    return {
        "array": [row[f"{which}_high_ms"] - row[f"{which}_ms"] for row in rows],
        "arrayminus": [row[f"{which}_ms"] - row[f"{which}_low_ms"] for row in rows],
        "thickness": 1,
        "width": 0,
    }
