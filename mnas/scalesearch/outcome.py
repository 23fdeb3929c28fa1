"""What a search for coefficients comes to, as a JSON object."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean
from typing import Any

from mnas.errors import SearchError
from mnas.records import network_fields
from mnas.scalesearch.candidates import Candidate, fitted
from mnas.scalesearch.fit import TERMS, Surface, judge
from mnas.scalesearch.grid import grid, shares_of
from mnas.scalesearch.plan import ScaleFolder, ScalePlan
from mnas.search_space import Coefficients, NetworkSpec

# Trainings by point and seed.
Trained = dict[tuple[int, int], dict[str, Any]]
# ResNet-RS (arXiv 2103.07579), sec. 6.1: with 10 epochs width is best, with 350 depth.
CAVEAT = (
    "Short trainings favour width: in ResNet-RS's grid width was best after 10 epochs and depth after 350. What is "
    "best here holds for trainings as short as these; train two members of the family in full before you rely on it."
)


def outcome(
    folder: ScaleFolder,
    plan: ScalePlan,
    base: NetworkSpec,
    candidates: Sequence[Candidate],
    trained: Trained,
    budget: float,
) -> dict[str, Any]:
    """The fitted surface, the verdict, and every point; one with a training that failed stays out of the surface.

    Args:
        folder: of the search.
        plan: what was asked for.
        base: what was grown.
        candidates: a network for each point.
        trained: each of them, with each seed.
        budget: multiply-adds, or ms where the plan says so.

    Raises:
        InputError, SearchError: too few points are of use.
    """
    runs = {
        candidate.number: [trained[candidate.number, seed] for seed in range(plan.seeds)]
        for candidate in candidates
    }
    means = [_mean(runs[candidate.number]) for candidate in candidates]
    counts, warnings = fitted(candidates, budget, len(grid(plan.points)))
    warnings += _failures(runs)
    counts = [
        counted and all(run["accuracy"] is not None for run in runs[candidate.number])
        for candidate, counted in zip(candidates, counts, strict=True)
    ]
    if not counts[0]:
        warnings.append("the published point is left out: gains are over what the surface says there")
    if sum(counts) <= TERMS:
        raise SearchError(
            f"only {sum(counts)} points are of use, and a surface needs {TERMS + 1}. {'; '.join(warnings)}. Begin anew "
            "with more --points, or with more --epochs or --images."
        )
    points = [
        candidate.coefficients for candidate, counted in zip(candidates, counts, strict=True) if counted
    ]
    surface = Surface.fit(
        points, [value for value, counted in zip(means, counts, strict=True) if counted and value is not None]
    )
    judged = judge(surface, points)
    return {
        "status": "done",
        "path": str(folder.path),
        "trained": next(run["source"] for run in trained.values() if run["accuracy"] is not None),
        "seeds": plan.seeds,
        "base": network_fields(base),
        "budget": {"kind": "madds" if plan.budget_ms is None else "latency", "value": budget},
        "points": [
            {**_row(candidate, value, runs[candidate.number], surface.accuracy), "in_fit": counted}
            for candidate, value, counted in zip(candidates, means, counts, strict=True)
        ],
        "surface": {"coefficients": surface.coefficients.tolist(), "residual": surface.residual},
        "best": _coefficients(judged.best),
        "gain": judged.gain,
        "gain_std": judged.gain_std,
        "verdict": judged.verdict,
        "chance": judged.chance,
        "recommended": _coefficients(judged.recommended),
        "caveat": CAVEAT,
        "seconds_per_training": mean(run["seconds"] for run in trained.values()),
        "warnings": warnings,
    }


def _mean(runs: Sequence[Mapping[str, Any]]) -> float | None:
    """Of the trainings of a point that ended well; None where none did."""
    values = [run["accuracy"] for run in runs if run["accuracy"] is not None]
    return mean(values) if values else None


def _failures(runs: Mapping[int, Sequence[Mapping[str, Any]]]) -> list[str]:
    """What has to be said of trainings that failed."""
    failed = [(number, run) for number, every in runs.items() for run in every if run["accuracy"] is None]
    points = len({number for number, _ in failed})
    if not failed:
        return []
    return [
        f"{len(failed)} trainings failed, so that {points} points are left out of the surface; the first, of point "
        f"{failed[0][0] + 1}: {failed[0][1]['error']}"
    ]


def _row(
    candidate: Candidate,
    accuracy: float | None,
    runs: Sequence[Mapping[str, Any]],
    surface: Callable[[Coefficients], float],
) -> dict[str, Any]:
    return {
        "coefficients": _coefficients(candidate.coefficients),
        "shares": list(shares_of(candidate.coefficients)),
        "phi": candidate.phi,
        **network_fields(candidate.spec),
        **candidate.latency,
        "accuracy": accuracy,
        "accuracies": [run["accuracy"] for run in runs],
        "fitted": surface(candidate.coefficients),
    }


def _coefficients(c: Coefficients) -> dict[str, float]:
    return {"alpha": c.alpha, "beta": c.beta, "gamma": c.gamma}
