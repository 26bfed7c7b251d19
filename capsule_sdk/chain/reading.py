"""Reading: the rows of a chain in sequence order, out of either database, page by page.

A reader MUST NOT hold a lock or a transaction while its caller thinks: each page is read by itself
(`capsule_sdk.chain.paging`), which is safe since a chain only grows. What is added after the start is
left out. What is no plain table is not read at all (`capsule_sdk.chain.genuine`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from capsule_sdk.content import label
from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.index_keys import tenant_key

from .genuine import Store, looking_at
from .location import postgresql_identity
from .paging import fields_of
from .postgresql import PostgresServer
from .postgresql_paging import rows_of_server
from .sqlite import SQLiteFile
from .sqlite_paging import rows_of_file
from .sqlite_reading import open_for_reading
from .table import POSTGRESQL_TABLE, SQLITE_TABLE, StoredCapsule

__all__ = [
    "ChainLength",
    "ChainReader",
    "Glance",
    "Head",
    "columns_of",
    "read_file",
    "read_head",
    "read_server",
]

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
            RowsUnaccounted: at the end: the table holds other rows than those that can be found in it.
            ChainUnavailable: the store cannot be read, or holds no chain.

        """
        if isinstance(self._reader, SQLiteFile):
            rows = rows_of_file(self._reader, after)
        else:
            rows = rows_of_server(self._reader, self._chain, after)
        return rows if after is None else (row for row in rows if isinstance(row.sequence, int))

    def last_sequence(self) -> int | None:
        """Return the last sequence; ``None`` where there is none, or it is no number.

        Raises:
            ChainUnavailable: the store cannot be read, or holds no chain.

        """
        with looking_at(self._reader) as connection:
            last = connection.scalar(
                sa.select(sa.func.max(self._table.c.sequence)).where(self._chain)
            )
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
    last = sa.select(*fields_of(table))
    last = last.where(chain, column.sequence.is_not(None)).order_by(column.sequence.desc()).limit(1)
    first = sa.select(column.hash).where(chain, column.sequence == 0)
    try:
        with looking_at(reader) as connection:
            row, first_hash = connection.execute(last).first(), connection.scalar(first)
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


class ChainLength(NamedTuple):
    """One chain of a store, as its table has it.

    Attributes:
        tenant: whose it is; ``None`` is the global one.
        capsules: how many there are.
        head: the hash of the last of them.
        first_hash: the hash of the one with number 0, which names the chain; ``None`` where it is missing.

    """

    tenant: str | None
    capsules: int
    head: str | None
    first_hash: str | None


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

    def chains(self) -> list[ChainLength]:
        """Return the chains that lie here, the global one first: one in SQLite, one a tenant in PostgreSQL.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        column = self._table.c
        one_a_tenant = self._table is not SQLITE_TABLE
        tenant: sa.ColumnElement[Any] = column.tenant_id if one_a_tenant else sa.null()
        groups = sa.select(
            tenant.label("tenant"),
            sa.func.count().label("n"),
            sa.func.max(column.sequence).label("last"),
            sa.func.max(sa.case((column.sequence == 0, column.hash))).label("first_hash"),
        ).select_from(self._table)
        group = (groups.group_by(tenant) if one_a_tenant else groups).subquery()
        same = tenant.is_not_distinct_from(group.c.tenant) if one_a_tenant else sa.true()
        chain = group.c.tenant, group.c.n, group.c.first_hash
        query = sa.select(*chain, sa.func.max(column.hash).label("head"))
        query = query.select_from(
            group.outerjoin(self._table, sa.and_(column.sequence == group.c.last, same))
        ).group_by(*chain)
        found = [
            ChainLength(row.tenant, row.n, _text(row.head), _text(row.first_hash))
            for row in self._rows(query)
            if row.n
        ]
        return sorted(found, key=lambda one: (one.tenant is not None, one.tenant))

    def tenants_with(self, start: str) -> list[str | None]:
        """Return the tenants of the capsules in PostgreSQL whose ids begin so; ``None`` has the global chain.

        Raises:
            ChainUnavailable: the store cannot be read.

        """
        column = POSTGRESQL_TABLE.c
        ids = column.id.startswith(start, autoescape=True)
        return [row[0] for row in self._rows(sa.select(column.tenant_id).where(ids).distinct())]

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
        with looking_at(self._reader) as connection:
            return connection.execute(query).all()


def _reader_of(place: Path | str) -> tuple[Store, sa.Table]:
    if isinstance(place, Path):
        return SQLiteFile(place, open_for_reading), SQLITE_TABLE
    return PostgresServer(place, read_only=True), POSTGRESQL_TABLE


def columns_of(tenant: str | None) -> set[str | None]:
    """Return what the tenant column may hold for a tenant: the id as given, and as capsules of ours name it.

    The id as it is counts even where it does not fit: whoever edits a database can make the column wider.
    """
    if tenant is None:
        return {None}
    keys = {tenant_key(label(tenant))}
    if _is_text(tenant):
        keys.add(tenant_key(tenant))
        if "\0" not in tenant:  # which PostgreSQL does not take
            keys.add(tenant)
    return keys


def _chain_of(tenant: str | None) -> sa.ColumnElement[bool]:
    column = POSTGRESQL_TABLE.c.tenant_id
    return column.is_(None) if tenant is None else column.in_(columns_of(tenant))


def _is_text(tenant: str) -> bool:
    """Tell whether it can be written in UTF-8, as no lone surrogate can."""
    return tenant == tenant.encode("utf-8", "replace").decode("utf-8")


def _text(value: object) -> str | None:
    """Return what SQLite, which keeps whatever it is given, holds in place of a text."""
    return None if value is None else str(value)
