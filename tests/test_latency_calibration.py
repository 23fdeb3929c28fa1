"""Calibrating this device: what is measured, what is fitted, and what is kept for later searches."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from mnas.errors import InputError, MeasurementError, RunDirectoryError
from mnas.latency import (
    Calibration,
    CalibrationNetwork,
    Conditions,
    calibrate,
    calibration_networks,
    calibration_path,
    default_reference,
    host,
    keep_calibration,
    measure_spread,
    read_calibration,
    session,
    this_device,
)
from mnas.latency.features import FEATURES, network_features
from mnas.latency.kernels import Kind, segment_kernels
from mnas.search_space import mbconv_space, mnasnet_space, network_cost, segments
from mnas.zoo import published

pytestmark = pytest.mark.times

# Prices of a made-up device, ms per unit.
PRICES = {
    "networks": 0.05,
    "convolutions": 0.002,
    "pointwise_madds": 2e-8,
    "dense_madds": 3e-8,
    "depthwise3_madds": 9e-8,
    "depthwise5_madds": 5e-8,
    "gates": 0.004,
    "silu_elements": 3e-7,
}


def priced(spec):
    return sum(
        PRICES.get(name, 0.0) * amount for name, amount in zip(FEATURES, network_features(spec), strict=True)
    )


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def made_up(monkeypatch):
    """Replaces the worker: a network takes its price times log-normal noise, the reference its price."""

    def use(noise):
        rng = np.random.default_rng(0)
        prices = {}

        def write(self, path, spec):
            prices[str(path)] = priced(spec)
            return session.ModelFile(path, "0", (1, 3, 32, 32))

        def run(job, on_event):
            events = [{"event": "start", "load": 0.0}]
            luck = np.exp(rng.normal(0, noise))  # of a process: its reference is slow, or fast
            for index, paths in enumerate(job["batches"]):
                rows = [(prices[path] * np.exp(rng.normal(0, noise, 12))).tolist() for path in paths]
                reference = [prices[job["reference"]] * luck] * 12
                fields = {"samples_ms": rows, "samples_wall_ms": rows, "reference_ms": reference}
                fields |= {"reference_wall_ms": reference, "closed": True, "providers": ["CPU"]}
                fields |= {"profiles": []}
                events.append({"event": "batch", "index": index, **fields})
            return [*events, {"event": "done", "load": 0.0}]

        monkeypatch.setattr(session.Session, "_write", write)
        monkeypatch.setattr(host, "run_worker", run)

    return use


def small_networks(count):
    """Quick to time: the calibration's own, at 32 pixels."""
    return [
        replace(network, spec=replace(network.spec, resolution=32, num_classes=10))
        for network in calibration_networks(0)[:count]
    ]


def test_the_networks_hold_every_operation_width_and_resolution_that_is_searched():
    networks = calibration_networks(0)
    assert len(networks) == len({network.name for network in networks}) == 108
    stages = [stage for network in networks for stage in network.spec.stages]
    ops = {stage.op for stage in stages}
    assert ops == {"conv", "sepconv", "mbconv", "xblock", "igcv3", "ghost", "basic"}
    assert {stage.kernel for stage in stages} >= {3, 5}
    assert {stage.skip for stage in stages} >= {"identity", "none", "pool", "conv", "depthwise"}
    parts = {part for network in networks for part in segments(network.spec)}
    assert {kernel.kind for part in parts for kernel, _ in segment_kernels(part)} == set(get_args(Kind))
    assert {network.spec.style.activation for network in networks} == {"silu", "relu", "relu6"}
    resolutions = {network.spec.resolution for network in networks}
    assert min(resolutions) <= 64
    assert max(resolutions) >= 300
    assert calibration_networks(0) == networks != calibration_networks(1)
    for space in (mbconv_space(), mnasnet_space()):
        madds = [network_cost(n.spec).madds for n in networks if n.group == space.name]
        ends = [n.name for n in networks if n.name in (f"{space.name} smallest", f"{space.name} largest")]
        assert len(ends) == 2
        assert max(madds) > 5 * min(madds)


def test_calibration_end_to_end_on_this_device(small_calibration):
    found = small_calibration
    assert len(found.points) == 16
    assert found.reference == published("efficientnet_b0")
    assert found.error.n == sum(point.predicted_ms is not None for point in found.points) >= 10
    assert found.predictor.device.endswith(Conditions().describe())
    for point in found.points:
        assert 0 < point.low_ms <= point.measured_ms <= point.high_ms
    data = json.loads(json.dumps(found.to_dict()))
    assert Calibration.from_dict(data) == found
    assert Calibration.from_dict(data).to_dict() == data
    with pytest.raises(InputError, match="format"):
        Calibration.from_dict({**data, "format": "x"})
    with pytest.raises(InputError, match="missing, unknown"):
        Calibration.from_dict({**data, "more": 1})


def test_calibration_finds_the_prices_of_a_made_up_device(made_up):
    made_up(noise=0.01)
    found = calibrate(Conditions())
    assert found.error.n == 108
    assert found.error.mape < 0.02
    for point in found.points:
        assert point.predicted_ms == pytest.approx(point.measured_ms, rel=0.15)
    # Networks of another space and another resolution than most of those fitted.
    for spec in (published("mnasnet_small"), replace(published("efficientnet_b0"), resolution=320)):
        assert found.predictor.predict([spec])[0].ms == pytest.approx(priced(spec), rel=0.05)
    # The same seed measures the same networks.
    assert [p.name for p in calibrate(Conditions()).points] == [p.name for p in found.points]


def test_a_session_that_is_off_is_outvoted_by_a_third_process(made_up, monkeypatch):
    made_up(noise=0.002)
    run, done = host.run_worker, []

    def once_off(job, on_event):
        events = run(job, on_event)
        for event in events:
            if event["event"] == "batch":
                names = [job["names"][path] for path in job["batches"][event["index"]]]
                done.extend(names)
                if "n3" in names and done.count("n3") == 1:
                    row = event["samples_ms"][names.index("n3")]
                    row[:] = [1.1 * ms for ms in row]
        return events

    monkeypatch.setattr(host, "run_worker", once_off)
    networks = {f"n{number}": item.spec for number, item in enumerate(small_networks(8))}
    b0 = published("efficientnet_b0")
    found = measure_spread(networks, reference=b0, conditions=Conditions(), seed=0)
    assert {name: done.count(name) for name in networks} == {
        name: 3 if name == "n3" else 2 for name in networks
    }
    for name, spec in networks.items():
        assert found[name].ratio == pytest.approx(priced(spec) / priced(b0), rel=0.01)


def test_a_device_that_is_too_noisy_is_refused(made_up):
    made_up(noise=1.0)
    with pytest.raises(MeasurementError, match="too noisy to calibrate: only"):
        calibrate(Conditions(), networks=small_networks(16))
    made_up(noise=0.0)
    with pytest.raises(InputError, match="at least 10 networks"):
        calibrate(Conditions(), networks=small_networks(3))


def test_a_kept_calibration_is_read_again_for_its_device_and_conditions_alone(made_up):
    made_up(noise=0.0)
    found = calibrate(Conditions(), networks=small_networks(12))
    path = keep_calibration(found)
    assert path == calibration_path(this_device(), Conditions())
    assert read_calibration(path, this_device(), Conditions()) == found
    other = replace(this_device(), cpu="Cortex-A76", machine="aarch64")
    assert calibration_path(other, Conditions()) != path
    with pytest.raises(InputError, match=r"made on another device \(.*this is Cortex-A76"):
        read_calibration(path, other, Conditions())
    newer = replace(this_device(), onnxruntime="99.0")
    with pytest.raises(InputError, match=r"another device .*ONNX Runtime 99\.0"):
        read_calibration(path, newer, Conditions())
    with pytest.raises(InputError, match="holds for batch 1"):
        read_calibration(path, this_device(), Conditions(batch=2))
    assert calibration_path(this_device(), Conditions(batch=2)) != path
    path.write_text("{")
    with pytest.raises(InputError, match="damaged"):
        read_calibration(path, this_device(), Conditions())


def test_a_calibration_that_cannot_be_kept_says_so(made_up, tmp_path, monkeypatch):
    made_up(noise=0.0)
    found = calibrate(Conditions(), networks=small_networks(12))
    calibration_path(this_device(), Conditions()).parent.write_text("a file where the folder should be")
    with pytest.raises(RunDirectoryError, match="cannot make the folder"):
        keep_calibration(found)


def test_the_reference_has_the_space_s_resolution_and_classes():
    reference = default_reference(mnasnet_space(resolution=96, num_classes=5))
    assert (reference.resolution, reference.num_classes) == (96, 5)
    assert reference.stages == published("efficientnet_b0").stages


def test_a_network_to_calibrate_with_can_be_your_own(made_up):
    made_up(noise=0.0)
    own = [CalibrationNetwork(f"own {n.name}", "own", n.spec) for n in small_networks(12)]
    assert {point.group for point in calibrate(Conditions(), networks=own).points} == {"own"}
