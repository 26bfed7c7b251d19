"""Paging: all rows of a chain in the order of their sequences, a page at a time, in either database.

- No lock and no transaction MUST be held between two pages: whoever reads may think for long.
- Every row MUST be given, once, whatever its columns hold: a row is told from the others by where it
  lies, which nobody can leave empty or give away twice.
- Somebody may have edited the file. Each value is read from the table and an index is trusted for the
  order alone: rows that it passes over MUST be missed, and reading MUST end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from capsule_sdk.errors import ChainUnavailable

from .genuine import Store, looking_at
from .postgresql import PostgresServer
from .sqlite import SQLiteFile
from .sqlite_reading import takes_any_text
from .table import POSTGRESQL_TABLE, SQLITE_TABLE, StoredCapsule

__all__ = ["RowsUnaccounted", "fields_of", "rows_of_file", "rows_of_server"]

_ROWS_PER_PAGE = 200
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


class RowsUnaccounted(ChainUnavailable):
    """What was given are not the rows that the table holds: one of its indexes leads astray."""


def fields_of(table: sa.Table) -> list[sa.ColumnElement[Any]]:
    """Return what makes a `StoredCapsule`; null where a table has no such column."""
    return [table.c.get(name, sa.null().label(name)) for name in StoredCapsule._fields]


_AT = f"{sa.select(*fields_of(SQLITE_TABLE), _ROWID).compile(dialect=sqlite.dialect())} WHERE rowid IN"


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
        for start in range(0, len(keys), _ROWS_PER_PAGE):
            rows = _rows_at(file, keys[start : start + _ROWS_PER_PAGE])
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
    return ([row.rowid for row in page] for page in pages)


def _rows_at(file: SQLiteFile, keys: list[int]) -> list[StoredCapsule]:
    """Return the rows at these places in this order, as far as there are any."""
    query = f"{_AT} ({', '.join('?' * len(keys))})"  # SQLAlchemy's own takes as long as the reading
    rows = _all(file, lambda connection: connection.exec_driver_sql(query, tuple(keys)))
    if [row[-1] for row in rows] != keys:  # they come in the order of the table, mostly the same
        found = {row[-1]: row for row in rows}
        rows = [found[key] for key in keys if key in found]
    return [StoredCapsule._make(row[:-1]) for row in rows]


def rows_of_server(
    server: PostgresServer, chain: sa.ColumnElement[bool], after: int | None = None
) -> Iterator[StoredCapsule]:
    """Yield the rows that a chain on a server has now, those without a sequence first.

    Args:
        server: the database.
        chain: the condition for its rows.
        after: only those behind this sequence.

    Raises:
        ChainUnavailable: it cannot be read, or something else is in place of its table.

    """
    sequence = POSTGRESQL_TABLE.c.sequence
    with looking_at(server) as connection:
        end = connection.scalar(sa.select(sa.func.max(sequence)).where(chain))
    query = sa.select(*_PLACE, *fields_of(POSTGRESQL_TABLE)).where(chain).limit(_ROWS_PER_PAGE)
    phases = [query.where(sequence <= sa.literal(end)).order_by(sequence, *_PLACE)]
    if after is None:
        phases.insert(0, query.where(sequence.is_(None)).order_by(*_PLACE))
    else:
        phases = [phase.where(sequence > after) for phase in phases]
    for phase in phases:
        for page in _pages(server, phase, _behind_on_server):
            yield from (StoredCapsule(*row[len(_PLACE) :]) for row in page)


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
    page = _all(store, partial(_execute, query))
    while page:
        yield page
        page = _all(store, partial(_execute, query.where(behind(page[-1]))))


def _execute(query: sa.Select[Any], connection: sa.Connection) -> sa.CursorResult[Any]:
    return connection.execute(query)


def _all(store: Store, run: Callable[[sa.Connection], sa.CursorResult[Any]]) -> Sequence[Any]:
    with store.connection() as connection:
        try:
            rows = run(connection).all()
        except DBAPIError as error:
            if not takes_any_text(connection, error):
                raise
            rows = run(connection).all()
        connection.rollback()
        return rows
