"""What is wrong with a set of images, counted and named, all of it in one message."""

from collections.abc import Mapping, Sequence
from typing import NoReturn

from mnas.data.layout import PARTS, Plan, Row, shorten
from mnas.errors import InputError


def find_problems(plan: Plan, rows: Sequence[Row], unreadable: Mapping[str, str]) -> list[str]:
    """Sentences without a full stop; none where all is well.

    Args:
        plan: what was found.
        rows: of the plan, those that were decoded.
        unreadable: reason by name, of images and folders.
    """
    problems = []
    if unreadable:
        named = shorten(f"{name} ({reason})" for name, reason in sorted(unreadable.items()))
        problems.append(f"{_count(len(unreadable), 'file')} cannot be read: {named}")
    if plan.outside:
        problems.append(
            f"{_count(len(plan.outside), 'image')} outside any class folder: {shorten(plan.outside)}"
        )
    seen = {part: {row.label for row in rows if row.part == part} for part in PARTS}
    empty = [label for label in plan.classes if not any(label in labels for labels in seen.values())]
    if empty:
        problems.append(f"{_count(len(empty), 'class')} without an image: {shorten(empty)}")
    for part in PARTS:
        missing = [label for label in plan.classes if label not in seen[part] and label not in empty]
        if missing:
            problems.append(f"{_count(len(missing), 'class')} without an image in {part}: {shorten(missing)}")
    return problems


def refuse(where: str, problems: Sequence[str]) -> NoReturn:
    """Raises InputError with all problems and what to do."""
    raise InputError(
        f"{where} cannot be used as it is: {'; '.join(problems)}. Mend this, or leave out what cannot be used "
        f"with --skip-unreadable."
    )


def _count(count: int, noun: str) -> str:
    """
    >>> _count(1, "class"), _count(2, "class"), _count(1200, "file")
    ('1 class', '2 classes', '1,200 files')
    """
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else plural}"
