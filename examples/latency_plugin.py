"""A latency predictor of your own, here for a phone that does 12 multiply-adds a nanosecond and 0.05 ms a layer.

    cd examples && mnas search --target-latency 30ms --latency latency_plugin:Phone --trials 2000

Anything with `predict(specs)` will do. Its factory may ask for `space`, `conditions` and `seed` by name. Give
`LatencyEstimate`s to pass on an interval and a device; a bare number of milliseconds is taken as certain.
The finalists are judged by these estimates alone, since your device need not be the machine you type on.
"""

from mnas.protocols import LatencyEstimate
from mnas.search_space import NetworkSpec, network_cost


class Phone:
    """Time of the arithmetic plus a constant for each layer, 10 % either way."""

    def predict(self, specs: list[NetworkSpec]) -> list[LatencyEstimate]:
        """One estimate for each network, in order."""
        ms = [network_cost(s).madds / 12e6 + 0.05 * sum(stage.repeats for stage in s.stages) for s in specs]
        return [LatencyEstimate(t, 0.9 * t, 1.1 * t, source="roofline", device="my phone") for t in ms]
