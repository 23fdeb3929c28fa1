"""What a search aims at: its targets, or a base budget from which a winner is grown to its target."""

from collections.abc import Callable, Sequence

from mnas.errors import SearchError


def search_budgets(
    targets: Sequence[float],
    least: float,
    greatest: float,
    base: Callable[[], float],
    *,
    what: str,
    show: Callable[[float], str],
    note: Callable[[str], None],
) -> tuple[float, ...]:
    """The costs at which to search: each target inside the space's range; above it, a base to grow from.

    EfficientNet was found so: a baseline searched at a small budget, then scaled up (arXiv 1905.11946, sec. 4).

    Args:
        targets: what the user wants.
        least: cost of the cheapest member of the space; with `greatest` its range.
        greatest: of the costliest.
        base: what EfficientNet-B0 costs, asked for only above the range, and brought into it.
        what: the space and the conditions, for messages.
        show: a cost as text.
        note: told which of these happened.

    Raises:
        SearchError: a target is below the range.
    """
    if (lowest := min(targets)) < least:
        raise SearchError(
            f"the target {show(lowest)} is below the range of {what}: its members take {show(least)} to "
            f"{show(greatest)}. Raise the target, or lower --resolution."
        )
    above = [target for target in targets if target > greatest]
    if not above:
        return tuple(targets)
    budget = min(max(base(), least), greatest)
    note(
        f"every network of {what} is within {show(min(above))}: its members take {show(least)} to {show(greatest)}. So "
        f"a baseline is searched at {show(budget)} (EfficientNet-B0's cost), then grown by compound scaling to fill "
        f"{' and '.join(map(show, above))}."
    )
    return tuple(target if target <= greatest else budget for target in targets)
