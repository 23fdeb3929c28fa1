"""What a latency holds for: threads, batch, precision, provider."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mnas.errors import InputError
from mnas.latency.device import Device, this_device

CPU = "CPUExecutionProvider"
PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a network is timed; the default is MnasNet's convention.

    Args:
        threads: inside an operator, at least 1; operators run one by one.
        batch: images per run, at least 1.
        precision: of weights and activations, `fp32` or `int8`.
        provider: ONNX Runtime's execution provider.

    What a device offers of these is another question: `host.check_conditions`.

    Raises:
        InputError: a value outside its domain; all problems are named.
    """

    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    provider: str = CPU

    def __post_init__(self) -> None:
        problems = []
        if not _is_int(self.threads) or self.threads < 1:
            problems.append(f"threads must be a whole number of at least 1, got {self.threads!r}")
        if not _is_int(self.batch) or self.batch < 1:
            problems.append(f"batch must be a whole number of at least 1, got {self.batch!r}")
        if self.precision not in PRECISIONS:
            problems.append(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if not isinstance(self.provider, str) or not self.provider:
            problems.append(f"provider must be the name of one, {CPU} for example, got {self.provider!r}")
        if problems:
            raise InputError(f"conditions of a latency: {'; '.join(problems)}.")

    @property
    def clock(self) -> str:
        """Which clock decides: `core`, the time on a core, for one thread on the CPU; else `wall`.

        They agree on a core that is not shared; `worker.py` says why the wall clock misleads on one that is.
        """
        return "core" if self.threads == 1 and self.provider == CPU else "wall"

    def describe(self, device: Device | None = None) -> str:
        """`batch 1, fp32, 1 thread, ONNX Runtime 1.31.1 CPU`: what every figure shown names.

        Args:
            device: whose ONNX Runtime it is; None is this one.
        """
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        runtime = f"ONNX Runtime {(device or this_device()).onnxruntime}"
        return (
            f"batch {self.batch}, {self.precision}, {threads}, {runtime} "
            f"{self.provider.removesuffix('ExecutionProvider')}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: an unknown field, or a value outside its domain.
        """
        unknown = sorted(set(data) - {item.name for item in fields(cls)})
        if unknown:
            raise InputError(f"conditions of a latency: unknown fields {unknown}.")
        return cls(**data)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
