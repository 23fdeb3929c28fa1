"""What a search aims at: its target, or a base budget from which the winner is grown to the target."""

from collections.abc import Callable

from mnas.errors import SearchError


def search_budget(
    target: float,
    least: float,
    greatest: float,
    base: Callable[[], float],
    *,
    what: str,
    show: Callable[[float], str],
    note: Callable[[str], None],
) -> float:
    """The cost at which to search: the target inside the space's range; above it, a base to grow from.

    EfficientNet was found so: a baseline searched at a small budget, then scaled up (arXiv 1905.11946, sec. 4).

    Args:
        target: what the user wants.
        least: cost of the cheapest member of the space; with `greatest` its range.
        greatest: of the costliest.
        base: what EfficientNet-B0 costs, asked for only above the range, and brought into it.
        what: the space and the conditions, for messages.
        show: a cost as text.
        note: told which of these happened.

    Raises:
        SearchError: the target is below the range.
    """
    if target < least:
        raise SearchError(
            f"the target {show(target)} is below the range of {what}: its members take {show(least)} to "
            f"{show(greatest)}. Raise the target, or lower --resolution."
        )
    if target <= greatest:
        return target
    budget = min(max(base(), least), greatest)
    note(
        f"every network of {what} is within {show(target)}: its members take {show(least)} to {show(greatest)}. So a "
        f"baseline is searched at {show(budget)} (EfficientNet-B0's cost), then grown by compound scaling to fill "
        f"{show(target)}."
    )
    return budget
