import pytest

from mnas.errors import SearchError
from mnas.search.budget import search_budgets


def budget(target: float, base: float = 7.0) -> tuple[float, list[str]]:
    notes: list[str] = []
    (value,) = search_budgets(
        [target], 1.0, 20.0, lambda: base, what="the space", show=lambda ms: f"{ms:g} ms", note=notes.append
    )
    return value, notes


def test_inside_the_range_the_target_is_the_budget_and_the_base_is_never_asked_for() -> None:
    def never() -> float:
        raise AssertionError("asked for a base")

    targets = (1.0, 15.0, 20.0)
    assert search_budgets(targets, 1.0, 20.0, never, what="x", show=str, note=pytest.fail) == targets


def test_of_several_targets_those_above_the_range_share_a_base() -> None:
    notes: list[str] = []
    found = search_budgets(
        [5.0, 40.0, 80.0],
        1.0,
        20.0,
        lambda: 7.0,
        what="the space",
        show=lambda ms: f"{ms:g} ms",
        note=notes.append,
    )
    assert found == (5.0, 7.0, 7.0)
    assert "to fill 40 ms and 80 ms" in notes[0]
    with pytest.raises(SearchError, match=r"the target 0\.5 ms is below"):
        search_budgets(
            [5.0, 0.5], 1.0, 20.0, lambda: 7.0, what="x", show=lambda ms: f"{ms:g} ms", note=pytest.fail
        )


def test_above_the_range_the_base_is_brought_into_it_and_a_note_says_so() -> None:
    assert budget(80.0)[0] == 7.0
    assert budget(80.0, base=30.0)[0] == 20.0
    assert budget(80.0, base=0.1)[0] == 1.0
    (note,) = budget(80.0)[1]
    for words in ("within 80 ms", "1 ms to 20 ms", "searched at 7 ms", "grown"):
        assert words in note


def test_below_the_range_is_refused_with_the_range() -> None:
    with pytest.raises(SearchError, match="1 ms to 20 ms"):
        budget(0.9)
