"""One connection to a SQLite file: how it is opened, what its errors mean, how it outlives a fork.

- What was committed MUST survive a power cut: write-ahead log with ``synchronous=FULL``. Where the
  log is refused (a file system without shared memory, another program in the way) the rollback
  journal stays, with ``synchronous=EXTRA``, which is as durable and slower. A database that
  qp-capsule made is turned to the write-ahead log when it is opened; qp-capsule reads both.
- No connection MUST live across a fork: SQLite would take the locks of the parent for the
  child's, and what the child commits would vanish when the parent closes. So it is closed before
  a fork, and both sides open their own afterwards.
- A file that was moved or deleted MUST NOT be written any more: the path leads to another one.
- The file MUST NOT be opened other than through SQLite: closing such a descriptor drops every
  lock that this process holds on it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from capsule_sdk.errors import ChainUnavailable

__all__ = ["BUSY_TIMEOUT", "SQLiteFile", "is_database", "open_for_reading", "open_for_writing"]

BUSY_TIMEOUT: Final = 5.0  # seconds that a lock is waited for before the caller is told
_CONVERSION_TIMEOUT = 0.25  # seconds that turning to the write-ahead log may wait
_FORK_TIMEOUT = 10.0  # seconds that a fork waits for the commit under way


class SQLiteFile:
    """A file and at most one open connection to it, used by one thread at a time."""

    def __init__(self, path: Path, connect: Callable[[Path], sa.Connection]) -> None:
        self.path = path
        self._connect = connect
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._connection: sa.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._inherited = False
        _files[id(self)] = self

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Give the connection to this thread alone; open it where there is none.

        Raises:
            ChainUnavailable: the database or the disk reported an error. The connection is given
                up then; the next use opens a new one.

        """
        self._notice_fork()
        with self._lock:
            try:
                yield self._connected()
            except DBAPIError as error:
                self._disconnect()
                raise ChainUnavailable(_explain(error, self.path)) from error
            except OSError as error:
                self._disconnect()
                if isinstance(error, ChainUnavailable):
                    raise
                raise ChainUnavailable(f"{self.path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the connection; as the last one on the file it also folds the log into it."""
        self._notice_fork()
        with self._lock:
            self._disconnect()

    def _connected(self) -> sa.Connection:
        if self._inherited:
            raise ChainUnavailable(
                f"this process was forked while its parent was using {self.path}, and SQLite cannot"
                " open the file safely here; start the process anew to record into it again"
            )
        if self._connection is not None and self._inode != _inode(self.path):
            self._disconnect()
        if self._connection is None:
            self._connection, self._inode = self._connect(self.path), _inode(self.path)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection, self._inode = self._connection, None, None
        if connection is not None:
            connection.close()

    def _notice_fork(self) -> None:
        """Catch the forks that ran no hooks, as C code can make them."""
        if self._pid != os.getpid():
            self.after_fork_in_child(closed=False)

    def before_fork(self) -> bool:
        """Close the connection and keep everybody out; ``False`` if it is in use for too long."""
        if not self._lock.acquire(timeout=_FORK_TIMEOUT):
            return False
        self._disconnect()
        return True

    def after_fork_in_parent(self) -> None:
        """Let the others in again."""
        self._lock.release()

    def after_fork_in_child(self, *, closed: bool) -> None:
        """Start afresh; without a connection if the parent's is still open in this process."""
        self._pid = os.getpid()
        self._lock = threading.Lock()
        if not closed and self._connection is not None:
            _abandoned.append(self._connection)
            self._connection, self._inherited = None, True


def open_for_writing(path: Path, busy_timeout: float = BUSY_TIMEOUT) -> sa.Connection:
    """Open or create a database whose transactions all take the write lock at their start."""

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            path,
            timeout=_CONVERSION_TIMEOUT,
            isolation_level=None,  # the driver's own BEGIN takes no write lock
            check_same_thread=False,
        )
        try:
            try:
                mode = raw.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            except sqlite3.OperationalError:
                mode = "unknown"
            raw.execute(f"PRAGMA synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")
            raw.execute("PRAGMA fullfsync=ON")  # where fsync alone does not reach the disk (macOS)
            raw.execute(f"PRAGMA busy_timeout={round(busy_timeout * 1000)}")
        except BaseException:
            raw.close()
            raise
        return raw

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    event.listen(engine, "begin", _begin_immediate)
    return engine.connect()


def open_for_reading(path: Path) -> sa.Connection:
    """Open a database that is never written through this connection.

    A write-ahead log in a directory that this user cannot write is read too: where there is no
    log to take into account, SQLite is told that nothing will change.
    """
    try:
        return _open_read_only(path, "mode=ro")
    except DBAPIError:
        if _size(path.with_name(path.name + "-wal")):
            raise
        return _open_read_only(path, "mode=ro&immutable=1")


def is_database(path: Path) -> bool:
    """Tell whether a file holds a SQLite database of any kind; an empty file does not."""
    if not _size(path):
        return False
    try:
        open_for_reading(path).close()
    except DBAPIError as error:
        return getattr(error.orig, "sqlite_errorname", "") != "SQLITE_NOTADB"
    return True


def _open_read_only(path: Path, options: str) -> sa.Connection:
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{quote(str(path))}?{options}",
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
        )

    engine = sa.create_engine("sqlite://", creator=connect, poolclass=NullPool)
    connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        connection.exec_driver_sql("SELECT count(*) FROM sqlite_master")
    except BaseException:
        connection.close()
        raise
    return connection


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _inode(path: Path) -> tuple[int, int] | None:
    """Tell one file from another at the same path; ``None`` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _explain(error: DBAPIError, path: Path) -> str:
    """Say in one sentence what SQLite means and what to do about it."""
    name = getattr(error.orig, "sqlite_errorname", "")
    for prefix, sentence in _MEANINGS.items():
        if name.startswith(prefix):
            return f"{path} {sentence} ({error.orig})"
    return f"{path} cannot be used: {error.orig}"


_RIGHTS = "this user needs the right to write it and its directory"
_MEANINGS: Final = {
    "SQLITE_BUSY": "is locked by another program; the same can be tried again later",
    "SQLITE_LOCKED": "is locked by another program; the same can be tried again later",
    "SQLITE_FULL": "cannot grow: the disk is full; free some space",
    "SQLITE_READONLY": f"cannot be written: {_RIGHTS}",
    "SQLITE_PERM": f"cannot be written: {_RIGHTS}",
    "SQLITE_CANTOPEN": f"cannot be opened: {_RIGHTS}",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error",
    "SQLITE_NOTADB": "is no SQLite database: name another file, or move this one aside",
    "SQLITE_CORRUPT": (
        "is damaged: keep it with its -wal file, as evidence, and move both aside to go on in a"
        " new one"
    ),
}

_files: weakref.WeakValueDictionary[int, SQLiteFile] = weakref.WeakValueDictionary()
_abandoned: list[sa.Connection] = []  # of a parent: dropping one would close it under its owner
_forking = threading.local()


def _before_fork() -> None:
    files = [file for ref in _files.valuerefs() if (file := ref()) is not None]
    _forking.files = [(file, file.before_fork()) for file in sorted(files, key=id)]


def _after_fork_in_parent() -> None:
    for file, closed in _forking.__dict__.pop("files", ()):
        if closed:
            file.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for file, closed in _forking.__dict__.pop("files", ()):
        file.after_fork_in_child(closed=closed)


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
