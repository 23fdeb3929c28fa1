"""The exported network where it is used: onnxruntime, numpy and Pillow, neither mnas nor torch.

    mnas export digits --format onnx --out network.onnx
    python deploy_onnx.py network.onnx three.png

With the run of space_plugin.py and an 8 x 8 image of scikit-learn's digits (a light digit on black) this prints:

    weights: trained 6 epochs on digits (1,078 images), scored on 359 validation images
    3             93.6%
    9              1.2%
    6              1.2%
    0.03 ms a run (median of 50, batch 1, 1 thread)

The file says what its weights are, how an image becomes its input, and the names of the classes.
Of weights that were never trained this is said, and only the time is shown. To make such an image:

    python -c "from PIL import Image; from sklearn.datasets import load_digits as digits
    Image.fromarray((digits().images[3] * 255 / 16).round().astype('uint8')).save('three.png')"
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

SHOWN = 3  # classes
WARM_UP, RUNS = 5, 50
UNTRAINED = "untrained weights"  # what mnas writes of weights that were never trained


def open_network(path: Path) -> onnxruntime.InferenceSession:
    """The network on one thread, as mnas measures it."""
    if not path.is_file():
        raise SystemExit(f"error: there is no file {path}. Write one with: mnas export RUN --out {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is said once, below
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no other class in common
        raise SystemExit(f"error: {path} is no ONNX model that onnxruntime can load: {error}") from None


def read_image(path: Path, channels: int) -> Image.Image:
    """The middle square of the image, in grey (1 channel) or in colour (3)."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise SystemExit(f"error: {path} has more than 8 bits a channel; save it with 8.")
            side = min(image.size)
            left, top = ((size - side) // 2 for size in image.size)
            square = image.crop((left, top, left + side, top + side))  # as in training
            return square.convert("L" if channels == 1 else "RGB")
    except FileNotFoundError:
        raise SystemExit(f"error: there is no image {path}.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise SystemExit(f"error: {path} cannot be read as an image: {error}") from None


def prepare(image: Image.Image, expects: dict[str, Any]) -> np.ndarray:
    """(1, channels, resolution, resolution) float32: resized, pixels to 0..1, normalised; as in training.

    Each channel is resized in floating point, since Pillow rounds 8-bit pixels and the training did not.
    """
    size = (expects["resolution"], expects["resolution"])
    planes = [plane.convert("F").resize(size, Image.Resampling.BILINEAR) for plane in image.split()]
    pixels = np.stack([np.asarray(plane) for plane in planes]) / 255
    mean, std = (np.array(expects[name]).reshape(-1, 1, 1) for name in ("mean", "std"))
    wanted = (1, expects["channels"], *size)
    return np.ascontiguousarray(np.broadcast_to((pixels - mean) / std, wanted), dtype=np.float32)


def classify(network: onnxruntime.InferenceSession, pixels: np.ndarray) -> np.ndarray:
    """The probability of each class, (classes,)."""
    logits = network.run(None, {network.get_inputs()[0].name: pixels})[0][0]
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def milliseconds(network: onnxruntime.InferenceSession) -> float:
    """Of one run, the median of many."""
    (entry,) = network.get_inputs()
    feed = {entry.name: np.random.default_rng(0).standard_normal(entry.shape, dtype=np.float32)}
    times = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        network.run(None, feed)
        times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times[WARM_UP:])


def main() -> None:
    """Prints what the weights are, the most probable classes, and the time of a run."""
    parser = argparse.ArgumentParser(description="Classifies one image with a network that mnas exported.")
    parser.add_argument("network", type=Path)
    parser.add_argument("image", type=Path)
    options = parser.parse_args()
    network = open_network(options.network)
    metadata = network.get_modelmeta().custom_metadata_map
    if "weights" not in metadata:
        raise SystemExit(
            f"error: {options.network} was not exported by mnas: it does not say what its weights are."
        )
    print(f"weights: {metadata['weights']}")
    if metadata["weights"] == UNTRAINED:
        print("These weights were never trained: what they say of an image means nothing, and is not shown.")
    elif "input" not in metadata:
        print("The file does not say how an image becomes its input, so none can be shown to it.")
    else:
        expects = json.loads(metadata["input"])
        image = read_image(options.image, len(expects["mean"]))
        shares = classify(network, prepare(image, expects))
        classes = json.loads(metadata.get("classes", "[]"))
        for number in np.argsort(-shares, kind="stable")[:SHOWN]:
            print(f"{classes[number] if classes else number!s:<12} {shares[number]:6.1%}")
    print(f"{milliseconds(network):.2f} ms a run (median of {RUNS}, batch 1, 1 thread)")


if __name__ == "__main__":
    main()
