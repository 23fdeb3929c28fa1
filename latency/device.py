"""The device that a latency holds for, and what tells it from another."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Self

from mnas.errors import InputError
from mnas.latency.agent import describe_device


@dataclass(frozen=True, slots=True)
class Device:
    """What decides a network's latency, apart from the conditions. Holds no host name and no address.

    Args:
        cpu: the model as the system names it.
        flags: digest of the CPU's instruction set flags; empty where the system does not list them.
        cores: that this process may use.
        machine: instruction set architecture, `x86_64` or `aarch64` for example.
        system: operating system and its release.
        onnxruntime: version.
    """

    cpu: str
    flags: str
    cores: int
    machine: str
    system: str
    onnxruntime: str

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal for equal records, so that calibrations are cached under it."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        """One line for people: `AMD EPYC, 2 cores, x86_64` for example."""
        return f"{self.cpu}, {self.cores} core{'s' * (self.cores != 1)}, {self.machine}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`.

        Raises:
            InputError: fields that are missing, unknown, or no plain text; cores that are no count.
        """
        names = {item.name for item in fields(cls)}
        if set(data) != names:
            raise InputError(
                f"device: missing {sorted(names - set(data))}, unknown {sorted(set(data) - names)}."
            )
        cores, texts = data["cores"], [data[name] for name in sorted(names - {"cores"})]
        if not all(isinstance(text, str) and text.isprintable() for text in texts):
            raise InputError(f"device: expected plain texts, got {texts!r}.")
        if not isinstance(cores, int) or isinstance(cores, bool) or cores < 1:
            raise InputError(f"device: cores must be a whole number of at least 1, got {cores!r}.")
        return cls(**data)


@lru_cache(maxsize=1)
def this_device() -> Device:
    """The record of this device; read once per process."""
    return Device.from_dict(describe_device())
