"""What an accuracy model returned, checked before anything is decided by it."""

import math
from collections.abc import Sequence

from mnas.errors import SearchError
from mnas.protocols import AccuracyEstimate


def check_accuracies(estimates: object, count: int, name: str) -> list[AccuracyEstimate]:
    """What an accuracy model returned, checked.

    Raises:
        SearchError: not a list of `count` estimates with a finite value in 0..1 and a finite `std`.
    """
    listed = list(estimates) if isinstance(estimates, Sequence) else None
    if listed is None or len(listed) != count:
        got = type(estimates).__name__ if listed is None else f"{len(listed)} of them"
        raise SearchError(f"the accuracy model {name!r} must return a list of {count} estimates, got {got}.")
    for index, item in enumerate(listed):
        value, std = (getattr(item, name, None) for name in ("value", "std"))
        numbers = isinstance(value, float | int) and isinstance(std, float | int)
        if not numbers or not (0 <= float(value) <= 1) or not 0 <= float(std) < math.inf:  # type: ignore[arg-type]
            raise SearchError(
                f"the accuracy model {name!r} must return accuracies from 0 to 1 with their standard error; "
                f"number {index + 1} of {count} is {item!r}."
            )
    return listed
