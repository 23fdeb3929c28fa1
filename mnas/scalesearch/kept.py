"""What the store of a search for coefficients has."""

from dataclasses import dataclass, field

from mnas.errors import InputError, RunDirectoryError
from mnas.scalesearch.candidates import Candidate
from mnas.scalesearch.clock import Timed
from mnas.scalesearch.grid import GROWTH
from mnas.scalesearch.outcome import Trained
from mnas.scalesearch.plan import ScaleFolder, ScalePlan, budget_in_ms
from mnas.search_space import NetworkSpec, network_cost
from mnas.store import EventStore


@dataclass(slots=True)
class Kept:
    """What was found so far.

    Args:
        candidates: by point.
        trained: trainings by point and seed.
        timed: what networks took, where the budget is in ms; the base first.
        reference_ms: of the reference when the search began, likewise.
    """

    candidates: dict[int, Candidate] = field(default_factory=dict)
    trained: Trained = field(default_factory=dict)
    timed: list[Timed] = field(default_factory=list)
    reference_ms: float | None = None

    def budget(self, plan: ScalePlan, base: NetworkSpec) -> float:
        """What points are grown to: multiply-adds, or ms, for which the base was measured first.

        Raises:
            RunDirectoryError: it was not.
        """
        if plan.budget_ms is None:
            return GROWTH * network_cost(base).madds
        if not self.timed:
            raise RunDirectoryError("the search does not say what its base takes. Begin anew with --out.")
        return budget_in_ms(plan.budget_ms, self.timed[0].ms)


def read_kept(store: EventStore, folder: ScaleFolder) -> Kept:
    """All of it.

    Raises:
        RunDirectoryError: an event is damaged.
    """
    kept = Kept()
    for event in store.events():
        payload = dict(event.payload)
        try:
            match event.kind:
                case "point":
                    candidate = Candidate.from_dict(payload)
                    kept.candidates[candidate.number] = candidate
                case "trained":
                    kept.trained[payload["point"], payload["seed"]] = payload
                case "timed":
                    kept.timed.append(Timed.from_dict(payload))
                case "reference":
                    kept.reference_ms = float(payload["reference_ms"])
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise RunDirectoryError(
                f"{folder.points} is damaged (event {event.number}: {error}). Begin anew with --out."
            ) from error
    return kept
