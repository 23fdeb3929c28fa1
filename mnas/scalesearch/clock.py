"""Milliseconds of a search for coefficients: networks measured together, by their ratio to one reference.

What compares points is that they take equally long, not how long: a network's milliseconds move by a third within
minutes on a shared machine, its ratio to a reference that runs beside it by a few per cent.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from statistics import median
from typing import Any

import numpy as np

from mnas.latency import measure_spread
from mnas.latency.features import network_features
from mnas.latency.predictor import FEWEST
from mnas.latency.regression import fit_best
from mnas.records import latency_fields
from mnas.scalesearch.together import Fields
from mnas.search.measured import measured_on
from mnas.search.reporting import Reporter
from mnas.search.ruler import Ruler
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed
from mnas.store import EventStore

# Processes for a network, and its seconds in each: while networks are looked for, and for those that are trained
# (chosen here: a round of sixteen small networks takes half a minute).
QUICK, CAREFUL = (2, 0.25), (4, 0.5)
# Networks of a round that were measured before, at least, if so many were (chosen here).
BESIDE = 4


@dataclass(frozen=True, slots=True)
class Timed:
    """What a network took in one round, in ms, as told by so many processes."""

    spec: NetworkSpec
    ms: float
    processes: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"spec": self.spec.to_dict(), "ms": self.ms, "processes": self.processes}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Timed":
        """The inverse of `to_dict`; raises KeyError, TypeError, ValueError or InputError for what is none."""
        return cls(NetworkSpec.from_dict(data["spec"]), float(data["ms"]), int(data["processes"]))


class Clock:
    """Milliseconds of networks at the speed of the device when the search began, as a `Gauge`.

    What is measured is kept in the search's store at once, for a part that goes on later.

    Args:
        ruler: how latency is known.
        reference_ms: of the ruler's reference when the search began.
        timed: what was measured before; what is measured is added.
        store: of the search.
        seed: of measurements.
        reporter: told of progress.
    """

    def __init__(
        self,
        ruler: Ruler,
        reference_ms: float,
        timed: list[Timed],
        store: EventStore,
        seed: int,
        reporter: Reporter,
    ) -> None:
        self.known = pooled(timed)
        self._timed, self._store = timed, store
        self._ruler, self._reference_ms = ruler, reference_ms
        self._seed, self._reporter = seed, reporter

    def estimate(self) -> Callable[[NetworkSpec], float]:
        """The calibrated predictor's, else prices fitted to what was measured, else multiply-adds."""
        if self._ruler.predict is not None or len(self.known) < FEWEST:
            return self._ruler.estimate
        rows = np.array([network_features(spec) for spec in self.known])
        prices = fit_best(rows, np.array(list(self.known.values())), self._seed)
        return lambda spec: float(np.dot(network_features(spec), prices))

    def measure(self, specs: Sequence[NetworkSpec], careful: bool) -> dict[NetworkSpec, Fields]:
        """Each network in several processes, in changing company, beside some that are known.

        By those that are known the whole round is brought to the level of the rounds before. Networks that are too
        noisy to tell are left out.

        Raises:
            MeasurementError: a measurement failed.
        """
        passes, budget_s = CAREFUL if careful else QUICK
        self._reporter.stage(f"measuring {len(specs)} network{'s' * (len(specs) != 1)} together")
        others = [spec for spec in self.known if spec not in specs]
        beside = others[: max(0, BESIDE - sum(spec in self.known for spec in specs))]
        names = {f"network {number}": spec for number, spec in enumerate([*specs, *beside], 1)}
        result = measure_spread(
            names,
            reference=self._ruler.reference,
            conditions=self._ruler.conditions,
            passes=passes,
            budget_s=budget_s,
            seed=derive_seed(self._seed, "timed", len(self._timed)),
            host=self._ruler.host,
            on_progress=self._reporter.progress,
        )
        if careful:
            for text in result.warnings:
                self._reporter.warn(text)
        found = {names[item.name]: item for item in result.measurements if item.status != "noisy"}
        levels = [self.known[spec] / item.ratio for spec, item in found.items() if spec in self.known]
        factor = median(levels) if levels else self._reference_ms
        new = [Timed(spec, item.ratio * factor, passes) for spec, item in found.items()]
        self._store.append("timed", [item.to_dict() for item in new])
        self._store.commit()
        self._timed += new
        self.known.update(pooled(self._timed))
        source = measured_on(self._ruler.host)
        return {
            spec: latency_fields(
                item.ratio * factor, item.raw_ms, item.ratio_low * factor, item.ratio_high * factor, source
            )
            for spec, item in found.items()
            if spec in specs
        }


def pooled(timed: Sequence[Timed]) -> dict[NetworkSpec, float]:
    """Milliseconds of each network: the geometric mean over all processes."""
    logs: dict[NetworkSpec, list[float]] = {}
    for item in timed:
        logs.setdefault(item.spec, []).extend([log(item.ms)] * item.processes)
    return {spec: exp(sum(values) / len(values)) for spec, values in logs.items()}
