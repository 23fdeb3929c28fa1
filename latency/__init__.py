"""How long a network takes on a device: measured, calibrated, predicted, checked."""

from mnas.latency.cache import (
    Kept,
    calibration_path,
    find_calibration,
    import_calibration,
    keep_calibration,
    kept_calibrations,
    read_any,
    read_calibration,
)
from mnas.latency.calibrate import Calibration, calibrate, default_reference, reference_for
from mnas.latency.check import check_estimates
from mnas.latency.compare import Comparison, compare
from mnas.latency.conditions import CPU, Conditions
from mnas.latency.device import Device, this_device
from mnas.latency.encoding_predictor import EncodingPredictor
from mnas.latency.host import LOCAL, Host, check_conditions, describe_conditions, parse_host
from mnas.latency.kernel_predictor import KernelPredictor
from mnas.latency.measure import measure, measure_each, measure_spread, reference_ms_of
from mnas.latency.measurement import Measurement, MeasurementSet, ProcessSamples
from mnas.latency.models import MeasuringLatencyModel
from mnas.latency.networks import CalibrationNetwork, calibration_networks, few_networks
from mnas.latency.onnx_file import OnnxFile, read_onnx
from mnas.latency.operators import Operator
from mnas.latency.predictor import StructuralPredictor
from mnas.latency.predictors import Predictor
from mnas.latency.references import REFERENCES, nearest_reference, reference_like
from mnas.latency.scores import PredictionError, coverage, kendall, noise_ceiling, score, spearman
from mnas.latency.session import Progress, Timeable

__all__ = [
    "CPU",
    "LOCAL",
    "REFERENCES",
    "Calibration",
    "CalibrationNetwork",
    "Comparison",
    "Conditions",
    "Device",
    "EncodingPredictor",
    "Host",
    "Kept",
    "KernelPredictor",
    "Measurement",
    "MeasurementSet",
    "MeasuringLatencyModel",
    "OnnxFile",
    "Operator",
    "PredictionError",
    "Predictor",
    "ProcessSamples",
    "Progress",
    "StructuralPredictor",
    "Timeable",
    "calibrate",
    "calibration_networks",
    "calibration_path",
    "check_conditions",
    "check_estimates",
    "compare",
    "coverage",
    "default_reference",
    "describe_conditions",
    "few_networks",
    "find_calibration",
    "import_calibration",
    "keep_calibration",
    "kendall",
    "kept_calibrations",
    "measure",
    "measure_each",
    "measure_spread",
    "nearest_reference",
    "noise_ceiling",
    "parse_host",
    "read_any",
    "read_calibration",
    "read_onnx",
    "reference_for",
    "reference_like",
    "reference_ms_of",
    "score",
    "spearman",
    "this_device",
]
