"""The chain: capsules in sequence, each holding the hash of the one before.

`open_chain` is the way in. It decides once who writes: a SQLite file and a PostgreSQL database get
our own writer (groups, one lock, one commit); every other storage is driven capsule by capsule
through qp-capsule.
Nothing here touches the disk before the first `Chain.append`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from qp_capsule import Capsule, Capsules, CapsuleStorage, Seal
from qp_capsule.paths import default_key_path
from qp_capsule.storage_pg import PostgresCapsuleStorage

from capsule_sdk.errors import ConfigurationError

from .bridge import BridgedChain
from .location import default_path, is_postgresql, postgresql_identity, sqlite_identity, sqlite_path
from .postgresql import check_options
from .postgresql_store import PostgresStore
from .store import ChainStore, SQLiteStore
from .writer import ChainWriter

__all__ = ["Chain", "chain_identity", "is_written_by_us", "open_chain"]


class Chain(Protocol):
    """What the recorder writes to."""

    @property
    def identity(self) -> str:
        """The same store gives the same string, whichever way it was named."""
        ...

    def append(self, capsules: Sequence[Capsule]) -> int:
        """Link, seal and durably commit the capsules in the given order.

        None of them may change any more. A capsule whose id is in the chain is left out, so that a
        retry after an unclear commit adds nothing twice. Our own stores take the group all or
        nothing; another storage takes one capsule after the other, and those before a failure stay.

        Returns:
            How many were added; the others were there already.

        Raises:
            ChainUnavailable: the store cannot be written just now; the same call may succeed later.
            CapsuleRejected: this one capsule can never be sealed or stored; leave it out.
            ConfigurationError: the signing key is damaged.

        """
        ...

    def fold(self) -> bool:
        """Put all that was committed where a copy of the store finds it, without waiting for others.

        Returns:
            Whether it is there; if not, the same may succeed later.

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
        capsules: a qp-capsule ``Capsules``; its storage and its seal are used. What
            `qp_capsule.CapsuleStorage` keeps in a file and `qp_capsule.PostgresCapsuleStorage` in
            a database is written by us; every other storage (a subclass too, for what it
            overrides) writes by itself.
        url: a path, a ``sqlite:///`` or a ``postgresql://`` URL. Without either, qp-capsule's
            default database (``QUANTUMPIPES_DATA_DIR`` is honoured).

    Raises:
        ConfigurationError: both were given, what was given is no store, or its driver is missing.

    """
    identity = chain_identity(capsules, url)
    if capsules is None:
        return ChainWriter(_store(url), _default_seal())
    place = _place_of(capsules)
    if place is None:
        return BridgedChain(capsules, identity)
    return ChainWriter(_store(place), capsules.seal)


def chain_identity(
    capsules: Capsules | None = None, url: str | os.PathLike[str] | None = None
) -> str:
    """Say which store `open_chain` would write to, without opening it.

    Raises:
        ConfigurationError: both were given, what was given is no store, or its driver is missing.

    """
    if capsules is None:
        return _identity(url)
    if url is not None:
        raise ConfigurationError("give capsules or url, not both: each names a store")
    if not isinstance(capsules, Capsules):
        raise ConfigurationError(
            f"capsules is of type {type(capsules).__name__}; give a qp_capsule.Capsules, or a path"
            " or URL as url="
        )
    place = _place_of(capsules)
    if place is not None:
        return _identity(place)
    database_url = getattr(capsules.storage, "database_url", None)
    if is_postgresql(database_url):
        return postgresql_identity(str(database_url))
    kind = type(capsules.storage)
    return f"storage:{kind.__module__}.{kind.__qualname__}:{id(capsules.storage)}"


def is_written_by_us(capsules: Capsules) -> bool:
    """Tell whether `open_chain` links and seals what goes into this storage, or the storage does."""
    return _place_of(capsules) is not None


def _place_of(capsules: Capsules) -> Path | str | None:
    """Return the file or URL behind qp-capsule's own storages; ``None`` for every other storage."""
    storage = capsules.storage
    if type(storage) is PostgresCapsuleStorage:
        return storage.database_url
    if type(storage) is CapsuleStorage and str(storage.db_path) != ":memory:":
        return Path(storage.db_path)
    return None


def _identity(place: str | os.PathLike[str] | None) -> str:
    if is_postgresql(place):
        check_options(str(place))
        return postgresql_identity(str(place))
    return sqlite_identity(sqlite_path(place))


def _store(place: str | os.PathLike[str] | None) -> ChainStore:
    return PostgresStore(str(place)) if is_postgresql(place) else SQLiteStore(sqlite_path(place))


def _default_seal() -> Seal:
    return Seal(default_path(default_key_path))
