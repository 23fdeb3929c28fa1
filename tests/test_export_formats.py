"""Each format is loaded by what it is for, gives the torch module's logits, and is refused where it would not."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import safetensors
import torch
from safetensors.torch import load_file
from timm.layers import make_divisible

from mnas.errors import InputError, RunDirectoryError, SearchError, UnknownNameError
from mnas.export import FORMATS, check, export_network, formats, timm_file, write
from mnas.export.loader import digest
from mnas.export.subject import Subject, make_subject
from mnas.export.torch_files import weights_bytes
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec, Style

pytestmark = pytest.mark.usefixtures("one_thread")

# What timm can hold: every op, a stride, both kinds of skip, squeeze-and-excitation, and nothing at its default.
SPEC = NetworkSpec(
    12,
    (
        StageSpec("sepconv", 3, 1, 16, 2, se_ratio=0.25),
        StageSpec("fused_mbconv", 3, 1, 16, 2, 2, 0.25),
        StageSpec("mbconv", 5, 2, 24, 3, 3, 0.25),
        StageSpec("conv", 3, 1, 24, 2),
        StageSpec("mbconv", 3, 2, 20, 1, 2, skip="none"),
    ),
    32,
    resolution=33,
    num_classes=10,
    style=Style("relu6", 1e-3, 0.01, "same"),
)
NAMES = {"timm": "net.timm.json", "python": "net.py"}
ABOUT = {"trained": "3 epochs on pictures", "input": '{"mean": [0.5]}'}


def name_of(form: str) -> str:
    return NAMES.get(form, f"net.{form}")


def random_state(spec: NetworkSpec) -> dict[str, torch.Tensor]:
    """Weights that keep the size of signals, different from the initial ones everywhere."""
    generator = torch.Generator().manual_seed(1)
    state = build_module(spec).state_dict()
    for name, tensor in state.items():
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim > 1:
            state[name] = noise / prod(tensor.shape[1:]) ** 0.5
        elif name.endswith("running_var") or (name.endswith("weight") and tensor.ndim == 1):
            state[name] = noise.abs() + 0.5
        elif tensor.dtype == torch.float32:
            state[name] = 0.3 * noise
    return state


STATE = random_state(SPEC)
ARRAYS = {name: tensor.numpy() for name, tensor in STATE.items()}
IMAGE = torch.randn(1, 3, 33, 33, generator=torch.Generator().manual_seed(2))


def expected() -> torch.Tensor:
    module = build_module(SPEC).eval()
    module.load_state_dict(STATE)
    with torch.no_grad():
        return module(IMAGE)


def by_onnxruntime(folder: Path) -> torch.Tensor:
    session = onnxruntime.InferenceSession(folder / "net.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": IMAGE.numpy()})[0])


def by_torch(folder: Path) -> torch.Tensor:
    return torch.export.load(folder / "net.pt2").module()(IMAGE)


def by_safetensors(folder: Path) -> torch.Tensor:
    module = build_module(SPEC).eval()
    module.load_state_dict(load_file(folder / "net.safetensors"))
    return module(IMAGE)


def by_python(folder: Path) -> torch.Tensor:
    return by_code(folder, "from net import load\nmodel = load()")


def by_timm(folder: Path) -> torch.Tensor:
    return by_code(folder, "\n".join(json.loads((folder / "net.timm.json").read_text())["usage"]))


def by_code(folder: Path, code: str) -> torch.Tensor:
    """What a person who follows the file's own words gets, in a process of its own."""
    torch.save(IMAGE, folder / "image.pt")
    script = f"import torch\n{code}\ntorch.save(model(torch.load('image.pt')).detach(), 'logits.pt')"
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True)
    return torch.load(folder / "logits.pt")


def by_json(folder: Path) -> torch.Tensor:
    module = build_module(NetworkSpec.from_dict(json.loads((folder / "net.json").read_text()))).eval()
    module.load_state_dict(STATE)
    return module(IMAGE)


READERS: dict[str, Callable[[Path], torch.Tensor]] = {
    "onnx": by_onnxruntime,
    "pt2": by_torch,
    "safetensors": by_safetensors,
    "python": by_python,
    "timm": by_timm,
    "json": by_json,
}


@pytest.mark.parametrize("form", FORMATS)
def test_trained_networks_give_the_modules_logits(form: str, tmp_path: Path) -> None:
    exported = export_network(SPEC, tmp_path / name_of(form), form, weights=ARRAYS, about=ABOUT)
    assert exported.path == exported.files[0] == tmp_path / name_of(form)
    assert set(tmp_path.iterdir()) == set(exported.files)
    assert [path.name for path in exported.files[1:]] == (
        ["net.safetensors"] if form in ("python", "timm") else []
    )
    assert exported.format == form
    assert exported.weights == ("no weights" if form == "json" else "3 epochs on pictures")
    assert 0 <= exported.error < 1e-3
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in exported.files)
    logits = READERS[form](tmp_path).detach()
    assert (logits - expected()).abs().max() <= 1e-3 * expected().std()


@pytest.mark.parametrize(
    "form",
    ["python", "safetensors", *(pytest.param(form, marks=pytest.mark.slow) for form in ("pt2", "timm"))],
)
def test_untrained_networks_hold_the_initial_weights_and_say_so(form: str, tmp_path: Path) -> None:
    exported = export_network(SPEC, tmp_path / name_of(form), form, seed=4)
    assert exported.weights == "untrained weights"
    state = build_module(SPEC, seed=4).state_dict()
    if form == "pt2":
        found = torch.export.load(exported.path).state_dict
    else:
        with safetensors.safe_open(exported.files[-1], framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = file.metadata()
        assert texts["weights"] == "untrained weights"
        assert NetworkSpec.from_dict(json.loads(texts["network"])) == SPEC
        assert "trained" not in texts
    if form in ("python", "timm"):
        assert exported.files[1].name == "net-untrained.safetensors"
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_metadata_of_trained_weights(tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_network(SPEC, tmp_path / f"{name}.safetensors", "safetensors", weights=ARRAYS, about=ABOUT)
    with safetensors.safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        texts = file.metadata()
    assert texts.items() >= {**ABOUT, "weights": "3 epochs on pictures"}.items()
    assert NetworkSpec.from_dict(json.loads(texts["network"])) == SPEC
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def other_weights(subject: Subject) -> Subject:
    """One number of one tensor is the next float."""
    module = make_subject(subject.spec, ARRAYS, None, 0).module
    with torch.no_grad():
        module.conv_stem.weight[0, 0, 0, 0].mul_(1 + 2**-22)
    return replace(subject, module=module)


def other_activation(subject: Subject) -> Subject:
    """The module has another activation than the specification; for files that are written from the module."""
    module = make_subject(
        replace(subject.spec, style=replace(subject.spec.style, activation="silu")), ARRAYS, None, 0
    )
    return replace(subject, module=module.module)


def other_spec(subject: Subject) -> Subject:
    return replace(subject, spec=replace(subject.spec, style=replace(subject.spec.style, activation="silu")))


@pytest.mark.parametrize(
    ("form", "change", "words"),
    [
        ("pt2", other_weights, "not the torch module's"),
        pytest.param("pt2", other_activation, "disagree", marks=pytest.mark.slow),
        ("safetensors", other_weights, "not the torch module's"),
        ("timm", other_spec, "disagree"),
        ("json", other_spec, "another network"),
    ],
)
def test_what_differs_is_never_written(
    form: str,
    change: Callable[[Subject], Subject],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = formats.TABLE[form]
    other = replace(row, write=lambda subject, *names: row.write(change(subject), *names))
    monkeypatch.setitem(formats.TABLE, form, other)
    with pytest.raises(SearchError, match=words):
        export_network(SPEC, tmp_path / name_of(form), form, weights=ARRAYS, about=ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_source_may_not_need_mnas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = formats.TABLE["python"]

    def write(subject: Subject, *names: str) -> bytes:
        return row.write(subject, *names).replace(b"import json", b"import json\nimport mnas.errors")

    monkeypatch.setitem(formats.TABLE, "python", replace(row, write=write))
    with pytest.raises(SearchError, match=r"needs mnas|No module named 'mnas'"):
        export_network(SPEC, tmp_path / "net.py", "python")
    assert list(tmp_path.iterdir()) == []


def test_other_weights_beside_a_source_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        write, "weights_bytes", lambda module, texts: weights_bytes(build_module(SPEC, seed=1), texts)
    )
    with pytest.raises(SearchError, match="not the torch module's"):
        export_network(SPEC, tmp_path / "net.py", "python")
    assert list(tmp_path.iterdir()) == []


def test_an_untrained_source_of_another_network_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its weights are all right: only the logits under the statistics of real signals tell.
    row = formats.TABLE["python"]
    other = replace(row, write=lambda subject, *names: row.write(other_spec(subject), *names))
    monkeypatch.setitem(formats.TABLE, "python", other)
    with pytest.raises(SearchError, match="disagree"):
        export_network(SPEC, tmp_path / "net.py", "python")
    assert list(tmp_path.iterdir()) == []


def test_digests_see_names_shapes_types_and_bits() -> None:
    state = {"a": torch.ones(2, 3), "b": torch.zeros(1)}
    same = {"b": np.zeros(1, np.float32), "a": np.ones((2, 3), np.float32)}
    assert digest(state) == digest(same) == digest({**state, "a": torch.ones(2, 3).t().contiguous().t()})
    for other in (
        {"c": state["a"], "b": state["b"]},
        {**state, "a": torch.ones(3, 2)},
        {**state, "b": torch.zeros(1, dtype=torch.int32)},
        {**state, "b": -torch.zeros(1)},
        {"a": state["a"]},
    ):
        assert digest(other) != digest(state)


def test_a_loading_process_that_dies_or_hangs_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = make_subject(SPEC, None, None, 0)
    script = tmp_path / "loader.py"
    monkeypatch.setattr(check, "LOADER", script)
    for code, words in (
        ("import sys; sys.exit('out of luck')", "status 1.*Its last words: out of luck"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("print('hello')", "no JSON"),
    ):
        script.write_text(code)
        with pytest.raises(SearchError, match=words):
            check.load_again("json", [], subject, None)
    script.write_text("import sys, time; print('still here', file=sys.stderr, flush=True); time.sleep(60)")
    with pytest.raises(SearchError, match=r"no answer in 2 s.*still here"):
        check.load_again("json", [], subject, None, limit_s=2.0)


def test_the_loading_process_finds_libraries_where_the_parent_has_them() -> None:
    # Without site-packages, as where torch was installed for one user and the isolated process does not look there.
    folder = str(Path(np.__file__).parents[1])
    job = {"format": "safetensors", "files": ["/nowhere"], "stand_in": None, "image": "", "shape": []}
    for libraries, words in (([], "No module named 'safetensors'"), ([folder], "No such file")):
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(check.LOADER)],
            input=json.dumps({**job, "libraries": libraries}),
            capture_output=True,
            text=True,
        )
        assert words in done.stderr


def test_a_full_disk_leaves_nothing_and_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "net.json").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunDirectoryError, match="No space left on device"):
        export_network(SPEC, tmp_path / "net.json", "json")
    assert [path.name for path in tmp_path.iterdir()] == ["net.json"]
    assert (tmp_path / "net.json").read_text() == "old"


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="No such file or directory"):
        export_network(SPEC, tmp_path / "nowhere" / "net.json", "json")
    (tmp_path / "net-untrained.safetensors").mkdir()
    with pytest.raises(RunDirectoryError, match="it is a folder"):
        export_network(SPEC, tmp_path / "net.py", "python")
    with pytest.raises(InputError, match=r"ends in \.py"):
        export_network(SPEC, tmp_path / "net.safetensors", "python", weights=ARRAYS)
    with pytest.raises(UnknownNameError, match="did you mean 'onnx'"):
        export_network(SPEC, tmp_path / "net.onx", "onx")


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (StageSpec("mbconv", 3, 1, 16, 1, 6, skip="pool"), "pooling skip"),
        (StageSpec("conv", 3, 1, 16, 1, se_ratio=0.25), "conv with squeeze-and-excitation"),
        (StageSpec("mbconv", 3, 1, 16, 1, 5), "rounds 60 expanded channels"),
        (StageSpec("sepconv", 3, 1, 16, 1, se_ratio=0.3), "12 channels with 3 inside, where timm has 4"),
        (StageSpec("sepconv", 3, 1, 16, 1, se_ratio=0.33333333), "more digits"),
    ],
)
def test_what_timm_cannot_hold_is_refused_by_name(stage: StageSpec, words: str, tmp_path: Path) -> None:
    spec = replace(SPEC, stages=(stage, *SPEC.stages[1:]))
    with pytest.raises(InputError, match=f"stage 1.*{words}"):
        export_network(spec, tmp_path / "net.timm.json", "timm")
    assert list(tmp_path.iterdir()) == []


def test_the_rounding_that_is_refused_is_timms() -> None:
    assert make_divisible(60) == 64
    assert round(12 * 0.3) == 4


def test_without_timm_one_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timm_file, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'mnas\[timm\]'"):
        export_network(SPEC, tmp_path / "net.timm.json", "timm")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_lie_there_already_are_left_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    export_network(SPEC, path, "safetensors", weights=ARRAYS, about={**ABOUT, "more": "said of them"})
    before = path.stat().st_ino, path.read_bytes()
    export_network(SPEC, tmp_path / "net.py", "python", weights=ARRAYS, about=ABOUT)
    assert (path.stat().st_ino, path.read_bytes()) == before
    changed = {**ARRAYS, "classifier.bias": ARRAYS["classifier.bias"] + 1}
    export_network(SPEC, tmp_path / "net.py", "python", weights=changed, about=ABOUT)
    assert torch.equal(load_file(path)["classifier.bias"], torch.from_numpy(changed["classifier.bias"]))
