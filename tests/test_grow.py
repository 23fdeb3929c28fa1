from types import SimpleNamespace

import pytest

from mnas.errors import MeasurementError
from mnas.search.grow import _careful
from mnas.search.measured import DeviceLatencies, DeviceLatency
from mnas.search.reporting import Quiet
from mnas.zoo import published


def test_a_noisy_measurement_does_not_choose_the_scaled_network() -> None:
    spec = published("mnasnet_small")

    def verdict(status: str):  # type: ignore[no-untyped-def]
        latency = DeviceLatency(10.0, 10.5, status, {"latency_ms": 10.0})  # type: ignore[arg-type]
        found = DeviceLatencies({f"{spec.resolution} pixels": latency}, [], {})
        timing = SimpleNamespace(measured=True, measure=lambda networks, **more: found)
        problem = SimpleNamespace(config=SimpleNamespace(target_kind="latency", seed=0))
        return _careful(problem, timing, Quiet())(spec)  # type: ignore[arg-type]

    assert (verdict("ok").cost, verdict("unresolved").upper) == (10.0, 10.5)
    with pytest.raises(MeasurementError, match="too noisy"):
        verdict("noisy")
