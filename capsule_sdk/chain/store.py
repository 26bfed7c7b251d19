"""The store: the database that holds a chain, in qp-capsule's own table.

A transaction for writing MUST exclude every other writer, in this process or any other, from
before the head is read until the commit: a link made to a head that was read without the lock is
how chains fork. A reader MUST NOT hold a lock while its caller thinks: the chain is read page by
page, which is safe since a chain only grows.

The store does not link, seal or verify. How the file is opened and what forks do to it is in
`capsule_sdk.chain.sqlite`.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from capsule_sdk.errors import ChainUnavailable

from .keys import make_private_directory
from .location import sqlite_identity, sqlite_path
from .sqlite import BUSY_TIMEOUT, SQLiteFile, is_database, open_for_reading, open_for_writing

__all__ = [
    "ChainStore",
    "ChainTransaction",
    "SQLiteStore",
    "StoredCapsule",
    "UnstorableRow",
    "capsules_table",
    "is_database",
    "read_rows",
    "session_key",
    "sqlite_path",
]

#: Session ids longer than the column become ``uuid5(SESSION_NAMESPACE, session_id)`` there, so
#: that anybody can find the rows of a session whose whole id only the content holds.
SESSION_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:capsule-sdk:session-id")
SESSION_WIDTH: Final = 36

_IDS_PER_QUERY = 500  # SQLite before 3.32 takes 999 variables
_ROWS_PER_PAGE = 200

_metadata = sa.MetaData()

#: Column for column, index for index what ``qp_capsule.storage`` creates.
capsules_table = sa.Table(
    "capsules",
    _metadata,
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("type", sa.String(20), nullable=False),
    sa.Column("sequence", sa.Integer, nullable=False, index=True),
    sa.Column("previous_hash", sa.String(64)),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False, index=True),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("signature_pq", sa.Text, nullable=False),
    sa.Column("signed_at", sa.String(40)),
    sa.Column("signed_by", sa.String(32)),
    sa.Column("session_id", sa.String(SESSION_WIDTH), index=True),
    sa.UniqueConstraint("sequence", name="uq_capsule_sequence"),
)


def session_key(session_id: object) -> str | None:
    """Return what the session column holds: the id itself, or its UUID where it is too long."""
    if session_id is None:
        return None
    text = str(session_id)
    return text if len(text) <= SESSION_WIDTH else str(uuid.uuid5(SESSION_NAMESPACE, text))


class UnstorableRow(Exception):  # noqa: N818 - a verdict, between store and writer only
    """The database will never take this row; ``index`` is its place in the group."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(reason)
        self.index = index


class ChainTransaction(Protocol):
    """What the writer may do while nobody else can write."""

    def head(self) -> tuple[int, str] | None:
        """Return sequence and hash of the last capsule, or ``None`` for an empty chain."""
        ...

    def present(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that the chain holds already."""
        ...

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add the rows; raise `UnstorableRow` if one of them can never be added."""
        ...


class ChainStore(Protocol):
    """A database that holds a chain and can lock it."""

    @property
    def identity(self) -> str:
        """One string per store, however it was spelled."""
        ...

    def transaction(self) -> AbstractContextManager[ChainTransaction]:
        """Lock the chain, give it, commit at the end; roll back on an error."""
        ...

    def close(self) -> None:
        """Let go of the connection; the next transaction opens another."""
        ...


class SQLiteStore:
    """A chain in one SQLite file. Safe to use from any thread; one transaction at a time.

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

    @contextmanager
    def transaction(self) -> Iterator[ChainTransaction]:
        """Hold the write lock of the file, give the chain, commit at the end; roll back on error.

        Raises:
            ChainUnavailable: the file is locked, full, unreadable, damaged or cannot be created.

        """
        with self._file.connection() as connection, connection.begin():
            yield _SQLiteTransaction(connection)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()


def _open_or_create(path: Path, *, busy_timeout: float) -> sa.Connection:
    make_private_directory(path.parent)
    connection = open_for_writing(path, busy_timeout)
    try:
        with connection.begin():
            _metadata.create_all(connection)
    except BaseException:
        connection.close()
        raise
    return connection


class _SQLiteTransaction:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def head(self) -> tuple[int, str] | None:
        table = capsules_table.c
        query = sa.select(table.sequence, table.hash).order_by(table.sequence.desc()).limit(1)
        row = self._connection.execute(query).first()
        if row is None:
            return None
        if not isinstance(row.sequence, int):
            raise ChainUnavailable(
                f"the chain was tampered with: its last sequence is {row.sequence!r}, no number;"
                " keep the file as evidence, and move it aside to go on in a new one"
            )
        return row.sequence, row.hash

    def present(self, ids: Iterable[str]) -> set[str]:
        wanted = list(ids)
        found: set[str] = set()
        for start in range(0, len(wanted), _IDS_PER_QUERY):
            some = wanted[start : start + _IDS_PER_QUERY]
            query = sa.select(capsules_table.c.id).where(capsules_table.c.id.in_(some))
            found.update(self._connection.scalars(query))
        return found

    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            self._connection.execute(capsules_table.insert(), rows)
        except (DataError, IntegrityError, OverflowError) as error:
            inserted = len(self.present(row["id"] for row in rows))
            raise UnstorableRow(inserted, str(getattr(error, "orig", error))) from error


class StoredCapsule(NamedTuple):
    """A capsule as it lies in the table: its content as text, and its seal."""

    id: str
    sequence: int
    data: str
    hash: str
    signature: str
    signature_pq: str | None
    signed_at: str | None
    signed_by: str | None


def read_rows(path: Path) -> Iterator[StoredCapsule]:
    """Yield the rows that the chain has now, in sequence order, without holding it in memory.

    Raises:
        ChainUnavailable: the file is missing, unreadable or damaged, or holds no chain.

    """
    table = capsules_table.c
    place = sa.tuple_(table.sequence, table.id)
    page = sa.select(*(table[name] for name in StoredCapsule._fields))
    page = page.order_by(table.sequence, table.id).limit(_ROWS_PER_PAGE)
    file = SQLiteFile(path, open_for_reading)
    try:
        with file.connection() as connection:
            end = connection.scalar(sa.select(sa.func.max(table.sequence)))
            # null is nowhere in an order; it is looked at so as not to be passed over
            page = page.where(sa.or_(table.sequence <= sa.literal(end), table.sequence.is_(None)))
            rows = connection.execute(page).all()
        while rows:
            for row in rows:
                if row.sequence is None:
                    raise ChainUnavailable(f"{path} was tampered with: {row.id} has no sequence")
                yield StoredCapsule(*row)
            last = sa.tuple_(sa.literal(rows[-1].sequence), sa.literal(rows[-1].id))
            with file.connection() as connection:
                rows = connection.execute(page.where(place > last)).all()
    finally:
        file.close()
