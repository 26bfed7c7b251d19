"""The store in PostgreSQL: a chain for each tenant, and the global one of those that have none.

- Each chain has a row in ``capsule_sdk_heads``, which a writer locks (``SELECT … FOR UPDATE``) before
  it reads the head. The row only names the chain: the head itself MUST be read from the capsules,
  since qp-capsule adds to them without the lock.
- Rows MUST be locked in the order of their names, and made in a transaction of their own: so two
  groups with the same tenants cannot wait for each other.
- Where another program added a capsule under the lock, the unique index refuses ours; what was
  inserted is undone to a savepoint, the lock stays, and the group is linked anew.

No advisory locks: PostgreSQL-compatible clusters do not all have them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from qp_capsule import Capsule
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError

from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.index_keys import TENANT_WIDTH

from .postgresql import PostgresServer, sqlstate
from .store import ChainTransaction, HeadMoved, TableTransaction, UnstorableRow
from .table import POSTGRESQL_TABLE, state_tenant, tenant_of

__all__ = ["PostgresStore"]

LOCK_TIMEOUT: Final = 10.0  # seconds that a lock is waited for before the caller is told
_STATEMENT_TIMEOUT = 60.0  # seconds that one statement may take
_IDLE_TIMEOUT = 60.0  # seconds after which the server ends a writer that stopped under its lock

_HEADS: Final = sa.Table(
    "capsule_sdk_heads",
    sa.MetaData(),
    sa.Column("chain", sa.String(len("tenant:") + TENANT_WIDTH), primary_key=True),
)
_TRIES = 5  # to find what was just created, by us or by others
_UNIQUE_VIOLATION, _NOT_NULL_VIOLATION = "23505", "23502"
#: What another process that creates the same tables at the same moment makes of ours.
_CREATED_MEANWHILE = {_UNIQUE_VIOLATION, "42P07", "42710"}


class PostgresStore:
    """The chains in one database. Safe to use from any thread; one transaction at a time.

    Nothing is created before the first transaction: then the tables that are missing come into being.
    """

    def __init__(self, url: str, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self._server = PostgresServer(url)
        self._limits = "; ".join(
            f"SET LOCAL {name} = {round(seconds * 1000)}"
            for name, seconds in (
                ("lock_timeout", lock_timeout),
                ("statement_timeout", _STATEMENT_TIMEOUT),
                ("idle_in_transaction_session_timeout", _IDLE_TIMEOUT),
            )
        )
        self._has_tables = False

    @property
    def identity(self) -> str:
        """Server and database."""
        return self._server.identity

    def tenant_of(self, capsule: Capsule) -> str | None:
        """Return the tenant as its column holds it; ``None`` is the global chain."""
        return tenant_of(capsule)

    def complete(self, capsule: Capsule) -> None:
        """Have a capsule say whose it is, if only that it is nobody's: its row is found by that."""
        state_tenant(capsule)

    @contextmanager
    def transaction(self, tenants: Collection[str | None]) -> Iterator[ChainTransaction]:
        """Lock the chains of these tenants, commit at the end; roll back on an error.

        Raises:
            ChainUnavailable: the server cannot be reached, a lock is held for too long, or a right
                or a column is missing.

        """
        chains = sorted("global" if one is None else f"tenant:{one}" for one in tenants)
        with self._server.connection() as connection:
            try:
                self._create_tables(connection)
                for _ in range(_TRIES):
                    with self._begin(connection) as transaction:
                        if not (missing := _lock(connection, chains)):
                            yield _PostgresTransaction(connection, POSTGRESQL_TABLE)
                            return
                        transaction.rollback()
                    self._create_heads(connection, missing)
                raise ChainUnavailable(
                    f"{self.identity} does not keep what is inserted into {_HEADS.name}: look for"
                    " a trigger or row-level security on that table"
                )
            except DBAPIError:
                self._has_tables = False  # they may be what is missing
                raise

    def fold(self) -> bool:
        """Return true: what is committed lies where the server keeps it."""
        return True

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    @contextmanager
    def _begin(self, connection: sa.Connection) -> Iterator[sa.RootTransaction]:
        with connection.begin() as transaction:
            connection.exec_driver_sql(self._limits)
            yield transaction

    def _create_tables(self, connection: sa.Connection) -> None:
        tries = _TRIES
        while not self._has_tables:
            tries -= 1
            try:
                with self._begin(connection):
                    for table in (POSTGRESQL_TABLE, _HEADS):
                        table.create(connection, checkfirst=True)
                self._has_tables = True
            except DBAPIError as error:
                if not tries or sqlstate(error) not in _CREATED_MEANWHILE:
                    raise

    def _create_heads(self, connection: sa.Connection, chains: Sequence[str]) -> None:
        statement = insert(_HEADS).on_conflict_do_nothing()
        with self._begin(connection):
            connection.execute(statement, [{"chain": chain} for chain in chains])


def _lock(connection: sa.Connection, chains: Sequence[str]) -> list[str]:
    """Lock the rows of the chains in the order of their names; return the chains that have none."""
    chain = _HEADS.c.chain
    query = sa.select(chain).where(chain.in_(chains)).order_by(chain).with_for_update()
    locked = set(connection.scalars(query))
    return [one for one in chains if one not in locked]


class _PostgresTransaction(TableTransaction):
    def insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        try:
            with self._savepoint():
                self._insert(rows)
        except IntegrityError as error:
            if sqlstate(error) == _UNIQUE_VIOLATION:
                raise HeadMoved(
                    "was added to by a program that takes no lock, again and again; the same can"
                    " be tried again later"
                ) from error
            self._blame(rows, error)
        except DataError as error:
            self._blame(rows, error)

    def _insert(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert one, then the others: psycopg sends many at once, and logs a warning when that fails."""
        super()._insert(rows[:1])
        if len(rows) > 1:
            super()._insert(rows[1:])

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        self._connection.exec_driver_sql("SAVEPOINT capsules")
        try:
            yield
        except (DataError, IntegrityError):
            self._connection.exec_driver_sql("ROLLBACK TO SAVEPOINT capsules")
            raise

    def _blame(self, rows: Sequence[Mapping[str, Any]], error: DBAPIError) -> None:
        """Find the row that the database refuses, by inserting them one by one."""
        for index, row in enumerate(rows):
            try:
                with self._savepoint():
                    self._insert([row])
            except (DataError, IntegrityError) as refusal:
                if sqlstate(refusal) == _NOT_NULL_VIOLATION:  # a column that no row of ours fills
                    raise
                raise UnstorableRow(index, str(refusal.orig).splitlines()[0]) from refusal
        raise error
