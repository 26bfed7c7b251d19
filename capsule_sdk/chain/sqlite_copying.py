"""A copy of a SQLite file while others write to it: one moment of it, whole in one file, without a log.

Copying goes through SQLite, in one transaction for reading: writers go on meanwhile. The copy keeps
the rollback journal, so that it can be read where nothing can be written beside it; a program that
records into it turns it to the write-ahead log again.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from capsule_sdk.errors import ChainUnavailable
from capsule_sdk.owners import give_back

from .genuine import looking_at
from .placing import sync_directory
from .sqlite import SQLiteFile, pragma
from .sqlite_reading import open_for_reading

__all__ = ["copied"]


@contextmanager
def copied(source: Path, out: Path) -> Iterator[Path]:
    """Copy a database to a file beside ``out``, which takes that name when the block ends well.

    The copy is its owner's alone (mode 0600), and synced.

    Raises:
        ChainUnavailable: the source cannot be read, or holds no chain.
        OSError: the copy cannot be written.

    """
    descriptor, name = tempfile.mkstemp(prefix=f".{out.name}.", suffix=".new", dir=out.parent)
    copy = Path(name)
    try:
        give_back(descriptor, 0o600)
        with closing(sqlite3.connect(copy, isolation_level=None)) as target:
            _copy(source, target)
        os.fsync(descriptor)
        yield copy
        copy.replace(out)
        with suppress(OSError):  # some volumes have no such thing
            sync_directory(out.parent)
    except BaseException:
        with suppress(OSError):
            copy.unlink()
        raise
    finally:
        os.close(descriptor)


def _copy(source: Path, target: sqlite3.Connection) -> None:
    file = SQLiteFile(source, open_for_reading)
    pragma(target, "journal_mode=OFF")  # what is left of a copy that fails is thrown away
    pragma(target, "synchronous=OFF")
    try:
        with closing(file), looking_at(file) as connection:
            raw: Any = connection.connection.driver_connection
            raw.backup(target)
        pragma(target, "journal_mode=DELETE")
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
            raise OSError(f"the disk is full or reports an error ({error})") from error
        raise ChainUnavailable(f"{source} cannot be copied: {error}") from error
