"""The Python source: readable, complete, and the same network as the torch module, in training too."""

import ast
import importlib.util
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mnas.export.source import python_source
from mnas.export.subject import make_subject
from mnas.export.torch_files import weights_bytes
from mnas.model import build_module
from mnas.search_space import NetworkSpec, StageSpec, Style, mnasnet_space, scale
from mnas.search_space.ghost import ghostnet_network
from mnas.search_space.igcv3 import igcv3_network
from mnas.search_space.regnet import RegNetNumbers, regnet_network
from mnas.search_space.resnet import resnet_network, resnet_rs_network
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).parent.parent
# Every op, skip and kind of squeeze-and-excitation; pooling skips that widen, keep and narrow; two strides.
EVERYTHING = NetworkSpec(
    12,
    (
        StageSpec("conv", 3, 1, 20, 2, se_ratio=0.25, skip="pool"),
        StageSpec("sepconv", 5, 2, 16, 3, se_ratio=0.5),
        StageSpec("mbconv", 3, 1, 10, 2, 3, skip="pool"),
        StageSpec("conv", 1, 1, 10, 2, skip="none"),
        StageSpec("mbconv", 7, 2, 24, 3, 6, 0.25),
        StageSpec("sepconv", 3, 2, 24, 1, skip="pool"),
        StageSpec("projection", 1, 2, 32),
        StageSpec("projection", 3, 1, 32, 2, se_ratio=0.25),
    ),
    40,
    resolution=36,
    num_classes=7,
    in_channels=2,
)
# One of each kind.
NETWORKS = (
    "efficientnet_b0",
    "efficientnetv2_b0",
    "mnasnet_a1",
    "mnasnet_small",
    "mobilenetv2",
    "mobilenetv3_small",
)
SPECS = {name: replace(published(name), resolution=64, num_classes=10) for name in NETWORKS}
SPECS |= {
    "everything": EVERYTHING,
    "same": replace(EVERYTHING, resolution=45, style=Style("relu6", 1e-3, 0.01, "same")),
    "without_drops": replace(EVERYTHING, drop_path=0.0, dropout=0.0),
    "stem_of_stride_1": replace(EVERYTHING, stem_stride=1),
    "one_class": replace(EVERYTHING, num_classes=1, stages=EVERYTHING.stages[:1]),
}
# Activations after the sum, convolution shortcuts, groups, a deep stem, a rate of drop path for each stage.
_RESIDUAL = replace(
    resnet_rs_network((2, 3, 1, 1), width=0.25, resolution=64, num_classes=5, drop_path=0.3), in_channels=2
)
_X_BLOCK = StageSpec("xblock", 3, 2, 24, 2, se_ratio=0.25, skip="conv", groups=3)
SPECS |= {
    "resnet": resnet_network((1, 2, 1, 1), "basic", resolution=64, num_classes=5),
    "resnet_rs": _RESIDUAL,
    "regnet": regnet_network(RegNetNumbers(13, 24, 36.44, 2.49, 8), resolution=64, num_classes=5),
    "igcv3": igcv3_network(0.25, resolution=64, num_classes=5),
    "ghostnet": ghostnet_network(0.5, resolution=64, num_classes=5),
    "ghosts": replace(
        EVERYTHING,
        stages=(
            StageSpec("ghost_module", 3, 2, 21, 2, se_ratio=0.25),
            StageSpec("ghost", 5, 2, 17, 2, 2.5, 0.25, "depthwise"),
            StageSpec("ghost", 3, 1, 16, 3, 2, skip="pool"),
        ),
    ),
    "interleaved": replace(
        EVERYTHING,
        stages=(
            StageSpec("igcv1", 3, 2, 24, 2, groups=4),
            StageSpec("igcv2", 3, 1, 24, 2, se_ratio=0.25, groups=6),
            StageSpec("igcv3", 5, 2, 24, 2, 3, 0.25, groups=4),
            StageSpec("igcv3", 3, 1, 16, 2, 2, skip="none"),
        ),
    ),
    "mixed": replace(EVERYTHING, stages=(*EVERYTHING.stages, _X_BLOCK), stem="deep"),
}
_SPACE = mnasnet_space(resolution=64, num_classes=5)
SPECS |= {f"member_{seed}": _SPACE.decode(_SPACE.sample(random.Random(seed))) for seed in range(4)}


def write(spec: NetworkSpec, folder: Path) -> Path:
    subject = make_subject(spec, None, None, 3)
    (folder / "net.py").write_bytes(python_source(subject, "net.py", "net.safetensors"))
    (folder / "net.safetensors").write_bytes(weights_bytes(subject.compared, {"a": "text"}))
    return folder / "net.py"


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("net", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shapes(network: torch.nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, tensor.shape) for name, tensor in network.state_dict().items()]


@pytest.mark.parametrize("name", SPECS)
def test_the_source_is_the_module(name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    ours = build_module(spec, seed=3, channels_last=False)
    module = imported(write(spec, tmp_path))
    theirs = module.load()
    assert shapes(module.network()) == shapes(ours)
    ours.load_state_dict(theirs.state_dict())
    shape = (3, spec.in_channels, spec.resolution, spec.resolution)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(theirs(images), ours.eval()(images))
    # In training drop path and dropout draw the same numbers.
    for network in (ours.train(), theirs.train()):
        torch.manual_seed(5)
        network(images).square().sum().backward()
    for (known, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), known
    for (known, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers(), strict=True):
        assert torch.equal(a, b), known


def test_drop_path_is_seen_in_training(tmp_path: Path) -> None:
    spec = replace(EVERYTHING, drop_path=0.9, dropout=0.0)
    network = imported(write(spec, tmp_path)).load().train()
    images = torch.randn(3, 2, 36, 36, generator=torch.Generator().manual_seed(0))
    outputs = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        outputs.append(network(images))
    assert (outputs[0] - outputs[1]).abs().max() > 0.01


def test_the_source_imports_torch_and_the_standard_library_alone_and_is_short(tmp_path: Path) -> None:
    # B7 has 55 blocks; a block is no more than a line or two.
    deep = replace(scale(published("efficientnet_b0"), depth=3.1, width=2.0, resolution=600))
    subject = make_subject(replace(EVERYTHING), None, None, 0)
    source = python_source(replace(subject, spec=deep), "b7.py", "b7.safetensors").decode()
    tree = ast.parse(source)
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert names == {"json", "math", "collections", "pathlib", "torch"}
    assert len(source.splitlines()) < 250
    assert "66,347,960 parameters" in source  # of EfficientNet-B7: timm's count


@pytest.mark.skipif(shutil.which("ruff", path=str(Path(sys.executable).parent)) is None, reason="needs ruff")
def test_sources_are_formatted_and_without_findings(tmp_path: Path) -> None:
    for name, spec in SPECS.items():
        subject = make_subject(spec, None, None, 0)
        (tmp_path / f"{name}.py").write_bytes(python_source(subject, f"{name}.py", "x.safetensors"))
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *config, str(tmp_path)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout


def test_texts_of_a_strangers_run_stay_text(tmp_path: Path) -> None:
    evil = 'x"""\nimport os\nos.abort()\n"""\\" \u202e \x00' + "long " * 1000
    state = {name: t.numpy() for name, t in build_module(EVERYTHING).state_dict().items()}
    trees = []
    for text in ("trained", evil):
        subject = make_subject(EVERYTHING, state, {"trained": text, "input": text, text: text}, 0)
        tree = ast.parse(python_source(subject, "net.py", "w.safetensors"))
        assert isinstance(tree.body[0], ast.Expr)  # the docstring
        trees.append([ast.dump(node) for node in tree.body[1:]])
    assert trees[0] == trees[1]


@pytest.mark.parametrize(
    "name", ['quote".safetensors', "back\\slash.safetensors", "\N{SNOWMAN}\U0001f600.safetensors"]
)
def test_any_name_of_the_weights_is_found(name: str, tmp_path: Path) -> None:
    subject = make_subject(SPECS["one_class"], None, None, 0)
    (tmp_path / "net.py").write_bytes(python_source(subject, "net.py", name))
    (tmp_path / name).write_bytes(weights_bytes(subject.module, {}))
    assert imported(tmp_path / "net.py").load() is not None


def test_damaged_weights_are_refused_by_the_source(tmp_path: Path) -> None:
    module = imported(write(SPECS["one_class"], tmp_path))
    path = tmp_path / "net.safetensors"
    whole = path.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    header = whole[8:end]
    wrong = {
        "empty": b"",
        "cut": whole[: len(whole) - 4],
        "only a header": whole[: end - 1],
        "huge header": (1 << 62).to_bytes(8, "little") + whole[8:],
        "no json": whole[:8] + b"{" * len(header) + whole[end:],
        "a type that the network has not": whole[:8] + header.replace(b'"F32"', b'"F16"') + whole[end:],
        "a larger shape": whole[:8] + header.replace(b'"shape":[12]', b'"shape":[99]') + whole[end:],
    }
    for what, data in wrong.items():
        assert data != whole, what
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"whole|type|lies outside|Expecting"):
            module.load()
    path.write_bytes(whole[:8] + header.replace(b"conv_stem", b"conv_stam") + whole[end:])
    with pytest.raises(RuntimeError, match="conv_stem"):
        module.load()
