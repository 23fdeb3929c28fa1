"""A latency predictor of your own, here for a phone that does 12 multiply-adds a nanosecond and 0.05 ms a layer.

    cd examples && mnas search --target-latency 30ms --latency latency_plugin:Phone --trials 2000

    baseline 0-0-2-0-1-1-1-0-1-1-2-0-2-1-1-1-2-0-0-0-2-1-3-1-2-1-0-1: 4,764,050 parameters, 306,131,232 MAdds
      latency  26.31 ms (23.68 to 28.94), predicted by latency_plugin:Phone
      accuracy 65.58%: predicted top-1 under Accel-NASBench's short proxy training (held-out MAE 0.27 points)

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
