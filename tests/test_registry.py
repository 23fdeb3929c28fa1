import sys
from pathlib import Path

import pytest

from mnas import registry
from mnas.errors import InputError, SearchError, UnknownNameError
from mnas.search_space import SearchSpace, mbconv_space


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with an entry point in each group, one of them under a name of ours."""
    (tmp_path / "their_package.py").write_text(
        "class Controller:\n"
        "    def __init__(self, space, *, seed, patience=3): self.seen = (space, seed, patience)\n"
        "    def ask(self, n=1): return []\n"
        "    def tell(self, observations): pass\n"
        "def takes_all(**given): made = Controller(None, seed=0); made.given = given; return made\n"
        "def raises(): raise OSError('no board at /dev/ttyUSB0')\n"
        "number = 3\n"
    )
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mnas.controllers]\ntheirs = their_package:Controller\nrandom = their_package:Controller\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_package", raising=False)


@pytest.mark.parametrize("kind", registry.BUILTIN)
def test_every_name_of_ours_can_be_loaded(kind: registry.Kind) -> None:
    for name in registry.BUILTIN[kind]:
        assert callable(registry.resolve(kind, name))


def test_spaces_are_made_with_resolution_and_classes() -> None:
    for name in registry.BUILTIN["space"]:
        space = registry.make("space", name, {"resolution": 96, "num_classes": 7}, "decode")
        assert isinstance(space, SearchSpace)
        spec = space.decode([0] * len(space.choices))
        assert (spec.resolution, spec.num_classes, space.name) == (96, 7, name)


@pytest.mark.usefixtures("plugin")
def test_an_entry_point_is_found_and_cannot_take_over_a_name_of_ours() -> None:
    space = mbconv_space()
    made = registry.make("controller", "theirs", {"space": space, "seed": 0, "unused": 1}, "ask")
    assert made.seen == (space, 0, 3)
    assert registry.resolve("controller", "random").__module__ == "mnas.controllers.random"


@pytest.mark.usefixtures("plugin")
def test_a_factory_gets_what_it_names_or_everything() -> None:
    made = registry.make("controller", "their_package:takes_all", {"space": 1, "seed": 2}, "ask")
    assert made.given == {"space": 1, "seed": 2}


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("thiers", UnknownNameError, "did you mean 'theirs'"),
        ("their_package:nothing", InputError, "nothing"),
        ("their_package:number", InputError, "int"),
        ("no_such_package:x", InputError, "no_such_package"),
        ("their_package:raises", SearchError, "no board"),
        ("../evil:x", UnknownNameError, "unknown controller"),
    ],
)
def test_what_cannot_be_loaded_says_why(name: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        registry.make("controller", name, {"space": 1, "seed": 2}, "ask")


def test_names_are_checked_without_importing_anything() -> None:
    registry.check_name("latency", "package_that_is_not_there:Model")
    assert "package_that_is_not_there" not in sys.modules
