"""Reading: the rows of a chain in sequence order, out of either database, page by page.

A reader MUST NOT hold a lock or a transaction while its caller thinks: each page is read by itself,
which is safe since a chain only grows. What is added after the start is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from capsule_sdk.content import label
from capsule_sdk.errors import ChainUnavailable

from .location import postgresql_identity
from .postgresql import PostgresServer
from .sqlite import SQLiteFile, open_for_reading, takes_any_text
from .table import POSTGRESQL_TABLE, SQLITE_TABLE, StoredCapsule, tenant_key

__all__ = ["ChainReader", "Glance", "Head", "read_file", "read_head", "read_server"]

_ROWS_PER_PAGE = 200
_IDS_PER_QUERY = 500


def read_file(path: Path) -> Iterator[StoredCapsule]:
    """Yield the rows that the chain in a SQLite file has now, without holding it in memory.

    Rows without a sequence, which no writer leaves behind, come first.

    Raises:
        ChainUnavailable: the file is missing, unreadable or damaged, or holds no chain.

    """
    with closing(ChainReader(path)) as reader:
        yield from reader.rows()


def read_server(url: str, tenant: str | None = None) -> Iterator[StoredCapsule]:
    """Yield the rows that a chain in PostgreSQL has now, without holding it in memory.

    Args:
        url: the database.
        tenant: whose chain; ``None`` is the global one.

    Raises:
        ChainUnavailable: the server cannot be reached, or holds no chain.
        ConfigurationError: the URL or an option in it cannot be used, or the driver is missing.

    """
    with closing(ChainReader(url, tenant)) as reader:
        yield from reader.rows()


class ChainReader:
    """One chain and one connection to it, which is kept between two readings until it is closed.

    Args:
        place: a SQLite file, or the URL of a PostgreSQL database.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one.

    Raises:
        ConfigurationError: the URL or an option in it cannot be used, or the driver is missing.

    """

    def __init__(self, place: Path | str, tenant: str | None = None) -> None:
        self._reader, self._table = _reader_of(place)
        self._chain = sa.true() if isinstance(place, Path) else _chain_of(tenant)

    def rows(self, after: int | None = None) -> Iterator[StoredCapsule]:
        """Yield the rows that the chain has now, without holding it in memory.

        Args:
            after: only those behind this sequence; rows whose sequence is no number are left out then.

        Raises:
            ChainUnavailable: the store cannot be read, or holds no chain.

        """
        connect, table = self._reader.connection, self._table
        if after is None:
            return _pages(connect, table, self._chain)
        rows = _pages(connect, table, sa.and_(self._chain, table.c.sequence > after))
        return (row for row in rows if isinstance(row.sequence, int))

    def last_sequence(self) -> int | None:
        """Return the last sequence; ``None`` where there is none, or it is no number.

        Raises:
            ChainUnavailable: the store cannot be read, or holds no chain.

        """
        with self._reader.connection() as connection:
            last = connection.scalar(
                sa.select(sa.func.max(self._table.c.sequence)).where(self._chain)
            )
            connection.rollback()
        return last if isinstance(last, int) else None

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()


class Head(NamedTuple):
    """The last capsule of a chain as it is stored, and the hash of the first, which names the chain."""

    capsule: StoredCapsule
    first_hash: str | None


def read_head(place: Path | str, tenant: str | None = None) -> Head | None:
    """Return the last capsule of a chain as it is stored; ``None`` for a chain that has none.

    Args:
        place: a SQLite file, or the URL of a PostgreSQL database.
        tenant: whose chain, in PostgreSQL; ``None`` is the global one.

    Raises:
        ChainUnavailable: the store cannot be read, or was tampered with.
        ConfigurationError: the URL or an option in it cannot be used, or the driver is missing.

    """
    reader, table = _reader_of(place)
    chain = sa.true() if table is SQLITE_TABLE else _chain_of(tenant)
    column = table.c
    last = sa.select(*(column[field] for field in StoredCapsule._fields))
    last = last.where(chain, column.sequence.is_not(None)).order_by(column.sequence.desc()).limit(1)
    first = sa.select(column.hash).where(chain, column.sequence == 0)
    try:
        with reader.connection() as connection:
            row, first_hash = connection.execute(last).first(), connection.scalar(first)
            connection.rollback()
    finally:
        reader.close()
    if row is None:
        return None
    if not isinstance(row.sequence, int):
        raise ChainUnavailable(
            f"{place if isinstance(place, Path) else postgresql_identity(place)} was tampered with:"
            f" its last sequence is {row.sequence!r}, no number"
        )
    return Head(StoredCapsule(*row), first_hash)


class Glance:
    """One look at all that a store holds, for whoever does not want to read it."""

    def __init__(self, place: Path | str) -> None:
        self._reader, self._table = _reader_of(place)

    def count(self) -> tuple[int, str | None]:
        """Return how many capsules there are, and when the last of them was sealed.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        columns = (
            sa.func.count().label("capsules"),
            sa.func.max(self._table.c.signed_at).label("last"),
        )
        (row,) = self._rows(sa.select(*columns).select_from(self._table))
        return row.capsules, row.last

    def containing(self, text: str, kind: str | None = None) -> list[str]:
        """Return the contents in which ``text`` stands, of capsules of one type or of all.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        column = self._table.c
        query = sa.select(column.data).where(column.data.contains(text, autoescape=True))
        if kind is not None:
            query = query.where(column.type == kind)
        return [row.data for row in self._rows(query)]

    def missing(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that the store does not hold.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        wanted = list(ids)
        found: set[str] = set()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = wanted[start : start + _IDS_PER_QUERY]
            query = sa.select(self._table.c.id).where(self._table.c.id.in_(some))
            found.update(row.id for row in self._rows(query))
        return set(wanted) - found

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def _rows(self, query: sa.Executable) -> Sequence[Any]:
        with self._reader.connection() as connection:
            rows = connection.execute(query).all()
            connection.rollback()
            return rows


def _reader_of(place: Path | str) -> tuple[SQLiteFile | PostgresServer, sa.Table]:
    if isinstance(place, Path):
        return SQLiteFile(place, open_for_reading), SQLITE_TABLE
    return PostgresServer(place, read_only=True), POSTGRESQL_TABLE


def _chain_of(tenant: str | None) -> sa.ColumnElement[bool]:
    """Return the condition for a tenant's rows: by the id as given, and as capsules of ours name it."""
    column = POSTGRESQL_TABLE.c.tenant_id
    if tenant is None:
        return column.is_(None)
    named = label(tenant)
    return column.in_(
        {tenant_key(named), tenant_key(tenant) if _is_text(tenant) else None} - {None}
    )


def _is_text(tenant: str) -> bool:
    """Tell whether it can be written in UTF-8, as no lone surrogate can."""
    return tenant == tenant.encode("utf-8", "replace").decode("utf-8")


def _pages(
    connect: Callable[[], AbstractContextManager[sa.Connection]],
    table: sa.Table,
    chain: sa.ColumnElement[bool],
) -> Iterator[StoredCapsule]:
    column = table.c
    page = sa.select(*(column[field] for field in StoredCapsule._fields)).where(chain)
    page = page.order_by(column.sequence, column.id)
    with connect() as connection:
        ((end,),) = _all(connection, sa.select(sa.func.max(column.sequence)).where(chain))
        # null is nowhere in an order; it is looked at so as not to be passed over
        astray = _all(connection, page.where(column.sequence.is_(None)))
        page = page.where(column.sequence <= _literal(end)).limit(_ROWS_PER_PAGE)
        rows = _all(connection, page)
        connection.rollback()
    yield from (StoredCapsule(*row) for row in astray)
    given = 0  # of the last number: in a chain that was tampered with, many rows may have one
    last = None
    while rows:
        for row in rows:
            given = given + 1 if row.sequence == last else 1
            last = row.sequence
            yield StoredCapsule(*row)
        with connect() as connection:
            following = page.where(column.sequence >= _literal(last)).offset(given)
            rows = _all(connection, following)
            connection.rollback()


def _all(connection: sa.Connection, query: sa.Executable) -> Sequence[Any]:
    try:
        return connection.execute(query).all()
    except DBAPIError as error:
        if not takes_any_text(connection, error):
            raise
        return connection.execute(query).all()


def _literal(value: Any) -> sa.ColumnElement[Any]:
    """Return a value as SQL, also a text that is no UTF-8, which SQLite keeps and no driver takes back."""
    if isinstance(value, str) and not _is_text(value):
        raw = sa.literal(value.encode("utf-8", "surrogateescape"), sa.LargeBinary)
        return sa.cast(raw, sa.Text)
    return sa.literal(value)
