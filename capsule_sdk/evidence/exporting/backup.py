"""Backup: a live chain in SQLite, copied whole and judged before it takes its place.

Never written over: what is there already, unless that was asked for; and a backup that is there by a copy of a
chain that is broken, whatever was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capsule_sdk.chain.location import is_postgresql, sqlite_path
from capsule_sdk.chain.sqlite import size_of
from capsule_sdk.chain.sqlite_copying import copied
from capsule_sdk.errors import ChainUnavailable, EvidenceError

from ..sources import SourceName, open_source
from ..verifying.keys import TrustedKey
from ..verifying.verify import Outcome, Verdict, verify

__all__ = ["Backup", "back_up"]

_BESIDE = ("-wal", "-shm", "-journal")  # what SQLite keeps beside a database


@dataclass(frozen=True, slots=True)
class Backup:
    """What became of a backup.

    Attributes:
        out: the file.
        kept: whether the copy has taken its place there.
        size: bytes of the copy.
        verdict: on the copy.

    """

    out: Path
    kept: bool
    size: int
    verdict: Verdict


def back_up(
    source: SourceName,
    out: Path,
    keys: Sequence[TrustedKey] | None,
    *,
    overwrite: bool = False,
    processes: int = 0,
) -> Backup:
    """Copy a chain in SQLite, whoever writes to it meanwhile, and verify the copy.

    Args:
        source: as for `open_source`; a SQLite file.
        out: the file to make, readable by its owner only.
        keys: to check signatures with; ``None`` leaves them unchecked.
        overwrite: whether a file that is there may be replaced.
        processes: as for `verify`.

    Raises:
        EvidenceError: it is no SQLite file, or cannot be read; or ``out`` is there, or cannot be written.

    """
    if is_postgresql(source):
        raise EvidenceError(
            "PostgreSQL is backed up by its own tools, for example pg_dump, which takes the chains of all"
            " tenants; `capsuled export OUT.zip` writes one chain to a file that can be checked anywhere"
        )
    if not open_source(source).grows:
        raise EvidenceError(f"{source} is a file that was exported: copy it as any other file")
    path, place = sqlite_path(source), Path(os.path.realpath(out))
    _refuse(path, place, out, overwrite=overwrite)
    try:
        with copied(path, place) as copy:
            verdict = verify(open_source(copy), keys, processes=processes)
            verdict = replace(verdict, source=str(out))
            size = size_of(copy)
            if verdict.outcome is Outcome.BROKEN and place.exists():
                raise _Broken(Backup(out, False, size, verdict))
    except _Broken as broken:
        return broken.backup
    except ChainUnavailable as error:
        raise EvidenceError(str(error)) from error
    except OSError as error:
        raise EvidenceError(f"{out} cannot be written: {error.strerror or error}") from error
    return Backup(out, True, size, verdict)


class _Broken(Exception):  # noqa: N818 - a verdict, inside this module only
    """The copy is of a broken chain, and something older is there."""

    def __init__(self, backup: Backup) -> None:
        super().__init__()
        self.backup = backup


def _refuse(source: Path, place: Path, out: Path, *, overwrite: bool) -> None:
    """Raise where a copy would do harm, or cannot be made."""
    own = (source, *(source.with_name(source.name + ending) for ending in _BESIDE))
    if place in own or (place.exists() and place.samefile(source)):
        raise EvidenceError(f"{out} is the chain itself, or a part of it: name another file")
    if place.is_dir():
        raise EvidenceError(f"{out} is a directory: name a file in it")
    if place.exists() and not place.is_file():
        raise EvidenceError(f"{out} is not a regular file: name another one")
    if place.exists() and not overwrite:
        raise EvidenceError(f"{out} is there already: name another file, or say --force")
    for ending in ("-wal", "-journal"):
        log = place.with_name(place.name + ending)
        if size_of(log):
            raise EvidenceError(
                f"{log} belongs to another database, and SQLite would take it for a part of the copy: move"
                " it aside, or name another file"
            )
