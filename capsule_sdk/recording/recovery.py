"""Recovery: brings what a process left behind into the chain.

- What had ended is sealed as it is; what had not becomes a failure that says so. Children go before the
  task they hang under, and its sums and its commitment are made as the process itself would have made them.
- Nothing is removed before all of it is in the chain. Ids make it the same to do this twice, or by halves.
- A journal is recovered by whoever holds its lock, so by one process at a time.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import islice
from math import inf
from pathlib import Path
from uuid import UUID

from qp_capsule import Capsule
from qp_capsule.paths import default_db_path

from ..journal.leftovers import Known, Leftover, leftovers
from ..journal.location import journal_root
from ..logs import errors, report, tell
from ..records.capsules import capsule_of, loss
from ..records.record import Record
from ..records.state import restored
from ..records.task import Task
from ..vocabulary import CUT_OFF
from .holding import Holding

__all__ = ["Found", "journals_of", "recover"]

#: Commits capsules, and returns how many were not in the chain yet; ``None`` if that is not possible now.
Deliver = Callable[[Sequence[Capsule]], int | None]

_GROUP = 512


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in the journals of processes that are no more.

    Attributes:
        journals: how many there were.
        capsules: capsules that were brought into the chain.
        unfinished: records that had not ended.
        damaged: places that could not be read, but for the torn ends that are to be expected.
        torn: those ends.
        left: journals that could not be brought into the chain now.

    """

    journals: int = 0
    capsules: int = 0
    unfinished: int = 0
    damaged: int = 0
    torn: int = 0
    left: int = 0

    def __add__(self, other: Found) -> Found:
        names = [field.name for field in fields(self)]
        return Found(**{name: getattr(self, name) + getattr(other, name) for name in names})


def journals_of(identity: str, chosen: str | os.PathLike[str] | None = None) -> Path:
    """Return the directory of the journals of one chain; ``chosen`` is where the user wants those of all."""
    default = default_db_path().parent
    return journal_root(identity, default, None if chosen is None else Path(chosen))


def recover(root: Path, deliver: Deliver) -> Found:
    """Bring what processes that are no more have left in ``root`` into the chain, and remove it.

    Args:
        root: the directory of the chain's journals.
        deliver: commits capsules, and leaves out those that are in the chain.

    Returns:
        What was found; ``left`` counts what is still there.

    """
    total = Found()
    try:
        for leftover in leftovers(root):
            if isinstance(leftover, OSError):
                errors["recovery"] += 1
                tell("error", "a journal cannot be opened", error=str(leftover))
                total += Found(left=1)
            else:
                total += _recover(leftover, deliver)
    except OSError as error:
        report("recovery", error)
        total += Found(left=1)
    return total


def _recover(leftover: Leftover, deliver: Deliver) -> Found:
    try:
        waiting = _deliver((Capsule.from_dict(one) for one in leftover.capsules()), deliver)
        if waiting is None:
            return Found(left=1)
        restoration = _Restoration(leftover.records())
        restoration.run()
        made = _deliver(restoration.capsules(), deliver)
        if made is None:
            return Found(left=1)
        torn = sum(damage.torn for _, damage in leftover.damages)
        found = Found(
            journals=1,
            capsules=waiting + made,
            unfinished=restoration.unfinished,
            damaged=len(leftover.damages) - torn + restoration.damaged,
            torn=torn,
        )
        _tell(leftover, found)
        if found.damaged:
            leftover.home.set_aside()
        else:
            leftover.home.remove()
    except Exception as error:  # noqa: BLE001 - one journal must not keep the others from being recovered
        report("recovery", error, journal=leftover.home.path.name)
        return Found(left=1)
    return found


def _tell(leftover: Leftover, found: Found) -> None:
    for path, damage in leftover.damages:
        if not damage.torn:
            event = "a journal is damaged; the rest of it was read, and it is kept"
            place = {"file": path.name, "offset": damage.offset, "reason": damage.reason}
            tell("error", event, journal=leftover.home.path.name, **place)
    if found.capsules:
        figures = {"capsules": found.capsules, "unfinished": found.unfinished}
        tell("warning", "recovered", journal=leftover.home.path.name, **figures)


def _deliver(capsules: Iterable[Capsule], deliver: Deliver) -> int | None:
    """Deliver in groups; return how many were added, or ``None`` where that is not possible now."""
    rest, count = iter(capsules), 0
    while group := list(islice(rest, _GROUP)):
        added = deliver(group)
        if added is None:
            return None
        count += added
    return count


class _Restoration:
    """The records of one process, as they were when it ended, brought to their end."""

    def __init__(self, known: Mapping[str, Known]) -> None:
        self.unfinished = self.damaged = 0
        self._known = known
        self._records: dict[str, Record] = {}
        self._unreadable: list[str] = []
        self._in_order: list[Record] = []

    def run(self) -> None:
        """Restore, link and end all of them, in the order of the chain."""
        for key, known in self._known.items():
            try:
                self._records[key] = restored(known.begun, known.notes, known.ended)
            except (LookupError, TypeError, ValueError):
                self.damaged += 1
                self._unreadable.append(key)
        children = self._link()
        placed = [record for record in self._records.values() if record.placed]
        waiting = [record for record in self._records.values() if not record.placed]
        ended = [record for record in waiting if record.closed]
        cut_off = [record for record in waiting if not record.closed]
        holding = Holding(inf)
        for record in sorted(ended, key=lambda one: self._known[one.id.hex].ended_at):
            holding.add(record, 0.0)
        for record in sorted(cut_off, key=_depth, reverse=True):
            record.closed, record.status, record.error = True, "failure", CUT_OFF
            holding.add(record, 0.0)
        self._in_order = placed + holding.line
        self.unfinished = len(cut_off)
        open_children = Counter(record.parent for record in cut_off)
        for task, ids in children.items():
            task.commit_to(ids, open_children[task])

    def capsules(self) -> Iterable[Capsule]:
        """Yield the capsules, children before the task they hang under."""
        for key in self._unreadable:
            capsule = loss(1, "what the journal said of it is damaged")
            try:
                capsule.id = UUID(hex=key)
            except ValueError:
                continue
            yield capsule
        for record in self._in_order:
            yield capsule_of(record)

    def _link(self) -> dict[Task, set[UUID]]:
        """Hang records under their tasks; return all children of each task that is not placed yet."""
        children = {
            record: set(record.children())
            for record in self._records.values()
            if isinstance(record, Task) and not record.placed
        }
        for key, record in self._records.items():
            begun = self._known[key].begun
            parent = self._records.get(begun.get("parent", "")) if record.counted else None
            above = self._records.get(begun.get("above") or "")
            if isinstance(parent, Task):
                record.parent = parent
                if parent in children:
                    children[parent].add(record.id)
                    parent.open_children += not record.placed
            elif isinstance(above, Task):
                record.parent = _gone(above)
        return children


def _gone(above: Task) -> Task:
    """Return what stands for a task that is in the chain already, between a record and ``above``."""
    task = Task(
        "", parent=above, attribution=above.attribution, capsule_type="agent", policy=above.policy
    )
    task.placed = True
    return task


def _depth(record: Record) -> int:
    depth, above = 0, record.parent
    while above is not None:
        depth, above = depth + 1, above.parent
    return depth
