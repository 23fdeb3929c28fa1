"""The training-aware reward: accuracy x S^w x P^v within a hard target, with S from training steps that were timed."""

import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import MODELS, Said, mnas, result_of

from mnas import step_time
from mnas.bench.controllers import Wanted
from mnas.config import make_config
from mnas.errors import InputError, MnasError
from mnas.latency import StructuralPredictor
from mnas.objective import Reward, training_factor, worth
from mnas.protocols import AccuracyEstimate
from mnas.search import resume_search, start_search
from mnas.search.finalists import Candidate, Measured, decide, pareto_front, select
from mnas.search.history import History, Trial
from mnas.search.optimum import find_optimum
from mnas.search.step_timing import sample_of_all
from mnas.search.steps import Steps
from mnas.search_space import NetworkSpec, extremes, macro_space, mbconv_space, network_cost
from mnas.step_time import StepTimes, time_steps
from mnas.store import EventStore


def test_a_slower_step_and_more_parameters_take_from_the_accuracy() -> None:
    # arXiv 2104.00298, sec. 3.3: w = -0.07, v = -0.05; 2^-0.07 = 0.95264, 4^-0.05 = 0.93303.
    assert training_factor(2.0, 4.0) == pytest.approx(0.95264 * 0.93303, abs=1e-5)
    assert worth({"accuracy": 0.6, "training_factor": 0.5}) == 0.3
    assert worth({"accuracy": 0.6}) == 0.6


def test_the_target_stays_a_hard_one() -> None:
    reward = Reward("training-aware", 100.0)
    assert reward.score([0.6, 0.6], [50.0, 200.0]).tolist() == [0.6, 0.3]
    assert reward.refuses


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"reward": "training-aware", "baseline": "random"}, "--baseline compares controllers by accuracy"),
        ({"reward": "hard", "train_threads": 2}, "belongs to --data"),
        ({"reward": "training-aware", "epochs": 2}, "belongs to --data"),
    ],
)
def test_what_does_not_go_with_it_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_config({"target_madds": "300M", **values})


def test_where_steps_are_timed_has_defaults_without_data() -> None:
    config = make_config({"target_madds": "300M", "reward": "training-aware", "train_threads": 2}).resolved()
    assert (config.train_device, config.train_threads) == ("auto", 2)
    assert make_config({"target_madds": "300M"}).resolved().train_device is None


def test_a_benchmark_of_accuracies_and_costs_refuses_it() -> None:
    with pytest.raises(MnasError, match="training-aware"):
        Wanted("nas-bench-macro", reward="training-aware")


def test_no_optimum_is_claimed() -> None:
    found = find_optimum(mbconv_space(), object(), Reward("training-aware", 3e8), "madds")  # type: ignore[arg-type]
    assert found.kind == "unknown"
    assert "accuracy and cost alone" in str(found.reason)


# -- finalists ---------------------------------------------------------------------------------------------------------


def candidate(number: int, accuracy: float, cost: float, factor: float) -> Candidate:
    return Candidate(Trial(number, str(number)), accuracy, 0.001, cost, cost, cost, factor=factor)


def test_finalists_are_chosen_by_worth() -> None:
    slow, quick = candidate(0, 0.70, 90.0, 0.8), candidate(1, 0.65, 95.0, 1.0)
    assert [c.trial.number for c in select([slow, quick], 100.0)] == [1, 0]
    assert [c.trial.number for c in pareto_front([slow, quick])] == [0]  # of accuracy and cost alone
    judged = [Measured(c, c.cost, c.cost) for c in (slow, quick)]
    winner = decide(judged, 100.0, tie=0.002)
    assert winner is not None
    assert winner.candidate is quick


# -- times -------------------------------------------------------------------------------------------------------------


class Clock:
    """A device whose steps take what they should, and twice as long from some step on."""

    def __init__(self, slow_from: int = 1000) -> None:
        self.now, self.steps, self.slow_from = 0.0, 0, slow_from

    def step(self, spec: NetworkSpec, *_: object) -> Any:
        def run() -> None:
            self.steps += 1
            self.now += network_cost(spec).madds / 1e9 * (2 if self.steps > self.slow_from else 1)

        return run


def test_a_steps_time_is_its_ratio_to_the_reference_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    space = mbconv_space(resolution=32, num_classes=10)
    small, large = (space.decode(point) for point in extremes(space, lambda s: network_cost(s).madds))
    for slow_from in (1000, 6):  # the device slows down after two rounds of three steps
        clock = Clock(slow_from)
        monkeypatch.setattr(step_time, "_step", clock.step)
        monkeypatch.setattr(step_time.time, "process_time", lambda clock=clock: clock.now)
        found = time_steps({"small": small, "large": large}, reference=small, batch=2, seed=0)
        assert found.ratio("small") == pytest.approx(1.0)
        assert found.ratio("large") == pytest.approx(network_cost(large).madds / network_cost(small).madds)
        assert len(found.ratios["large"]) == step_time.ROUNDS
        assert found.spread == pytest.approx(0.0, abs=1e-9)


def test_real_steps_train_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    space = macro_space()
    spec = space.decode(space.architecture([0] * len(space.choices)))
    before = torch.get_num_threads()
    found = time_steps({"a": spec}, reference=spec, batch=2, rounds=1, seed=0)
    assert found.reference_ms > 0
    assert found.conditions.startswith("batch 2, fp32, cpu, 1 thread, torch")
    assert torch.get_num_threads() == before
    with pytest.raises(InputError, match="at least one network"):
        time_steps({}, reference=spec, batch=2, seed=0)


def test_a_sample_has_every_option() -> None:
    space = mbconv_space()
    found = sample_of_all(space, 4, random.Random(0))
    assert len(set(found)) == len(found) >= 4
    for position, choice in enumerate(space.choices):
        assert {point[position] for point in found} == set(range(len(choice.options)))
    assert sample_of_all(space, 4, random.Random(0)) == found


def test_known_steps_travel_through_the_store() -> None:
    predictor = StructuralPredictor({"networks": 10.0}, ((10.0, 0.1),), "here")
    steps = Steps(predictor, 20.0, 5.0, 1_000_000, {"said": "x"})
    again = Steps.from_dict(steps.to_dict())
    assert again == steps
    spec = mbconv_space().decode([0] * 28)
    params = network_cost(spec).params / 1e6
    assert again.metrics(spec, 10.0) == {"step_ms": 10.0, "training_factor": training_factor(2.0, params)}


# -- searches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "models", raising=False)
    return tmp_path


@pytest.fixture
def timings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many networks were timed each time; a step takes a microsecond a thousand multiply-adds."""
    asked: list[int] = []

    def time_steps(networks: Mapping[str, NetworkSpec], *, reference: NetworkSpec, **_: object) -> StepTimes:
        asked.append(len(networks))
        base = network_cost(reference).madds
        ratios = {name: (network_cost(spec).madds / base,) * 3 for name, spec in networks.items()}
        return StepTimes(base / 1e6, ratios, "batch 8, made up", 1.0)

    monkeypatch.setattr(step_time, "time_steps", time_steps)
    return asked


CONFIG = {
    "target_latency": "20ms",
    "latency": "models:Latency",
    "accuracy": "models:Accuracy",
    "reward": "training-aware",
    "resolution": 64,
    "train_device": "cpu",
    "trials": 60,
}


def done(run: Path) -> list[Trial]:
    with EventStore.open(run / "trials.db") as store:
        return [trial for trial in History.read(store.events()).trials if trial.status == "done"]


@pytest.mark.parametrize("controller", ["guided", "reinforce"])
def test_trials_are_rewarded_by_worth_and_the_winner_has_most_of_it(
    work: Path, timings: list[int], controller: str
) -> None:
    said = Said()
    config = make_config({**CONFIG, "controller": controller, "target_latency": "3ms"})
    result = start_search(config, work / "run", said)
    trials, space = done(work / "run"), mbconv_space(resolution=64)
    smallest, _ = extremes(space, lambda spec: network_cost(spec).madds)
    fewest, _ = extremes(space, lambda spec: network_cost(spec).params)
    fastest, params = network_cost(space.decode(smallest)).madds, network_cost(space.decode(fewest)).params
    for trial in trials:
        m = trial.metrics
        factor = (m["madds"] / fastest) ** -0.07 * (m["params"] / params) ** -0.05
        assert m["training_factor"] == pytest.approx(factor, rel=0.01)  # the time is predicted
        within = min(1.0, 3.0 / m["latency_ms"])
        assert trial.reward == pytest.approx(m["accuracy"] * m["training_factor"] * within)
    best = max((t for t in trials if t.metrics["latency_ms"] <= 3.0), key=lambda t: worth(t.metrics))
    winner = next(t for t in trials if t.key == result["baseline"]["architecture"])
    assert worth(winner.metrics) >= worth(best.metrics) - 0.003  # a tie is one standard error, 0.002
    assert result["baseline"]["step_ms"] == pytest.approx(winner.metrics["madds"] / 1e6)
    assert result["optimum"]["kind"] == "unknown"
    report = mnas(work, "report", "run", "--json")
    page = Path(result_of(report)["path"]).read_text()
    assert "best by accuracy x S^-0.07 x P^-0.05" in page
    assert "which was timed of each" in page
    assert result["steps"]["error"]["mape"] < 0.01
    assert timings[0] >= 30
    assert len(timings) == 2  # the space, then the finalists
    assert any("the target, which stays a hard one" in note for note in said.notes)
    assert any("held out" in note for note in said.notes)


def test_a_resumed_search_does_not_time_the_space_again(work: Path, timings: list[int]) -> None:
    class Interrupts(Said):
        def progress(self, done: int, total: int, text: str) -> None:
            if done == 32:
                raise KeyboardInterrupt

    config = make_config({**CONFIG, "controller": "reinforce", "ask_batch": 16})
    assert start_search(config, work / "half", Interrupts())["status"] == "interrupted"
    assert len(timings) == 1
    flags = {"latency": "models:Latency", "accuracy": "models:Accuracy"}
    resumed = resume_search(work / "half", flags, Said())
    assert len(timings) == 2  # the finalists
    whole = start_search(config, work / "whole", Said())
    assert resumed["baseline"] == whole["baseline"]
    assert [t.reward for t in done(work / "half")] == [t.reward for t in done(work / "whole")]


def test_it_leads_to_smaller_networks_than_accuracy_alone(work: Path, timings: list[int]) -> None:
    def searched(**changes: Any) -> dict[str, Any]:
        values = {**CONFIG, "target_latency": "6ms", "controller": "evolution", "trials": 300, **changes}
        config = make_config({name: value for name, value in values.items() if value is not None})
        return start_search(config, work / config.reward, Said())

    aware, plain = searched(), searched(reward="hard", train_device=None)
    assert aware["baseline"]["params"] < plain["baseline"]["params"]
    assert aware["baseline"]["madds"] < plain["baseline"]["madds"]
    assert "step_ms" not in plain["baseline"]
    assert plain["steps"] is None


def test_the_best_stored_trial_for_another_target_is_that_of_most_worth(
    work: Path, timings: list[int]
) -> None:
    start_search(make_config({**CONFIG, "controller": "random"}), work / "run", Said())
    found = result_of(mnas(work, "best", "run", "--target-latency", "2ms", "--json"))
    within = [trial for trial in done(work / "run") if trial.metrics["latency_ms"] <= 2.0]
    assert found["trial"] == max(within, key=lambda t: worth(t.metrics)).number


def test_a_controller_is_told_what_the_reward_multiplies() -> None:
    from mnas.protocols import Observation
    from mnas.search.costing import Limits
    from mnas.search.history import Batch
    from mnas.search.lanes import Lane, observations

    space = mbconv_space()
    key = space.architecture([0] * 28).key
    metrics = {"accuracy": 0.6, "training_factor": 0.5, "params": 1.0, "madds": 1.0}
    trial = Trial(0, key, "done", metrics, 0.3, None, AccuracyEstimate(0.6, 0.0, "x").source)
    lane = Lane(object(), Reward("training-aware", 1.0))  # type: ignore[arg-type]
    told: list[Observation] = observations(
        Batch([1], [trial]), 0, [lane], space, Limits(1, ask_batch=1), timed=False
    )
    assert told[0].metrics["accuracy"] == 0.3
    assert told[0].reward == 0.3
    assert trial.metrics["accuracy"] == 0.6
