"""From samples to a figure: statistics with known answers, the noise gate, records as JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mnas.errors import InputError
from mnas.latency import (
    Conditions,
    Measurement,
    MeasurementSet,
    ProcessSamples,
    this_device,
)
from mnas.latency.intervals import (
    MEDIAN_SD,
    PROCESS_SPREAD,
    Interval,
    drifts,
    over_processes,
    paired_ratio,
    robust_sd,
    student_quantile,
)
from mnas.latency.measurement import gate, judge, level, own_ms
from mnas.latency.worker import bootstrap_median
from mnas.zoo import published


def test_a_drift_that_both_share_cancels():
    reference = np.linspace(10, 20, 40)
    ratio = paired_ratio(list(2 * reference), list(reference), seed=0)
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    with pytest.raises(InputError, match="got 3 and 2"):
        paired_ratio([1, 2, 3], [1, 2], seed=0)
    with pytest.raises(InputError, match="at least one"):
        paired_ratio([], [], seed=0)


def test_bootstrap_interval_of_the_median_covers_it_95_times_in_100():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(400):
        _, low, high = bootstrap_median(rng.normal(5, 1, 25), seed=trial)
        hits += low <= 5 <= high
    assert 0.90 <= hits / 400 <= 0.99


def test_median_over_processes_ignores_one_that_is_off():
    def steady(value):
        return Interval(value, value * 0.995, value * 1.005)

    ratio = over_processes([steady(1.00), steady(1.01), steady(2.0)])
    assert ratio.value == pytest.approx(1.01)
    assert 1.01 / 1.06 < ratio.low < 1.01 < ratio.high < 1.01 * 1.06
    # Hand arithmetic for one process: only the usual spread and its own interval are known.
    alone = over_processes([steady(1.0)])
    half = np.hypot(student_quantile(2) * PROCESS_SPREAD, 0.005)
    assert np.log(alone.high) == pytest.approx(half)
    with pytest.raises(InputError, match="at least one process"):
        over_processes([])


@pytest.mark.parametrize(
    ("spread", "processes", "least"), [(1, 1, 0.97), (1, 3, 0.97), (1, 5, 0.97), (3, 3, 0.86), (3, 5, 0.89)]
)
def test_interval_over_processes_covers_the_truth(spread, processes, least):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(4000):
        logs = rng.normal(0, spread * PROCESS_SPREAD, processes)
        ratio = over_processes([Interval(v, v * 0.995, v * 1.005) for v in np.exp(logs).tolist()])
        hits += ratio.low <= 1 <= ratio.high
    assert hits / 4000 >= least - 0.02


def test_constants_are_what_they_are_said_to_be():
    rng = np.random.default_rng(2)
    for count, expected in enumerate(MEDIAN_SD, 1):
        values = rng.standard_normal((40_000, count))
        assert np.median(values, axis=1).std() == pytest.approx(expected, rel=0.02)
    # Tables of Student's t: 4.303, 2.776, 2.228 at 2, 4, 10 degrees of freedom.
    assert student_quantile(2) == pytest.approx(4.303, rel=0.032)
    assert student_quantile(4) == pytest.approx(2.776, rel=0.003)
    assert student_quantile(10) == pytest.approx(2.228, rel=0.001)
    for count in (2, 3, 5, 9, 12):
        values = rng.standard_normal((4_000, count))
        assert np.mean([robust_sd(row.tolist()) for row in values]) == pytest.approx(1, abs=0.05)


def samples(reference, ratio=2.0, process=0, closed=True):
    reference = tuple(float(value) for value in reference)
    candidate = tuple(ratio * value for value in reference)
    return ProcessSamples(process, candidate, reference, candidate, reference, closed)


def test_own_milliseconds_do_not_hang_on_the_reference():
    steady = [samples([10.0] * 12, ratio=2.0), samples([10.0] * 12, ratio=2.2, process=1)]
    wild = [replace(item, reference_ms=tuple(np.linspace(5, 25, 12))) for item in steady]
    found = own_ms(steady, seed=0)
    assert found == own_ms(wild, seed=0)
    # The median of two on the logarithm is their geometric mean.
    assert found.value == pytest.approx((20 * 22) ** 0.5)
    assert found.low < 20.5 < 21.5 < found.high
    rejected = [steady[0], replace(steady[1], rejected=True)]
    assert own_ms(rejected, seed=0).value == pytest.approx(20)


def test_drift_is_seen_within_a_process_and_between_them():
    steady, moved, slow = [10.0] * 10, [10.0] * 5 + [14.0] * 5, [20.0] * 10
    assert drifts([steady, steady, steady]) == [0, 0, 0]
    assert drifts([steady, moved, steady])[1] == pytest.approx(0.4)
    assert drifts([steady, slow, steady]) == pytest.approx([0, 1.0, 0])
    assert drifts([[10.0]]) == [0]


def test_noise_gate_statuses():
    steady = [samples([10.0] * 10) for _ in range(3)]
    assert judge(gate(steady), 3, seed=0)[0] == "ok"
    assert judge(gate(steady), 3, seed=0)[1].value == pytest.approx(2)
    # The budget ended before two of three intervals closed.
    loose = [replace(item, closed=number == 0) for number, item in enumerate(steady)]
    assert judge(gate(loose), 3, seed=0)[0] == "unresolved"
    # One process drifted by 50 %: rejected, two are left, which is enough to say.
    one = gate([*steady[:2], samples([10.0] * 5 + [15.0] * 5, ratio=3.0)])
    assert [item.rejected for item in one] == [False, False, True]
    assert judge(one, 3, seed=0)[1].value == pytest.approx(2)
    assert judge(one, 3, seed=0)[0] == "ok"
    # Two of three drifted: too few are left.
    assert judge(gate([steady[0], *[samples([10.0] * 5 + [15.0] * 5)] * 2]), 3, seed=0)[0] == "noisy"
    # The processes do not agree.
    split = [samples([10.0] * 10, ratio=ratio) for ratio in (1.0, 1.3, 1.7)]
    assert judge(gate(split), 3, seed=0)[0] == "noisy"


def test_what_a_process_does_to_all_its_networks_is_taken_out():
    """Networks of ratio 1 to 4 in other company in each process; one process is 10 % slow for all that it times."""

    def item(process, ratio):
        rounds = (1.0,) * 12
        return ProcessSamples(process, tuple(ratio * r for r in rounds), rounds, rounds, rounds, True)

    slow = 1.1
    samples = {
        "a": (item(0, 1.0), item(1, 1.0), item(3, 1.0 * slow)),
        "b": (item(0, 2.0), item(2, 2.0), item(3, 2.0 * slow)),
        "c": (item(1, 4.0), item(2, 4.0), item(3, 4.0 * slow)),
        "d": (item(0, 3.0), item(3, 3.0 * slow)),
    }
    levelled = level(samples)
    assert [s.shift for s in levelled["a"]] == pytest.approx([1, 1, slow])
    for name, expected in (("a", 1.0), ("b", 2.0), ("c", 4.0), ("d", 3.0)):
        status, ratio = judge(levelled[name], 2, seed=0)
        assert status == "ok"
        assert ratio.value == pytest.approx(expected)
    assert judge(samples["d"], 2, seed=0)[1].value == pytest.approx(3 * slow**0.5)


def test_measurements_round_trip_and_refuse_what_they_do_not_know():
    item = Measurement(
        "a", "ok", 2.0, 1.9, 2.1, 20.0, 19.0, 21.0, 23.0, "0f", (1, 3, 8, 8), (samples([10.0]),)
    )
    assert item.raw_differs
    assert not replace(item, raw_ms=21.0).raw_differs
    whole = MeasurementSet(
        Conditions(),
        this_device(),
        published("efficientnet_b0"),
        10.0,
        False,
        11.0,
        (item,),
        ({"load": 1.0},),
        ("busy",),
        0,
        1.5,
    )
    data = json.loads(json.dumps(whole.to_dict()))
    assert MeasurementSet.from_dict(data) == whole
    assert MeasurementSet.from_dict(data).to_dict() == data
    with pytest.raises(InputError, match="format"):
        MeasurementSet.from_dict({**data, "format": "other"})
    with pytest.raises(InputError, match="missing, unknown"):
        MeasurementSet.from_dict({**data, "more": 1})
    del data["seed"]
    with pytest.raises(InputError, match="seed"):
        MeasurementSet.from_dict(data)
