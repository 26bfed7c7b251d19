"""Paging a PostgreSQL table: the sizes of the next rows choose how many of them make up a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial, reduce
from operator import add
from typing import Any

import sqlalchemy as sa

from .genuine import looking_at
from .paging import (
    LARGEST_PAGE,
    LARGEST_ROW,
    LEFT_OUT,
    ROWS_PER_PAGE,
    SHORT,
    execute,
    fields_of,
    large_row,
    reading,
    stored,
)
from .postgresql import PostgresServer
from .table import POSTGRESQL_TABLE, StoredCapsule

__all__ = ["rows_of_server"]

_SIZES_PER_PAGE = 2_000

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
            sa.or_(_SIZE.element <= LARGEST_ROW, _LENGTHS[name] <= SHORT),
            POSTGRESQL_TABLE.c[name],
        )
    ).label(name)
    for name in StoredCapsule._fields
]


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
            page = reading(server, partial(execute, wanted))
            if not page:
                return
            if count > 1:
                yield from (stored(row[len(_PLACE) :]) for row in page)
            else:
                row = stored(page[0][len(_PLACE) : -1])
                sent = page[0].size <= LARGEST_ROW
                yield large_row(row if sent else row._replace(data=LEFT_OUT))
            behind = _behind_on_server(page[-1])


def _sizes(server: PostgresServer, query: sa.Select[Any]) -> list[int]:
    """Return how many bytes each of the first rows of an ordered query has."""
    rows = query.with_only_columns(_SIZE).limit(_SIZES_PER_PAGE).subquery()
    ((sizes,),) = reading(server, partial(execute, sa.select(sa.func.array_agg(rows.c.size))))
    return sizes or []


def _pages_of(sizes: Iterable[int]) -> Iterator[int]:
    """Yield how many rows make up each page, by their sizes."""
    count = total = 0
    for size in sizes:
        total += size
        if count == ROWS_PER_PAGE or (count and total > LARGEST_PAGE):
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
