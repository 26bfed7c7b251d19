"""Paging: all rows of a chain in the order of their sequences, a page at a time, in either database.

- No lock and no transaction MUST be held between two pages: whoever reads may think for long.
- Every row MUST be given, once, whatever its columns hold: a row is told from the others by where it
  lies, which nobody can leave empty or give away twice.
- Somebody may have edited the file. Each value is read from the table and an index is trusted for the
  order alone: rows that it passes over MUST be missed, and reading MUST end.
- A page ends where it has become large, and of a row that is larger than any record may be only what is
  short MUST be read: it is a fault of its own, and hides no other row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial, reduce
from itertools import pairwise
from operator import add
from sys import getsizeof
from typing import Any, Final, NamedTuple, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from capsule_sdk.errors import ChainUnavailable

from .genuine import Store, looking_at
from .postgresql import PostgresServer
from .sqlite import SQLiteFile
from .sqlite_reading import takes_any_text
from .table import POSTGRESQL_TABLE, SQLITE_TABLE, StoredCapsule

__all__ = ["LEFT_OUT", "RowsUnaccounted", "fields_of", "rows_of_file", "rows_of_server"]

#: What stands in place of the content of a row that is too large to be read.
LEFT_OUT: Final[Any] = object()

T = TypeVar("T")

_ROWS_PER_PAGE = 200
_LARGEST_PAGE = 8 << 20  # characters in a file, bytes on a server; its last row may go beyond
_LARGEST_VALUE = 1 << 20  # bytes of a value that is read together with others
_LARGEST_ROW = 64 << 20  # bytes: what a record in a file may have, too
_SHORT = 16 << 10  # bytes of a value that is read of a row that is too large
_SIZES_PER_PAGE = 2_000
_KEYS_PER_PAGE = 20_000  # where no index has their order, each of these pages sorts all rows

_ROWS = "SELECT count(*) FROM capsules NOT INDEXED"
_ROWS_IN = "SELECT count(rowid) FROM capsules"
_LAST = "SELECT rowid FROM capsules WHERE sequence IS NOT NULL ORDER BY sequence DESC, rowid DESC LIMIT 1"
_ROWID: sa.ColumnElement[int] = sa.literal_column("rowid", sa.Integer)

#: Where a row lies in PostgreSQL. An update moves it; but nobody updates capsules.
_PLACE: tuple[sa.ColumnElement[Any], ...] = (
    sa.literal_column("tableoid"),
    sa.literal_column("ctid"),
)

#: How many bytes each value has, which PostgreSQL tells of a text without reading it.
_LENGTHS = {
    column.name: sa.func.coalesce(sa.func.octet_length(sa.cast(column, sa.Text)), 0)
    for column in POSTGRESQL_TABLE.c
}
_SIZE = reduce(add, _LENGTHS.values(), sa.cast(0, sa.BigInteger)).label("size")
#: Of a row that is too large only what is short; and the sequence, which the next page begins behind.
_SENDABLE = [
    POSTGRESQL_TABLE.c[name]
    if name == "sequence"
    else sa.case(
        (
            sa.or_(_SIZE.element <= _LARGEST_ROW, _LENGTHS[name] <= _SHORT),
            POSTGRESQL_TABLE.c[name],
        )
    ).label(name)
    for name in StoredCapsule._fields
]


class RowsUnaccounted(ChainUnavailable):
    """What was given are not the rows that the table holds: one of its indexes leads astray."""


def fields_of(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return what makes a `StoredCapsule`; null where a table has no such column."""
    return [table.c.get(name, sa.null().label(name)) for name in StoredCapsule._fields]


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


def _rows_at(file: SQLiteFile, keys: list[int]) -> Iterator[list[StoredCapsule]]:
    """Yield the rows at these places in this order, as far as there are any, page by page."""
    start = 0
    while start < len(keys):
        page = keys[start : start + _ROWS_PER_PAGE]
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
        yield [_stored(row[:-1]) for row in rows]


_stored: Callable[[Sequence[Any]], StoredCapsule] = partial(tuple.__new__, StoredCapsule)  # fast


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

    return _reading(file, read)


def _fill(rows: list[Any], found: Iterable[Any]) -> bool:
    """Take rows until they are a page; tell whether these are all."""
    left = _LARGEST_PAGE
    for row in found:
        rows.append(row)
        # All is counted, for anything may stand anywhere; one by one, which is fastest.
        a, sequence, b, c, d, e, f, g, h, previous, session, *_ = row
        try:
            left -= len(a) + len(b) + len(c) + len(d) + len(e) + len(f) + len(g) + len(h)
            if previous:
                left -= len(previous)
            if session or sequence.__class__ is not int:
                left -= getsizeof(session) + getsizeof(sequence)
        except TypeError:
            left -= sum(map(getsizeof, row))
        if left < 0:
            return False
    return True


def _large_row_at(file: SQLiteFile, key: int) -> list[StoredCapsule]:
    """Return the row there, if there is one, reading each value by itself, until they are too large."""

    def read(connection: sa.Connection) -> list[Any]:
        values: list[Any] = []
        for field in _FIELDS:
            left = _LARGEST_ROW - sum(map(_weight, values))
            with _values_up_to(max(left, _SHORT), connection) as raw:
                try:
                    values += raw.execute(f"{field} WHERE rowid = ?", (key,)).fetchone() or ()
                except sqlite3.DataError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_TOOBIG:
                        raise
                    values.append(LEFT_OUT)
        return values

    values = _reading(file, read)
    return [_large_row(values)] if len(values) == len(_FIELDS) else []


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


def _large_row(values: Sequence[Any]) -> StoredCapsule:
    """Return a row, or, if it is too large, what is short of it."""
    row = StoredCapsule._make(values)
    if LEFT_OUT not in values and sum(map(_weight, values)) <= _LARGEST_ROW:
        return row
    short = (None if one is LEFT_OUT or _weight(one) > _SHORT else one for one in row)
    return StoredCapsule._make(short)._replace(data=LEFT_OUT)


def _weight(value: object) -> int:
    """Return how many bytes a value takes at most, by the rule of files: see `scanning.is_too_large`."""
    return len(value) * (1 if value.isascii() else 4) if isinstance(value, str | bytes) else 0


def rows_of_server(
    server: PostgresServer, which: sa.ColumnElement[bool], after: int | None = None
) -> Iterator[StoredCapsule]:
    """Yield the rows that a chain on a server has now, those without a sequence first.

    Args:
        server: the database.
        which: the condition for its rows.
        after: only those behind this sequence.

    Raises:
        ChainUnavailable: it cannot be read, or something else is in place of its table.

    """
    sequence = POSTGRESQL_TABLE.c.sequence
    with looking_at(server) as connection:
        end = connection.scalar(sa.select(sa.func.max(sequence)).where(which))
    query = sa.select(*_PLACE, *fields_of(POSTGRESQL_TABLE)).where(which)
    phases = [query.where(sequence <= sa.literal(end)).order_by(sequence, *_PLACE)]
    if after is None:
        phases.insert(0, query.where(sequence.is_(None)).order_by(*_PLACE))
    else:
        phases = [phase.where(sequence > after) for phase in phases]
    for phase in phases:
        yield from _rows_in_order(server, phase)


def _rows_in_order(server: PostgresServer, query: sa.Select[Any]) -> Iterator[StoredCapsule]:
    """Yield the rows of an ordered query in pages, of which none is large unless it is a single row."""
    single = query.with_only_columns(*_PLACE, *_SENDABLE, _SIZE)
    behind: sa.ColumnElement[bool] = sa.true()
    while sizes := _sizes(server, query.where(behind)):
        for count in _pages_of(sizes):
            wanted = (query if count > 1 else single).where(behind).limit(count)
            page = _reading(server, partial(_execute, wanted))
            if not page:
                return
            if count > 1:
                yield from (_stored(row[len(_PLACE) :]) for row in page)
            else:
                row = _stored(page[0][len(_PLACE) : -1])
                sent = page[0].size <= _LARGEST_ROW
                yield _large_row(row if sent else row._replace(data=LEFT_OUT))
            behind = _behind_on_server(page[-1])


def _sizes(server: PostgresServer, query: sa.Select[Any]) -> list[int]:
    """Return how many bytes each of the first rows of an ordered query has."""
    rows = query.with_only_columns(_SIZE).limit(_SIZES_PER_PAGE).subquery()
    ((sizes,),) = _reading(server, partial(_execute, sa.select(sa.func.array_agg(rows.c.size))))
    return sizes or []


def _pages_of(sizes: Iterable[int]) -> Iterator[int]:
    """Yield how many rows make up each page, by their sizes."""
    count = total = 0
    for size in sizes:
        total += size
        if count == _ROWS_PER_PAGE or (count and total > _LARGEST_PAGE):
            yield count
            count, total = 0, size
        count += 1
    if count:
        yield count


def _behind_on_server(row: Any) -> sa.ColumnElement[bool]:
    """Return the condition for what comes behind a row; rows of one sequence in the order they lie in."""
    sequence = POSTGRESQL_TABLE.c.sequence
    further = sa.text("(tableoid, ctid) > (CAST(:table AS oid), CAST(:place AS tid))")
    further = further.bindparams(table=row.tableoid, place=row.ctid)
    if row.sequence is None:
        return sa.and_(further)
    return sa.and_(sequence >= row.sequence, sa.or_(sequence > row.sequence, further))


def _pages(
    store: Store,
    query: sa.Select[Any],
    behind: Callable[[Any], sa.ColumnElement[bool]],
) -> Iterator[Sequence[Any]]:
    """Yield the pages of an ordered query with a limit; the next one begins behind the last row."""
    page = _reading(store, partial(_execute, query))
    while page:
        yield page
        page = _reading(store, partial(_execute, query.where(behind(page[-1]))))


def _execute(query: sa.Select[Any], connection: sa.Connection) -> Sequence[Any]:
    return connection.execute(query).all()


def _reading(store: Store, read: Callable[[sa.Connection], T]) -> T:
    with store.connection() as connection:
        try:
            found = read(connection)
        except DBAPIError as error:
            if not takes_any_text(connection, error):
                raise
            found = read(connection)
        connection.rollback()
        return found
