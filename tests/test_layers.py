"""The picture in docs/architecture.md is true: who imports whom, what ships, what loads torch."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "mnas": "mnas",
    "search_space": "mnas.search_space",
    "controllers": "mnas.controllers",
    "latency": "mnas.latency",
}
# Inside these, what stands right of a `<` may import what stands left of it.
ORDERED = {"L0", "L3", "L5"}


def layers() -> dict[str, tuple[str, int]]:
    """Module -> (layer, group inside the layer), from the table in the documentation."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert table is not None
    found = {}
    for line in table[1].strip().splitlines():
        layer, *_ = line.split()
        for number, group in enumerate(line.removeprefix(layer).split("<")):
            found.update(dict.fromkeys(group.split(), (layer, number)))
    return found


def modules() -> dict[str, Path]:
    """Import name -> file, of everything that ships."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def imports(path: Path) -> set[str]:
    """Everything of mnas that a file imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "mnas"}


def unit(name: str) -> str | None:
    """The row of the table that a dotted name belongs to; None is mnas itself."""
    parts = name.split(".")
    return None if len(parts) == 1 or parts[1] == "__version__" else parts[1]


def test_every_module_stands_in_the_table() -> None:
    units = {unit(name) for name in modules()} - {None, "testing"}
    assert units == set(layers())


def test_imports_go_down() -> None:
    table = layers()
    wrong = []
    for name, path in modules().items():
        here = unit(name)
        if here in (None, "testing"):
            continue
        for imported in imports(path):
            there = unit(imported)
            if there is None or there == here:
                continue
            assert there in table, f"{name} imports {imported}, which stands in no layer"
            (layer, group), (other, other_group) = table[here], table[there]
            inside = layer == other and layer in ORDERED and other_group < group
            if not (other < layer or inside):
                wrong.append(f"{name} ({layer}) imports {imported} ({other})")
    assert wrong == []


def test_the_package_list_is_the_folders() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {
        name.rpartition(".")[0] if path.name != "__init__.py" else name for name, path in modules().items()
    }
    assert set(project["packages"]) == packages - {""}
    assert project["package-dir"] == {package: folder for folder, package in FOLDERS.items()}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import mnas", "torch numpy pydantic onnx typer"),
        ("import mnas.cli", "torch numpy pydantic onnx onnxruntime rich"),
        ("import mnas.search_space", "torch numpy pydantic onnx"),
        ("import mnas.zoo", "torch numpy pydantic onnx"),
        ("import mnas.controllers", "torch pydantic onnx"),
        ("import mnas.latency", "torch pydantic onnx"),
        ("import mnas.graph", "torch pydantic"),
        ("import mnas.accuracy.surrogate", "torch pydantic onnx sklearn scipy"),
        ("import mnas.search", "torch onnx onnxruntime sklearn"),
    ],
)
def test_what_is_light_stays_light(code: str, absent: str) -> None:
    script = f"{code}; import sys; print(*sorted(m for m in {absent.split()} if m in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "yaml"}


def test_nothing_unpickles_evaluates_or_starts_a_shell() -> None:
    wrong = []
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    {node.module or ""} if isinstance(node, ast.ImportFrom) else {a.name for a in node.names}
                )
                wrong += [f"{name}: imports {n}" for n in names if n.split(".")[0] in FORBIDDEN_MODULES]
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called in FORBIDDEN_CALLS or called in (
                "os.system",
                "os.popen",
                "torch.load",
                "np.load",
                "numpy.load",
            ):
                wrong.append(f"{name}:{node.lineno}: {called}")
            wrong += [
                f"{name}:{node.lineno}: shell"
                for k in node.keywords
                if k.arg == "shell" and ast.unparse(k.value) != "False"
            ]
    assert wrong == []


def test_doctests() -> None:
    import doctest
    import importlib

    failed, tried = 0, 0
    for name in modules():
        if name.endswith("__main__"):
            continue
        results = doctest.testmod(importlib.import_module(name))
        failed, tried = failed + results.failed, tried + results.attempted
    assert failed == 0
    assert tried >= 8
