"""Before trials are spent: how well the search's evaluator ranks networks that a longer training ranks too.

A few random networks are evaluated as candidates are, and trained as long as finalists. They are no trials, and the
controller is not told of them.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from time import monotonic
from typing import TYPE_CHECKING, Any

from mnas.accuracy.checked import check_accuracies
from mnas.config import LEAST_RANKED as LEAST
from mnas.protocols import AccuracyModel, TimedAccuracyModel
from mnas.ranks import LEAST as LEAST_FOR_TAU
from mnas.ranks import rank_quality
from mnas.search.history import History
from mnas.search.loop import Loop
from mnas.search.problem import Problem
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec, network_cost
from mnas.seeds import derive_seed
from mnas.store import EventStore
from mnas.units import format_duration, parse_duration_s

if TYPE_CHECKING:
    from mnas.accuracy.proxy import ProxyAccuracy

# Chosen here: what the check may cost unasked, of the search's estimated time; and how many networks it then takes.
# With the defaults (30 trials, finalists trained four times as long) six networks cost as much as all trials together,
# so that it is left out there; it pays where trials are many, or cheap beside a longer training.
SHARE, MOST = 0.1, 20
DRAWS = 8  # times as many draws as networks wanted, before a space is taken as too small


@dataclass(frozen=True, slots=True)
class RankCheck:
    """The parts of a check.

    Args:
        problem: with images.
        loop: draws networks such as the search evaluates.
        sample: some of these.
        store: takes an event `rank` for each network.
        history: knows those compared before.
        reporter: told.
    """

    problem: Problem
    loop: Loop
    sample: Sequence[NetworkSpec]
    store: EventStore
    history: History
    reporter: Reporter

    def run(self, total_s: float) -> None:
        """Compares as many networks as asked for, or as 10 % of the search's time allow; a search begun is left alone.

        Args:
            total_s: what the search is estimated to take, 0 where that is not known.
        """
        done = self.history.ranks
        wanted = done[0]["wanted"] if done else None
        if wanted is None:
            wanted = 0 if self.history.trials else self._wanted(total_s)
        if len(done) >= wanted:
            return
        self.reporter.stage(f"comparing the ranking of {wanted} networks with that of a longer training")
        known = {NetworkSpec.from_dict(row["network"]) for row in done}
        for spec in self._specs(wanted):
            if spec in known:
                continue
            self.reporter.progress(len(done), wanted, "networks compared")
            row = {"wanted": wanted, **self._compare(spec)}
            self.store.append("rank", [row])
            self.store.commit()
            done.append(row)
        said = rank_fields(done, self.problem.config.seed)
        if said is not None:
            self.reporter.note(said["text"])

    def _wanted(self, total_s: float) -> int:
        """How many networks; 0 for none, which is said where it is for want of time."""
        asked, epochs = self.problem.config.rank_check, self.problem.config.final_epochs
        if asked == 0:
            return 0
        longer = self._longer()
        count = asked or LEAST
        sample = self._specs(count)
        if len(sample) < LEAST:
            self.reporter.note(
                f"how well candidates are ranked is not estimated: {len(sample)} different networks were drawn, and "
                f"fewer than {LEAST} tell too little."
            )
            return 0
        each = mean(longer.seconds(spec) + _seconds(self.problem.accuracy, spec) for spec in sample[:LEAST])
        limit = self.problem.config.max_time
        allowed = SHARE * (total_s if limit is None else min(total_s, parse_duration_s(limit)))
        count = asked or min(MOST, int(allowed / each)) if each > 0 else MOST
        needed = format_duration(max(count, LEAST) * each)
        if count < LEAST:
            self.reporter.note(
                f"how well candidates are ranked is not estimated: training {LEAST} networks for {epochs} epochs "
                f"beside would take {needed}, more than {SHARE:.0%} of the search. --rank-check {LEAST} does it all "
                "the same."
            )
            return 0
        self.reporter.note(
            f"{count} random networks are first ranked as candidates are and by {epochs} epochs of training: about "
            f"{needed}; --rank-check 0 leaves it out."
        )
        return min(count, len(self._specs(count)))

    def _specs(self, count: int) -> list[NetworkSpec]:
        """So many different networks, fewer where the space has few; the same ones each time."""
        found = dict.fromkeys(self.sample)
        rng = random.Random(derive_seed(self.problem.config.seed, "rank check"))
        for _ in range(DRAWS):
            if len(found) >= count:
                break
            found |= dict.fromkeys(self.loop.typical(count, rng))
        return list(found)[:count]

    def _longer(self) -> "ProxyAccuracy":
        """The longer training: all images and the networks' own resolution, as long as finalists."""
        from mnas.accuracy.proxy import ProxyAccuracy

        config, data = self.problem.config, self.problem.data
        assert data is not None
        assert config.final_epochs is not None
        assert config.train_threads is not None
        return ProxyAccuracy(
            data, epochs=config.final_epochs, device=self.problem.device, threads=config.train_threads
        )

    def _compare(self, spec: NetworkSpec) -> dict[str, Any]:
        """Both accuracies of a network as an event; what kept it from having them, where it has not."""
        started = monotonic()
        row: dict[str, Any] = {"network": spec.to_dict(), "madds": network_cost(spec).madds}
        seed = derive_seed(self.problem.config.seed, "rank", len(self.history.ranks))
        names = (self.problem.accuracy_name, "proxy")
        try:
            for key, model, name in zip(
                ("evaluated", "longer"), (self.problem.accuracy, self._longer()), names, strict=True
            ):
                (found,) = check_accuracies(model.evaluate([spec], seed=seed), 1, name)
                row |= {key: found.value, f"{key}_source": found.source}
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"
            self.reporter.warn(f"a network could not be compared: {row['error']}")
        return {**row, "seconds": round(monotonic() - started, 3)}


def _seconds(model: AccuracyModel, spec: NetworkSpec) -> float:
    return model.seconds(spec) if isinstance(model, TimedAccuracyModel) else 0.0


def rank_fields(rows: Sequence[Mapping[str, Any]], seed: int) -> dict[str, Any] | None:
    """What a result says of the check, in figures and words; None where it was left out or too few are known.

    Args:
        rows: the events.
        seed: of the bootstrap.
    """
    known = [row for row in rows if "error" not in row]
    if len(known) < LEAST_FOR_TAU:
        return None
    longer = [row["longer"] for row in known]
    quality = rank_quality(longer, [row["evaluated"] for row in known], seed=seed)
    madds = rank_quality(longer, [row["madds"] for row in known], seed=seed)
    return {
        **quality.to_dict(),
        "tau_madds": madds.tau,
        "failed": len(rows) - len(known),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "evaluator": known[0]["evaluated_source"],
        "truth": known[0]["longer_source"],
        "text": f"Candidates are ranked like the longer training ranks {quality.n} random networks with "
        f"{quality.describe()}; multiply-adds alone rank them with {madds.tau:.2f}. So few networks tell good from "
        "poor ranking, no more; the longer training is one short training itself, whose noise lowers the figure.",
    }
