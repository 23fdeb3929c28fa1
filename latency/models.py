"""A latency model that measures: every candidate is timed on a device, once."""

from collections.abc import Sequence

from mnas.latency.conditions import Conditions
from mnas.latency.host import LOCAL, Host
from mnas.latency.measure import measure_each, reference_ms_of
from mnas.latency.measurement import Measurement
from mnas.latency.session import Progress
from mnas.protocols import LatencyEstimate
from mnas.search_space import NetworkSpec
from mnas.seeds import derive_seed


class MeasuringLatencyModel:
    """Measures each network in fresh processes, paired with the reference; the same network only once.

    Args:
        reference: what each is paired with.
        conditions: threads, batch, precision, provider.
        reference_ms: what a ratio of 1 is in milliseconds; None times the reference before the first network,
            so that milliseconds mean the same in every call.
        processes: fresh ones for each call.
        seed: of order, inputs and bootstrap.
        host: where.
        on_progress: told what is being done.
    """

    def __init__(
        self,
        reference: NetworkSpec,
        conditions: Conditions,
        *,
        reference_ms: float | None = None,
        processes: int = 3,
        seed: int,
        host: Host = LOCAL,
        on_progress: Progress | None = None,
    ) -> None:
        self.reference, self.conditions, self.reference_ms = reference, conditions, reference_ms
        self._processes, self._seed, self._host, self._on_progress = processes, seed, host, on_progress
        self._known: dict[NetworkSpec, LatencyEstimate] = {}
        self._calls = 0

    def predict(self, specs: Sequence[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order, with its 95 % interval; measured where it was not before.

        A network that could not be measured steadily says so in its source: `measured (noisy)`.

        Raises:
            MeasurementError: a worker failed, or another measurement holds the device.
        """
        new = [spec for spec in dict.fromkeys(specs) if spec not in self._known]
        if new:
            if self.reference_ms is None:
                self.reference_ms = reference_ms_of(
                    self.reference,
                    conditions=self.conditions,
                    processes=self._processes,
                    seed=self._seed,
                    host=self._host,
                )
            self._calls += 1
            result = measure_each(
                {f"network {number}": spec for number, spec in enumerate(new, 1)},
                reference=self.reference,
                conditions=self.conditions,
                processes=self._processes,
                reference_ms=self.reference_ms,
                seed=derive_seed(self._seed, "measure", self._calls),
                host=self._host,
                on_progress=self._on_progress,
            )
            for spec, measurement in zip(new, result.measurements, strict=True):
                self._known[spec] = self._estimate(measurement)
        return [self._known[spec] for spec in specs]

    def _estimate(self, measurement: Measurement) -> LatencyEstimate:
        device = self._host.device
        status = "" if measurement.status == "ok" else f" ({measurement.status})"
        return LatencyEstimate(
            ms=measurement.latency_ms,
            low_ms=measurement.low_ms,
            high_ms=measurement.high_ms,
            source=f"measured{status}",
            device=f"{device.describe()}; {self.conditions.describe(device)}",
            raw_ms=measurement.raw_ms,
        )
