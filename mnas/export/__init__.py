"""From a spec and its weights to a file that runs without mnas, checked against the torch module before it appears."""

from mnas.export.counts import verify_madds
from mnas.export.formats import FORMATS
from mnas.export.subject import UNTRAINED
from mnas.export.write import ExportedModel, export_network, export_onnx, file_names, target_files

__all__ = [
    "FORMATS",
    "UNTRAINED",
    "ExportedModel",
    "export_network",
    "export_onnx",
    "file_names",
    "target_files",
    "verify_madds",
]
