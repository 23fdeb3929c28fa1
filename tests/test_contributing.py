"""What CONTRIBUTING.md says of a new block is enough: its diff is applied to a copy, whose own tests are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHECKED = """
import torch
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec, network_cost

plain = NetworkSpec(12, (StageSpec("sandglass", 3, 1, 12),), 8, resolution=16, num_classes=3)
none = NetworkSpec(12, (StageSpec("conv", 1, 1, 12, skip="none"),), 8, resolution=16, num_classes=3)
block, other = (network_cost(spec) for spec in (plain, none))
pixels = 8 * 8
# Two depthwise 3x3 of 12 channels, 12 to 8 and back; the other network has a 1x1 convolution instead.
weights = 2 * 9 * 12 + 2 * 12 * 8
assert block.madds - other.madds == (weights - 12 * 12) * pixels, block
norms = 2 * (12 + 8 + 12 + 12)
assert block.params - other.params == weights + norms - 12 * 12 - 2 * 12, block
assert build_module(plain)(torch.zeros(2, 3, 16, 16)).shape == (2, 3)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with the diff applied."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("mnas", "search_space", "controllers", "latency"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    for name in ("conftest.py", "programs.py", "turns.py", "test_blocks.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests" / name)
    shutil.copy(ROOT / "pyproject.toml", folder / "pyproject.toml")
    (diff,) = re.findall(
        r"^```diff\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE
    )
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    done = subprocess.run(["git", "apply", "-"], cwd=folder, input=diff, text=True, capture_output=True)
    assert done.returncode == 0, f"the diff in CONTRIBUTING.md no longer applies: {done.stderr}"
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_it_costs_what_its_layers_cost(copy: Path) -> None:
    done = run(copy, "-c", CHECKED)
    assert done.returncode == 0, done.stderr


def test_the_conformance_suite_takes_the_new_row_by_itself(copy: Path) -> None:
    done = run(
        copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_blocks.py", "-k", "sandglass"
    )
    assert done.returncode == 0, done.stdout
    found = re.search(r"(\d+) passed", done.stdout)
    assert found is not None
    assert int(found[1]) >= 2
    assert "sandglass" not in (ROOT / "search_space" / "blocks.py").read_text()
