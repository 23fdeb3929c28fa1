"""Members of every space as files that run without mnas."""

import random
from pathlib import Path

import pytest

from mnas.errors import InputError
from mnas.export import export_network
from mnas.registry import BUILTIN, make
from mnas.search_space import NetworkSpec, network_cost

pytestmark = pytest.mark.usefixtures("one_thread")

OF_TIMMS_BUILDER = ("mbconv", "efficientnetv2")
LARGEST = 300_000_000  # multiply-adds: of the members here, so that a test takes seconds


def member(name: str) -> NetworkSpec:
    """A random member of a space for 32 pixels, no larger than `LARGEST`."""
    space = make("space", name, {"resolution": 32, "num_classes": 5}, "decode")
    rng = random.Random(1)
    drawn = (space.decode(space.sample(rng)) for _ in range(100))
    return next(spec for spec in drawn if network_cost(spec).madds <= LARGEST)


@pytest.mark.parametrize("form", ["onnx", pytest.param("python", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", sorted(set(BUILTIN["space"]) - {"mnasnet", "macro"}))
def test_a_member_is_exported(name: str, form: str, tmp_path: Path) -> None:
    suffix = {"python": "py"}.get(form, form)
    exported = export_network(member(name), tmp_path / f"net.{suffix}", form)
    assert exported.path.is_file()
    assert exported.error is None or exported.error < 1e-4


@pytest.mark.parametrize("name", OF_TIMMS_BUILDER)
def test_a_member_is_built_by_timm(name: str, tmp_path: Path) -> None:
    assert export_network(member(name), tmp_path / "net.timm.json", "timm").path.is_file()


@pytest.mark.parametrize("name", ["resnet-rs", "regnet"])
def test_what_timms_builder_does_not_know_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"timm's builder cannot hold this network: .*the head is 'pool'"):
        export_network(member(name), tmp_path / "net.timm.json", "timm")
