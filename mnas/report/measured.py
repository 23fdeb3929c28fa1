"""Networks, latencies, the calibration and the family, read from the JSON of a run directory."""

from pathlib import Path

from mnas.latency.calibrate import FORMAT
from mnas.report.data import Calibration, CalibrationPoint, Family, Latency, Network, PredictorError
from mnas.report.fields import Fields
from mnas.search_space import NetworkSpec

# What is read here is the same in all of these.
CALIBRATION_FORMATS = ("mnas.calibration/3", "mnas.calibration/4", FORMAT)


def read_latency(fields: Fields) -> Latency | None:
    """The latency fields of `mnas.records.latency_fields`, or None where there is no latency."""
    if "latency_ms" not in fields:
        return None
    return Latency(
        ms=fields.amount("latency_ms"),
        low_ms=fields.amount("latency_low_ms"),
        high_ms=fields.amount("latency_high_ms"),
        raw_ms=fields.maybe_amount("latency_raw_ms"),
        source=fields.text("latency_source"),
    )


def read_network(fields: Fields, name: str, spec: NetworkSpec | None) -> Network:
    """A network with whatever of its fields are there; counts and resolution have to be."""
    return Network(
        name=name,
        spec=spec,
        params=fields.whole("params"),
        madds=fields.whole("madds"),
        resolution=fields.whole("resolution"),
        block_strings=fields.texts("block_strings"),
        latency=read_latency(fields),
        status=fields.maybe_text("status") or fields.maybe_text("latency_status") or "ok",
        accuracy=fields.maybe_amount("accuracy"),
        accuracy_std=fields.maybe_amount("accuracy_std"),
        accuracy_source=fields.maybe_text("accuracy_source"),
        accuracy_reason=fields.maybe_text("accuracy_reason"),
        test_accuracy=fields.maybe_amount("test_accuracy"),
        val_accuracy=fields.maybe_amount("val_accuracy"),
        weights=fields.maybe_text("weights"),
        architecture=fields.maybe_text("architecture"),
        phi=fields.maybe_amount("phi"),
        depth=fields.maybe_amount("depth"),
        width=fields.maybe_amount("width"),
    )


def read_error(fields: Fields) -> PredictorError:
    """The held-out error of a latency predictor."""
    return PredictorError(
        n=fields.whole("n"),
        mape=fields.amount("mape"),
        within_10=fields.amount("within_10"),
        spearman=fields.number("spearman"),
    )


def read_calibration(file: Path) -> Calibration | None:
    """The calibration; None where there is none, or one of a format that holds no predictions.

    Raises:
        RunDirectoryError: damaged.
    """
    if not file.is_file():
        return None
    fields = Fields.read(file)
    if fields.text("format") not in CALIBRATION_FORMATS:
        return None
    device = fields.object("device")
    return Calibration(
        points=tuple(map(_point, fields.objects("points"))),
        error=read_error(fields.object("error")),
        device=tuple(
            (label, f"{device.whole(name)} usable" if name == "cores" else device.text(name))
            for name, label in (("cpu", "CPU"), ("cores", "cores"), ("onnxruntime", "ONNX Runtime"))
            if name in device
        ),
        reference_ms=fields.amount("reference_ms"),
        seconds=fields.amount("seconds"),
        made=fields.maybe_text("made"),
        warnings=fields.texts("warnings"),
    )


def _point(fields: Fields) -> CalibrationPoint:
    return CalibrationPoint(
        name=fields.text("name"),
        group=fields.text("group"),
        measured_ms=fields.amount("measured_ms"),
        low_ms=fields.amount("low_ms"),
        high_ms=fields.amount("high_ms"),
        predicted_ms=fields.maybe_amount("predicted_ms"),
    )


def read_family(file: Path) -> Family | None:
    """What `mnas scale` wrote, or None.

    Raises:
        RunDirectoryError: damaged.
    """
    if not file.is_file():
        return None
    fields = Fields.read(file)
    rule = fields.maybe_object("coefficients")
    return Family(
        rule=fields.maybe_text("rule") or "compound",  # the only one of earlier versions
        coefficients=None
        if rule is None
        else (rule.amount("alpha"), rule.amount("beta"), rule.amount("gamma")),
        conditions=fields.text("conditions"),
        members=tuple(read_network(item, item.text("name"), None) for item in fields.objects("members")),
    )
