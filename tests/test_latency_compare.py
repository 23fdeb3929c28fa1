"""Whether one network is slower than another: real runs, and sessions that are off."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from mnas.errors import InputError
from mnas.latency import Conditions, compare, host
from mnas.search_space import NetworkSpec, StageSpec

pytestmark = [pytest.mark.times, pytest.mark.usefixtures("own_folders")]


def tiny(layers: int = 1) -> NetworkSpec:
    return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, layers),), 16, 32, 10)


@pytest.mark.usefixtures("any_noise")
def test_a_network_twelve_times_as_deep_is_slower_and_itself_is_not() -> None:
    found = compare(tiny(), tiny(12), conditions=Conditions(), processes=2, budget_s=3.6, seed=0)
    assert found.verdict == "slower"
    assert found.low > 1.5
    same = compare(tiny(), tiny(), conditions=Conditions(), processes=2, budget_s=3.6, seed=0)
    assert 0.8 < same.ratio < 1.25
    with pytest.raises(InputError, match="expected processes >= 1"):
        compare(tiny(), tiny(), conditions=Conditions(), processes=0, seed=0)


@pytest.mark.parametrize(("ratio", "verdict"), [(1.0, "undecided"), (1.03, "slower"), (0.97, "faster")])
def test_a_session_that_is_off_decides_nothing(
    ratio: float, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each process one session of the six is 10 % fast or slow, the others are off by 1 %, runs by 3 %."""
    rng = np.random.default_rng(0)

    def run(job: Mapping[str, Any], on_event: Callable[[Any], None]) -> list[dict[str, Any]]:
        names = ["first", *(job["names"][path] for path in job["batches"][0])]
        assert [name.split()[0] for name in names] == ["first"] * 3 + ["second"] * 3
        luck = np.exp(rng.normal(0, 0.01, 6))
        luck[rng.integers(6)] = rng.choice([0.9, 1.1])
        luck[3:] *= ratio
        rows = (10 * luck[:, None] * np.exp(rng.normal(0, 0.03, (6, 20)))).tolist()
        fields = {"samples_ms": rows[1:], "samples_wall_ms": rows[1:], "reference_ms": rows[0]}
        fields |= {"reference_wall_ms": rows[0], "closed": True, "providers": ["CPU"], "profiles": []}
        return [
            {"event": "start", "load": 0.0},
            {"event": "batch", "index": 0, **fields},
            {"event": "done", "load": 0.0},
        ]

    monkeypatch.setattr(host, "run_worker", run)
    found = [compare(tiny(), tiny(2), conditions=Conditions(), seed=seed) for seed in range(10)]
    verdicts = [comparison.verdict for comparison in found]
    # The interval is meant for processes that spread more than these do, so that 3 % is not found each time.
    assert set(verdicts) <= {verdict, "undecided"}
    assert verdicts.count(verdict) >= 6
    assert max(abs(comparison.ratio / ratio - 1) for comparison in found) < 0.015
    assert sum(comparison.low < ratio < comparison.high for comparison in found) >= 9
