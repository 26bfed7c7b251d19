"""Reading: the rows of a chain in sequence order, out of either database, page by page.

A reader MUST NOT hold a lock or a transaction while its caller thinks: each page is read by itself,
which is safe since a chain only grows. What is added after the start is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sa

from capsule_sdk.errors import ChainUnavailable

from .location import postgresql_identity
from .postgresql import PostgresServer
from .sqlite import SQLiteFile, open_for_reading
from .table import POSTGRESQL_TABLE, SQLITE_TABLE, StoredCapsule, tenant_key

__all__ = ["read_file", "read_server"]

_ROWS_PER_PAGE = 200


def read_file(path: Path) -> Iterator[StoredCapsule]:
    """Yield the rows that the chain in a SQLite file has now, without holding it in memory.

    Raises:
        ChainUnavailable: the file is missing, unreadable or damaged, or holds no chain.

    """
    file = SQLiteFile(path, open_for_reading)
    try:
        yield from _pages(file.connection, SQLITE_TABLE, sa.true(), str(path))
    finally:
        file.close()


def read_server(url: str, tenant: str | None = None) -> Iterator[StoredCapsule]:
    """Yield the rows that a chain in PostgreSQL has now, without holding it in memory.

    Args:
        url: the database.
        tenant: whose chain; ``None`` is the global one.

    Raises:
        ChainUnavailable: the server cannot be reached, or holds no chain.
        ConfigurationError: the URL or an option in it cannot be used, or the driver is missing.

    """
    server = PostgresServer(url, read_only=True)
    chain = POSTGRESQL_TABLE.c.tenant_id == tenant_key(tenant)
    try:
        yield from _pages(server.connection, POSTGRESQL_TABLE, chain, postgresql_identity(url))
    finally:
        server.close()


def _pages(
    connect: Callable[[], AbstractContextManager[sa.Connection]],
    table: sa.Table,
    chain: sa.ColumnElement[bool],
    name: str,
) -> Iterator[StoredCapsule]:
    column = table.c
    place = sa.tuple_(column.sequence, column.id)
    page = sa.select(*(column[field] for field in StoredCapsule._fields)).where(chain)
    page = page.order_by(column.sequence, column.id).limit(_ROWS_PER_PAGE)
    with connect() as connection:
        end = connection.scalar(sa.select(sa.func.max(column.sequence)).where(chain))
        # null is nowhere in an order; it is looked at so as not to be passed over
        page = page.where(sa.or_(column.sequence <= sa.literal(end), column.sequence.is_(None)))
        rows = connection.execute(page).all()
        connection.rollback()
    while rows:
        for row in rows:
            if row.sequence is None:
                raise ChainUnavailable(f"{name} was tampered with: {row.id} has no sequence")
            yield StoredCapsule(*row)
        last = sa.tuple_(sa.literal(rows[-1].sequence), sa.literal(rows[-1].id))
        with connect() as connection:
            rows = connection.execute(page.where(place > last)).all()
            connection.rollback()
