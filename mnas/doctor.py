"""Whether all is ready: versions, device, noise, and what is missing with the command that mends it."""

import importlib.util
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from mnas.env import environment
from mnas.latency import (
    LOCAL,
    Conditions,
    Host,
    calibration_path,
    check_conditions,
    measure,
)
from mnas.latency.agent import cache_folder
from mnas.latency.measurement import MeasurementSet
from mnas.search.reporting import Reporter
from mnas.zoo import published

# The same network under so many names, in so many fresh processes, for so many seconds: a minute with all around it.
NAMES, PROCESSES, BUDGET_S = 4, 5, 40.0
# Differences of a network from itself up to which finalists can be told apart, and beyond which nothing can be
# decided (chosen here: a finalist's interval is about 2 %, and 10 % is what a predictor is asked to hold).
QUIET, NOISY = 0.02, 0.10
# The wall clock over the time on the core from which other work is in the way (chosen here).
SHARED = 1.10
# Bytes that a run of the default search takes, with room to spare: two ONNX models of a scaled network and the store.
FREE_BYTES = 2 << 30
EXTRAS = {"timm": "mnas export --format timm"}

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: what was found, and what mends it where that is needed."""

    name: str
    verdict: Verdict
    text: str
    remedy: str | None = None


def examine(
    reporter: Reporter, *, noise: bool, threads: int = 1, seed: int = 0, host: Host = LOCAL
) -> dict[str, Any]:
    """Looks at the installation and the device.

    Args:
        reporter: told of progress.
        noise: whether to time a network against itself for a minute.
        threads: of that network.
        seed: of the order and the intervals.
        host: the device.

    Returns:
        `status` (the worst verdict), `findings`, `environment`, `device`, and `noise` (or null).

    Raises:
        InputError: threads that the device does not offer.
        MeasurementError: the device cannot be reached, or lacks what a measurement needs.
    """
    conditions = Conditions(threads=threads)
    check_conditions(conditions, host)
    findings = [*_packages(), *_extras(), _device(host), _disk(), _calibration(conditions, host)]
    measured = None
    if noise:
        reporter.stage("timing EfficientNet-B0 against itself for a minute")
        result = measure(
            {f"copy {number}": published("efficientnet_b0") for number in range(1, NAMES + 1)},
            reference=published("efficientnet_b0"),
            conditions=conditions,
            processes=PROCESSES,
            budget_s=BUDGET_S,
            seed=seed,
            host=host,
            on_progress=reporter.progress,
        )
        measured = _noise(result)
        findings += _noise_findings(measured)
    worst = max((f.verdict for f in findings), key=("ok", "warning", "problem").index)
    return {
        "status": worst,
        "findings": [
            {"name": f.name, "verdict": f.verdict, "text": f.text, "remedy": f.remedy} for f in findings
        ],
        "environment": environment(),
        "device": host.device.to_dict(),
        "conditions": conditions.describe(host.device),
        "noise": measured,
    }


def _packages() -> list[Finding]:
    found = environment()
    missing = [name for name, version in found["packages"].items() if version is None]
    if missing:
        return [
            Finding(
                "packages", "problem", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}"
            )
        ]
    versions = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return [Finding("packages", "ok", f"mnas {found['mnas']}, Python {found['python']}, {versions}")]


def _extras() -> list[Finding]:
    """Optional packages: their absence is no fault, but worth knowing."""
    return [
        Finding("extras", "ok", f"{name} is there for {use}")
        if importlib.util.find_spec(name)
        else Finding(
            "extras", "ok", f"{name} is not installed; {use} needs it", f"pip install 'mnas[{name}]'"
        )
        for name, use in EXTRAS.items()
    ]


def _device(host: Host) -> Finding:
    device, state = host.device, host.state
    text = (
        f"{device.describe()}; ONNX Runtime {device.onnxruntime}; governor {state['governor'] or 'not told'}"
    )
    if state["governor"] not in (None, "performance"):
        return Finding(
            "device",
            "warning",
            f"{text}: the clock moves with the load",
            "sudo cpupower frequency-set --governor performance",
        )
    return Finding("device", "ok", text)


def _disk() -> Finding:
    free = shutil.disk_usage(os.getcwd()).free
    text = f"{free / 1e9:.1f} GB free here; calibrations are kept in {cache_folder()}"
    if free < FREE_BYTES:
        return Finding(
            "disk", "warning", text, f"free {FREE_BYTES / 1e9:.0f} GB, or write runs elsewhere: --out DIR"
        )
    return Finding("disk", "ok", text)


def _calibration(conditions: Conditions, host: Host) -> Finding:
    path = calibration_path(host.device, conditions)
    if path.is_file():
        text = f"{host.name} is calibrated for {conditions.describe(host.device)}: {path}"
        return Finding("calibration", "ok", text)
    return Finding(
        "calibration", "ok", f"{host.name} is not calibrated yet; the first search does it in about a minute"
    )


def _noise(result: MeasurementSet) -> dict[str, Any]:
    """What the copies say of the noise, all relative: they are the same network, so that every difference is noise."""
    apart = [abs(m.ratio - 1) for m in result.measurements]
    half = [(m.ratio_high - m.ratio_low) / 2 / m.ratio for m in result.measurements]
    spans = [_spread(s.reference_ms) for m in result.measurements for s in m.samples]
    own = result.reference_ms
    return {
        "copies": len(apart),
        "processes": len(result.processes),
        "difference_median": median(apart),
        "difference_most": max(apart),
        "interval_half_width": median(half),
        "run_to_run": median(spans),
        "reference_ms": own,
        "reference_wall_ms": result.reference_raw_ms,
        "wall_over_core": result.reference_raw_ms / own,
        "load": [result.processes[0]["load_before"], result.processes[-1]["load_after"]],
        "status": "noisy" if any(m.status == "noisy" for m in result.measurements) else "ok",
        "warnings": list(result.warnings),
    }


def _spread(values: Sequence[float]) -> float:
    """Half of the middle 90 % of single runs, relative to their median."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    return (high - low) / 2 / median(ordered)


def _noise_findings(noise: dict[str, Any]) -> list[Finding]:
    most = noise["difference_most"]
    text = (
        f"one network under {noise['copies']} names differs from itself by {most:.1%} at most "
        f"({noise['processes']} processes; single runs spread by +-{noise['run_to_run']:.0%})"
    )
    quiet = "end other work on this machine, or measure at a quieter hour"
    if most > NOISY or noise["status"] == "noisy":
        findings = [Finding("noise", "problem", f"{text}: too noisy to decide between networks", quiet)]
    elif most > QUIET:
        findings = [
            Finding("noise", "warning", f"{text}: networks closer than that cannot be told apart", quiet)
        ]
    else:
        findings = [Finding("noise", "ok", text)]
    if noise["wall_over_core"] > SHARED:
        findings.append(
            Finding(
                "shared core",
                "warning",
                f"by the wall clock a run takes {noise['wall_over_core']:.2f} times as long as on the core, so that "
                f"budgets cannot be filled",
                quiet,
            )
        )
    return findings
