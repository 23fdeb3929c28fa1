"""One published network: its spec, what it is called, and what its publisher says of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mnas.search_space.spec import NetworkSpec

# timm's own measurements of weights at the resolution that it names; used where a publisher gave no figure.
TIMM_RESULTS = "timm 0173a139, results/results-imagenet.csv"


@dataclass(frozen=True, slots=True)
class Figures:
    """What is published of a network, with the digits given there.

    Counters differ: published multiply-adds are up to 5.7 % from ours (EfficientNet-Lite0), parameters up to 18 %
    (MobileNetV3-Small at width 0.75); ours equal a count over timm's module.

    Args:
        source: who says so, with the version.
        percent: top-1 accuracy on ImageNet's validation images at the network's evaluation resolution.
        params: in all; None where the source has none.
        madds: multiply-adds of one image at that resolution; None where the source has none.
    """

    source: str
    percent: float
    params: float | None = None
    madds: float | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A published network.

    Args:
        title: as its publisher writes it.
        family: of networks that differ in size alone.
        spec: at the resolution that it was evaluated at.
        figures: what is published of it; None where nothing is known here.
        aliases: other names that it is known by, timm's first.
    """

    title: str
    family: str
    spec: NetworkSpec
    figures: Figures | None = None
    aliases: tuple[str, ...] = ()

    @property
    def top1(self) -> float | None:
        """The published accuracy, 0 to 1; None where none is known here."""
        return None if self.figures is None else round(self.figures.percent / 100, 5)

    @property
    def source(self) -> str:
        """Who published the figures, with the version; empty without any."""
        return "" if self.figures is None else self.figures.source

    def at(self, resolution: int | None) -> NetworkSpec:
        """The spec at another resolution in pixels; None is its own.

        Raises:
            InputError: a resolution below 8 pixels.
        """
        return self.spec if resolution is None else replace(self.spec, resolution=resolution)

    def published_fields(self, resolution: int | None = None) -> dict[str, Any]:
        """The figures as JSON fields, null where there are none.

        Accuracy and multiply-adds are left out at another resolution (in pixels) than the network's own.
        """
        own = self.figures if resolution in (None, self.spec.resolution) else None
        return {
            "title": self.title,
            "family": self.family,
            "top1": None if own is None else self.top1,
            "published_params": _whole(None if self.figures is None else self.figures.params),
            "published_madds": _whole(None if own is None else own.madds),
            "published_source": self.source or None,
        }


def at_widths(
    name: str,
    title: str,
    figures: Mapping[float, Figures | None],
    spec_of: Callable[[float], NetworkSpec],
    *,
    family: str = "",
    timm: str = "",
) -> dict[str, Member]:
    """The members of one network at several widths: `name` at width 1, `name_050` at a half.

    Args:
        name: of the member of width 1.
        title: its title; the other widths are appended.
        figures: what is published, by width.
        spec_of: makes the spec of a width.
        family: by default the title.
        timm: what stands before the width in timm's names; by default the name.
    """
    members = {}
    for width, known in figures.items():
        percent = f"_{round(100 * width):03}"
        own, alias = (name if width == 1 else name + percent), (timm or name) + percent
        members[own] = Member(
            title if width == 1 else f"{title} {width:g}x",
            family or title,
            spec_of(width),
            known,
            () if alias == own else (alias,),
        )
    return members


def _whole(count: float | None) -> int | None:
    return None if count is None else round(count)
