"""Status: whether all that was recorded is in the chain, seen from outside. It changes nothing.

What processes that record at this moment have not committed yet stands in their journals; what processes that
are no more have left there waits for recovery. Both are compared with what the store holds. Whether the chain
itself is whole is not looked at here.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from ..chain.location import is_postgresql, sqlite_path
from ..chain.privacy import openness
from ..chain.reading import ChainLength, Glance
from ..directories import UnsafeError, open_directory
from ..errors import ChainUnavailable, EvidenceError
from ..journal.contents import gaps_in, homes, set_aside_in, size_of
from ..journal.files import is_alive
from ..journal.leftovers import Contents, Known
from ..journal.unwritten import left_in
from ..owners import looking_as
from ..vocabulary import CUT_OFF, END_LOST, RECORDS_LOST
from .showing.wording import counted

__all__ = ["JournalStatus", "Status", "status_of"]

#: Seconds that a record may wait for the chain before that is called trouble.
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """The journal of one process.

    Attributes:
        name: its directory, with all above it where it is not where it belongs; begins with when the process
            began to record (UTC) and the process's number.
        alive: whether that process lives; ``None`` where this user may not look.
        size: bytes.
        open: tasks and calls that have not ended.
        waiting: records that have ended and are not in the chain.
        lag: seconds that the oldest of these waits.
        gaps: what that process cannot record as it should, and what each costs.
        refused: whether it is not believed, because somebody else may have laid it; ``trouble`` says why.
        lost: records that neither the store nor the disk took, and that no capsule speaks of yet.
        trouble: why it cannot be read; ``None`` where it can.

    """

    name: str
    alive: bool | None
    size: int = 0
    open: int = 0
    waiting: int = 0
    lag: float = 0.0
    lost: int = 0
    trouble: str | None = None
    gaps: tuple[str, ...] = ()
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """How a store and its journals stand.

    Attributes:
        store: the store.
        reachable: whether it can be read. Where a store that is there cannot, all numbers of it are ``None``.
        capsules: how many it holds.
        last_sealed: when the last of them was sealed; ``None`` where there is none.
        chains: the chains in it: tenant, length and last hash of each. PostgreSQL has one a tenant.
        lost: records that could not be recorded, as capsules of type ``system`` say.
        ends_lost: records that are there, but not how they ended.
        cut_off: records whose process ended before they did.
        journals: those of living processes, and those that wait for recovery.
        damaged: journals that could not be read whole, and are kept.
        trouble: what is wrong, in sentences; empty where nothing waits for anybody.
        notes: who else can read or write the database, and what to type.

    """

    store: str
    reachable: bool
    capsules: int | None
    last_sealed: str | None
    chains: tuple[ChainLength, ...]
    lost: int | None
    ends_lost: int | None
    cut_off: int | None
    journals: tuple[JournalStatus, ...]
    damaged: tuple[str, ...]
    trouble: tuple[str, ...]
    notes: tuple[str, ...] = ()


def status_of(
    source: str | os.PathLike[str] | None,
    store: str,
    journals: Path,
    *,
    elsewhere: Sequence[Path] = (),
    instead: Callable[[], Sequence[Path]] = tuple,
    labels: Sequence[Path] = (),
) -> Status:
    """Look at a store and its journals.

    Args:
        source: a path, a ``sqlite:///`` or a ``postgresql://`` URL; ``None`` is qp-capsule's default.
        store: what to call it.
        journals: the directory of its journals.
        elsewhere: where else it may have been left what was lost.
        instead: gives where journals are that cannot lie in their directory.
        labels: what its journals go by elsewhere; ``journals`` unless given.

    Raises:
        EvidenceError: there is neither a database nor a journal, so it is not the place.

    """
    place = str(source) if is_postgresql(source) else sqlite_path(source)
    trouble: list[str] = []
    found: list[JournalStatus] = []
    chains: tuple[ChainLength, ...] = ()
    capsules: int | None = 0
    lost: int | None = 0
    ends_lost: int | None = 0
    cut_off: int | None = 0
    last_sealed = None
    missing = isinstance(place, Path) and not place.exists()
    glance = None if missing else Glance(place)
    reachable = not missing
    try:
        if glance is not None:
            capsules, last = glance.count()
            last_sealed = None if last is None else str(last)  # SQLite keeps whatever it is given
            chains = tuple(glance.chains())
            lost = sum(map(_records_lost, glance.containing(RECORDS_LOST, "system")))
            cut_off = sum(_error_is(CUT_OFF, text) for text in glance.containing(CUT_OFF))
            ends_lost = sum(_error_is(END_LOST, text) for text in glance.containing(END_LOST))
    except ChainUnavailable as error:
        trouble.append(f"the store cannot be read: {error}")
        reachable, chains, last_sealed = False, (), None
        capsules = lost = ends_lost = cut_off = None
    try:
        with looking_as(_whose(place)):
            roots = (journals, *instead())
            for root in roots:
                seen = glance if reachable else None
                found += _journals(root, seen, trouble, elsewhere=root is not journals)
            found += _left_elsewhere(elsewhere, labels or [journals], glance if reachable else None)
    finally:
        if glance is not None:
            glance.close()
    if missing and not (found or trouble):
        raise EvidenceError(
            f"there is no database at {place}, and nothing waits in a journal beside it: name the one that your"
            " program records to with --db, or set CAPSULE_SDK_URL or QUANTUMPIPES_DATA_DIR as it has them"
        )
    if missing:
        waits = any(one.open or one.waiting for one in found)
        what = (
            "what was recorded waits in the journals" if waits else "the journals say what is lost"
        )
        trouble.append(f"there is no database at {place}: {what}")
    damaged = tuple(str(path) for root in roots for path in set_aside_in(root))
    notes = openness(place) if isinstance(place, Path) else ()
    trouble += _troubles(found, damaged)
    return Status(
        store, reachable, capsules, last_sealed, chains, lost, ends_lost, cut_off,
        tuple(found), damaged, tuple(trouble), notes,
    )  # fmt: skip


def _whose(place: Path | str) -> int:
    """Return with whose eyes to look: root looks with those of the user whose database it is."""
    with suppress(OSError):
        if os.geteuid() == 0 and isinstance(place, Path):
            return place.stat().st_uid
    return os.geteuid()


def _troubles(journals: Iterable[JournalStatus], damaged: tuple[str, ...]) -> Iterator[str]:
    for journal in journals:
        if journal.trouble is not None:
            yield (
                journal.trouble
                if journal.refused
                else (
                    f"{journal.name} cannot be read, so nobody knows what waits in it: {journal.trouble};"
                    " look as the user whose process it is"
                )
            )
        elif journal.alive is False and journal.lost:
            yield (
                f"{journal.name}: {counted(journal.lost, 'record')} lost, which the chain does not say yet:"
                " capsuled recover"
            )
        elif journal.alive is False and (journal.open or journal.waiting):
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


def _journals(
    root: Path, glance: Glance | None, trouble: list[str], *, elsewhere: bool
) -> Iterator[JournalStatus]:
    """Look at those in one directory; add to ``trouble`` where that is not possible."""
    try:
        for path in homes(root):
            journal = _journal(path, glance, str(path) if elsewhere else path.name)
            if journal is not None:
                yield journal
    except UnsafeError as error:
        trouble.append(f"the journals in {root} are not believed: {error}")
    except OSError as error:
        trouble.append(f"the journals cannot be looked at: {error}; look as their owner")


def _journal(path: Path, glance: Glance | None, name: str) -> JournalStatus | None:
    """Look at one; ``None`` for what a dead process left with nothing in it that the chain has not."""
    try:
        alive, now = is_alive(path), time.time()
        directory = open_directory(path)
        try:
            contents = Contents(directory)
            opened, ended, lost = _counted(contents, glance, now)
            size, gaps = size_of(directory), tuple(gaps_in(directory))
        finally:
            directory.close()
    except (OSError, ValueError) as error:
        if not path.exists():  # its process has just removed it
            return JournalStatus(name, alive=True)
        if isinstance(error, UnsafeError):
            trouble = f"{name} is not believed: {error}"
            return JournalStatus(name, alive=None, trouble=trouble, refused=True)
        return JournalStatus(name, alive=None, trouble=f"{type(error).__name__}: {error}")
    waiting = set(ended) if glance is None else glance.missing(ended)
    oldest = min((ended[key] for key in waiting), default=now)
    lag = round(max(0.0, now - oldest), 1)
    if alive is False and not (opened or waiting or lost or contents.damages):
        return None
    return JournalStatus(name, alive, size, opened, len(waiting), lag, lost, gaps=gaps)


def _counted(
    contents: Contents, glance: Glance | None, now: float
) -> tuple[int, dict[str, float], int]:
    """Return how many records are open, when each other has ended, and how many are lost."""
    records, opened = contents.records(), 0
    ended: dict[str, float] = {}
    for key, known in records.items():
        end = _end_of(known)
        if end is None:
            opened += 1
        else:
            ended[str(UUID(hex=key))] = end
    for capsule in contents.capsules():
        ended.setdefault(str(capsule.get("id")), now)
    lost = _lost_of([one for one in contents.unwritten() if one.get("id") not in records], glance)
    return opened, ended, lost


def _left_elsewhere(
    directories: Sequence[Path], roots: Sequence[Path], glance: Glance | None
) -> Iterator[JournalStatus]:
    """Yield what is left, outside of the journals, by processes that are no more and could write none."""
    for file in left_in(directories, *roots):
        if isinstance(file, OSError):
            place = str(file.filename or roots[0])
            yield JournalStatus(place, None, trouble=f"{type(file).__name__}: {file}")
            continue
        with suppress(OSError):
            if lost := _lost_of(file.entries(), glance):
                yield JournalStatus(str(file.path), alive=False, lost=lost)


def _lost_of(entries: Iterable[Mapping[str, Any]], glance: Glance | None) -> int:
    """Return how many records these entries say are lost, but for those that the chain has or speaks of."""
    counts = {str(UUID(hex=str(one["id"]))): int(one.get("count", 1)) for one in entries}
    left = counts if glance is None else glance.missing(counts)
    return sum(counts[key] for key in left)


def _end_of(known: Known) -> float | None:
    """Return when a record has ended, in seconds since 1970; ``None`` while it is open."""
    said = known.ended or known.begun
    if "status" not in said:
        return None
    return float(known.begun.get("t", 0.0)) + float(said.get("ms", 0)) / 1000


def _records_lost(text: str) -> int:
    """Return how many records a capsule says are lost; none where that is no number of records."""
    try:
        count = json.loads(text)["outcome"]["metrics"][RECORDS_LOST]
    except (LookupError, RecursionError, TypeError, ValueError):
        return 0
    return count if type(count) is int and count > 0 else 0


def _error_is(error: str, text: str) -> bool:
    """Tell what a capsule says of itself from what a user or a model may have said in it."""
    try:
        return bool(json.loads(text)["outcome"]["error"] == error)
    except (LookupError, RecursionError, TypeError, ValueError):
        return False
