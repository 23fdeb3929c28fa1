"""What a latency is measured with: a device, or a plug-in that speaks for its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mnas.errors import MnasError, SearchError
from mnas.latency import LOCAL, Conditions, Host, check_estimates
from mnas.protocols import LatencyEstimate, LatencyModel
from mnas.records import latency_fields
from mnas.search.measured import DeviceLatencies, measure_together, measured_on
from mnas.search.reporting import Reporter
from mnas.search_space import NetworkSpec, network_cost

Predict = Callable[[Sequence[NetworkSpec]], list[LatencyEstimate]]


@dataclass(frozen=True, slots=True)
class Ruler:
    """How latencies are known.

    Args:
        conditions: threads, batch, precision, provider.
        reference: what measurements are paired with.
        predict: checked estimates of networks, in order; None where nothing predicts.
        plugin: name of the user's own model, whose word decides, since its device need not be this one; None
            measures on the host.
        reference_ms: the reference's milliseconds at the start; None where it was not timed.
        host: where networks are measured.
    """

    conditions: Conditions
    reference: NetworkSpec
    predict: Predict | None = None
    plugin: str | None = None
    reference_ms: float | None = None
    host: Host = LOCAL

    @property
    def measures(self) -> bool:
        """Whether networks are measured."""
        return self.plugin is None

    @property
    def source(self) -> str:
        """What a latency found with this ruler is called."""
        return measured_on(self.host) if self.plugin is None else f"predicted by {self.plugin}"

    def estimate(self, spec: NetworkSpec) -> float:
        """A network's cost, cheaply, in any unit: the prediction, or multiply-adds where nothing predicts."""
        return madds_of(spec) if self.predict is None else self.predict([spec])[0].ms

    def estimate_fields(self, estimate: LatencyEstimate) -> dict[str, Any]:
        """The JSON fields of a latency that is a plug-in's word; nothing was timed."""
        return latency_fields(estimate.ms, None, estimate.low_ms, estimate.high_ms, self.source)

    def measure(
        self,
        networks: Mapping[str, NetworkSpec],
        *,
        processes: int,
        budget_s: float,
        seed: int,
        reporter: Reporter,
    ) -> DeviceLatencies:
        """All networks interleaved in fresh processes on the host; see `measured.measure_together`."""
        return measure_together(
            networks,
            reference=self.reference,
            start_ms=self.reference_ms,
            conditions=self.conditions,
            processes=processes,
            budget_s=budget_s,
            seed=seed,
            host=self.host,
            reporter=reporter,
        )


def madds_of(spec: NetworkSpec) -> float:
    """Multiply-adds, as a cost."""
    return float(network_cost(spec).madds)


def checked(model: LatencyModel, name: str) -> Predict:
    """The model's `predict` with its exceptions and results turned into one clear error."""

    def predict(specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        try:
            estimates = model.predict(specs)
        except MnasError:
            raise
        except Exception as error:
            raise SearchError(
                f"the latency model {name!r} raised {type(error).__name__}: {error}. "
                f"It must return one estimate for each of {len(specs)} networks."
            ) from error
        return check_estimates(estimates, len(specs), name)

    return predict


def corrected(predict: Predict, factor: Callable[[], float]) -> Predict:
    """The estimates multiplied by what `factor` says at each call."""

    def predict_now(specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        now = factor()
        return [
            replace(e, ms=e.ms * now, low_ms=e.low_ms * now, high_ms=e.high_ms * now) for e in predict(specs)
        ]

    return predict_now
