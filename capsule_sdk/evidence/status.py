"""Status: whether all that was recorded is in the chain, seen from outside. It changes nothing.

What processes that record at this moment have not committed yet stands in their journals; what processes that
are no more have left there waits for recovery. Both are compared with what the store holds. Whether the chain
itself is whole is not looked at here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ..chain.location import is_postgresql, sqlite_path
from ..chain.reading import Glance
from ..errors import ChainUnavailable
from ..journal.files import gaps_in, homes, is_alive, set_aside_in, size_of
from ..journal.leftovers import Contents, Known
from ..vocabulary import CUT_OFF, RECORDS_LOST

__all__ = ["JournalStatus", "Status", "status_of"]

#: Seconds that a record may wait for the chain before that is called trouble.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """The journal of one process.

    Attributes:
        name: its directory; begins with when the process began to record (UTC) and the process's number.
        alive: whether that process lives.
        size: bytes.
        open: tasks and calls that have not ended.
        waiting: records that have ended and are not in the chain.
        lag: seconds that the oldest of these waits.
        gaps: what that process cannot record as it should, and what each costs.

    """

    name: str
    alive: bool
    size: int
    open: int
    waiting: int
    lag: float
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How a store and its journals stand.

    Attributes:
        store: the store.
        reachable: whether it can be read.
        capsules: how many it holds.
        last_sealed: when the last of them was sealed; ``None`` where there is none.
        lost: records that could not be recorded, as capsules of type ``system`` say.
        cut_off: records whose process ended before they did.
        journals: those of living processes, and those that wait for recovery.
        damaged: journals that could not be read whole, and are kept.
        trouble: what is wrong, in sentences; empty where all is well.

    """

    store: str
    reachable: bool
    capsules: int
    last_sealed: str | None
    lost: int
    cut_off: int
    journals: tuple[JournalStatus, ...]
    damaged: tuple[str, ...]
    trouble: tuple[str, ...]


def status_of(source: str | os.PathLike[str] | None, store: str, journals: Path) -> Status:
    """Look at a store and its journals.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's default.
        store: what to call it.
        journals: the directory of its journals.

    """
    place = str(source) if is_postgresql(source) else sqlite_path(source)
    trouble: list[str] = []
    reachable = True
    capsules, last_sealed, lost, cut_off = 0, None, 0, 0
    glance = None if isinstance(place, Path) and not place.exists() else Glance(place)
    try:
        if glance is not None:
            capsules, last = glance.count()
            last_sealed = None if last is None else str(last)  # SQLite keeps whatever it is given
            lost = sum(map(_records_lost, glance.containing(RECORDS_LOST, "system")))
            cut_off = sum(map(_is_cut_off, glance.containing(CUT_OFF)))
    except ChainUnavailable as error:
        trouble.append(f"the store cannot be read: {error}")
        reachable = False
    try:
        found = tuple(_journal(path, glance if reachable else None) for path in homes(journals))
    finally:
        if glance is not None:
            glance.close()
    damaged = tuple(str(path) for path in set_aside_in(journals))
    trouble += _troubles(found, lost, damaged)
    return Status(
        store, reachable, capsules, last_sealed, lost, cut_off, found, damaged, tuple(trouble)
    )


def _troubles(
    journals: tuple[JournalStatus, ...], lost: int, damaged: tuple[str, ...]
) -> Iterator[str]:
    if lost:
        yield f"{lost} records were lost: see the capsules of type system"
    for journal in journals:
        if not journal.alive:
            yield f"{journal.name} waits for recovery: capsuled recover"
        elif journal.lag > PATIENCE:
            waiting = f"{journal.waiting} records have been waiting for the store"
            yield f"{journal.name}: {waiting} for {journal.lag:.0f} s"
        if journal.alive:
            yield from (
                f"{journal.name} does not record all as it should: {gap}" for gap in journal.gaps
            )
    for path in damaged:
        yield f"a damaged journal is kept: {path}"


def _journal(path: Path, glance: Glance | None) -> JournalStatus:
    alive, contents, now = is_alive(path), Contents(path), time.time()
    opened, ended = 0, {}
    try:
        for key, known in contents.records().items():
            end = _end_of(known)
            if end is None:
                opened += 1
            else:
                ended[str(UUID(hex=key))] = end
        for capsule in contents.capsules():
            ended.setdefault(str(capsule.get("id")), now)
    except (OSError, ValueError):
        pass  # its process has just removed it, or it is damaged, which recovery reports
    waiting = set(ended) if glance is None else glance.missing(ended)
    oldest = min((ended[key] for key in waiting), default=now)
    return JournalStatus(
        path.name,
        alive,
        size_of(path),
        opened,
        len(waiting),
        round(max(0.0, now - oldest), 1),
        tuple(gaps_in(path)),
    )


def _end_of(known: Known) -> float | None:
    """Return when a record has ended, in seconds since 1970; ``None`` while it is open."""
    said = known.ended or known.begun
    if "status" not in said:
        return None
    return float(known.begun.get("t", 0.0)) + float(said.get("ms", 0)) / 1000


def _records_lost(text: str) -> int:
    try:
        return int(json.loads(text)["outcome"]["metrics"][RECORDS_LOST])
    except (LookupError, RecursionError, TypeError, ValueError):
        return 0


def _is_cut_off(text: str) -> bool:
    """Tell what a capsule says of itself from what a user or a model may have said in it."""
    try:
        return bool(json.loads(text)["outcome"]["error"] == CUT_OFF)
    except (LookupError, RecursionError, TypeError, ValueError):
        return False
