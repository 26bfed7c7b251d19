"""A SQLite file as a reader opens it: nothing in it is written, nor believed to be what it should be.

The file MUST NOT be opened other than through SQLite (see `capsule_sdk.chain.sqlite`), not even to find out
whether it is a database.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from capsule_sdk.errors import ChainUnavailable

from .sqlite import BUSY_TIMEOUT, log_of, pragma, size_of

__all__ = ["is_database", "open_for_reading", "takes_any_text"]

_LARGEST_VALUE: Final = 256_000_000  # bytes of one value that SQLite gives or makes
_SMALLEST: Final = 512  # bytes of a database: SQLite takes a few bytes of anything for an empty one


def open_for_reading(path: Path) -> sa.Connection:
    """Open a database that is never written through this connection.

    A write-ahead log in a directory that this user cannot write is read too: where there is no
    log to take into account, SQLite is told that nothing will change.

    Raises:
        ChainUnavailable: a transaction was cut off in the middle, and only a writer can take it back.
        DBAPIError: SQLite cannot open it.

    """
    try:
        return _open_read_only(path, "mode=ro")
    except DBAPIError as error:
        locked = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
        if locked or size_of(log_of(path)):
            raise
        real = path.resolve()
        if size_of(real.with_name(real.name + "-journal")):
            raise ChainUnavailable(
                f"{path} was left in the middle of a transaction: copy it together with its -journal"
                " file, and open the copy with the sqlite3 program, which rolls the journal back"
            ) from error
        return _open_read_only(path, "mode=ro&immutable=1")


def is_database(path: Path) -> bool:
    """Tell whether a file holds a SQLite database of any kind; an empty file does not."""
    if size_of(path) < _SMALLEST:
        return False
    try:
        open_for_reading(path).close()
    except (UnicodeError, ChainUnavailable):
        return True  # a damaged one, which SQLite quotes in its error, or one with a journal
    except DBAPIError as error:
        return getattr(error.orig, "sqlite_errorname", "") != "SQLITE_NOTADB"
    return True


def _open_read_only(path: Path, options: str) -> sa.Connection:
    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            f"file:{quote(os.fsencode(path))}?{options}",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LARGEST_VALUE)
        # Nothing in the file may call functions with side effects.
        pragma(raw, "trusted_schema=OFF")
        return raw

    engine = sa.create_engine(
        "sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True
    )
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def takes_any_text(connection: sa.Connection, error: DBAPIError) -> bool:
    """After an error: have texts that are not UTF-8 read as they are; false if that was not the reason.

    One row must not hide the others. It is not so from the start, for it takes time in every row.
    """
    raw = connection.connection.driver_connection
    if not isinstance(raw, sqlite3.Connection) or raw.text_factory is _text:
        return False
    if "decode to UTF-8" not in str(error.orig):
        return False
    raw.text_factory = _text
    return True


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
