"""Measuring near the target while a search goes on: what is chosen, what it changes; nothing is measured twice.

The device is a stand-in behind `measure_together`: it takes a known number of times what the predictor says.
"""

import json
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import MODELS, Said
from loops import SPACE, latency, madds, search
from test_expensive_search import Dear

from mnas.config import make_config
from mnas.errors import RunDirectoryError
from mnas.latency import Calibration
from mnas.records import latency_fields
from mnas.report import write_report
from mnas.search import best_trial, device_timing, resume_search, ruler, start_search
from mnas.search.drift import drift_of
from mnas.search.finalists import Candidate
from mnas.search.history import History, Trial
from mnas.search.loop import Loop
from mnas.search.measured import DeviceLatencies, DeviceLatency
from mnas.search.refits import Refit, Remeasured, common_factor, describe_refits
from mnas.search.remeasure import Remeasurer, near_target
from mnas.search_space import NetworkSpec, mbconv_space
from mnas.store import Event
from mnas.summary import search_summary

pytestmark = pytest.mark.times

DIES = '''
class Dies(Accuracy):
    """Like a process that is killed, at its fifth call, once; the first is a try before the search."""
    calls = 0
    def evaluate(self, specs, *, seed):
        Dies.calls += 1
        if Dies.calls == 5 and Path("dies").exists():
            Path("dies").unlink()
            raise BaseException("killed")
        return super().evaluate(specs, seed=seed)
'''


class Device:
    """Takes `slower` times what `predict` says, its reference each time what comes next; remembers what it timed."""

    def __init__(self, predict: Any, slower: float, references: Sequence[float] = ()) -> None:
        self.predict, self.slower, self.references = predict, slower, list(references)
        self.timed: list[list[str]] = []
        self.name = "a stand-in"

    def __call__(self, networks: Mapping[str, NetworkSpec], **_: Any) -> DeviceLatencies:
        self.timed.append(list(networks))
        found = {}
        for name, spec in networks.items():
            ms = self.slower * self.predict([spec])[0].ms
            fields = latency_fields(ms, ms, 0.99 * ms, 1.01 * ms, "measured on a stand-in")
            found[name] = DeviceLatency(ms, 1.01 * ms, "ok", fields)
        return DeviceLatencies(found, [], self.references.pop(0) if self.references else 10.0, {})


def candidate(number: int, ms: float, reward: float, spread: float = 0.1) -> Candidate:
    trial = Trial(number, f"{number}", "done", reward=reward)
    return Candidate(trial, reward, 0.01, ms, ms * (1 - spread), ms * (1 + spread))


def test_the_best_that_may_be_on_either_side_come_first_then_the_nearest() -> None:
    pool = [
        candidate(0, 10.5, 0.60),
        candidate(1, 9.5, 0.70),
        candidate(2, 5.0, 0.80),  # the interval, 4.5 to 5.5, is far from 10
        candidate(3, 8.0, 0.50),  # 7.2 to 8.8
        candidate(4, 10.0, 0.65),
    ]
    assert [c.trial.number for c in near_target(pool, 10.0)] == [1, 4, 0, 3, 2]
    assert [c.trial.number for c in near_target(pool, 10.0, count=2)] == [1, 4]


def test_a_common_factor_is_shrunk_by_what_is_known_beforehand() -> None:
    # Variances in units of 1e-4: 25 before; 4 of a measurement in common; 9 of each network.
    assert common_factor([(1.0, [0.1] * 8)]) == pytest.approx(
        1.0865, abs=1e-4
    )  # e^(.1 x 25 / (25 + 4 + 9 / 8))
    assert common_factor([(1.0, [0.1])]) == pytest.approx(1.0680, abs=1e-4)  # e^(.1 x 25 / (25 + 4 + 9))
    # Two measurements share less: e^(.1 x 25 / (25 + 4 / 2 + 9 / 4)).
    assert common_factor([(1.0, [0.05, 0.15]), (1.0, [0.1, 0.1])]) == pytest.approx(1.0892, abs=1e-4)
    assert common_factor([]) == common_factor([(1.1, []), (1.2, [])]) == 1.0


def test_of_a_drift_of_the_reference_half_is_expected_to_last() -> None:
    # Networks and the reference took 6 % longer: the predictor is right, and e^(ln(1.06) / 2).
    assert common_factor([(1.06, [0.0582689] * 8)]) == pytest.approx(1.0296, abs=1e-4)
    # Networks as predicted beside a slower reference: e^(-ln(1.06) x .8299 + ln(1.06) / 2).
    assert common_factor([(1.06, [0.0] * 8)]) == pytest.approx(0.9810, abs=1e-4)


def test_drift_is_from_the_start_to_the_furthest() -> None:
    times = [{"when": when, "ms": ms} for when, ms in (("start", 10.0), ("refit", 10.7), ("finalists", 9.8))]
    drift = drift_of(times)
    assert drift is not None
    assert drift.fraction == pytest.approx(0.07)
    assert (
        "10.00 ms when the search began and 10.70 ms when predictions were checked (+7.0%)"
        in drift.describe()
    )
    assert drift.warning is None
    hot = drift_of([*times, {"when": "finalists", "ms": 13.1}])
    assert hot is not None
    assert "(+31.0%)" in str(hot.warning)
    assert drift_of(times[:1]) is None
    assert drift_of(times[1:]) is None


def refit(after: int, factor: float) -> Refit:
    network = Remeasured(3, "0-1", 9.0, 10.0, 9.9, 10.1, 10.0, "ok")
    return Refit(after, factor, 11.0, 2.5, (network,))


def test_a_refit_is_read_back_as_written_and_a_damaged_one_is_refused() -> None:
    plain = json.loads(json.dumps(refit(64, 1.05).to_dict()))
    assert Refit.from_dict(plain) == refit(64, 1.05)
    for change in (
        {"factor": 0.0},
        {"factor": "much"},
        {"after": 1.5},
        {"networks": [{}]},
        {"networks": None},
    ):
        with pytest.raises(RunDirectoryError, match="event 1"):
            History.read([Event(1, 0.0, "refit", {**plain, **change})])


def test_trials_before_a_refit_are_known_by_it_and_measured_ones_stay() -> None:
    def metrics(**more: float) -> dict[str, float]:
        return {"latency_ms": 10.0, "latency_low_ms": 9.0, "latency_high_ms": 11.0, "madds": 1e6, **more}

    asked = {"requested": 4, "trials": [{"trial": number, "key": "0"} for number in range(4)]}
    events: list[tuple[Any, Any]] = [
        ("asked", asked),
        ("refit", refit(2, 1.2).to_dict()),
        ("refit", refit(3, 1.5).to_dict()),
    ]
    for number, known in enumerate((metrics(), metrics(latency_raw_ms=10.0), metrics(), metrics())):
        result = {
            "trial": number,
            "status": "done",
            "metrics": known,
            "reward": 0.5,
            "error": None,
            "source": "x",
        }
        events.append(("result", result))
    history = History.read([Event(n, 0.0, kind, payload) for n, (kind, payload) in enumerate(events)])
    # Predicted with the factors 1, -, 1.2 and 1.5; the last one holds now.
    assert [trial.metrics["latency_ms"] for trial in history.known_now()] == pytest.approx(
        [15.0, 10.0, 12.5, 10.0]
    )
    assert [trial.metrics["latency_high_ms"] for trial in history.known_now()] == pytest.approx(
        [16.5, 11.0, 13.75, 11.0]
    )
    assert [trial.metrics["latency_ms"] for trial in history.trials] == [10.0] * 4
    assert describe_refits(history.refits).startswith(
        "2 networks near the target were timed during the search and lay +11.1%"
    )


@pytest.fixture
def work(
    calibrated_cache: Path, small_calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with models, in a process whose device answers at once."""
    (tmp_path / "models.py").write_text(MODELS + DIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)

    def each(networks: Mapping[str, NetworkSpec], **_: Any) -> SimpleNamespace:
        estimates = small_calibration.predictor.predict(list(networks.values()))
        measured = [
            SimpleNamespace(name=name, status="ok", latency_ms=estimate.ms)
            for name, estimate in zip(networks, estimates, strict=True)
        ]
        return SimpleNamespace(measurements=measured)

    monkeypatch.setattr(device_timing, "reference_ms_of", lambda *_, **__: small_calibration.reference_ms)
    monkeypatch.setattr(device_timing, "measure_each", each)
    return tmp_path


def config(small_calibration: Calibration, accuracy: str = "models:Accuracy") -> Any:
    """For what a network of average size takes."""
    space = mbconv_space(resolution=32, num_classes=10)
    spec = space.decode(space.architecture([1] * len(space.choices)))
    target = f"{small_calibration.predictor.predict([spec])[0].ms:.4f}ms"
    return make_config(
        {
            "target_latency": target,
            "resolution": 32,
            "classes": 10,
            "controller": "reinforce",
            "trials": 256,
            "ask_batch": 64,
            "accuracy": accuracy,
        }
    )


def stored(run: Path, kind: str) -> list[dict[str, Any]]:
    with sqlite3.connect(run / "trials.db") as connection:
        rows = connection.execute(
            "SELECT payload FROM events WHERE kind = ? ORDER BY number", (kind,)
        ).fetchall()
    return [json.loads(payload) for (payload,) in rows]


def test_half_way_the_predictor_is_corrected_and_a_killed_search_ends_as_one_that_was_not(
    work: Path, small_calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, start_ms = small_calibration.predictor.predict, small_calibration.reference_ms
    references = (1.06 * start_ms, 0.6 * start_ms)
    device = Device(predict, 1.1, references)
    monkeypatch.setattr(ruler, "measure_together", device)
    said = Said()
    whole = start_search(config(small_calibration, "models:Dies"), work / "whole", said)
    assert whole["status"] == "done"

    # Half of 256 trials; e^((ln 1.1 - ln 1.06) x 25 / (25 + 4 + 9 / 8) + ln(1.06) / 2) = 1.0617.
    (event,) = stored(work / "whole", "refit")
    assert (event["after"], len(event["networks"])) == (128, 8)
    assert event["factor"] == pytest.approx(1.0617, abs=1e-4)
    assert len(device.timed[0]) == len(set(device.timed[0])) == 8
    space = mbconv_space(resolution=32, num_classes=10)
    for result, asked in zip(
        stored(work / "whole", "result"),
        [trial for batch in stored(work / "whole", "asked") for trial in batch["trials"]],
        strict=True,
    ):
        plain = predict([space.decode(space.from_key(asked["key"]))])[0].ms
        factor = 1.0 if result["trial"] < 128 else event["factor"]
        assert result["metrics"]["latency_ms"] == pytest.approx(factor * plain)
    assert any("lay +10.0% to +10.0% off their predictions" in note for note in said.notes)

    # The reference at the start, then, and at the end; 40 % is more than a search is to be believed across.
    assert [timed["when"] for timed in whole["references"]] == ["start", "refit", "finalists"]
    assert [timed["ms"] for timed in whole["references"]] == pytest.approx([start_ms, *references])
    assert whole["drift"] == pytest.approx(-0.4)
    assert "beside the finalists (-40.0%)" in whole["warnings"][-1] == said.warnings[-1]
    assert "8 networks near the target were timed during the search" in search_summary(whole)
    assert "The device's speed moved" in search_summary(whole)
    page = write_report(work / "whole").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "are multiplied by 1.062 from trial 128 on" in page

    # Finalists and other targets go by what is known at last, also of trials from before.
    for row in whole["finalists"]:
        plain = predict([space.decode(space.from_key(row["architecture"]))])[0].ms
        assert row["predicted"] == pytest.approx(event["factor"] * plain)
    found = best_trial(work / "whole", "1s", None, None, None)
    plain = predict([space.decode(space.from_key(found["architecture"]))])[0].ms
    assert found["latency_ms"] == pytest.approx(event["factor"] * plain)

    # Killed in the fourth batch, which was asked after the refit; that is read back, not measured again.
    (work / "dies").touch()
    sys.modules["models"].Dies.calls = 0
    again = Device(predict, 1.1, references)
    monkeypatch.setattr(ruler, "measure_together", again)
    with pytest.raises(BaseException, match="killed"):
        start_search(config(small_calibration, "models:Dies"), work / "killed", Said())
    assert len(again.timed) == 1
    resumed = resume_search(work / "killed", {"accuracy": "models:Dies"}, Said())
    assert len(again.timed) == 2, "the refit and the finalists"
    for kind in ("asked", "refit", "result"):
        first, second = stored(work / "whole", kind), stored(work / "killed", kind)
        for item in (*first, *second):
            item.pop("seconds", None)
        assert first == second
    for name in ("best_reward", "finalists", "drift"):
        assert resumed[name] == whole[name]
    assert resumed["baseline"]["architecture"] == whole["baseline"]["architecture"]


def test_a_device_too_noisy_to_time_changes_nothing(tmp_path: Path) -> None:
    def noisy(networks: Mapping[str, NetworkSpec], **_: Any) -> DeviceLatencies:
        fields = latency_fields(50.0, 90.0, 40.0, 60.0, "measured on a stand-in")
        return DeviceLatencies(
            {name: DeviceLatency(50.0, 90.0, "noisy", fields) for name in networks}, [], 10.0, {}
        )

    loop = remeasuring(tmp_path / "trials.db", Cheap(), Device(latency, 1.0))
    assert loop.remeasure is not None
    loop.remeasure = replace(
        loop.remeasure, ruler=SimpleNamespace(measure=noisy, host=Device(latency, 1.0), reference_ms=10.0)
    )
    loop.run()
    (found,) = loop.history.refits
    assert found.factor == 1.0
    assert "too noisy" in loop.reporter.warnings[0]  # type: ignore[attr-defined]


class Cheap(Dear):
    """Asked for many networks at once."""

    expensive = False


def remeasuring(path: Path, accuracy: Any, device: Device, target: float = 4.0) -> Loop:
    """A loop with such a device; predictions are those of `latency`, corrected by refits."""
    loop = search(path, accuracy, target, latencies=ruler.corrected(latency, lambda: loop.history.factor))
    timed = SimpleNamespace(measure=device, host=device, reference_ms=10.0)
    loop.remeasure = Remeasurer(timed, SPACE, (target,), 0, loop.history, loop.reporter)  # type: ignore[arg-type]
    return loop


def test_what_may_be_above_the_target_is_measured_before_it_is_trained(tmp_path: Path) -> None:
    accuracy, device = Dear(), Device(latency, 1.15)
    loop = remeasuring(tmp_path / "trials.db", accuracy, device)
    loop.run()
    done = [trial for trial in loop.history.trials if trial.status == "done"]
    timed = [trial for trial in loop.history.trials if "latency_raw_ms" in trial.metrics]
    assert len(done) == len(accuracy.asked) == 12
    assert sum(map(len, device.timed)) == len(timed) > 0
    assert any(trial.status == "infeasible" for trial in timed), "none was above: this test shows nothing"
    for trial in loop.history.trials:
        true_ms = 1.15 * madds(SPACE.decode(SPACE.from_key(trial.key))) / 1e6
        if trial in timed:
            assert trial.metrics["latency_ms"] == pytest.approx(true_ms)
            assert (trial.status == "infeasible") == (true_ms > 4.0)
        elif trial.status == "done":  # surely within as it was predicted
            assert trial.metrics["latency_high_ms"] < 4.0
    for trial in done:
        assert trial.reward == pytest.approx(trial.metrics["accuracy"])  # within a hard target
    # What was measured corrects what is predicted next; e^(.1398 x w) with w towards 25 / (25 + 4 / k + 9 / n).
    factors = [found.factor for found in loop.history.refits]
    assert factors == sorted(factors)
    assert 1.07 < factors[0] <= factors[-1] < 1.15
    assert History.read(loop.store.events()).refits == loop.history.refits


def test_a_search_cut_off_while_it_trains_goes_on_with_what_it_measured(tmp_path: Path) -> None:
    whole = remeasuring(tmp_path / "whole.db", Dear(), Device(latency, 1.15))
    whole.run()

    class Killed(Dear):
        def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> Any:
            if len(self.asked) == 7:
                raise KeyboardInterrupt
            return super().evaluate(specs, seed=seed)

    first = Device(latency, 1.15)
    cut = remeasuring(tmp_path / "cut.db", Killed(), first)
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.store.close()  # without a commit, as a kill leaves it
    rest, second = Dear(), Device(latency, 1.15)
    resumed = remeasuring(tmp_path / "cut.db", rest, second)
    resumed.run()
    timed = [key for group in (*first.timed, *second.timed) for key in group]
    assert len(timed) == len(set(timed)), "a network was measured twice"
    for mine, other in zip(resumed.history.trials, whole.history.trials, strict=True):
        assert (mine.key, mine.status, mine.reward, mine.metrics) == (
            other.key,
            other.status,
            other.reward,
            other.metrics,
        )
    assert [r.factor for r in resumed.history.refits] == [r.factor for r in whole.history.refits]
