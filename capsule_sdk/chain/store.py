"""The store: the database that holds chains, in qp-capsule's own table.

A transaction for writing MUST exclude every other writer of its chains, in this process or any
other, from before the head is read until the commit: a link made to a head that was read without
the lock is how chains fork.

The store does not link, seal or verify. How a SQLite file is opened and what forks do to it is in
`capsule_sdk.chain.sqlite`; PostgreSQL is in `capsule_sdk.chain.postgresql`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from qp_capsule import Capsule
from sqlalchemy.exc import DataError, IntegrityError

from capsule_sdk.errors import ChainUnavailable

from .location import sqlite_identity
from .privacy import make_directory_of, make_private_file, tell_openness
from .sqlite import BUSY_TIMEOUT, SQLiteFile, open_for_writing
from .table import SQLITE_TABLE

__all__ = [
    "ChainStore",
    "ChainTransaction",
    "HeadMoved",
    "SQLiteStore",
    "TableTransaction",
    "UnstorableRow",
]

_IDS_PER_QUERY = 500  # SQLite before 3.32 takes 999 variables


class UnstorableRow(Exception):  # noqa: N818 - a verdict, between store and writer only
    """The database will never take this row; ``index`` is its place in the group."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class HeadMoved(Exception):  # noqa: N818 - see above
    """A program that takes no lock has added to the chain meanwhile: link to the new head."""


class ChainTransaction(Protocol):
    """What the writer may do while nobody else can write."""

    def head(self, tenant: str | None) -> tuple[int, str] | None:
        """Return sequence and hash of the last capsule, or ``None`` for an empty chain."""
        ...

    def first(self, tenant: str | None) -> str | None:
        """Return the hash of the capsule at sequence 0, or ``None`` where there is none."""
        ...

    def present(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that the store holds already."""
        ...

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows, or none of them and raise.

        Raises:
            UnstorableRow: one of them can never be added.
            HeadMoved: they are linked to what is not the head any more.

        """
        ...


class ChainStore(Protocol):
    """A database that holds chains and can lock them."""

    @property
    def identity(self) -> str:
        """One string per store, however it was spelled."""
        ...

    def tenant_of(self, capsule: Capsule) -> str | None:
        """Tell in which of its chains the store keeps this capsule."""
        ...

    def complete(self, capsule: Capsule) -> None:
        """Have a capsule say, before it is sealed, what the store will find it by."""
        ...

    def transaction(
        self, tenants: Collection[str | None]
    ) -> AbstractContextManager[ChainTransaction]:
        """Lock the chains of these tenants, commit at the end; roll back on an error."""
        ...

    def fold(self) -> bool:
        """Put all that was committed where a copy of the store finds it; false if that has to wait."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next transaction opens another."""
        ...


class SQLiteStore:
    """One chain, of all tenants, in one file. Safe to use from any thread; one transaction at a time.

    Nothing is created before the first transaction: then the directory (mode 0700 if it was
    missing), the file and the table come into being.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._file = SQLiteFile(
            Path(os.path.realpath(path)), partial(_open_or_create, busy_timeout=busy_timeout)
        )

    @property
    def identity(self) -> str:
        """The URL of the file by its real path."""
        return sqlite_identity(self._file.path)

    def tenant_of(self, capsule: Capsule) -> str | None:
        """Return ``None``: there is one chain."""
        return None

    def complete(self, capsule: Capsule) -> None:
        """Leave it as it is: nothing is found by its tenant."""

    @contextmanager
    def transaction(
        self,
        tenants: Collection[str | None] = (None,),
    ) -> Iterator[ChainTransaction]:
        """Hold the write lock of the file, give the chain, commit at the end; roll back on error.

        Raises:
            ChainUnavailable: the file is locked, full, unreadable, damaged or cannot be created.

        """
        with self._file.connection() as connection, connection.begin():
            yield _SQLiteTransaction(connection, SQLITE_TABLE)

    def fold(self) -> bool:
        """Fold the write-ahead log into the file; see `SQLiteFile.fold`."""
        return self._file.fold()

    def close(self) -> None:
        """Fold the log into the file, and close the connection."""
        self._file.close()


def _open_or_create(path: Path, *, busy_timeout: float) -> sa.Connection:
    make_directory_of(path)
    make_private_file(path)
    connection = open_for_writing(path, busy_timeout)
    try:
        if not _has_table(connection):
            with connection.begin():
                SQLITE_TABLE.metadata.create_all(connection)
        tell_openness(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _has_table(connection: sa.Connection) -> bool:
    """Tell whether the table is there, without the lock that other writers wait for.

    False where that cannot be told: the transaction that makes it says why.
    """
    raw: Any = connection.connection.driver_connection
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    with suppress(sqlite3.Error):
        return raw.execute(query, (SQLITE_TABLE.name,)).fetchone() is not None
    return False


class TableTransaction:
    """What both databases do alike with the table that holds capsules."""

    def __init__(self, connection: sa.Connection, table: sa.Table) -> None:
        self._connection = connection
        self._table = table

    def head(self, tenant: str | None) -> tuple[int, str] | None:
        """Return sequence and hash of the last capsule, or ``None`` for an empty chain.

        Raises:
            ChainUnavailable: it was tampered with.

        """
        column = self._table.c
        query = sa.select(column.sequence, column.hash).order_by(column.sequence.desc()).limit(1)
        row = self._connection.execute(query.where(self._chain_of(tenant))).first()
        if row is None:
            return None
        if not isinstance(row.sequence, int):
            raise ChainUnavailable(
                f"the chain was tampered with: its last sequence is {row.sequence!r}, no number;"
                " keep the file as evidence, and move it aside to go on in a new one"
            )
        return row.sequence, row.hash

    def first(self, tenant: str | None) -> str | None:
        """Return the hash of the capsule at sequence 0, or ``None`` where there is none."""
        column = self._table.c
        query = sa.select(column.hash).where(column.sequence == 0, self._chain_of(tenant))
        found: str | None = self._connection.scalar(query)
        return found

    def present(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that the table holds already."""
        wanted, column = list(ids), self._table.c.id
        found: set[str] = set()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = wanted[start : start + _IDS_PER_QUERY]
            found.update(self._connection.scalars(sa.select(column).where(column.in_(some))))
        return found

    def _chain_of(self, tenant: str | None) -> sa.ColumnElement[bool]:
        column = self._table.c
        return column.tenant_id == tenant if "tenant_id" in column else sa.true()

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        names = self._table.c.keys()
        self._connection.execute(
            self._table.insert(), [{name: row[name] for name in names} for row in rows]
        )


class _SQLiteTransaction(TableTransaction):
    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            self._insert(rows)
        except (DataError, IntegrityError, OverflowError) as error:
            inserted = len(self.present(row["id"] for row in rows))
            raise UnstorableRow(inserted, str(getattr(error, "orig", error))) from error
