"""How long a network takes on a device: measured, calibrated, predicted, checked."""

from mnas.latency.cache import calibration_path, keep_calibration, read_calibration
from mnas.latency.calibrate import Calibration, calibrate, default_reference, reference_for
from mnas.latency.check import check_estimates
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device, device_state, this_device
from mnas.latency.lock import device_lock
from mnas.latency.measure import measure, measure_each, reference_ms_of
from mnas.latency.measurement import Measurement, MeasurementSet, ProcessSamples
from mnas.latency.models import MeasuringLatencyModel
from mnas.latency.networks import CalibrationNetwork, calibration_networks
from mnas.latency.predictor import StructuralPredictor
from mnas.latency.scores import PredictionError, score, spearman
from mnas.latency.session import Progress

__all__ = [
    "Calibration",
    "CalibrationNetwork",
    "Conditions",
    "Device",
    "Measurement",
    "MeasurementSet",
    "MeasuringLatencyModel",
    "PredictionError",
    "ProcessSamples",
    "Progress",
    "StructuralPredictor",
    "calibrate",
    "calibration_networks",
    "calibration_path",
    "check_estimates",
    "default_reference",
    "device_lock",
    "device_state",
    "keep_calibration",
    "measure",
    "measure_each",
    "read_calibration",
    "reference_for",
    "reference_ms_of",
    "score",
    "spearman",
    "this_device",
]
