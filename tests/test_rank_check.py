"""How well candidates are ranked, told before a search's trials: when, at what cost, and going on after a kill."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Said, mnas, result_of

from mnas.accuracy.proxy import ProxyAccuracy
from mnas.config import make_config
from mnas.errors import InputError
from mnas.protocols import AccuracyEstimate
from mnas.report.reading import read_run
from mnas.search.history import Batch, History, Trial
from mnas.search.rank_check import RankCheck, rank_fields
from mnas.search_space import NetworkSpec, StageSpec
from mnas.store import EventStore

pytestmark = pytest.mark.usefixtures("one_thread")

SPECS = [NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, layers),), 8, 32, 10) for layers in range(1, 31)]


class Ranks:
    """The evaluator of a search: a second each, and right but that it takes the first two for one another."""

    expensive = True

    def __init__(self, fails: Sequence[NetworkSpec] = ()) -> None:
        self.asked: list[NetworkSpec] = []
        self.fails = fails

    def evaluate(self, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        self.asked += specs
        if specs[0] in self.fails:
            raise RuntimeError("the loss is nan")
        layers = specs[0].stages[0].repeats
        return [AccuracyEstimate({1: 2, 2: 1}.get(layers, layers) / 100, 0.0, "a short training")]

    def seconds(self, spec: NetworkSpec) -> float:
        return 1.0


@pytest.fixture
def longer(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The longer trainings: nine seconds each, the deeper the better; the epochs of each."""
    epochs: list[int] = []

    def evaluate(self: ProxyAccuracy, specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        epochs.append(self.epochs)
        return [AccuracyEstimate(specs[0].stages[0].repeats / 50, 0.0, "a longer training")]

    monkeypatch.setattr(ProxyAccuracy, "evaluate", evaluate)
    monkeypatch.setattr(ProxyAccuracy, "seconds", lambda self, spec: 9.0)
    return epochs


def check(
    path: Path,
    total_s: float = 0.0,
    *,
    accuracy: Any = None,
    history: History | None = None,
    specs: Sequence[NetworkSpec] = SPECS,
    **config: Any,
) -> tuple[RankCheck, Said]:
    """A check of a search whose random networks are `specs`, in order."""
    from mnas.data import load_data

    said = Said()
    problem: Any = SimpleNamespace(
        config=make_config({"target_madds": "4M", "data": "digits", "epochs": 2, **config}).resolved(),
        accuracy=accuracy or Ranks(),
        accuracy_name="ranks",
        data=load_data("digits"),
        device="cpu",
    )
    loop: Any = SimpleNamespace(typical=lambda count, rng: list(specs[:count]))
    store = EventStore.open(path) if path.exists() else EventStore.create(path)
    history = history or History.read(store.events())
    found = RankCheck(problem, loop, specs[:6], store, history, said)
    found.run(total_s)
    store.close()
    return found, said


def test_tau_interval_and_limits_are_told(tmp_path: Path, longer: list[int]) -> None:
    found, said = check(tmp_path / "t.db", rank_check=6)
    assert longer == [8] * 6  # as long as finalists: four times the candidates' two epochs
    fields = rank_fields(found.history.ranks, 0)
    assert fields is not None
    # One of fifteen pairs the wrong way round; multiply-adds grow with the depth, as the truth does.
    assert fields["tau"] == pytest.approx(13 / 15)
    assert (fields["n"], fields["failed"], fields["tau_madds"]) == (6, 0, 1.0)
    assert (fields["evaluator"], fields["truth"]) == ("a short training", "a longer training")
    assert "Kendall tau 0.87" in fields["text"]
    assert "multiply-adds alone rank them with 1.00" in fields["text"]
    assert fields["text"] in said.notes
    assert found.history.trials == []


def test_a_check_that_was_killed_goes_on(tmp_path: Path, longer: list[int]) -> None:
    path = tmp_path / "t.db"
    whole, _ = check(tmp_path / "whole.db", rank_check=6)
    accuracy = Ranks()

    def killed(specs: Sequence[NetworkSpec], *, seed: int) -> list[AccuracyEstimate]:
        if len(accuracy.asked) == 3:
            raise KeyboardInterrupt
        return Ranks.evaluate(accuracy, specs, seed=seed)

    interrupted: Any = SimpleNamespace(evaluate=killed, seconds=accuracy.seconds)
    with pytest.raises(KeyboardInterrupt):
        check(path, accuracy=interrupted, rank_check=6)
    resumed, _ = check(path, accuracy=accuracy, rank_check=6)
    assert accuracy.asked == SPECS[:6]
    ours, theirs = (rank_fields(found.history.ranks, 0) for found in (resumed, whole))
    assert ours is not None
    assert theirs is not None
    assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


@pytest.mark.parametrize(
    ("total_s", "networks"),
    # Ten seconds a network: a tenth of 599 s is too little for six, of 750 s enough for seven, of 1e6 s for all.
    [(599.0, 0), (600.0, 6), (750.0, 7), (1e6, 20)],
)
def test_unasked_it_takes_a_tenth_of_the_time(
    tmp_path: Path, longer: list[int], total_s: float, networks: int
) -> None:
    found, said = check(tmp_path / "t.db", total_s)
    assert len(found.history.ranks) == networks
    if not networks:
        assert (
            "training 6 networks for 8 epochs beside would take 60 s, more than 10% of the search"
            in said.notes[0]
        )
        assert "--rank-check 6 does it all the same" in said.notes[0]


def test_max_time_limits_it_too(tmp_path: Path, longer: list[int]) -> None:
    found, _ = check(tmp_path / "t.db", 1e6, max_time="5m")
    assert found.history.ranks == []


def test_it_is_left_out_where_it_is_off_or_the_search_has_begun(tmp_path: Path, longer: list[int]) -> None:
    found, said = check(tmp_path / "off.db", 1e6, rank_check=0)
    begun = History([Batch([1], [Trial(0, "0")])])
    late, _ = check(tmp_path / "begun.db", 1e6, history=begun, rank_check=6)
    assert found.history.ranks == late.history.ranks == said.notes == longer == []


def test_a_small_space_tells_too_little(tmp_path: Path, longer: list[int]) -> None:
    _, said = check(tmp_path / "t.db", 1e6, specs=SPECS[:4], rank_check=6)
    assert "4 different networks were drawn, and fewer than 6 tell too little" in said.notes[0]


def test_a_network_that_fails_is_left_out_and_told(tmp_path: Path, longer: list[int]) -> None:
    found, said = check(tmp_path / "t.db", accuracy=Ranks(fails=SPECS[2:3]), rank_check=6)
    fields = rank_fields(found.history.ranks, 0)
    assert fields is not None
    assert (fields["n"], fields["failed"]) == (5, 1)
    assert said.warnings == ["a network could not be compared: RuntimeError: the loss is nan"]
    none, _ = check(tmp_path / "none.db", accuracy=Ranks(fails=SPECS[:4]), rank_check=6)
    assert rank_fields(none.history.ranks, 0) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data": "digits", "rank_check": 3}, "--rank-check takes at least 6 networks, or 0 for none; got 3"),
        ({"rank_check": 6}, "--rank-check belongs to --data"),
        ({"data": "digits", "rank_check": -1}, "--rank-check"),
    ],
)
def test_bad_input(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make_config({"target_madds": "4M", **values})


MINE = """
from mnas.protocols import AccuracyEstimate
from mnas.search_space import Choice, NetworkSpec, SearchSpace, StageSpec, network_cost

def space(resolution, num_classes):
    def build(values):
        stage = StageSpec("sepconv", values["kernel"], 2, 4, values["layers"])
        return NetworkSpec(4, (stage,), 8, resolution, num_classes)
    return SearchSpace("mine", (Choice("kernel", (3, 5)), Choice("layers", (1, 2, 3, 4))), build)

class Accuracy:
    expensive = True
    def evaluate(self, specs, *, seed):
        return [AccuracyEstimate(network_cost(spec).madds / 1e7, 0.0, "made up") for spec in specs]

class Latency:
    def predict(self, specs):
        return [network_cost(spec).madds / 1e6 for spec in specs]
"""


def test_a_search_tells_it_in_its_result_and_report(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    names = ("--space", "mine:space", "--accuracy", "mine:Accuracy", "--latency", "mine:Latency")
    options = (
        "--final-epochs",
        "1",
        "--finals",
        "1",
        "--trials",
        "2",
        "--rank-check",
        "6",
        "--out",
        "run",
        "--json",
    )
    target = ("--target-latency", "9ms", "--data", "digits", "--resolution", "32")
    result = result_of(mnas(tmp_path, "search", *target, *names, *options))
    assert (result["trials"], result["rank_check"]["n"]) == (2, 6)
    assert result["rank_check"]["truth"].startswith("trained 1 epoch on digits (1,078 images)")
    text = result["rank_check"]["text"]
    assert read_run(tmp_path / "run").ranking == text
    assert "Kendall" in (tmp_path / "run" / "report.html").read_text()
