"""Quantities as people write them: `80ms`, `0.08s`, `400M`, `30m`. A bare number is refused."""

import math
import re

from mnas.errors import InputError

_NUMBER = re.compile(
    r"\s*([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|nan|[+-]?inf)\s*([^\s\d]*)\s*", re.IGNORECASE
)
_MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_COUNTS = {"K": 1e3, "M": 1e6, "G": 1e9, "B": 1e9}
_SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


def _parse(text: str, units: dict[str, float], what: str, example: str, *, exact_case: bool) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise InputError(f"{what} {text!r} is not a number with a unit; write for example {example}.")
    number, unit = float(match[1]), match[2]
    table = units if exact_case else {name.lower(): factor for name, factor in units.items()}
    factor = table.get(unit if exact_case else unit.lower())
    if not unit:
        raise InputError(f"{what} {text!r} has no unit; write for example {example}.")
    if factor is None:
        raise InputError(
            f"{what} {text!r} has the unknown unit {unit!r}; use one of {', '.join(units)}, for example {example}."
        )
    value = number * factor
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{what} {text!r} must be a positive, finite number; write for example {example}.")
    return value


def parse_latency_ms(text: str, *, what: str = "latency") -> float:
    """Milliseconds of a text such as `80ms`, `0.08s`, `800us`.

    Raises:
        InputError: no unit, an unknown unit, or a value that is not positive and finite.

    >>> parse_latency_ms("0.08s")
    80.0
    """
    return _parse(text, _MILLISECONDS, what, "80ms", exact_case=False)


def parse_count(text: str, *, what: str = "count") -> int:
    """A count of multiply-adds or parameters from a text such as `400M`, `0.4G`.

    Raises:
        InputError: no unit, an unknown unit, or a value that is not positive and finite.

    >>> parse_count("400M")
    400000000
    """
    return round(_parse(text, _COUNTS, what, "400M", exact_case=False))


def parse_duration_s(text: str, *, what: str = "duration") -> float:
    """Seconds of a text such as `90s`, `30m`, `2h`.

    Raises:
        InputError: no unit, an unknown unit, or a value that is not positive and finite.

    >>> parse_duration_s("30m")
    1800.0
    """
    return _parse(text, _SECONDS, what, "30m", exact_case=True)


def parse_factor(text: str, *, what: str = "factor") -> float:
    """A factor from a text such as `2x`.

    Raises:
        InputError: no `x`, or a value that is not positive and finite.

    >>> parse_factor("1.5x")
    1.5
    """
    return _parse(text, {"x": 1.0}, what, "2x", exact_case=False)


def format_count(count: float) -> str:
    """`385814752` as `385.8M`.

    >>> format_count(385_814_752)
    '385.8M'
    """
    for unit, factor in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(count) >= factor:
            return f"{count / factor:.4g}{unit}"
    return f"{count:.4g}"


def format_duration(seconds: float) -> str:
    """For people: `under 1 s`, `45 s`, `12 min`, `3.2 h`.

    >>> format_duration(0.81), format_duration(45.2), format_duration(700), format_duration(11_500)
    ('under 1 s', '45 s', '12 min', '3.2 h')
    """
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
