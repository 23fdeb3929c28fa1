"""The network as torch knows it: an exported program, and the state dict as safetensors."""

import io
import json

import safetensors.torch
import torch
from torch import nn

from mnas.export.subject import Subject


def pt2_bytes(subject: Subject) -> bytes:
    """`torch.export` of the module in evaluation mode, for one image; `torch.export.load` reads it."""
    program = torch.export.export(subject.module, (subject.image,))
    texts = {"mnas.json": json.dumps(subject.metadata, indent=2)}
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files=texts)
    return buffer.getvalue()


def weights_metadata(subject: Subject) -> dict[str, str]:
    """The texts of the file of weights. `trained` is there if, and only if, they were trained."""
    trained = {"trained": subject.about["trained"]} if "trained" in subject.about else {}
    return {**subject.metadata, **trained}


def weights_bytes(module: nn.Module, metadata: dict[str, str]) -> bytes:
    """The state dict as safetensors; the same bytes for the same weights and texts."""
    plain = {name: tensor.contiguous() for name, tensor in module.state_dict().items()}
    data: bytes = safetensors.torch.save(plain, metadata)
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))  # safetensors writes texts in random order
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
