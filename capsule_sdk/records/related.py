"""What belongs to an exception beside its own message: notes, the exceptions of a group, causes, contexts.

Read by Python's own members, past whatever a class of the user's defines under these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..content.inert import held

__all__ = ["related"]

DEEPEST: Final = 5
MOST: Final = 20  #: exceptions and notes, of one error

_cause = BaseException.__dict__["__cause__"].__get__
_context = BaseException.__dict__["__context__"].__get__
_suppressed = BaseException.__dict__["__suppress_context__"].__get__
_inside = BaseExceptionGroup.__dict__["exceptions"].__get__


def related(error: BaseException) -> Iterator[tuple[int, str, BaseException | str]]:
    """Yield depth, relation, and exception or note, of at most `MOST`, each exception once."""
    seen = {id(error)}
    for count, found in enumerate(_around(error, 0, seen)):
        if count == MOST:
            yield 0, "", "… and more"
            return
        yield found


def _around(
    error: BaseException, depth: int, seen: set[int]
) -> Iterator[tuple[int, str, BaseException | str]]:
    notes = held(error, "__notes__")
    for note in notes if type(notes) is list or type(notes) is tuple else ():
        if type(note) is str:
            yield depth, "note: ", note
    for relation, other in _linked(error):
        if id(other) in seen:
            continue
        seen.add(id(other))
        yield depth, relation, other
        if depth < DEEPEST:
            yield from _around(other, depth + 1, seen)


def _linked(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    if issubclass(type(error), BaseExceptionGroup):  # not `isinstance`, which asks the object too
        inside: tuple[Any, ...] = _inside(error)
        for other in inside:
            yield "- ", other
    if (cause := _cause(error)) is not None:
        yield "caused by ", cause
    elif (context := _context(error)) is not None and not _suppressed(error):
        yield "while handling ", context
