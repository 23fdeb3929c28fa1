"""Python expressions as a tree, laid out in lines as ruff formats them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Union

WIDTH = 110
_STEP = 4

Expression = Union[str, "Call", "Repeat"]


@dataclass(frozen=True, slots=True)
class Call:
    """`key=head(items)`.

    Args:
        head: what is called.
        items: the arguments.
        key: the keyword under which the whole is an argument itself; empty is none.
        comments: a line above each item, for the items that have one, by index.
    """

    head: str
    items: Sequence[Expression]
    key: str = ""
    comments: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`*(element clause)`, an unpacked generator."""

    element: Call
    clause: str


def keyed(key: str, expression: Call) -> Call:
    """The expression as a keyword argument."""
    return replace(expression, key=key)


def flat(expression: Expression) -> str:
    """The expression on one line, without its comments."""
    if isinstance(expression, str):
        return expression
    if isinstance(expression, Repeat):
        return f"*({flat(expression.element)} {expression.clause})"
    key = f"{expression.key}=" if expression.key else ""
    return f"{key}{expression.head}({', '.join(flat(item) for item in expression.items)})"


def lines(expression: Expression, indent: int, before: str = "", after: str = "") -> Iterator[str]:
    """The expression in lines of at most `WIDTH` characters where it can be broken.

    Args:
        expression: what to lay out.
        indent: of its first line, in characters.
        before: text before it, `return ` for example.
        after: text behind it, a comma for example.
    """
    one = f"{' ' * indent}{before}{flat(expression)}{after}"
    if isinstance(expression, str) or (len(one) <= WIDTH and not _has_comments(expression)):
        yield one
    elif isinstance(expression, Repeat):
        yield from _repeat(expression, indent, after)
    else:
        key = f"{expression.key}=" if expression.key else ""
        yield f"{' ' * indent}{before}{key}{expression.head}("
        for number, item in enumerate(expression.items):
            if number in expression.comments:
                yield f"{' ' * (indent + _STEP)}# {expression.comments[number]}"
            yield from lines(item, indent + _STEP, after=",")
        yield f"{' ' * indent}){after}"


def _repeat(repeat: Repeat, indent: int, after: str) -> Iterator[str]:
    inner = f"{' ' * (indent + _STEP)}{flat(repeat.element)} {repeat.clause}"
    yield f"{' ' * indent}*("
    if len(inner) <= WIDTH:
        yield inner
    else:
        yield from lines(repeat.element, indent + _STEP)
        yield f"{' ' * (indent + _STEP)}{repeat.clause}"
    yield f"{' ' * indent}){after}"


def _has_comments(expression: Expression) -> bool:
    if isinstance(expression, str):
        return False
    if isinstance(expression, Repeat):
        return _has_comments(expression.element)
    return bool(expression.comments) or any(_has_comments(item) for item in expression.items)
