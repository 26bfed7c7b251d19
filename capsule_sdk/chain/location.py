"""Where a chain is: what users may name a store by, and one identity for all its spellings.

Pure: it looks at names and at the environment, never into a file or a database.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from qp_capsule import CapsuleError
from qp_capsule.paths import default_db_path
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from capsule_sdk.errors import ConfigurationError
from capsule_sdk.outward import without_password

__all__ = [
    "default_path",
    "is_postgresql",
    "postgresql_identity",
    "postgresql_url",
    "sqlite_identity",
    "sqlite_path",
]

ACCEPTED: Final = (
    "give a path, 'sqlite:///relative.db', 'sqlite:////absolute.db' or"
    " 'postgresql://user@host/database'"
)


def sqlite_path(url: str | os.PathLike[str] | None = None) -> Path:
    """Return the absolute path that a path or a ``sqlite:///`` URL means.

    ``~`` is the home directory; ``None`` is qp-capsule's default database, which honours
    ``QUANTUMPIPES_DATA_DIR``.

    Raises:
        ConfigurationError: it names no file.

    """
    if url is None:
        return Path(os.path.realpath(default_path(default_db_path)))
    text = os.fspath(url)
    name = text.removeprefix("sqlite:///")
    if not isinstance(text, str) or "://" in name or name.startswith(("file:", "sqlite:")):
        raise ConfigurationError(f"{_shown(text)} is not a store that can be used; {ACCEPTED}")
    if name in {"", ":memory:"}:
        raise ConfigurationError(
            f"{text!r} names no file, and a chain in memory ends with the process; {ACCEPTED}"
        )
    if name is not text and "?" in name:
        raise ConfigurationError(f"{text!r}: options after '?' are not supported; leave them out")
    try:
        return Path(os.path.realpath(Path(name).expanduser()))
    except RuntimeError as error:
        raise ConfigurationError(
            f"{text!r}: no home directory is known for {name.partition('/')[0]!r}; write the whole path"
            " instead, or set HOME"
        ) from error


def default_path(of: Callable[[], Path]) -> Path:
    """Return a path that qp-capsule takes where none is given: of its database, its key, its keyring.

    Args:
        of: qp-capsule's own function for it, which honours ``QUANTUMPIPES_DATA_DIR``.

    Raises:
        ConfigurationError: there is none, and what to set.

    """
    try:
        return Path(of())
    except CapsuleError as error:
        raise ConfigurationError(f"QUANTUMPIPES_DATA_DIR cannot be used: {error}") from error
    except (
        RuntimeError
    ) as error:  # as in containers that run under a number that nobody has heard of
        raise ConfigurationError(
            "there is no place for the chain and its key: no home directory is known for this user"
            f" (HOME is not set, and the system has no entry for uid {os.getuid()}); set"
            " QUANTUMPIPES_DATA_DIR to a directory that this process can write"
        ) from error


def sqlite_identity(path: str | os.PathLike[str]) -> str:
    """Return the URL of a SQLite file by its real path."""
    return f"sqlite:///{os.path.realpath(path)}"


def is_postgresql(url: object) -> bool:
    """Tell whether a URL names a PostgreSQL database, with or without a driver's name."""
    return isinstance(url, str) and url.startswith(("postgresql://", "postgresql+", "postgres://"))


def postgresql_identity(url: str) -> str:
    """Return server and database without driver, user, password and options.

    Raises:
        ConfigurationError: the URL cannot be read.

    """
    parsed = postgresql_url(url)
    _, options = parsed.get_dialect()().create_connect_args(parsed)
    database = options.get("dbname") or options.get("user") or ""  # as libpq fills it in
    return f"postgresql://{options.get('host', '')}:{options.get('port', 5432)}/{database}"


def postgresql_url(url: str) -> URL:
    """Return the URL as our driver, psycopg, takes it, whichever driver it was written for.

    Raises:
        ConfigurationError: the URL cannot be read.

    """
    try:
        parsed = make_url(url.replace("postgres://", "postgresql://", 1))
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"{_shown(url)} cannot be read as a URL; {ACCEPTED}"
        ) from None  # the reason quotes the password
    if "@" in f"{parsed.host}{parsed.database}":
        raise ConfigurationError(
            f"{_shown(url)} has more than one @: write %40 for those in user name and password"
        )
    query = dict(parsed.query)
    if "ssl" in query:  # what asyncpg calls it
        given = str(query.pop("ssl")).lower()
        query.setdefault("sslmode", "require" if given in {"1", "true"} else given)
    return parsed.set(
        drivername="postgresql+psycopg",
        host=unquote(parsed.host) if parsed.host else None,  # of a socket: %2Fvar%2Frun
        query=query,
    )


def _shown(url: object) -> str:
    """Quote a name for a message, without the password that a URL may hold."""
    return str(without_password(repr(url)))
