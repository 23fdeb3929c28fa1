"""What all bridges share, tried without any other library; each library has a file of its own beside this one."""

import importlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from commands import MODELS, SEARCH, environment, mnas

from mnas.config import SearchConfig
from mnas.errors import InputError
from mnas.integrations.bridge import REPEATS, BridgeController
from mnas.protocols import Controller, Observation, Status
from mnas.registry import BUILTIN, is_reference, resolve
from mnas.search_space import Architecture, Choice, NetworkSpec, SearchSpace, StageSpec, mbconv_space

BRIDGES = [name for name in BUILTIN["controller"] if ":" in name]


def line(options: int) -> SearchSpace:
    """As many networks as that."""

    def build(values):  # type: ignore[no-untyped-def]
        return NetworkSpec(8, (StageSpec("sepconv", 3, 1, 8, values["a"]),), 8, 32, 10)

    return SearchSpace("line", (Choice("a", tuple(range(1, options + 1))),), build)


class Scripted:
    """Proposes what it was given, one after the other, and writes down what it is told."""

    def __init__(self, genes: Iterable[int]) -> None:
        self.genes = iter(genes)
        self.proposed = 0
        self.told: list[tuple[int | str, Status, float | None]] = []

    def propose(self) -> tuple[int, Architecture] | None:
        gene = next(self.genes, None)
        if gene is None:
            return None
        self.proposed += 1
        return self.proposed, Architecture((gene,))

    def answer(self, token: int, status: Status, reward: float | None) -> None:
        self.told.append((token, status, reward))

    def learn(self, point: Architecture, status: Status, reward: float | None) -> None:
        self.told.append((point.key, status, reward))


def done(gene: int, reward: float) -> Observation:
    return Observation(Architecture((gene,)), "done", reward)


def test_a_known_network_is_answered_and_another_one_asked_for() -> None:
    peer = Scripted([4, 4, 2, 4, 2, 7])
    controller = BridgeController(line(9), peer, seed=0)
    # the second proposal of 4 waits for the answer to the first
    assert controller.ask(2) == [(4,), (2,)]
    controller.tell([done(2, 0.2), Observation(Architecture((4,)), "failed", None)])
    assert peer.told == [(3, "done", 0.2), (1, "failed", None), (2, "failed", None)]
    assert controller.ask() == [(7,)]
    assert peer.told[3:] == [(4, "failed", None), (5, "done", 0.2)]


def test_what_was_told_without_being_asked_is_handed_on_and_not_asked_for() -> None:
    peer = Scripted([3, 5])
    controller = BridgeController(line(9), peer, seed=0)
    controller.tell([done(3, 0.5)])
    assert peer.told == [("3", "done", 0.5)]
    assert controller.ask() == [(5,)]
    assert peer.told[1:] == [(1, "done", 0.5)]


def test_a_point_outside_the_space_raises_before_anything_is_learned() -> None:
    peer = Scripted([1])
    controller = BridgeController(line(9), peer, seed=0)
    controller.ask()
    with pytest.raises(InputError, match="0 to 8, got 9"):
        controller.tell([done(1, 0.5), done(9, 0.5)])
    assert peer.told == []


def test_a_library_that_repeats_itself_is_helped_out_to_the_last_network() -> None:
    peer = Scripted(0 for _ in range(10**6))
    controller = BridgeController(line(30), peer, seed=0)
    assert controller.ask() == [(0,)]
    controller.tell([done(0, 0.1)])
    asked = [controller.ask()[0] for _ in range(29)]
    assert peer.proposed == 1 + 29 * REPEATS
    assert sorted([(0,), *asked]) == [(gene,) for gene in range(30)]
    assert asked != sorted(asked)
    assert controller.ask(3) == []
    controller.tell([done(asked[0][0], 0.3)])
    assert peer.told[-1] == (asked[0].key, "done", 0.3)


def test_draws_at_random_follow_the_seed() -> None:
    first, second, other = (BridgeController(line(99), Scripted([]), seed=seed).ask(20) for seed in (0, 0, 1))
    assert first == second != other


def test_each_proposal_is_evaluated_where_networks_need_not_be_distinct() -> None:
    peer = Scripted([4, 4, 2, 4])
    controller = BridgeController(line(9), peer, seed=0, distinct=False)
    assert controller.ask(2) == [(4,), (4,)]
    controller.tell([done(4, 0.1), done(4, 0.2)])
    assert peer.told == [(1, "done", 0.1), (2, "done", 0.2)]
    assert controller.ask(9) == [(2,), (4,)]  # then it ends
    assert controller.ask() == []


def test_bridges_are_names_of_ours_and_load_without_their_libraries() -> None:
    assert {name.partition(":")[0] for name in BRIDGES} == {"optuna", "nni"}
    for name in BRIDGES:
        assert not is_reference(name)
        assert callable(resolve("controller", name))
        SearchConfig(target_madds="300M", controller=name)


@pytest.mark.parametrize("name", BRIDGES)
def test_a_missing_library_is_named_with_its_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library = name.partition(":")[0]
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    parts = importlib.import_module("mnas.integrations.nni_parts").parts
    parts.cache_clear()
    with pytest.raises(InputError, match=rf"pip install 'mnas\[{library}\]'"):
        resolve("controller", name)(mbconv_space(), seed=0)


def test_a_search_without_the_library_is_refused_before_it_leaves_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    (tmp_path / "models.py").write_text(MODELS)
    failed = mnas(tmp_path, *SEARCH, "--controller", "optuna:tpe", "--out", "run", code=2)
    assert "pip install 'mnas[optuna]'" in failed.stderr
    assert not (tmp_path / "run").exists()


INEXACT = """
from mnas.controllers import RandomController
from mnas.integrations.bridge import BridgeController

class Peer:
    def propose(self): return None
    def answer(self, token, status, reward): pass
    def learn(self, point, status, reward): pass

def ours(space, *, seed): return BridgeController(space, Peer(), seed=seed, exact_replay=False)

class Theirs(RandomController):
    exact_replay = False
"""


@pytest.mark.parametrize("factory", ["ours", "Theirs"])
def test_a_controller_whose_replay_is_not_exact_is_refused_by_a_search(tmp_path: Path, factory: str) -> None:
    (tmp_path / "models.py").write_text(MODELS + INEXACT)
    failed = mnas(tmp_path, *SEARCH, "--controller", f"models:{factory}", "--out", "run", code=2)
    assert "mnas bench alone" in failed.stderr
    assert not (tmp_path / "run").exists()


def test_importing_a_bridge_loads_no_library() -> None:
    code = (
        "import sys, mnas.integrations.nni, mnas.integrations.optuna;"
        "print([name for name in ('torch', 'optuna', 'nni') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_a_bridge_is_a_controller() -> None:
    assert isinstance(BridgeController(line(2), Scripted([]), seed=0), Controller)
