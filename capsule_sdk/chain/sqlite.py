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
- Many processes write one file. None MUST wait long while the lock is free, and the write-ahead log
  MUST NOT outgrow a bound because one of them is always writing.
- Where nobody reads on from the past, the file MUST be whole without its log once it is folded or
  closed, whoever else has it open; folding MUST NOT wait for anybody.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from capsule_sdk.clocks import monotonic
from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.forks import Stage, Stilled, at_fork, let_go
from capsule_sdk.threads import RLock

from .privacy import remedy
from .turns import turn

__all__ = ["BUSY_TIMEOUT", "SQLiteFile", "log_of", "open_for_writing", "pragma", "size_of"]

BUSY_TIMEOUT: Final = 5.0  # seconds that a lock is waited for before the caller is told
_NAP = 0.0005  # seconds between two tries to take a lock
_LAST_TRIES = 0.25  # seconds that are left to try the lock, however long it took to get one's turn
_CONVERSION_TIMEOUT = 0.25  # seconds that turning to the write-ahead log may wait
_CHECKPOINT_PAGES = 4_000  # of 4 kB: how much log is copied into the file at a time
_CACHE_KIBIBYTES = 16_000  # ids and hashes are random: a group touches a page for each of them
_LOG_BOUND = 64_000_000  # bytes of log from which on the other writers are made to wait for a copy
_EMPTYING_TIMEOUT = 0.5  # seconds that emptying the log may wait for writers and readers

T = TypeVar("T")


class SQLiteFile:
    """A file and at most one open connection to it, used by one thread at a time."""

    def __init__(self, path: Path, connect: Callable[[Path], sa.Connection]) -> None:
        self.path = path
        self._connect = connect
        #: Held while the connection is in use.
        self.lock = RLock()
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
        with self.lock:
            try:
                yield self._connected()
            except DBAPIError as error:
                self._disconnect()
                raise ChainUnavailable(_explain(error, self.path)) from error
            except UnicodeError as error:  # what SQLite says of a damaged file may quote the damage
                self._disconnect()
                meaning = _MEANINGS["SQLITE_CORRUPT"]
                raise ChainUnavailable(f"{self.path} {meaning} ({error})") from error
            except OSError as error:
                self._disconnect()
                if isinstance(error, ChainUnavailable):
                    raise
                raise ChainUnavailable(f"{self.path} cannot be used: {error}") from error

    def fold(self) -> bool:
        """Copy the log into the file and empty it, without waiting for anybody.

        Returns:
            Whether the file is whole without the log. It is not while somebody still reads what
            the file held before, nor where the disk takes no more.

        """
        self._notice_fork()
        with self.lock:
            return self._fold()

    def close(self) -> None:
        """Fold the log into the file, and close the connection."""
        self._notice_fork()
        with self.lock:
            self._fold()
            self._disconnect()

    def _fold(self) -> bool:
        connection = self._connection
        if connection is None or not size_of(log_of(self.path)):
            return True
        raw: Any = connection.connection.driver_connection
        try:
            pragma(raw, "busy_timeout=0")
            busy, logged, copied = raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if busy or logged != copied:
                return False
            # An empty log cannot be taken for that of an older file that is put back in this one's place.
            pragma(raw, "wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:  # what is committed is safe in the log
            return False
        return True

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
            self.after_fork_in_child()

    def before_fork(self) -> None:
        """Close the connection; for who holds the lock."""
        self._fold()
        self._disconnect()

    def after_fork_in_child(self) -> None:
        """Start afresh; without a connection if the parent's is still open in this process."""
        self._pid = os.getpid()
        self.lock = RLock()
        if self._connection is not None:
            _abandoned.append(self._connection)
            self._connection, self._inherited = None, True


def open_for_writing(path: Path, busy_timeout: float = BUSY_TIMEOUT) -> sa.Connection:
    """Open or create a database whose transactions all take the write lock at their start."""

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            path,
            timeout=0.0,
            isolation_level=None,  # the driver's own BEGIN takes no write lock
            check_same_thread=False,
        )
        try:
            try:
                mode = _when_free(partial(pragma, raw, "journal_mode=WAL"), _CONVERSION_TIMEOUT)
            except sqlite3.OperationalError:
                mode = "unknown"
            # Some of these read the file, which another process may just be making.
            _when_free(partial(_settle, raw, mode), busy_timeout)
        except BaseException:
            raw.close()
            raise
        return raw

    engine = sa.create_engine(
        "sqlite://",
        creator=connect,
        poolclass=NullPool,
        hide_parameters=True,  # of errors: they are what the capsules say
    )
    event.listen(engine, "begin", _WriteLock(path, busy_timeout).take)
    return engine.connect()


def _settle(raw: sqlite3.Connection, mode: str) -> None:
    pragma(raw, f"synchronous={'FULL' if mode == 'wal' else 'EXTRA'}")
    pragma(raw, "fullfsync=ON")  # where fsync alone does not reach the disk (macOS)
    pragma(raw, f"wal_autocheckpoint={_CHECKPOINT_PAGES}")
    pragma(raw, f"journal_size_limit={_LOG_BOUND}")
    pragma(raw, f"cache_size=-{_CACHE_KIBIBYTES}")


class _WriteLock:
    """How a transaction begins: it takes the lock that excludes all other writers of the file.

    SQLite's own wait naps for up to 100 ms at a time, while our writers hold the lock for a
    fraction of that: four processes together were slower than one alone. So it is tried anew twice
    a millisecond here, by the one process whose turn it is.
    """

    def __init__(self, path: Path, patience: float) -> None:
        self._log = log_of(path)
        self._log_bound = _LOG_BOUND
        self._patience = patience

    def take(self, connection: sa.Connection) -> None:
        """Begin, or raise what SQLAlchemy makes of SQLite's error."""
        raw: Any = connection.connection.driver_connection
        pragma(raw, "busy_timeout=0")
        try:
            size = size_of(self._log)
            if size > self._log_bound:
                self._empty_log(raw)
            elif size <= _LOG_BOUND:
                self._log_bound = _LOG_BOUND
            began = monotonic()
            with turn(self._log.parent, self._patience), suppress(sqlite3.OperationalError):
                left = self._patience - (monotonic() - began)
                _when_free(partial(raw.execute, "BEGIN IMMEDIATE"), max(left, _LAST_TRIES))
            if not raw.in_transaction:  # a last time, for the error as SQLAlchemy's
                connection.exec_driver_sql("BEGIN IMMEDIATE")
        finally:  # for the commit, which waits for readers where there is no log
            pragma(raw, f"busy_timeout={round(self._patience * 1000)}")

    def _empty_log(self, raw: sqlite3.Connection) -> None:
        """Keep the others from writing until all of the log is copied.

        SQLite copies it while they write on, and starts it anew only once it has caught up: with
        several busy writers, never. A reader that stays can hinder this too; then the log may grow
        by as much again before the next try.
        """
        with suppress(sqlite3.Error):  # what is committed is safe in the log
            for _ in _tries(_EMPTYING_TIMEOUT):
                if not pragma(raw, "wal_checkpoint(TRUNCATE)"):
                    break
        self._log_bound = size_of(self._log) + _LOG_BOUND


def _when_free(attempt: Callable[[], T], patience: float) -> T:
    """Repeat what finds the database locked until it does not; raise its error in the end."""
    for _ in _tries(patience):
        try:
            return attempt()
        except sqlite3.OperationalError as error:
            # The primary code: a log that is being recovered, or was written meanwhile, counts too.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
    return attempt()


def _tries(patience: float) -> Iterator[None]:
    """Give a try, and others after short naps for so many seconds."""
    until = monotonic() + patience
    while monotonic() <= until:
        yield
        time.sleep(_NAP * random.uniform(0.5, 1.5))  # noqa: S311 - no secret


def pragma(raw: sqlite3.Connection, text: str) -> Any:
    """Set or ask; return the first column of the answer, if there is one."""
    row = raw.execute(f"PRAGMA {text}").fetchone()
    return row and row[0]


def _inode(path: Path) -> tuple[int, int] | None:
    """Tell one file from another at the same path; ``None`` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def log_of(path: Path) -> Path:
    """Return where SQLite keeps the write-ahead log of a file: beside it, or what a link leads to."""
    real = path.resolve()
    return real.with_name(real.name + "-wal")


def size_of(path: Path) -> int:
    """Return the bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _explain(error: DBAPIError, path: Path) -> str:
    """Say in one sentence what SQLite means and what to do about it."""
    name = getattr(error.orig, "sqlite_errorname", "")
    for prefix, sentence in _MEANINGS.items():
        if name.startswith(prefix):
            more = ""
            if prefix == "SQLITE_CORRUPT" and not size_of(log_of(path)):
                more = _LACKING
            elif prefix in _FOR_WANT_OF_RIGHTS:
                more = f": {remedy(path)}"
            return _printable(f"{path} {sentence}{more} ({error.orig})")
    return _printable(f"{path} cannot be used: {error.orig}")


def _printable(text: str) -> str:
    """Leave out what could steer a terminal: SQLite quotes names, which anybody may have written."""
    return "".join(char if char.isprintable() else "?" for char in text)


_LACKING = "; a copy that was taken without the -wal file looks like this too"
_FOR_WANT_OF_RIGHTS: Final = frozenset({"SQLITE_READONLY", "SQLITE_PERM", "SQLITE_CANTOPEN"})
_MEANINGS: Final = {
    "SQLITE_BUSY": "is locked by another program; the same can be tried again later",
    "SQLITE_LOCKED": "is locked by another program; the same can be tried again later",
    "SQLITE_FULL": "cannot grow: the disk is full; free some space",
    "SQLITE_READONLY": "cannot be written",
    "SQLITE_PERM": "cannot be written",
    "SQLITE_CANTOPEN": "cannot be opened",
    "SQLITE_IOERR": "cannot be read or written: the disk reports an error",
    "SQLITE_TOOBIG": "holds a value that is larger than any capsule can be: it was tampered with",
    "SQLITE_NOTADB": "is not a SQLite database: name another file, or move this one aside",
    "SQLITE_CORRUPT": (
        "is damaged: keep it with its -wal file, as evidence, and move both aside to go on in a"
        " new one"
    ),
}

_files: weakref.WeakValueDictionary[int, SQLiteFile] = weakref.WeakValueDictionary()
_abandoned: list[sa.Connection] = []  # of a parent: dropping one would close it under its owner


def _before_fork(stilled: list[Stilled]) -> None:
    files = [file for ref in _files.valuerefs() if (file := ref()) is not None]
    for file in sorted(files, key=id):
        lock = Stilled(file.lock)
        stilled.append(lock)
        if lock.take() and not lock.is_mine:
            file.before_fork()


def _after_fork_in_child(stilled: list[Stilled]) -> None:
    del stilled  # all of them: each has a lock that another thread may have held
    for ref in _files.valuerefs():
        if (file := ref()) is not None:
            file.after_fork_in_child()


at_fork(
    Stage.CONNECTIONS,
    before=_before_fork,
    in_parent=let_go,
    in_child=_after_fork_in_child,
)
