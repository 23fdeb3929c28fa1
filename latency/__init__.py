"""How long a network takes on a device: measured, calibrated, predicted, checked."""

from mnas.latency.calibrate import Calibration, calibrate, default_reference
from mnas.latency.check import check_estimates
from mnas.latency.conditions import Conditions
from mnas.latency.device import Device, device_state, this_device
from mnas.latency.lock import device_lock
from mnas.latency.measure import measure, measure_each, reference_ms_of
from mnas.latency.measurement import Measurement, MeasurementSet, ProcessSamples
from mnas.latency.models import MeasuringLatencyModel
from mnas.latency.predictor import StructuralPredictor
from mnas.latency.scores import PredictionError, score, spearman
from mnas.latency.session import Progress

__all__ = [
    "Calibration",
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
    "check_estimates",
    "default_reference",
    "device_lock",
    "device_state",
    "measure",
    "measure_each",
    "reference_ms_of",
    "score",
    "spearman",
    "this_device",
]
