"""Fields: sealed JSON as lines of names and values, each text wrapped into a column of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache

from rich.console import Console
from rich.text import Text

from capsule_sdk.outward import escaped_json, lines_of_text, one_line

from .drawing import NOTHING, Paper, Span

__all__ = ["beside", "fields"]

_LABELS = 22  # columns of the names of fields at most
_WIDEST = 110  # columns in which a text is still easy to read
_NARROWEST = 30  # columns that a text keeps however deep it stands
_DEEPEST = 8  # levels of objects in objects that are laid out


def fields(value: object, paper: Paper, *, indent: int = 0, depth: int = 0) -> Iterator[list[Span]]:
    """Yield an object or a list line by line, names in one column and what they hold beside them."""
    if isinstance(value, Mapping) and value and depth < _DEEPEST:
        pairs = [(one_line(str(name)), inner) for name, inner in value.items()]
    elif isinstance(value, list) and value and depth < _DEEPEST:
        pairs = [(f"{place}.", inner) for place, inner in enumerate(value, 1)]
    else:
        yield from beside([(" " * indent, "")], value, indent, paper)
        return
    column = min(_LABELS, max(len(name) for name, _ in pairs)) + 2
    for name, inner in pairs:
        label = (" " * indent, ""), (f"{name:<{column}}", "cyan")
        if isinstance(inner, Mapping | list) and inner:
            yield [*label]
            yield from fields(inner, paper, indent=indent + 2, depth=depth + 1)
        else:
            yield from beside([*label], inner, indent + max(column, len(name)), paper)


def beside(label: list[Span], value: object, indent: int, paper: Paper) -> Iterator[list[Span]]:
    """Yield a label with a value beside it, wrapped into its own column: no line of it looks like a field."""
    if value is None or value in ("", [], {}):
        yield [*label, (NOTHING, "dim")]
        return
    if not isinstance(value, str):
        yield [*label, (_written(value), "")]
        return
    lines = _wrapped(value, max(_NARROWEST, min(paper.width, indent + _WIDEST) - indent))
    yield [*label, (lines[0], "")]
    for line in lines[1:]:
        yield [(" " * indent, ""), (line, "")]


def _written(value: object) -> str:
    return (
        "…, nested deeper: --json shows it"
        if isinstance(value, Mapping | list)
        else escaped_json(json.dumps(value))
    )


def _wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of so many columns, its own lines kept."""
    lines: list[str] = []
    for clean in lines_of_text(text):
        lines += [part.plain for part in Text(clean).wrap(_console(), width)] or [""]
    return lines or [NOTHING]


@cache
def _console() -> Console:
    return Console()
