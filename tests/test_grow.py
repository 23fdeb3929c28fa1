from types import SimpleNamespace

import pytest

from mnas.errors import MeasurementError
from mnas.search.grow import _measuring
from mnas.search.measured import DeviceLatencies, DeviceLatency
from mnas.search.reporting import Quiet
from mnas.zoo import published


def test_a_noisy_measurement_does_not_choose_the_scaled_network() -> None:
    spec = published("mnasnet_small")

    def verdict(status: str, careful: bool):  # type: ignore[no-untyped-def]
        def measure(networks, **more):  # type: ignore[no-untyped-def]
            latency = DeviceLatency(10.0, 10.5, status, {"latency_ms": 10.0})  # type: ignore[arg-type]
            return DeviceLatencies(dict.fromkeys(networks, latency), [], 5.0, {})

        (found,) = _measuring(SimpleNamespace(measure=measure), 0, Quiet())([spec], careful)  # type: ignore[arg-type]
        return found

    assert (verdict("ok", True).cost, verdict("unresolved", True).upper) == (10.0, 10.5)
    assert verdict("noisy", False).cost == 10.0  # it only guides
    with pytest.raises(MeasurementError, match="too noisy"):
        verdict("noisy", True)
