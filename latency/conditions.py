"""What a latency holds for: threads, batch, precision, provider."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Self

from mnas.env import usable_cores
from mnas.errors import InputError

CPU = "CPUExecutionProvider"
PRECISIONS = ("fp32",)


def runtime_version() -> str:
    """ONNX Runtime's version, without importing it where the package's metadata tells."""
    try:
        return version("onnxruntime")
    except PackageNotFoundError:  # a build under another name, onnxruntime-gpu for example
        import onnxruntime

        return str(onnxruntime.__version__)


def _providers() -> list[str]:
    import onnxruntime

    return list(onnxruntime.get_available_providers())


@dataclass(frozen=True, slots=True)
class Conditions:
    """Under which a network is timed; the default is MnasNet's convention.

    Args:
        threads: inside an operator, 1 to the cores that this process may use; operators run one by one.
        batch: images per run, at least 1.
        precision: of weights and activations, `fp32`.
        provider: ONNX Runtime's execution provider, one that is installed.

    Raises:
        InputError: a value outside its domain; all problems are named.
    """

    threads: int = 1
    batch: int = 1
    precision: str = "fp32"
    provider: str = CPU

    def __post_init__(self) -> None:
        problems = []
        cores = usable_cores()
        if not _is_int(self.threads) or not 1 <= self.threads <= cores:
            problems.append(f"threads must lie between 1 and the {cores} usable cores, got {self.threads!r}")
        if not _is_int(self.batch) or self.batch < 1:
            problems.append(f"batch must be a whole number of at least 1, got {self.batch!r}")
        if self.precision not in PRECISIONS:
            problems.append(f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.provider != CPU and self.provider not in (known := _providers()):
            problems.append(f"provider must be one of {', '.join(known)}, got {self.provider!r}")
        if problems:
            raise InputError(f"conditions of a latency: {'; '.join(problems)}.")

    @property
    def clock(self) -> str:
        """Which clock decides: `core`, the time on a core, for one thread on the CPU; else `wall`.

        They agree on a core that is not shared; `worker.py` says why the wall clock misleads on one that is.
        """
        return "core" if self.threads == 1 and self.provider == CPU else "wall"

    def describe(self) -> str:
        """`batch 1, fp32, 1 thread, ONNX Runtime 1.31.1 CPU`: what every figure shown names."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        provider = self.provider.removesuffix("ExecutionProvider")
        return f"batch {self.batch}, {self.precision}, {threads}, ONNX Runtime {runtime_version()} {provider}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: an unknown field, or a value that this device does not offer.
        """
        unknown = sorted(set(data) - {item.name for item in fields(cls)})
        if unknown:
            raise InputError(f"conditions of a latency: unknown fields {unknown}.")
        return cls(**data)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
