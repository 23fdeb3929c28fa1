"""What README and the documents tell people to type works."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.testing

import mnas
from mnas.cli import app
from mnas.cli.scaling import respelled

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def commands(document: Path) -> list[list[str]]:
    """The arguments of every `$ mnas ...` line."""
    lines = [line for block in blocks(document, "console") for line in block.splitlines()]
    found = [line.partition("#")[0].split()[2:] for line in lines if line.startswith("$ mnas ")]
    return [respelled(arguments) for arguments in found]


def test_the_readme_has_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_flags_in_documents_exist(document: Path) -> None:
    runner = typer.testing.CliRunner()
    for arguments in commands(document):
        names = [a for a in arguments if not a.startswith("-")][: 2 if arguments[0] == "zoo" else 1]
        text = runner.invoke(app, [*names, "--help"]).output
        assert text.startswith("Usage"), names
        for flag in (a for a in arguments if a.startswith("--")):
            assert flag in text, f"{document.name}: mnas {' '.join(names)} has no {flag}"


def test_python_in_the_readme_runs(tmp_path: Path) -> None:
    board, usage = blocks(ROOT / "README.md", "python")
    (tmp_path / "board.py").write_text(board)
    (tmp_path / "usage.py").write_text(
        f"{usage}\nfrom board import Board\nassert abs(Board().predict([b0])[0] - 385_814_752 / 12e6) < 1e-9\n"
        "assert sum(p.numel() for p in module.parameters()) == 5_288_548\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mnas.__file__).parent.parent)}
    subprocess.run([sys.executable, "usage.py"], cwd=tmp_path, env=environment, check=True)


@pytest.mark.slow
def test_commands_of_the_readme_run_in_order(tmp_path: Path) -> None:
    (tmp_path / "board.py").write_text(blocks(ROOT / "README.md", "python")[0])
    environment = os.environ | {"PYTHONPATH": str(Path(mnas.__file__).parent.parent)}
    for arguments in commands(ROOT / "README.md"):
        done = subprocess.run(
            [sys.executable, "-m", "mnas", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"mnas {' '.join(arguments)}: {done.stderr}"
