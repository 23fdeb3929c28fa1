"""Several targets from one pool of trials: who asks, who is told what, what each ends with."""

import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import MODELS, mnas, mnas_process, result_of
from loops import SPACE, latency
from test_expensive_search import Dear

from mnas.config import make_config, parse_targets
from mnas.controllers.random import RandomController
from mnas.errors import InputError
from mnas.objective import Reward
from mnas.protocols import Observation
from mnas.search.costing import Costing, Limits
from mnas.search.history import Batch, History, Trial
from mnas.search.lanes import Lane, best_trial_for, observations, whose_turn
from mnas.search.loop import Loop
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, network_cost
from mnas.store import EventStore

SEVERAL = ("search", "--target-latency", "8ms,20ms,40ms", "--latency", "models:Latency")
SEVERAL = (*SEVERAL, "--accuracy", "models:Accuracy", "--controller", "reinforce")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def lane(share: float = 1.0, *, baseline: bool = False, target: float = 4.0) -> Lane:
    controller = RandomController(SPACE, seed=0)
    return Lane(controller, Reward("hard", target), share=share, baseline=baseline)


def test_lanes_ask_in_turn_by_their_shares() -> None:
    lanes, spent, order = [lane(0.6), lane(0.2, baseline=True), lane(0.2)], dict[int, int](), []
    for _ in range(10):
        turn = whose_turn(lanes, spent)
        assert turn is not None
        spent[turn] = spent.get(turn, 0) + 1
        order.append(turn)
    assert spent == {0: 6, 1: 2, 2: 2}
    assert order[:4] == [0, 1, 2, 0]
    assert whose_turn(lanes, spent, ended=[0]) == 1
    assert whose_turn(lanes, spent, ended=[0, 1, 2]) is None


def batch(asker: int) -> Batch:
    """One done trial of 0.6 at 5 ms, one failed, one above the asker's target, one outside a limit, one waiting."""
    keys = [SPACE.architecture([n % len(c.options) for c in SPACE.choices]).key for n in range(5)]
    known = {"params": 1.0, "madds": 5e6, "latency_ms": 5.0, "latency_low_ms": 4.0, "latency_high_ms": 6.0}
    done = {**known, "accuracy": 0.6, "accuracy_std": 0.0}
    trials = [
        Trial(0, keys[0], "done", done, 0.6, lane=asker),
        Trial(1, keys[1], "failed", known, error="x", lane=asker),
        Trial(2, keys[2], "infeasible", known, error="above the target", lane=asker),
        Trial(3, keys[3], "infeasible", {**known, "params": 9.0}, error="too many", lane=asker),
        Trial(4, keys[4], lane=asker),
    ]
    return Batch([5], trials, lane=asker)


def told(asker: int, mine: int, lanes: list[Lane]) -> dict[str, float | None]:
    limits = Limits(trials=9, ask_batch=5, max_params=5)
    found: list[Observation] = observations(batch(asker), mine, lanes, SPACE, limits, timed=True)
    return {f"{SPACE.architecture(o.architecture).key}"[:1] + o.status: o.reward for o in found}


def test_every_lane_is_told_with_its_own_reward_but_not_what_another_target_refused() -> None:
    lanes = [lane(target=10.0), lane(target=4.0)]
    own = told(0, 0, lanes)
    assert sorted(own.values(), key=str) == [0.6, None, None, None]
    other = told(0, 1, lanes)
    assert len(other) == 3, "what is above the other's target may be within this one"
    (reward,) = (reward for reward in other.values() if reward)
    assert reward == pytest.approx(0.6 * 4 / 5)  # hard: times (5 / 4)^-1


def test_a_baseline_and_the_search_are_told_nothing_of_each_other() -> None:
    lanes = [lane(), lane(baseline=True)]
    assert told(0, 1, lanes) == {} == told(1, 0, lanes)
    assert len(told(1, 1, lanes)) == 4


def test_the_best_for_a_target_is_by_its_own_reward() -> None:
    def trial(number: int, accuracy: float, ms: float) -> Trial:
        interval = {"latency_ms": ms, "latency_low_ms": ms, "latency_high_ms": ms}
        return Trial(
            number, "k", "done", {"accuracy": accuracy, "accuracy_std": 0.0, "madds": 1.0, **interval}, 0.0
        )

    trials = [trial(0, 0.5, 2.0), trial(1, 0.7, 8.0), trial(2, 0.7, 8.0)]
    for target, number, reward in ((2.0, 0, 0.5), (8.0, 1, 0.7), (7.0, 1, 0.7 * 7 / 8)):
        best = best_trial_for(trials, Reward("hard", target), timed=True)
        assert best is not None
        assert best[0].number == number
        assert best[1] == pytest.approx(reward)
    assert best_trial_for([], Reward("hard", 1.0), timed=True) is None


class Listener(RandomController):
    """Remembers what it was told."""

    def __init__(self, *, seed: int) -> None:
        super().__init__(SPACE, seed=seed)
        self.heard: list[Observation] = []

    def tell(self, observed: Sequence[Observation]) -> None:
        self.heard += observed
        super().tell(observed)


def loop(path: Path, accuracy: Any, lanes: list[Lane], trials: int = 24) -> Loop:
    store = EventStore.open(path) if path.exists() else EventStore.create(path)
    made = Loop(
        lanes=lanes,
        costing=Costing(SPACE, latency, Limits(trials, ask_batch=4), 0.5),
        accuracy=accuracy,
        accuracy_name="made up",
        seed=0,
        store=store,
        history=History.read(store.events()),
        reporter=Quiet(),
        proposals=16,
    )
    made.replay()
    return made


def three() -> list[Lane]:
    """For 3 ms, 6 ms, and a baseline for 6 ms that proposes what the second does."""
    seeds = {3.0: 1, 6.0: 2}
    made = [Lane(Listener(seed=seed), Reward("hard", ms)) for ms, seed in seeds.items()]
    return [*made, Lane(Listener(seed=2), Reward("hard", 6.0), baseline=True)]


def test_networks_are_trained_once_and_each_lane_by_its_own_target(tmp_path: Path) -> None:
    accuracy = Dear()
    found = loop(tmp_path / "trials.db", accuracy, three())
    found.run()
    trials = found.history.trials
    counted = [trial for trial in trials if trial.status == "done"]
    assert len(counted) == 24
    assert [sum(t.lane == n for t in counted) for n in range(3)] == [8, 8, 8]
    for target, lane_of in ((3.0, 0), (6.0, 1), (6.0, 2)):
        refused = [t for t in trials if t.lane == lane_of and t.status == "infeasible"]
        assert all(trial.metrics["latency_ms"] > target for trial in refused)
    keys = [trial.key for trial in counted]
    twins = len(keys) - len(set(keys))
    assert twins == 8, "the baseline proposes what the second lane did"
    assert len(accuracy.asked) == 24 - twins
    first, second, other = (
        [o for o in lane.controller.heard if o.reward is not None] for lane in found.lanes
    )  # type: ignore[attr-defined]
    assert len(first) == len(second) == 16
    assert len(other) == 8
    assert {o.architecture for o in first} == {o.architecture for o in second}


def test_a_search_for_several_that_is_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = loop(tmp_path / "whole.db", Dear(), three())
    whole.run()

    class Killed(Dear):
        def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> Any:
            if len(self.asked) == 9:
                raise KeyboardInterrupt
            return super().evaluate(specs, seed=seed)

    cut = loop(tmp_path / "cut.db", Killed(), three())
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    cut.store.commit()
    cut.store.close()
    resumed = loop(tmp_path / "cut.db", Dear(), three())
    resumed.run()
    for mine, other in zip(resumed.history.trials, whole.history.trials, strict=True):
        assert (mine.lane, mine.key, mine.reward) == (other.lane, other.key, other.reward)
    for mine_lane, other_lane in zip(resumed.lanes, whole.lanes, strict=True):
        assert mine_lane.controller.heard == other_lane.controller.heard  # type: ignore[attr-defined]


def test_a_space_of_few_networks_ends_for_every_lane(tmp_path: Path) -> None:
    class Two(Listener):
        def ask(self, n: int = 1) -> Any:
            return super().ask(min(n, max(0, 2 - len(self._known))))

    lanes = [Lane(Two(seed=1), Reward("soft", 3.0)), Lane(Two(seed=2), Reward("soft", 6.0))]
    found = loop(tmp_path / "trials.db", Dear(), lanes)
    found.run()
    assert 2 <= len(found.history.trials) <= 4
    assert {t.lane for t in found.history.trials} >= {0}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A search for three targets: its folder, its result and what it printed for people."""
    work = tmp_path_factory.mktemp("several")
    (work / "models.py").write_text(MODELS)
    done = mnas(work, *SEVERAL, "--trials", "1920", "--out", "run")
    return work, json.loads((work / "run" / "result.json").read_text()), done.stdout


def test_each_target_has_its_network_and_its_files(ended: tuple[Path, dict[str, Any], str]) -> None:
    work, result, shown = ended
    assert result["status"] == "done"
    assert result["target"] == {"kind": "latency", "values": [8.0, 20.0, 40.0]}
    assert [part["label"] for part in result["results"]] == ["8ms", "20ms", "40ms"]
    accuracies = []
    for part in result["results"]:
        baseline = part["baseline"]
        spec = NetworkSpec.from_dict(
            json.loads((work / "run" / f"baseline-{part['label']}.json").read_text())
        )
        assert (work / "run" / f"baseline-{part['label']}.onnx").is_file()
        assert 0.75 * part["target"]["value"] < baseline["latency_ms"] <= part["target"]["value"]
        assert baseline["latency_ms"] == pytest.approx(network_cost(spec).madds / 1e7)
        accuracies.append(baseline["accuracy"])
        assert f"--network baseline-{part['label']} --format onnx" in shown
    assert accuracies == sorted(accuracies)
    assert not (work / "run" / "baseline.json").exists()
    status = result_of(mnas(work, "status", "run", "--json"))
    assert status["best"]["8ms"]["reward"] == result["results"][0]["best_reward"]
    again = mnas(
        work, "resume", "run", "--latency", "models:Latency", "--accuracy", "models:Accuracy", "--json"
    )
    assert result_of(again)["results"] == result["results"]


def test_the_front_is_that_of_all_trials(ended: tuple[Path, dict[str, Any], str]) -> None:
    work, result, _ = ended
    with EventStore.open(work / "run" / "trials.db") as store:
        known = [t.metrics for t in History.read(store.events()).trials if t.status == "done"]
    points = [(m["accuracy"], m["latency_ms"]) for m in known]
    front = {p for p in points if not any(a >= p[0] and ms <= p[1] and (a, ms) != p for a, ms in points)}
    assert {(row["accuracy"], row["latency_ms"]) for row in result["front"]} == front


def test_commands_name_the_network_that_they_mean(ended: tuple[Path, dict[str, Any], str]) -> None:
    work, _, _ = ended
    told = mnas(work, "export", "run", "--format", "json", code=2).stderr
    assert "baseline-20ms" in told
    assert "--network" in told
    named = ("--network", "baseline-20ms")
    exported = result_of(mnas(work, "export", "run", *named, "--format", "safetensors", "--json"))
    assert exported["path"].endswith("baseline-20ms-untrained.safetensors")
    flags = ("--phi", "1", "--no-measure", "--latency", "models:Latency")
    family = result_of(mnas(work, "scale", "run", *named, *flags, "--json"))
    assert len(family["members"]) == 2


def test_the_report_has_a_page_for_each_target(ended: tuple[Path, dict[str, Any], str]) -> None:
    work, result, _ = ended
    overview = (work / "run" / "report.html").read_text()
    assert "A network for each of 3 targets: 8ms, 20ms, 40ms" in overview
    for part in result["results"]:
        page = f"report-{part['label']}.html"
        assert f'href="{page}"' in overview
        text = (work / "run" / page).read_text()
        assert f"A network for your {part['target']['value']:g} ms" in text.replace("\N{NO-BREAK SPACE}", " ")
        assert f"--network baseline-{part['label']}" in text


def test_a_search_for_several_that_was_killed_is_resumed_through_the_command_line(work: Path) -> None:
    flags = ("--latency", "models:KillsItself", "--accuracy", "models:Accuracy")
    search = (
        "search",
        "--target-latency",
        "8ms,20ms",
        *flags,
        "--controller",
        "reinforce",
        "--trials",
        "960",
    )
    (work / "died").touch()
    whole = result_of(mnas(work, *search, "--out", "whole", "--json"))
    (work / "died").unlink()
    mnas_process(work, *search, "--out", "killed", code=-signal.SIGKILL)
    state = result_of(mnas(work, "status", "killed", "--json"))
    assert 0 < state["trials_by_status"]["done"] < 960
    resumed = result_of(mnas(work, "resume", "killed", *flags, "--json"))
    assert resumed["results"] == whole["results"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("40ms,40ms", "the same"),
        ("40ms,0.04s", "the same"),
        ("40ms,", "is not a number with a unit"),
        ("40ms,fast", "is not a number with a unit"),
        ("40ms,80", "has no unit"),
        (",".join(f"{n}ms" for n in range(1, 18)), "17 targets"),
    ],
)
def test_targets_that_are_none_are_refused(target: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        make_config({"target_latency": target})


def test_targets_keep_their_order_and_how_they_were_written() -> None:
    assert parse_targets("80ms, 0.04s", "latency") == (("80ms", 80.0), ("0.04s", 40.0))
    assert parse_targets("0.4G", "madds") == (("0.4G", 4e8),)
