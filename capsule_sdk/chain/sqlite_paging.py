"""Paging a SQLite file: row ids in the order of their sequences, then the rows that lie there.

Somebody may have edited the file. Each value is read from the table and an index is trusted for the order
alone: rows that it passes over MUST be missed, and reading MUST end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import pairwise
from sys import getsizeof
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from .genuine import looking_at
from .paging import (
    LARGEST_PAGE,
    LARGEST_ROW,
    LEFT_OUT,
    ROWS_PER_PAGE,
    SHORT,
    RowsUnaccounted,
    execute,
    fields_of,
    large_row,
    reading,
    stored,
    weight,
)
from .sqlite import SQLiteFile
from .table import SQLITE_TABLE, StoredCapsule

__all__ = ["rows_of_file"]

_LARGEST_VALUE = 1 << 20  # bytes of a value that is read together with others
_KEYS_PER_PAGE = 20_000  # where no index has their order, each of these pages sorts all rows

_ROWS = "SELECT count(*) FROM capsules NOT INDEXED"
_ROWS_IN = "SELECT count(rowid) FROM capsules"
_LAST = "SELECT rowid FROM capsules WHERE sequence IS NOT NULL ORDER BY sequence DESC, rowid DESC LIMIT 1"
_ROWID: sa.ColumnElement[int] = sa.literal_column("rowid", sa.Integer)


def _selecting(*columns: sa.ColumnElement[Any]) -> str:
    return str(sa.select(*columns).select_from(SQLITE_TABLE).compile(dialect=sqlite.dialect()))


_AT = f"{_selecting(*fields_of(SQLITE_TABLE), _ROWID)} WHERE rowid IN"
_FIELDS = [_selecting(field) for field in fields_of(SQLITE_TABLE)]


def rows_of_file(file: SQLiteFile, after: int | None = None) -> Iterator[StoredCapsule]:
    """Yield the rows that a file has now, those without a sequence first.

    Args:
        file: the database.
        after: only those behind this sequence.

    Raises:
        RowsUnaccounted: at the end: the table holds other rows than its indexes lead to.
        ChainUnavailable: it cannot be read, or something else is in place of its table.

    """
    with looking_at(file) as connection:
        census = _take_census(connection)
    given = 0
    for keys in _keys_in_file(file, census.last, after):
        for rows in _rows_at(file, keys):
            given += len(rows)
            if given > census.rows:  # or it would go on for ever where an index is a loop
                raise RowsUnaccounted("its order by sequence leads to rows again and again")
            yield from rows
    if after is None:
        census.compare(given)


class _Census(NamedTuple):
    """How many rows there are, by the table itself and by each index, and where the last of them lies."""

    rows: int
    indexed: dict[str, int]
    last: int | None

    def compare(self, given: int) -> None:
        """Raise `RowsUnaccounted` unless all agree."""
        for index, count in self.indexed.items():
            if count != self.rows:
                raise RowsUnaccounted(_difference(self.rows - count, f"its index {index!r}"))
        if given != self.rows:
            raise RowsUnaccounted(_difference(self.rows - given, "its order by sequence"))


def _difference(hidden: int, where: str) -> str:
    rows = "1 row" if abs(hidden) == 1 else f"{abs(hidden)} rows"
    if hidden < 0:
        return f"{where} leads to {rows} that the table does not hold"
    return f"the table holds {rows} that {where} hides"


def _take_census(connection: sa.Connection) -> _Census:
    """Count in one statement, so that no writer comes in between."""
    indexes = connection.exec_driver_sql("PRAGMA index_list(capsules)").all()
    names = [index.name for index in indexes if not index.partial]
    # count(*) would take whichever index is smallest, whatever INDEXED BY says
    counts = [f"{_ROWS_IN} INDEXED BY {_quoted(name)}" for name in names]
    queries = ", ".join(f"({query})" for query in (_LAST, _ROWS, *counts))
    ((last, rows, *indexed),) = connection.exec_driver_sql(f"SELECT {queries}").all()
    return _Census(rows, dict(zip(names, indexed, strict=True)), last)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _keys_in_file(file: SQLiteFile, last: int | None, after: int | None) -> Iterator[list[int]]:
    """Yield row ids in the order of their sequences, up to that of the row that was the last.

    Sequences are compared where they lie. One that came here and went back would not compare as it did:
    SQLite takes a text for a number where the column says so.
    """
    sequence = SQLITE_TABLE.c.sequence
    keys = sa.select(_ROWID).select_from(SQLITE_TABLE).limit(_KEYS_PER_PAGE)
    if after is None:
        without = keys.where(sequence.is_(None)).order_by(_ROWID)
        yield from _keys(_pages(file, without, lambda row: row.rowid < _ROWID))
    else:
        keys = keys.where(sequence > after)
    here = SQLITE_TABLE.alias("here")
    there = sa.literal_column("here.rowid", sa.Integer)
    end = sa.select(here.c.sequence).where(there == last).scalar_subquery()
    place = sa.tuple_(sequence, sa.literal_column("capsules.rowid", sa.Integer))

    def behind(row: Any) -> sa.ColumnElement[bool]:
        return place > sa.select(here.c.sequence, there).where(there == row.rowid).scalar_subquery()

    ordered = keys.where(sequence <= end).order_by(sequence, sa.literal_column("capsules.rowid"))
    yield from _keys(_pages(file, ordered, behind))


def _keys(pages: Iterator[Sequence[Any]]) -> Iterator[list[int]]:
    return ([key for (key,) in page] for page in pages)


def _pages(
    file: SQLiteFile, query: sa.Select[Any], behind: Callable[[Any], sa.ColumnElement[bool]]
) -> Iterator[Sequence[Any]]:
    """Yield the pages of an ordered query with a limit; the next one begins behind the last row."""
    page = reading(file, partial(execute, query))
    while page:
        yield page
        page = reading(file, partial(execute, query.where(behind(page[-1]))))


def _rows_at(file: SQLiteFile, keys: list[int]) -> Iterator[list[StoredCapsule]]:
    """Yield the rows at these places in this order, as far as there are any, page by page."""
    start = 0
    while start < len(keys):
        page = keys[start : start + ROWS_PER_PAGE]
        rows, whole = _page_at(file, page)
        if not whole and page != sorted(page):  # rows came in the order of the table
            for run in _ascending(page):
                yield from _rows_at(file, run)
            start += len(page)
            continue
        if not whole and not rows:
            yield _large_row_at(file, page[0])
            start += 1
            continue
        start += len(page) if whole else page.index(rows[-1][-1]) + 1
        if [row[-1] for row in rows] != page[: len(rows)]:
            found = {row[-1]: row for row in rows}
            rows = [found[key] for key in page if key in found]
        yield [stored(row[:-1]) for row in rows]


def _ascending(keys: list[int]) -> Iterator[list[int]]:
    """Yield them in parts of which each is in order."""
    ends = [place for place, (one, other) in enumerate(pairwise(keys), 1) if one > other]
    return (keys[start:end] for start, end in pairwise([0, *ends, len(keys)]))


def _page_at(file: SQLiteFile, keys: list[int]) -> tuple[list[Any], bool]:
    """Return the rows at these places in the order of the table, and whether these are all.

    They end where they have become a page, or shortly before one that holds a large value.
    """
    query = f"{_AT} ({', '.join('?' * len(keys))})"  # SQLAlchemy's own takes as long as the reading

    def read(connection: sa.Connection) -> tuple[list[Any], bool]:
        rows: list[Any] = []
        with _values_up_to(_LARGEST_VALUE, connection) as raw:
            try:
                with closing(raw.execute(query, keys)) as found:  # nothing stays locked
                    return rows, _fill(rows, found)
            except sqlite3.DataError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_TOOBIG:
                    raise
                return rows, False

    return reading(file, read)


def _fill(rows: list[Any], found: Iterable[Any]) -> bool:
    """Take rows until they are a page; tell whether these are all."""
    left = LARGEST_PAGE
    for row in found:
        rows.append(row)
        left -= sum(map(getsizeof, row))  # anything may stand in any column
        if left < 0:
            return False
    return True


def _large_row_at(file: SQLiteFile, key: int) -> list[StoredCapsule]:
    """Return the row there, if there is one, reading each value by itself, until they are too large."""

    def read(connection: sa.Connection) -> list[Any]:
        values: list[Any] = []
        for field in _FIELDS:
            left = LARGEST_ROW - sum(map(weight, values))
            with _values_up_to(max(left, SHORT), connection) as raw:
                try:
                    values += raw.execute(f"{field} WHERE rowid = ?", (key,)).fetchone() or ()
                except sqlite3.DataError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_TOOBIG:
                        raise
                    values.append(LEFT_OUT)
        return values

    values = reading(file, read)
    return [large_row(values)] if len(values) == len(_FIELDS) else []


@contextmanager
def _values_up_to(largest: int, connection: sa.Connection) -> Iterator[sqlite3.Connection]:
    """Give SQLite's own connection, which finds values of more bytes too big without reading them."""
    raw: Any = connection.connection.driver_connection
    usual = raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, largest)
    try:
        yield raw
    except sqlite3.Error as error:
        raise DBAPIError(None, None, error) from error
    finally:
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, usual)
