"""The int8 graph that is timed, against ONNX Runtime's own quantiser; the trained network that is shipped in int8."""

import json
import logging
import platform
import random
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer.testing
from commands import write_photos
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from safetensors.torch import save_file

from mnas import measuring
from mnas.cli import app
from mnas.config import make_config
from mnas.data import load_data
from mnas.errors import InputError, RunDirectoryError
from mnas.export import quantize
from mnas.files import read_json, write_json
from mnas.graph import build_block_graph, build_graph
from mnas.inputs import InputTransform
from mnas.qdq import to_int8
from mnas.rundir import RunDirectory
from mnas.search.reporting import Quiet
from mnas.search_space import NetworkSpec, StageSpec, Style, mbconv_space
from mnas.search_space.ghost import ghostnet_network
from mnas.search_space.igcv3 import igcv3_network
from mnas.search_space.network import network_program
from mnas.search_space.program import Activate, AvgPool, BatchNorm, Block, Conv, MatchChannels, Shuffle
from mnas.search_space.regnet import RegNetNumbers, regnet_network
from mnas.search_space.resnet import resnet_network, resnet_rs_network
from mnas.trainer import preset
from mnas.trainer.plan import Plan
from mnas.training_run import start_training
from mnas.weights import load_metadata, load_weights
from mnas.zoo import published

pytestmark = pytest.mark.usefixtures("one_thread")

_SPACE = mbconv_space(resolution=64, num_classes=10)
# Pooling and padded shortcuts, every op, ReLU6; squeeze-and-excitation with ReLU; the same with SiLU.
EVERYTHING = NetworkSpec(
    12,
    (
        StageSpec("conv", 3, 1, 20, 2, se_ratio=0.25, skip="pool"),
        StageSpec("sepconv", 5, 2, 16, 3, se_ratio=0.5),
        StageSpec("mbconv", 3, 1, 10, 2, 3, skip="pool"),
        StageSpec("sepconv", 3, 2, 24, 1, skip="pool"),
        StageSpec("projection", 1, 2, 32),
    ),
    40,
    resolution=36,
    num_classes=7,
    style=Style("relu6", 1e-3, 0.01, "same"),
)
SPECS = {
    "everything": EVERYTHING,
    "mnasnet_small": replace(published("mnasnet_small"), resolution=64),
    "mbconv": _SPACE.decode(_SPACE.sample(random.Random(1))),
    "resnet": resnet_network((1, 2, 1, 1), "basic", resolution=64, num_classes=5),
    "resnet_rs": resnet_rs_network((1, 2, 1, 1), width=0.25, resolution=45, num_classes=5),
    "regnet": regnet_network(RegNetNumbers(13, 24, 36.44, 2.49, 8, 0.25), resolution=64, num_classes=5),
    "igcv3": igcv3_network(0.25, resolution=64, num_classes=5),
    "ghostnet": ghostnet_network(0.5, resolution=64, num_classes=5),
}


# Norms and activations that follow no convolution, an activation whose input is read twice, an input that is added.
ODD = Block(
    "Odd",
    (8, 12, 12),
    (
        ("norm", BatchNorm((8, 12, 12), 1e-3, 0.1)),
        ("act", Activate((8, 12, 12), "relu")),
        ("pool", AvgPool((8, 12, 12), 3, 1)),
        ("act2", Activate((8, 12, 12), "relu6")),
        ("gate", Block("Gate", (8, 12, 12), (("act", Activate((8, 12, 12), "relu")),), "multiply")),
        ("conv", Conv((8, 12, 12), 8, 3)),
    ),
    "add",
)

PADDED = Block(
    "Padded", (8, 12, 12), (("match", MatchChannels((8, 12, 12), 12)), ("conv", Conv((12, 12, 12), 8, 3)))
)
# Shuffles of the image and behind a convolution; what stands beside its source, of whose channels some are cut.
SHUFFLED = Block(
    "Shuffled",
    (8, 12, 12),
    (
        ("first", Shuffle((8, 12, 12), 2)),
        ("conv", Conv((8, 12, 12), 8, 1, groups=2)),
        ("act", Activate((8, 12, 12), "relu")),
        ("shuffle", Shuffle((8, 12, 12), 4)),
        ("conv2", Conv((8, 12, 12), 8, 1, groups=4)),
        ("behind", Block("Behind", (8, 12, 12), (("conv", Conv((8, 12, 12), 8, 3, groups=8)),), "concat")),
        ("cut", MatchChannels((16, 12, 12), 12)),
        ("conv3", Conv((12, 12, 12), 8, 1)),
    ),
    "add",
)
BLOCKS = {name: network_program(spec) for name, spec in SPECS.items()} | {
    "odd": ODD,
    "padded": PADDED,
    "shuffled": SHUFFLED,
}


class Noise(CalibrationDataReader):
    """Two random images of that shape."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        images = np.random.default_rng(0).standard_normal((2, 1, *shape), dtype=np.float32)
        self.left = iter([{"image": image} for image in images])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.left, None)


def theirs(block: Block, folder: Path, caplog: pytest.LogCaptureFixture) -> onnx.ModelProto:
    onnx.save(build_block_graph(block), folder / "fp32.onnx")
    with caplog.at_level(logging.ERROR):
        quantize_static(
            folder / "fp32.onnx",
            folder / "int8.onnx",
            Noise(block.in_shape),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return onnx.load(folder / "int8.onnx")


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def session(model: onnx.ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    (result,) = session(model).run(None, {"image": images})
    return result


@pytest.mark.parametrize("name", BLOCKS)
def test_the_graph_that_is_timed_is_what_onnxruntime_makes(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours = build_block_graph(BLOCKS[name], precision="int8")
    expected = theirs(BLOCKS[name], tmp_path, caplog)
    onnx.checker.check_model(ours, full_check=True)
    assert kinds(ours) == kinds(expected)
    executed = {}
    for who, model in (("ours", ours), ("theirs", expected)):
        session(model, tmp_path / f"{who}.onnx")
        executed[who] = kinds(onnx.load(tmp_path / f"{who}.onnx"))
    assert executed["ours"] == executed["theirs"]
    assert executed["ours"]["QLinearConv"] == kinds(ours)["Conv"]
    # Weights are the same integers with the same scales, bit for bit.
    found = {entry.name: numpy_helper.to_array(entry) for entry in ours.graph.initializer}
    compared = [
        e for e in expected.graph.initializer if e.name.endswith((".weight_quantized", ".weight_scale"))
    ]
    assert len(compared) == 2 * (kinds(ours)["Conv"] + kinds(ours)["Gemm"])
    for entry in compared:
        np.testing.assert_array_equal(found[entry.name], numpy_helper.to_array(entry))
        assert found[entry.name].dtype == numpy_helper.to_array(entry).dtype


@pytest.mark.parametrize("name", SPECS)
def test_its_scales_keep_the_signal(name: str) -> None:
    spec = replace(SPECS[name], num_classes=50)
    images = np.random.default_rng(2).standard_normal((3, 3, *[spec.resolution] * 2), dtype=np.float32)
    fp32, int8 = (run(build_graph(spec, batch=3, precision=p), images) for p in ("fp32", "int8"))
    assert int8.shape == (3, 50)
    assert np.corrcoef(fp32.ravel(), int8.ravel())[0, 1] > 0.8


def test_a_precision_that_is_not_there_and_a_node_that_is_not_ours() -> None:
    with pytest.raises(InputError, match="precision must be fp32 or int8, got 'int4'"):
        build_graph(EVERYTHING, precision="int4")
    model = build_graph(EVERYTHING)
    model.graph.node[0].op_type = "ConvTranspose"
    with pytest.raises(ValueError, match="ConvTranspose"):
        to_int8(model)


# At the size of the digits, so that a test can make the input without resizing.
TINY = NetworkSpec(16, (StageSpec("mbconv", 3, 1, 24, 2, 4, 0.25), StageSpec("sepconv", 3, 2, 32)), 64, 8, 10)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A small network of SiLU and squeeze-and-excitation, trained on digits; the result of that."""
    folder = tmp_path_factory.mktemp("int8")
    write_json(folder / "tiny.json", TINY.to_dict())
    recipe = preset("short", epochs=4, batch_size=64, lr=0.1, flip=False, crop="none")
    plan = Plan(source=str(folder / "tiny.json"), data="digits", device="cpu", threads=1)
    result = start_training(plan, recipe, folder / "training", Quiet())
    assert result is not None
    return result


def command(*arguments: object) -> dict[str, Any]:
    """The JSON that `mnas export --json` prints; its error is raised."""
    done = typer.testing.CliRunner().invoke(app, ["export", *map(str, arguments), "--json"])
    if done.exception is not None:
        raise done.exception
    return json.loads(done.stdout)


def test_a_trained_network_in_int8(
    training: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "INT8_S", 2.5)
    monkeypatch.setattr(measuring, "INT8_PROCESSES", 2)
    target = tmp_path / "small.onnx"
    result = command(training["run"], "--int8", "--data", "digits", "--out", target)
    assert (result["path"], result["fp32_path"]) == (str(target), training["onnx"])
    assert 0 < result["int8_over_fp32_low"] <= result["int8_over_fp32"] <= result["int8_over_fp32_high"]
    assert f"int8 takes {result['int8_over_fp32']:.2f}" in measuring.int8_text(result)
    assert "keep fp32" in measuring.int8_text({**result, "int8_verdict": "slower"})
    assert result["images"] == len(load_data("digits").test) == 360
    assert result["calibration_images"] == 256
    assert result["accuracy_fp32"] == pytest.approx(training["test_accuracy"], abs=1.5 / 360)
    assert result["accuracy_fp32"] > 0.8
    assert result["accuracy_int8"] > result["accuracy_fp32"] - 0.03
    assert result["bytes_int8"] == target.stat().st_size
    assert result["bytes_fp32"] == Path(training["onnx"]).stat().st_size
    model = onnx.load(target)
    about = {entry.key: entry.value for entry in model.metadata_props}
    assert about["weights"] == training["accuracy_source"]
    assert about["precision"].startswith("int8 weights (")
    assert NetworkSpec.from_dict(json.loads(about["network"])).num_classes == 10
    scales = {entry.name: tuple(entry.dims) for entry in model.graph.initializer}
    assert scales["conv_stem.weight_scale"] == (16,)
    session(model, tmp_path / "executed.onnx")
    executed = kinds(onnx.load(tmp_path / "executed.onnx"))
    assert executed["Conv"] == 0
    assert executed["QLinearConv"] == kinds(model)["Conv"]
    # The accuracy again, from the file alone.
    given, test = json.loads(about["input"]), load_data("digits").test
    hits = 0
    for image, label in zip(test.images, test.labels, strict=True):
        x = (image / 255 - np.reshape(given["mean"], (1, 1, 1))) / np.reshape(given["std"], (1, 1, 1))
        hits += run(model, np.repeat(x, 3, axis=0)[None].astype(np.float32)).argmax() == label
    assert result["accuracy_int8"] == hits / len(test)


@pytest.fixture
def folder(training: dict[str, Any], tmp_path: Path) -> Path:
    """A copy of the training's folder, to spoil."""
    return shutil.copytree(training["run"], tmp_path / "training")


def retold(weights: Path, **texts: str | None) -> None:
    """Changes what a file of weights says of itself; None takes a text out."""
    about = {name: text for name, text in (load_metadata(weights) | texts).items() if text is not None}
    save_file(
        {name: torch.from_numpy(array) for name, array in load_weights(weights).items()}, weights, about
    )


def test_a_run_whose_baseline_was_trained(training: dict[str, Any], tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run")
    run.write_config(make_config({"target_latency": "10ms", "data": "digits"}).to_toml())
    write_json(
        run.outputs().baseline,
        NetworkSpec.from_dict(read_json(Path(training["run"], "network.json"))).to_dict(),
    )
    with pytest.raises(InputError, match=r"baseline.json were never trained.*mnas train .*/run --data"):
        command(run.path, "--int8", "--data", "digits")
    shutil.copy(training["weights"], run.outputs().weights)
    result = command(run.path, "--int8", "--data", "digits", "--no-measure")
    assert "int8_verdict" not in result
    assert result["path"] == str(run.path / "baseline-int8.onnx")
    assert result["fp32_path"] == str(run.path / "baseline.onnx")
    assert result["accuracy_fp32"] == pytest.approx(training["test_accuracy"], abs=1.5 / 360)
    assert sorted(file.name for file in run.path.iterdir()) == [
        *("baseline-int8.onnx", "baseline.json", "baseline.onnx", "baseline.safetensors", "config.toml")
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--int8",), "name those that the network was trained on"),
        (("--data", "digits"), "go with --int8"),
        (("--int8", "--data", "digits", "--format", "pt2"), "--int8 writes onnx, not pt2"),
        (("--int8", "--data", "digits", "--network", "scaled"), "train scaled with mnas train"),
        (("--int8", "--data", "digits", "--out", "int8.bin"), r"ends in \.onnx, got int8\.bin"),
        (("--int8", "--data", "digit"), "did you mean 'digits'"),
    ],
)
def test_flags_that_do_not_fit(folder: Path, flags: tuple[str, ...], message: str) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(InputError, match=message):
        command(folder, *flags)
    assert {file: file.read_bytes() for file in folder.iterdir()} == before


def test_what_is_not_trained_or_not_finished(folder: Path) -> None:
    for source in ("efficientnet_b0", folder / "network.json"):
        with pytest.raises(
            InputError, match=r"neither a run directory nor a folder of mnas train.*mnas train"
        ):
            command(source, "--int8", "--data", "digits")
    retold(folder / "model.safetensors", trained=None)
    with pytest.raises(InputError, match="never trained"):
        command(folder, "--int8", "--data", "digits")
    (folder / "result.json").unlink()
    with pytest.raises(RunDirectoryError, match="mnas train --resume"):
        command(folder, "--int8", "--data", "digits")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            {"classes": json.dumps([f"digit {n}" for n in range(10)])},
            r"digit 4 and 5 more; the classes of digits are 0, 1",
        ),
        ({"classes": None}, "do not say of which classes"),
        ({"classes": "7"}, "do not say of which classes"),
        ({"input": "[]"}, "do not say of which classes"),
        (
            {"input": '{"channels": 3, "resolution": 8, "mean": ["x"], "std": [1]}'},
            "do not say of which classes",
        ),
        (
            {"input": '{"channels": 3, "resolution": 8, "mean": [0.5], "std": [0]}'},
            "do not say of which classes",
        ),
        (
            {"input": '{"channels": 3, "resolution": 9, "mean": [0.5], "std": [1]}'},
            "do not say of which classes",
        ),
    ],
)
def test_weights_that_say_something_else(folder: Path, texts: dict[str, str | None], message: str) -> None:
    retold(folder / "model.safetensors", **texts)
    with pytest.raises(InputError, match=message):
        command(folder, "--int8", "--data", "digits")
    assert not (folder / "model-int8.onnx").exists()


def test_images_of_other_classes(folder: Path, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 8, 8, "png")
    with pytest.raises(InputError, match="10 outputs for 3 classes"):
        command(folder, "--int8", "--data", tmp_path / "photos")


def test_the_fp32_file_is_spared_and_a_failure_leaves_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunDirectoryError, match="is the fp32 network"):
        command(folder, "--int8", "--data", "digits", "--out", folder / "model.onnx")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(quantize, "quantize_static", full)
    before = sorted(file.name for file in folder.iterdir())
    with pytest.raises(RunDirectoryError, match=r"cannot write .*model-int8\.onnx: No space left"):
        command(folder, "--int8", "--data", "digits")
    assert sorted(file.name for file in folder.iterdir()) == before


@pytest.mark.parametrize(
    ("machine", "words", "bits"),
    [
        ("x86_64", "fpu avx2 avx512f avx512_vnni", 8),
        ("x86_64", "fpu avx2 avx_vnni", 8),
        ("x86_64", "fpu avx2 avx512f", 7),
        ("AMD64", None, 7),
        ("aarch64", "fp asimd", 8),
    ],
)
def test_weights_lose_a_bit_where_products_would_saturate(
    machine: str, words: str | None, bits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words is not None:
        (tmp_path / "cpuinfo").write_text(f"processor: 0\nflags\t: {words}\n")
    monkeypatch.setattr(quantize, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert quantize.weight_bits() == bits


def test_seven_bits_are_seven_bits(training: dict[str, Any], tmp_path: Path) -> None:
    some = load_data("digits").train.take(np.arange(2))
    inputs = InputTransform(3, 8, (0.3,), (0.4,))
    largest = {}
    for bits in (7, 8):
        data = quantize.quantize_onnx(
            Path(training["onnx"]), tmp_path / "draft.onnx", some, inputs, bits, {}, lambda text: None
        )
        entries = onnx.load_from_string(data).graph.initializer
        weights = [numpy_helper.to_array(e) for e in entries if e.name.endswith(".weight_quantized")]
        largest[bits] = max(int(np.abs(array.astype(int)).max()) for array in weights)
    assert largest == {7: 64, 8: 127}
