"""Measuring: real runs of tiny networks, further tries, and what a record of them holds for."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from mnas.errors import InputError, MeasurementError
from mnas.latency import (
    Conditions,
    MeasurementSet,
    MeasuringLatencyModel,
    check_conditions,
    host,
    measure,
    measure_each,
    measure_spread,
    reference_ms_of,
    session,
    this_device,
)
from mnas.latency.device import Device
from mnas.search_space import NetworkSpec, StageSpec, network_cost

CONDITIONS = Conditions()
pytestmark = [pytest.mark.times, pytest.mark.usefixtures("own_folders")]


def tiny(repeats=4, **changes):
    stages = (StageSpec("mbconv", 3, 2, 16, repeats, expansion=4, se_ratio=0.25),)
    return replace(NetworkSpec(8, stages, 32, resolution=32, num_classes=10), **changes)


# --- real measurements -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("any_noise")
def test_twice_as_deep_is_slower_and_the_same_network_is_equal(tmp_path):
    said = []
    result = measure(
        {"deep": tiny(24), "same": tiny(12)},
        reference=tiny(12),
        conditions=CONDITIONS,
        processes=2,
        budget_s=3.0,
        seed=0,
        on_progress=lambda done, total, what: said.append((done, total)),
    )
    assert 1.2 < result["deep"].ratio < 4
    assert 0.7 < result["same"].ratio < 1.4
    for item in result.measurements:
        assert item.ratio_low <= item.ratio <= item.ratio_high
        assert item.latency_ms == pytest.approx(item.ratio * result.reference_ms)
        assert item.input_shape == (1, 3, 32, 32)
        assert len(item.samples) >= 2
        assert all(len(s.candidate_ms) == len(s.reference_ms) >= 10 for s in item.samples)
    assert result["same"].model_sha256 != result["deep"].model_sha256
    assert result.processes[0]["providers"] == ["CPUExecutionProvider"]
    assert result.processes[0]["threads"] == 1
    assert said[-1][0] == said[-1][1]
    assert MeasurementSet.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert not list(tmp_path.glob("mnas-latency-*"))


@pytest.mark.usefixtures("any_noise")
def test_reference_given_scales_the_milliseconds():
    result = measure_each(
        {"same": tiny()},
        reference=tiny(),
        conditions=CONDITIONS,
        processes=1,
        reference_ms=50.0,
        budget_s=0.3,
        seed=1,
        pin=False,
    )
    assert result["same"].latency_ms == pytest.approx(50 * result["same"].ratio)
    assert result["same"].raw_ms < 25  # the plain clock does not know of the 50
    assert result.reference_given
    assert result.processes[0]["cores"] is None
    with pytest.raises(LookupError, match="did you mean 'same'"):
        result["sam"]


def test_two_images_take_longer_than_one():
    one, two = (
        reference_ms_of(tiny(8, resolution=64), conditions=Conditions(batch=batch), processes=1, seed=0)
        for batch in (1, 4)
    )
    assert two > 1.5 * one


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"networks": {}}, "at least one network"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"budget_s": 0.0}, "budget_s must be positive"),
        ({"reference_ms": -1.0}, "reference_ms must be positive"),
    ],
)
def test_wrong_arguments_are_named(arguments, problem):
    given = {"networks": {"a": tiny()}, "reference": tiny(), "conditions": CONDITIONS, "seed": 0, **arguments}
    networks = given.pop("networks")
    for function in (measure, measure_each):
        with pytest.raises(InputError, match=problem):
            function(networks, **given)


# --- tries, with workers that answer what a test says -------------------------------------------------------


def test_a_model_that_no_onnx_file_holds_is_refused_before_it_is_built():
    """Regression: the largest of `resnet-rs` ended a search with a traceback of protobuf."""
    huge = replace(tiny(1), head_channels=50_000, num_classes=11_000)
    assert 4 * network_cost(huge).params > 2**31
    with pytest.raises(
        MeasurementError, match=r"parameters makes a model of 2\.\d GB, and an ONNX file holds 2 GB"
    ):
        measure({"huge": huge}, reference=tiny(), conditions=CONDITIONS, processes=1, budget_s=1.0, seed=0)


def fake_worker(monkeypatch, answers):
    """Replaces the worker: each call gives the next answer, (reference samples, ratio); returns the jobs."""
    jobs, remaining = [], list(answers)

    def run(job, on_event):
        jobs.append(job)
        reference, ratio = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        events = [{"event": "start", "onnxruntime": "0", "cores": [0], "threads": 1, "load": 0.5}]
        for index, batch in enumerate(job["batches"]):
            rows = [[ratio * value for value in reference]] * len(batch)
            fields = {"samples_ms": rows, "samples_wall_ms": rows, "reference_ms": list(reference)}
            fields |= {"reference_wall_ms": list(reference), "closed": True, "providers": ["CPU"]}
            fields |= {"profiles": []}
            events.append({"event": "batch", "index": index, **fields})
        events.append({"event": "done", "load": 0.7})
        for event in events:
            on_event(event)
        return events

    monkeypatch.setattr(host, "run_worker", run)
    return jobs


STEADY, DRIFTED = ([10.0] * 10, 2.0), ([10.0] * 5 + [18.0] * 5, 2.0)


def test_a_rejected_process_is_replaced(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY, DRIFTED, STEADY, STEADY])
    result = measure({"a": tiny()}, reference=tiny(2), conditions=CONDITIONS, seed=3)
    assert len(jobs) == 4
    assert len({job["seed"] for job in jobs}) == 4
    assert [item.rejected for item in result["a"].samples] == [False, True, False, False]
    assert (result["a"].status, result["a"].ratio, result["a"].raw_ms) == ("ok", pytest.approx(2), 20)
    assert any("1 of 4 timings were rejected" in warning for warning in result.warnings)
    assert result.processes[0]["load_before"] == 0.5


def test_after_three_tries_the_status_is_noisy_and_it_is_said(monkeypatch):
    jobs = fake_worker(monkeypatch, [DRIFTED])
    result = measure({"a": tiny()}, reference=tiny(2), conditions=CONDITIONS, processes=2, seed=3)
    assert len(jobs) == 6
    assert result["a"].status == "noisy"
    assert any("too noisy to measure a in 3 tries" in warning for warning in result.warnings)


def test_only_what_is_missing_is_measured_again(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY, STEADY])
    names = {f"n{number}": tiny(1 + number) for number in range(18)}
    result = measure_each(names, reference=tiny(2), conditions=CONDITIONS, processes=1, seed=0)
    assert [len(job["batches"]) for job in jobs] == [16, 2]  # few files lie on the disk at once
    assert [item.name for item in result.measurements] == list(names)


def test_measuring_model_measures_a_network_once(monkeypatch):
    jobs = fake_worker(monkeypatch, [STEADY])
    model = MeasuringLatencyModel(tiny(2), CONDITIONS, processes=1, seed=0)
    first = model.predict([tiny(3), tiny(4), tiny(3)])
    assert [len(job["batches"]) for job in jobs] == [1, 2]  # the reference, then two different networks
    assert first[0] == first[2]
    assert (first[0].ms, first[0].source) == (pytest.approx(20), "measured")
    assert first[0].low_ms < first[0].ms < first[0].high_ms
    assert CONDITIONS.describe() in first[0].device
    assert model.predict([tiny(4)]) == [first[1]]
    assert len(jobs) == 2
    fake_worker(monkeypatch, [DRIFTED])
    assert model.predict([tiny(5)])[0].source == "measured (noisy)"


def test_networks_are_spread_over_processes_in_other_company(monkeypatch):
    company = []
    original = session.Session._process

    def process(self, groups, *more):
        company.append([name for group in groups for name in group])
        original(self, groups, *more)

    monkeypatch.setattr(session.Session, "_process", process)
    nets = {f"n{i}": tiny(1 + i) for i in range(5)}
    seen = []
    result = measure_spread(
        nets,
        reference=tiny(),
        conditions=Conditions(),
        group=3,
        budget_s=0.05,
        seed=1,
        on_progress=lambda done, total, what: seen.append((done, total)),
    )
    assert [len(names) for names in company[:4]] == [3, 2, 3, 2]  # what was noisy gets more
    assert sorted(company[0] + company[1]) == sorted(company[2] + company[3]) == sorted(nets)
    assert set(company[0]) not in (set(company[2]), set(company[3]))
    more = [name for names in company[4:] for name in names]
    assert [len(m.samples) for m in result.measurements] == [2 + more.count(name) for name in nets]
    assert seen[-1] == (10 + len(more), 10 + len(more))
    assert result["n4"].ratio > result["n0"].ratio


# --- conditions, device, JSON, imports ---------------------------------------------------------------------


def test_conditions_are_checked_and_described():
    assert Conditions().describe().startswith("batch 1, fp32, 1 thread, ONNX Runtime ")
    assert Conditions().describe().endswith(" CPU")
    assert Conditions.from_dict(Conditions(batch=4).to_dict()) == Conditions(batch=4)
    assert (Conditions().clock, replace(Conditions(), batch=2).clock) == ("core", "core")
    with pytest.raises(InputError) as caught:
        Conditions(threads=0, batch=0, precision="int7", provider="AbacusExecutionProvider")
    for word in ("threads must be", "batch must be", "int7"):
        assert word in str(caught.value)
    with pytest.raises(InputError, match=r"unknown fields \['thread'\]"):
        Conditions.from_dict({"thread": 1})


def test_conditions_that_this_device_does_not_offer_are_refused_before_anything_runs():
    wanted = Conditions(threads=100000, provider="AbacusExecutionProvider")
    with pytest.raises(
        InputError, match=r"on this device: .*usable cores, got 100000; provider must be one of .*CPU"
    ):
        check_conditions(wanted, host.LOCAL)
    with pytest.raises(InputError, match="100000"):
        measure({"a": tiny()}, reference=tiny(), conditions=wanted, seed=0)
    check_conditions(Conditions(provider="CPUExecutionProvider"), host.LOCAL)


def test_device_record():
    device = this_device()
    assert Device.from_dict(json.loads(json.dumps(device.to_dict()))) == device
    assert len(device.fingerprint) == 16
    assert replace(device, cores=device.cores + 1).fingerprint != device.fingerprint
    assert replace(device).fingerprint == device.fingerprint
    with pytest.raises(InputError, match=r"missing.*cpu"):
        Device.from_dict({"cores": 2})
    for changes in ({"cores": 0}, {"cores": "2"}, {"cores": True}, {"cpu": None}, {"system": "\x1b[2J"}):
        with pytest.raises(InputError, match="device: "):
            Device.from_dict({**device.to_dict(), **changes})


def test_importing_it_loads_neither_torch_nor_onnx():
    code = (
        "import sys, mnas.latency; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.stdout.strip() == "[]"
