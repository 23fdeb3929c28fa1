"""A trained ONNX file in int8, by ONNX Runtime's static quantisation, and what files score on images."""

import logging
import platform
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from mnas.data import LabelledImages
from mnas.data.feed import Feed
from mnas.env import usable_cores
from mnas.errors import SearchError
from mnas.graph import INPUT
from mnas.inputs import InputTransform

# ONNX Runtime's own key and value for a model that needs no pre-processing before it is quantised: norms are folded and
# shapes fixed in ours, and its pre-processing changes no node of them.
_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
_THEIRS = {*_PREPARED, "onnx.infer"}
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
CPU_INFO = Path("/proc/cpuinfo")
AT_ONCE = 16  # images that are made the network's input at once (chosen here: 70 MB at 600 pixels)

Step = Callable[[str], None]


def weight_bits() -> int:
    """Bits of a weight: 8, or 7 on an x86 CPU that is not known to have the instructions called VNNI.

    Without those, its kernels add two products of 8 by 8 bits in 16, where they saturate; with 7 bits they do not.

    Reference: the docstring of `onnxruntime.quantization.quantize_static`, "Choosing parameters for CPU inference".
    """
    if platform.machine().lower() not in _X86:
        return 8
    words = set(CPU_INFO.read_text(errors="replace").split()) if CPU_INFO.is_file() else set()
    return 8 if words & _VNNI else 7


def quantize_onnx(
    source: Path,
    target: Path,
    split: LabelledImages,
    inputs: InputTransform,
    bits: int,
    about: Mapping[str, str],
    step: Step,
) -> bytes:
    """The model of `source` with uint8 activations and int8 weights, one scale a channel; `mnas.qdq` says why.

    Args:
        source: float32, with the input `image` of one image.
        target: a file beside which nobody works; what is written there is not yet whole.
        split: at least one image; the least and greatest activations that they cause become the ranges of the integers.
        inputs: what makes them the network's input.
        bits: of the weights, 7 or 8.
        about: texts added to the model's metadata.
        step: told what is done, image by image.

    Returns:
        The model, serialised.
    """
    model = onnx.load(source)
    texts = {entry.key: entry.value for entry in model.metadata_props}
    helper.set_model_props(model, texts | _PREPARED)
    prepared = target.with_name(f"{target.name}.prepared")
    onnx.save(model, prepared)
    with _quiet():
        quantize_static(
            prepared,
            target,
            _Images(split, inputs, step),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=bits < 8,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    quantized = onnx.load(target)
    kept = {entry.key: entry.value for entry in quantized.metadata_props if entry.key not in _THEIRS}
    helper.set_model_props(quantized, kept | texts | dict(about))
    data: bytes = quantized.SerializeToString()
    return data


def score_onnx(
    files: Sequence[Path], split: LabelledImages, inputs: InputTransform, step: Step
) -> list[float]:
    """Top-1 accuracy of each file on the split, 0 to 1, by ONNX Runtime on the CPU, one image at a time.

    Raises:
        SearchError: outputs that are NaN or infinite.
    """
    sessions = [_session(file) for file in files]
    correct = [0] * len(files)
    with closing(_given(split, inputs)) as given:
        for image, label in given:
            for number, session in enumerate(sessions):
                (logits,) = session.run(None, {INPUT: image})
                if not np.isfinite(logits).all():
                    raise SearchError(
                        f"the outputs of {files[number].name} are NaN or infinite: it is not usable."
                    )
                correct[number] += int(logits.argmax()) == label
            step("scoring")
    return [hits / len(split) for hits in correct]


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = usable_cores(), 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _given(
    split: LabelledImages, inputs: InputTransform
) -> Generator[tuple[NDArray[np.float32], int], None, None]:
    """Each image as the network is given it, (1, channels, height, width), with its label."""
    parts = torch.split(torch.arange(len(split)), AT_ONCE)
    with closing(Feed(split, torch.device("cpu")).batches(parts)) as loaded:
        for images, labels in loaded:
            arrays = inputs(images).contiguous(memory_format=torch.contiguous_format).numpy()
            for array, label in zip(arrays, labels.tolist(), strict=True):
                yield array[None], label


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands ONNX Runtime's calibration one image after another."""

    def __init__(self, split: LabelledImages, inputs: InputTransform, step: Step) -> None:
        self.left, self.step = _given(split, inputs), step

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next image by the name of the input; None is the end."""
        following = next(self.left, None)
        if following is None:
            return None
        self.step("calibrating")
        return {INPUT: following[0]}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what `quantize_static` says of each tensor, to the root logger, from the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
