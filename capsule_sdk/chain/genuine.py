"""Whether what is called the table of capsules is one: a plain table, whose rows are what is stored.

Whoever can edit a database can put a view there, or a column that is computed: what is read then is what
they compute at that moment, for whom they like, as often and as long as they like.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from capsule_sdk.errors import ChainUnavailable

from .postgresql import PostgresServer
from .sqlite import SQLiteFile, log_of, size_of
from .table import POSTGRESQL_TABLE, SQLITE_TABLE

__all__ = ["Store", "looking_at"]

Store = SQLiteFile | PostgresServer

_TABLE = SQLITE_TABLE.name
_TABLE_LIST_SINCE = (3, 37)  # SQLite's version
_IN_MASTER = "SELECT type, rootpage FROM main.sqlite_master WHERE name = 'capsules' COLLATE NOCASE"
_RELATION = sa.text(
    "SELECT relkind, EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = pg_class.oid"
    " AND attgenerated <> '' AND NOT attisdropped) FROM pg_class WHERE oid = to_regclass(:name)"
)


@contextmanager
def looking_at(store: Store) -> Iterator[sa.Connection]:
    """Give a connection to a plain table of capsules; nothing stays locked.

    Raises:
        ChainUnavailable: something else is in its place, a file has none, or the store cannot be read.

    """
    with store.connection() as connection:
        disguise = (
            _disguise_in_file(connection, store.path)
            if isinstance(store, SQLiteFile)
            else _disguise_on_server(connection)
        )
        if disguise is not None:
            connection.rollback()
            name = store.path if isinstance(store, SQLiteFile) else store.identity
            raise ChainUnavailable(
                f"{name} was tampered with: its table of capsules is {disguise}, which can show"
                " something else each time; keep it as evidence, and go back to an export or a backup"
            )
        yield connection
        connection.rollback()


def _disguise_in_file(connection: sa.Connection, path: Path) -> str | None:
    """Say what is there in place of a table; ``None`` for a table.

    Raises:
        ChainUnavailable: there is nothing.

    """
    kinds, ordered_by_rowid = [], True
    version = connection.dialect.dbapi.sqlite_version_info  # type: ignore[union-attr]
    if version >= _TABLE_LIST_SINCE:
        # What SQLite made of the schema. Of a table without row ids the schema itself says it in SQL alone.
        for found in connection.exec_driver_sql(f"PRAGMA main.table_list({_TABLE})"):
            kinds.append(found.type)
            ordered_by_rowid = not found.wr
    for kind, rootpage in connection.exec_driver_sql(_IN_MASTER):
        kinds.append(kind if rootpage or kind != "table" else "virtual")
    if not kinds:
        raise ChainUnavailable(_without_table(path, connection))
    if other := [kind for kind in kinds if kind != "table"]:
        return "a virtual table" if other[0] == "virtual" else f"a {other[0]}"
    columns = connection.exec_driver_sql(f"PRAGMA main.table_xinfo({_TABLE})").all()
    if any(column.hidden for column in columns):
        return "one with generated columns"
    if not ordered_by_rowid or any(column.name.lower() == "rowid" for column in columns):
        return "one without row ids"
    return None


def _without_table(path: Path, connection: sa.Connection) -> str:
    """Say that a file holds no chain, and where it may be."""
    if connection.exec_driver_sql("SELECT count(*) FROM main.sqlite_master").scalar():
        return f"{path} is a database without capsules: name the one that your capsules are in"
    if size_of(log_of(path)):
        return f"{path} holds no capsules yet: no program has recorded into it"
    return (
        f"{path} is an empty database: no program has recorded into it yet, or it was copied without"
        f" {log_of(path).name}, which holds what a program that records has written last; copy both, or have"
        " `capsuled backup` copy them"
    )


def _disguise_on_server(connection: sa.Connection) -> str | None:
    found = connection.execute(_RELATION, {"name": POSTGRESQL_TABLE.name}).first()
    if found is None:
        return None
    kind, generated = found
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind not in _PLAIN:
        return _KINDS.get(kind, f"a relation of kind {kind!r}")
    return "one with generated columns" if generated else None


_PLAIN = frozenset("rp")  # an ordinary table, or a partitioned one
_KINDS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
