"""Families: which records belong to which tasks, and whether each task has the children that it names.

A child may stand before its task or after it, anywhere in the chain. So ids are kept aside until the end, in
a private temporary database that moves to disk as it grows: memory stays flat, and nothing is left behind.
"""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from .findings import Finding, Reason
from .record import Facts

__all__ = ["Families"]

_BATCH = 1_000
_CACHE_KIBIBYTES = 8_000
_TABLES = """
    CREATE TABLE records (id TEXT, parent TEXT, counted INTEGER, sequence INTEGER, position INTEGER);
    CREATE TABLE tasks (
        id TEXT, started INTEGER, ended INTEGER, digest TEXT, sequence INTEGER, position INTEGER
    );
"""
_INDEXES = """
    CREATE INDEX by_id ON records (id, position);
    CREATE INDEX by_parent ON records (parent, id) WHERE parent IS NOT NULL;
    CREATE INDEX tasks_by_id ON tasks (id, position);
"""
_REPEATED = """
    SELECT id, sequence, position FROM records AS record
    WHERE EXISTS (SELECT 1 FROM records WHERE id = record.id AND position < record.position)
    ORDER BY position
"""
_ORPHANS = """
    SELECT parent, min(position), id, sequence, count(*) FROM records AS record
    WHERE parent IS NOT NULL AND NOT EXISTS (SELECT 1 FROM records WHERE id = record.parent)
    GROUP BY parent ORDER BY min(position)
"""
_CHILDREN = """
    SELECT task.id, child.id, min(child.position)
    FROM (SELECT DISTINCT id FROM tasks) AS task
        LEFT JOIN records AS child ON child.parent = task.id AND child.counted
    GROUP BY task.id, child.id ORDER BY task.id, child.id
"""
_TASKS = (
    "SELECT started, ended, digest, sequence, position FROM tasks WHERE id = ? ORDER BY position"
)


class Families:
    """All ids of one chain, and what its tasks say of their children."""

    def __init__(self) -> None:
        # A file of its own, without a name.
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIBIBYTES}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")
        self._records: list[tuple[Any, ...]] = []
        self.tasks = 0

    def add(self, facts: Facts, position: int) -> None:
        """Take in one record."""
        if facts.id is None:
            return
        counted = facts.counted
        self._records.append((facts.id, facts.parent_id, counted, facts.sequence, position))
        if facts.children is not None:
            self.tasks += 1
            self._database.execute(
                "INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?)",
                (facts.id, *facts.children, facts.sequence, position),
            )
        if len(self._records) >= _BATCH:
            self._store()

    def complete(self) -> None:
        """End taking in."""
        self._store()
        self._database.executescript(_INDEXES)

    def repeated(self) -> Iterator[Finding]:
        """Yield the records whose id another one before them has."""
        for key, sequence, position in self._database.execute(_REPEATED):
            yield Finding(Reason.ID_REPEATED, sequence, key, position)

    def orphans(self) -> Iterator[Finding]:
        """Yield, for each task that is not there, the first record that belongs to it."""
        for parent, position, key, sequence, count in self._database.execute(_ORPHANS):
            more = f", and {count - 1} more belong to it" if count > 1 else ""
            yield Finding(Reason.PARENT_MISSING, sequence, key, position, f"task {parent}{more}")

    def children(self) -> Iterator[Finding]:
        """Yield the tasks whose children are not those that they name."""
        rows: Iterable[tuple[Any, ...]] = self._database.execute(_CHILDREN)
        for key, group in groupby(rows, itemgetter(0)):
            children = _Children.of((child, position) for _, child, position in group if child)
            # Copies of a task have the same children: each copy is compared, and they are read once.
            for *said, sequence, position in self._database.execute(_TASKS, [key]):
                started, ended, digest = said
                reason = children.compare(started, ended, digest, position)
                if reason is not None:
                    here = len(children.positions)
                    detail = f"it names {started}, of which {ended} had ended; {here} found"
                    yield Finding(reason, sequence, key, position, detail)

    def roots(self) -> list[str]:
        """Return the ids of the records whose task is not there, or who belong to none; 2 at most."""
        query = """
            SELECT id FROM records AS record
            WHERE parent IS NULL OR NOT EXISTS (SELECT 1 FROM records WHERE id = record.parent) LIMIT 2
        """
        return [key for (key,) in self._database.execute(query)]

    def close(self) -> None:
        """Drop the database."""
        self._database.close()

    def _store(self) -> None:
        self._database.executemany("INSERT INTO records VALUES (?, ?, ?, ?, ?)", self._records)
        self._records.clear()


class _Children(NamedTuple):
    """The children of a task that are here: what a task says of their ids, and where each stands, in order."""

    digest: str
    positions: Sequence[int]

    @classmethod
    def of(cls, found: Iterable[tuple[str, int]]) -> _Children:
        """Take in ids, in their order, and positions; memory does not hold the ids."""
        digest, positions = hashlib.sha3_256(), array("q")
        for child, position in found:
            digest.update(f"{child}\n".encode())
            positions.append(position)
        return cls(digest.hexdigest(), array("q", sorted(positions)))

    def compare(self, started: int, ended: int, digest: str, position: int) -> Reason | None:
        """Compare them with what their task says.

        Args:
            started: how many it names.
            ended: how many of these had ended when it was sealed; those stand before it.
            digest: what it says of their ids.
            position: where it stands.

        """
        missing = started - len(self.positions)
        if missing < 0:
            return Reason.CHILDREN_UNANNOUNCED
        if missing:
            all_ended_are_here = bisect_left(self.positions, position) >= ended
            return Reason.CHILDREN_OPEN if all_ended_are_here else Reason.CHILDREN_MISSING
        return None if self.digest == digest else Reason.CHILDREN_MISMATCH
