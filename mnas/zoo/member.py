"""One published network: its spec, what it is called elsewhere, and how accurate its publisher found it."""

from dataclasses import dataclass
from typing import Any, Self

from mnas.search_space.spec import NetworkSpec


@dataclass(frozen=True, slots=True)
class Member:
    """A published network.

    Args:
        spec: at the resolution that it was evaluated at.
        top1: accuracy on ImageNet's validation images at that resolution, 0 to 1; None where it is not known here.
        source: who published that accuracy, with the version; empty without one.
        aliases: other names that it is known by, timm's first.
    """

    spec: NetworkSpec
    top1: float | None = None
    source: str = ""
    aliases: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: NetworkSpec, percent: float | None = None, source: str = "", *aliases: str) -> Self:
        """With the accuracy in percent, as papers write it; without one the source is left out."""
        top1 = None if percent is None else round(percent / 100, 5)
        return cls(spec, top1, "" if percent is None else source, aliases)

    def accuracy_fields(self) -> dict[str, Any]:
        """The published accuracy as JSON fields."""
        return {"top1": self.top1, "top1_source": self.source or None}
