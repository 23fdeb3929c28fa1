"""Figures as people read them, with their units."""

import re

from mnas.report.data import Latency, Network, RunData
from mnas.units import format_count
from mnas.zoo import MEMBERS

TIMES = "\N{MULTIPLICATION SIGN}"


def name_of(name: str) -> str:
    """A published network's name as its publisher writes it; another as it is."""
    return MEMBERS[name].title if name in MEMBERS else name


def number(value: float, digits: int = 3) -> str:
    """`digits` significant ones and no exponent below a million.

    >>> number(13.108), number(0.3799), number(134.2)
    ('13.1', '0.38', '134')
    """
    if value >= 1e6:
        return f"{value:.{digits}g}"
    whole = len(f"{int(value)}") if value >= 1 else 0
    places = max(0, digits - whole) if value >= 1 else digits - 1
    return f"{value:.{places}f}"


def ms(value: float) -> str:
    """Milliseconds with two places, one above a hundred."""
    return f"{value:.2f}" if value < 100 else f"{value:.1f}"


def span(latency: Latency) -> str:
    """The interval: `12.89 to 13.33`."""
    return f"{ms(latency.low_ms)} to {ms(latency.high_ms)}"


def percent(value: float, places: int = 2) -> str:
    """A fraction as per cent, without the sign: `67.87`."""
    return f"{100 * value:.{places}f}"


def count(value: float) -> str:
    """`385814752` as `385.8M`."""
    return format_count(value)


def ratio(value: float) -> str:
    """`0.53` as `0.53` with a multiplication sign."""
    return f"{value:.2f}{TIMES}"


def square(size: int) -> str:
    """A kernel or an image: `5x5`, with a multiplication sign."""
    return f"{size}{TIMES}{size}"


def cost(run: RunData, value: float) -> str:
    """A cost in the unit of the run's target, with the unit."""
    return f"{ms(value)} ms" if run.kind == "latency" else f"{count(value)} MAdds"


def target(run: RunData) -> str:
    """The target as a person would say it: `15 ms`, `400M multiply-adds`."""
    return f"{run.target:g} ms" if run.kind == "latency" else f"{count(run.target)} multiply-adds"


def between(ends: tuple[float, float]) -> str:
    """Two numbers, roughly: `1.7 to 27`."""
    low, high = ends
    return f"{number(low, 2)} to {number(high, 2)}"


def parts(command: str) -> list[str]:
    """A command as what may stand on lines of its own: each option with its value.

    >>> parts("mnas export runs/first --format onnx")
    ['mnas export runs/first', '--format onnx']
    """
    return re.split(" (?=--)", command)


def unbroken(text: str) -> str:
    """The text with no line that ends between a number and its unit."""
    return text.replace(" ms", "\N{NO-BREAK SPACE}ms").replace(" %", "\N{NO-BREAK SPACE}%")


def sentence(text: str) -> str:
    """The text with a capital at its beginning."""
    return text[:1].upper() + text[1:]


def rule(network: Network) -> str:
    """How a scaled network was made: `phi 4.03: depth x2.09, width x1.47`, with signs."""
    if network.phi is None:
        return ""
    parts = [
        f"{what} {TIMES}{number(value)}"
        for what, value in (("depth", network.depth), ("width", network.width))
        if value
    ]
    return f"phi {network.phi:.2f}" + (f": {', '.join(parts)}" if parts else "")
