"""The chain: capsules in sequence, each holding the hash of the one before.

`open_chain` is the way in. It decides once who writes: a SQLite file gets our own writer (groups,
one lock, one commit); every other storage is driven capsule by capsule through qp-capsule.
Nothing here touches the disk before the first `Chain.append`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from qp_capsule import Capsule, CapsuleError, Capsules, CapsuleStorage, Seal

from capsule_sdk.errors import ConfigurationError

from .bridge import BridgedChain
from .location import is_postgresql, postgresql_identity, sqlite_identity, sqlite_path
from .store import SQLiteStore
from .writer import ChainWriter

__all__ = ["Chain", "chain_identity", "open_chain"]


class Chain(Protocol):
    """What the recorder writes to."""

    @property
    def identity(self) -> str:
        """The same store gives the same string, whichever way it was named."""
        ...

    def append(self, capsules: Sequence[Capsule]) -> None:
        """Link, seal and durably commit the capsules in the given order.

        A capsule whose id is in the chain is left out, so that a retry after an unclear commit
        adds nothing twice. A SQLite file takes the group all or nothing; another storage takes one
        capsule after the other, and those before a failure stay.

        Raises:
            ChainUnavailable: the store cannot be written just now; the same call may succeed later.
            CapsuleRejected: this one capsule can never be sealed or stored; leave it out.
            ConfigurationError: the signing key is damaged.

        """
        ...

    def close(self) -> None:
        """Let go of files, connections and threads; a later append takes them again."""
        ...


def open_chain(
    capsules: Capsules | None = None, url: str | os.PathLike[str] | None = None
) -> Chain:
    """Give the chain of a store, without touching the store yet.

    Args:
        capsules: a qp-capsule ``Capsules``; its storage and its seal are used. A
            `qp_capsule.CapsuleStorage` on a file is written by us; every other storage (a subclass
            too, for what it overrides) writes by itself.
        url: a path, a ``sqlite:///`` or a ``postgresql://`` URL. Without either, qp-capsule's
            default database (``QUANTUMPIPES_DATA_DIR`` is honoured).

    Raises:
        ConfigurationError: both were given, what was given is no store, or its driver is missing.

    """
    identity = chain_identity(capsules, url)
    if capsules is None and is_postgresql(url):
        capsules = _postgresql(str(url))
    if capsules is not None:
        path = _file_of(capsules)
        if path is None:
            return BridgedChain(capsules, identity)
        return ChainWriter(SQLiteStore(path), capsules.seal)
    return ChainWriter(SQLiteStore(sqlite_path(url)), _default_seal())


def chain_identity(
    capsules: Capsules | None = None, url: str | os.PathLike[str] | None = None
) -> str:
    """Say which store `open_chain` would write to, without opening it.

    Raises:
        ConfigurationError: both were given, or what was given is no store.

    """
    if capsules is None:
        return (
            postgresql_identity(str(url))
            if is_postgresql(url)
            else sqlite_identity(sqlite_path(url))
        )
    if url is not None:
        raise ConfigurationError("give capsules or url, not both: each names a store")
    if not isinstance(capsules, Capsules):
        raise ConfigurationError(
            f"capsules is of type {type(capsules).__name__}; give a qp_capsule.Capsules, or a path"
            " or URL as url="
        )
    path = _file_of(capsules)
    if path is not None:
        return sqlite_identity(path)
    database_url = getattr(capsules.storage, "database_url", None)
    if is_postgresql(database_url):
        return postgresql_identity(str(database_url))
    return f"storage:{id(capsules.storage)}"


def _file_of(capsules: Capsules) -> Path | None:
    """Return the SQLite file behind qp-capsule's own storage; ``None`` for every other storage."""
    storage = capsules.storage
    if type(storage) is not CapsuleStorage or str(storage.db_path) == ":memory:":
        return None
    return Path(storage.db_path)


def _postgresql(url: str) -> Capsules:
    try:
        return Capsules(url)
    except ImportError as error:
        raise ConfigurationError(
            f'PostgreSQL needs {error.name}: pip install "capsuled[postgres]"'
        ) from error
    except CapsuleError as error:
        raise ConfigurationError(
            'PostgreSQL needs its driver: pip install "capsuled[postgres]"'
        ) from error


def _default_seal() -> Seal:
    try:
        return Seal()
    except CapsuleError as error:
        raise ConfigurationError(f"QUANTUMPIPES_DATA_DIR cannot be used: {error}") from error
