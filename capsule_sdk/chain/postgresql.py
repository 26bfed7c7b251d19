"""One connection to a PostgreSQL server: how it is opened, what its errors mean, how it outlives a fork.

- Nothing MUST wait for ever: connecting, locks, statements and a network that says nothing are all
  bounded, and a writer that stops in the middle does not keep the others out.
- A password MUST NOT be in a message, in a log or in the name of the store.
- A child MUST NOT say a word on the connection of its parent, not even good-bye.
- How durable a commit is, is the server's affair: ``synchronous_commit`` is left as it is set there.
- Nothing here MUST depend on a session: a pooler may give each transaction another one.
"""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from capsule_sdk.errors import ChainUnavailable, ConfigurationError
from capsule_sdk.forks import Stage, Stilled, at_fork, let_go
from capsule_sdk.threads import RLock

from .location import postgresql_identity, postgresql_url

__all__ = ["PostgresServer", "check_options", "sqlstate"]

#: What libpq is told unless the URL says otherwise; seconds, but for tcp_user_timeout (milliseconds).
DEFAULTS: Final = {
    "client_encoding": "utf8",
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
    "fallback_application_name": "capsuled",
}
_FORK_TIMEOUT = 1.0  # seconds that a fork waits for what is under way


def check_options(url: str) -> None:
    """See to it that the driver is there and knows the options of the URL.

    Raises:
        ConfigurationError: it is not, or does not.

    """
    try:
        from psycopg import ProgrammingError  # noqa: PLC0415 - an extra, which may be missing
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            'PostgreSQL needs psycopg 3: pip install "capsuled[postgres]"'
        ) from error
    parsed = postgresql_url(url)
    try:
        make_conninfo(**parsed.get_dialect()().create_connect_args(parsed)[1])
    except ProgrammingError as error:
        raise ConfigurationError(
            f"{postgresql_identity(url)}: {error}; the options after '?' are those of libpq"
        ) from None  # what came before quotes the password


class PostgresServer:
    """A database and at most one open connection to it, used by one thread at a time."""

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        check_options(url)
        self.identity = postgresql_identity(url)
        self._url = postgresql_url(url)
        self._engine = _engine(self._url)
        self._read_only = read_only
        #: Held while the connection is in use.
        self.lock = RLock()
        self._pid = os.getpid()
        self._connection: sa.Connection | None = None
        self._raw: Any = None  #: psycopg's, of the same connection
        _servers[id(self)] = self

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """Give the connection to this thread alone; open it where there is none.

        Raises:
            ChainUnavailable: the server cannot be reached or reported an error. The connection is
                given up then; the next use opens a new one.

        """
        self.notice_fork()
        with self.lock:
            try:
                yield self._connected()
            except DBAPIError as error:
                self._disconnect()
                raise ChainUnavailable(_explain(error, self.identity)) from error

    def close(self) -> None:
        """Close the connection."""
        self.notice_fork()
        with self.lock:
            self._disconnect()

    def notice_fork(self) -> None:
        """Leave the connection of the parent alone, in a child; also after forks that ran no hooks."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self.lock = RLock()
        _abandoned.append(self._engine)
        # A thread of the parent may have held locks of the old one.
        self._engine = _engine(self._url)
        connection, self._connection = self._connection, None
        if connection is not None:
            _abandon(connection, self._raw)

    def _connected(self) -> sa.Connection:
        if self._connection is not None and _was_closed(self._raw):
            self._disconnect()
        if self._connection is None:
            connection = self._engine.connect()
            if self._read_only:
                connection = connection.execution_options(postgresql_readonly=True)
            self._connection, self._raw = connection, connection.connection.dbapi_connection
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # a broken one could not be rolled back, which would be logged
            connection.close()


def _engine(url: sa.URL) -> sa.Engine:
    defaults = {name: value for name, value in DEFAULTS.items() if name not in url.query}
    return sa.create_engine(
        url,
        poolclass=NullPool,
        isolation_level="READ COMMITTED",  # each statement sees what was committed before it
        hide_parameters=True,  # of errors: they are what the capsules say
        use_native_hstore=False,
        connect_args={**defaults, "prepare_threshold": None},
    )


def _was_closed(raw: Any) -> bool:
    """Tell whether the server has ended the session: between two transactions it says nothing else.

    So a server that was restarted, or a firewall that cut an idle connection, costs no failed try.
    """
    if raw.closed:
        return True
    poll = select.poll()
    poll.register(raw.fileno(), select.POLLIN)
    return bool(poll.poll(0))


def _abandon(connection: sa.Connection, raw: Any) -> None:
    """Turn this process's end of a connection away from the server, which hears nothing of it.

    An end that stayed open would keep the parent's locks for as long as this process lives, should
    the parent be killed; and no finaliser can say anything on it now.
    """
    _abandoned.append(connection)
    if not raw.closed:
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, raw.fileno(), inheritable=False)
        os.close(nowhere)


def sqlstate(error: DBAPIError) -> str:
    """Return the code that PostgreSQL gives the error; empty if it did not come to that."""
    return getattr(error.orig, "sqlstate", None) or ""


def _explain(error: DBAPIError, name: str) -> str:
    """Say in one sentence what PostgreSQL means and what to do about it."""
    text, code = str(error.orig), sqlstate(error)
    reason = (text.strip() or type(error.orig).__name__).splitlines()[0]
    for sentence, codes, words in _MEANINGS:
        if code.startswith(codes) if code else any(word in text for word in words):
            return f"{name} {sentence} ({reason})"
    return f"{name} cannot be used: {reason}"


#: A sentence, the SQLSTATEs it is for, and words of the errors that come without: those of connecting.
_MEANINGS: Final[tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]] = (
    (
        "is locked by another program; the same can be tried again later",
        ("55P03", "57014", "40"),
        (),
    ),
    (
        "does not let this user do that: an administrator has to grant the right",
        ("42501",),
        ("permission denied",),
    ),
    (
        "lets nobody in this way: an administrator has to change pg_hba.conf, or the URL its sslmode",
        (),
        ("pg_hba.conf",),
    ),
    (
        "refused this user: check user name and password in the URL",
        ("28",),
        ("password authentication failed", "no password supplied", 'role "'),
    ),
    (
        "cannot be found: create the database, or name another one in the URL",
        ("3D",),
        ('database "',),
    ),
    (
        "takes no writes: it is a standby or read-only; name the primary server in the URL",
        ("25006",),
        (),
    ),
    (
        "has a table of capsules that lacks something: compare it with the one qp-capsule creates",
        ("42703", "42P01", "42804", "42P10", "23502"),
        (),
    ),
    ("has no room left: free some disk space on the server", ("53100",), ()),
    (
        "has too many connections: close some, or raise max_connections",
        ("53300",),
        ("too many clients", "connection slots"),
    ),
    (
        "ended the connection or does not answer; the same can be tried again later",
        ("08", "57P", "25P03", "25P04"),
        (
            "server closed the connection",
            "timeout expired",
            "the database system is",  # starting up, shutting down, in recovery, accepting nobody
            "connection is lost",
        ),
    ),
    (
        "cannot be reached: check host and port in the URL, and that the server runs",
        (),
        ("connection failed", "connection is bad", "failed to resolve"),
    ),
)

_servers: weakref.WeakValueDictionary[int, PostgresServer] = weakref.WeakValueDictionary()
_abandoned: list[object] = []  # of a parent


def _before_fork(stilled: list[Stilled]) -> None:
    servers = [server for ref in _servers.valuerefs() if (server := ref()) is not None]
    for server in sorted(servers, key=id):
        stilled.append(Stilled(server.lock))
        stilled[-1].take(_FORK_TIMEOUT)


def _after_fork_in_child(stilled: list[Stilled]) -> None:
    del stilled
    for ref in _servers.valuerefs():
        if (server := ref()) is not None:
            server.notice_fork()


at_fork(
    Stage.CONNECTIONS,
    before=_before_fork,
    in_parent=let_go,
    in_child=_after_fork_in_child,
)
