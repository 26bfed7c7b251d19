"""Paging: all rows of a chain in the order of their sequences, a page at a time. What both databases share.

- No lock and no transaction MUST be held between two pages: whoever reads may think for long.
- Every row MUST be given, once, whatever its columns hold: a row is told from the others by where it
  lies, which nobody can leave empty or give away twice.
- A page ends where it has become large, and of a row that is larger than any record may be only what is
  short MUST be read: it is a fault of its own, and hides no other row.

How it is done is in `capsule_sdk.chain.sqlite_paging` and `capsule_sdk.chain.postgresql_paging`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from capsule_sdk.errors import ChainUnavailable

from .genuine import Store
from .sqlite_reading import takes_any_text
from .table import StoredCapsule

__all__ = [
    "LARGEST_PAGE",
    "LARGEST_ROW",
    "LEFT_OUT",
    "ROWS_PER_PAGE",
    "SHORT",
    "RowsUnaccounted",
    "execute",
    "fields_of",
    "large_row",
    "reading",
    "stored",
    "weight",
]

#: What stands in place of the content of a row that is too large to be read.
LEFT_OUT: Final[Any] = object()
#: Rows of a page at most.
ROWS_PER_PAGE: Final = 200
#: Characters of a page in a file, bytes on a server; its last row may go beyond.
LARGEST_PAGE: Final = 8 << 20
#: Bytes that a row may have: what a record in a file may have, too.
LARGEST_ROW: Final = 64 << 20
#: Bytes of a value that is read of a row that is too large.
SHORT: Final = 16 << 10

T = TypeVar("T")


class RowsUnaccounted(ChainUnavailable):
    """What was given are not the rows that the table holds: one of its indexes leads astray."""


def fields_of(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return what makes a `StoredCapsule`; null where a table has no such column."""
    return [table.c.get(name, sa.null().label(name)) for name in StoredCapsule._fields]


#: Return a row out of its fields, fast.
stored: Callable[[Sequence[Any]], StoredCapsule] = partial(tuple.__new__, StoredCapsule)


def large_row(values: Sequence[Any]) -> StoredCapsule:
    """Return a row, or, if it is too large, what is short of it."""
    row = StoredCapsule._make(values)
    if LEFT_OUT not in values and sum(map(weight, values)) <= LARGEST_ROW:
        return row
    short = (None if one is LEFT_OUT or weight(one) > SHORT else one for one in row)
    return StoredCapsule._make(short)._replace(data=LEFT_OUT)


def weight(value: object) -> int:
    """Return how many bytes a value takes at most, by the rule of files: see `scanning.is_too_large`."""
    return len(value) * (1 if value.isascii() else 4) if isinstance(value, str | bytes) else 0


def execute(query: sa.Select[Any], connection: sa.Connection) -> Sequence[Any]:
    """Return all rows of a query."""
    return connection.execute(query).all()


def reading(store: Store, read: Callable[[sa.Connection], T]) -> T:
    """Return what is read, and hold nothing then. One row that is not UTF-8 hides no other."""
    with store.connection() as connection:
        try:
            found = read(connection)
        except DBAPIError as error:
            if not takes_any_text(connection, error):
                raise
            found = read(connection)
        connection.rollback()
        return found
