"""Networks near the target measured while a search goes on, and the predictor corrected by what they take."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnas.search.finalists import Candidate, candidates
from mnas.search.history import History
from mnas.search.refits import Refit, Remeasured, common_factor, describe_correction
from mnas.search.reporting import Quiet, Reporter
from mnas.search.ruler import Ruler
from mnas.search_space import NetworkSpec, SearchSpace
from mnas.seeds import derive_seed

# The share of its trials (or of its time) after which a search without training measures, once, and how many networks
# at most. Chosen here: what it has found by then lies where it will look further, and as much is left to profit by it.
SHARE, NETWORKS = 0.5, 8
FEWEST = 3  # for each of several targets (chosen here)
# Fresh processes, and seconds of measuring for all of them (chosen here: ten rounds of nine networks of 15 ms).
PROCESSES, BUDGET_S = 2, 5.0

Known = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Remeasurer:
    """Measures networks of a search whose latency is predicted.

    Args:
        ruler: what measures.
        space: of the trials.
        targets: of the search, ms.
        seed: of the search.
        history: with the refits so far; those made here are added by `History.add_refit`.
        reporter: told.
    """

    ruler: Ruler
    space: SearchSpace
    targets: tuple[float, ...]
    seed: int
    history: History
    reporter: Reporter

    def uncertain(self, known: Known, target: float) -> bool:
        """Whether a predicted latency may be on either side of a target, ms."""
        return "latency_raw_ms" not in known and known["latency_low_ms"] <= target <= known["latency_high_ms"]

    def best_so_far(self, after: int) -> Refit | None:
        """Measures some of the best networks near the targets, before any other refit; None where no trial is done.

        Args:
            after: trials asked so far.

        Raises:
            MeasurementError: a measurement failed.
        """
        pool = candidates(self.history.trials, "latency_ms")
        each = max(FEWEST, NETWORKS // len(self.targets))
        chosen = {
            c.trial.number: (c.trial.key, c.cost)
            for target in self.targets
            for c in near_target(pool, target, each)
        }
        if not chosen:
            return None
        near = "the target" if len(self.targets) == 1 else "the targets"
        self.reporter.stage(
            f"timing {len(chosen)} of the best networks near {near} on {self.ruler.host.name}"
        )
        refit = self.measure(chosen, after)
        used = [network for network in refit.networks if network.usable]
        if used:
            self.reporter.note(
                f"{len(used)} networks {describe_correction(used, refit.factor)} from here on."
            )
        else:
            self.reporter.warn("the device was too noisy to time them; predictions stay as they are.")
        return refit

    def measure(self, networks: Mapping[int, tuple[str, float]], after: int) -> Refit:
        """Measures networks together; what they and all before them say of the predictor.

        Args:
            networks: by the number of a trial: its key, and the milliseconds that it is predicted to take without any
                refit.
            after: trials asked so far.

        Raises:
            MeasurementError: a measurement failed.
        """
        started = time.monotonic()
        history = self.history
        specs: dict[str, NetworkSpec] = {
            key: self.space.decode(self.space.from_key(key)) for key, _ in networks.values()
        }
        found = self.ruler.measure(
            specs,
            processes=PROCESSES,
            budget_s=BUDGET_S,
            seed=derive_seed(self.seed, "refit", len(history.refits)),
            reporter=Quiet(),
        )
        measured = []
        for number, (key, predicted_ms) in networks.items():
            latency = found.by_name[key]
            measured.append(
                Remeasured(
                    trial=number,
                    key=key,
                    predicted_ms=predicted_ms,
                    measured_ms=latency.ms,
                    low_ms=latency.fields["latency_low_ms"],
                    high_ms=latency.fields["latency_high_ms"],
                    raw_ms=latency.fields["latency_raw_ms"],
                    status=latency.status,
                )
            )
        start_ms = self.ruler.reference_ms
        assert start_ms is not None
        groups = [(refit.reference_ms, refit.networks) for refit in history.refits]
        groups.append((found.reference_ms, tuple(measured)))
        refit = Refit(
            after=after,
            factor=common_factor(
                [(ms / start_ms, [n.off for n in group if n.usable]) for ms, group in groups]
            ),
            reference_ms=found.reference_ms,
            seconds=round(time.monotonic() - started, 3),
            networks=tuple(measured),
        )
        history.add_refit(refit)
        return refit


def near_target(pool: Sequence[Candidate], target: float, count: int = NETWORKS) -> list[Candidate]:
    """At most `count`: those of greatest reward whose interval contains the target, then those nearest to it.

    Args:
        pool: to choose from, each network once.
        target: ms.
        count: at most so many.
    """

    def rank(candidate: Candidate) -> tuple[bool, float, int]:
        inside = candidate.low <= target <= candidate.high
        reward = candidate.trial.reward or 0.0
        far = -reward if inside else abs(math.log(candidate.cost / target))
        return not inside, far, candidate.trial.number

    return sorted(pool, key=rank)[:count]
