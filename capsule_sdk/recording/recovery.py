"""Recovery: brings what a process left behind into the chain.

- What had ended is sealed as it is; what had not becomes a failure that says so. Children go before the
  task they hang under, and its sums and its commitment are made as the process itself would have made them.
- Nothing is removed before all of it is in the chain. Ids make it the same to do this twice, or by halves.
- A journal is recovered by whoever holds its lock, so by one process at a time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from qp_capsule import Capsule

from ..directories import UnsafeError
from ..journal.leftovers import Known, Leftover, leftovers
from ..journal.unwritten import Unwritten, left_in
from ..logs import errors, report, tell, tell_once
from ..records.capsules import capsule_or_stand_in, loss, missed
from ..records.record import Record
from ..records.state import restored
from ..records.task import Task
from ..vocabulary import CUT_OFF, END_LOST, NOT_TAKEN, RECORDS_LOST
from .holding import Holding
from .whereabouts import elsewhere_of, instead_of, labels_of

__all__ = ["Found", "capsule_again", "recover"]

#: Commits capsules, and returns how many were not in the chain yet; ``None`` if that is not possible now.
Deliver = Callable[[Sequence[Capsule]], int | None]

_GROUP = 512
_DAMAGED = "what the journal said of it is damaged, or of another version"
_SAID = "a process that is no more has lost records; capsules in the chain say so now"


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in the journals of processes that are no more.

    Attributes:
        journals: how many there were.
        capsules: capsules that were brought into the chain.
        unfinished: records that had not ended.
        lost: records that neither the store nor the disk took; capsules that say so were brought in.
        ends_lost: records of which the disk took how they began, and not how they ended.
        damaged: places that could not be read, but for those that are to be expected.
        torn: those: torn ends, and what a full disk has cut.
        left: journals that could not be brought into the chain now.
        refused: journals, and directories of them, that somebody else may have laid; they stay as they are.

    """

    journals: int = 0
    capsules: int = 0
    unfinished: int = 0
    lost: int = 0
    ends_lost: int = 0
    damaged: int = 0
    torn: int = 0
    left: int = 0
    refused: int = 0

    def __add__(self, other: Found) -> Found:
        names = [field.name for field in fields(self)]
        return Found(**{name: getattr(self, name) + getattr(other, name) for name in names})


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
        places, labels = elsewhere_of(root), labels_of(root)
        noted = [
            one
            for file in left_in(places, *labels)
            if isinstance(file, Unwritten)
            for one in file.entries()
        ]
        for place in (root, *instead_of(root)):
            total += _recover_all(place, noted, deliver)
        if not total.left:  # or it stands in a journal of which more is known
            for file in left_in(places, *labels):
                total += _unread(file) if isinstance(file, OSError) else _count(file, deliver)
    except OSError as error:
        report("recovery", error)
        total += Found(left=1)
    return total


def _recover_all(root: Path, noted: Sequence[Mapping[str, Any]], deliver: Deliver) -> Found:
    total = Found()
    try:
        for leftover in leftovers(root):
            if isinstance(leftover, OSError):
                total += _unread(leftover)
            else:
                total += _recover(leftover, noted, deliver)
    except OSError as error:
        total += _unread(error)
    return total


def _unread(error: OSError) -> Found:
    if isinstance(error, UnsafeError):
        event = "journals are not believed, neither sealed nor removed: they may be somebody else's"
        tell_once("error", event, reason=str(error))
        return Found(refused=1)
    errors["recovery"] += 1
    tell_once("error", "a journal cannot be opened", error=str(error))
    return Found(left=1)


def _count(file: Unwritten, deliver: Deliver) -> Found:
    """Say in the chain what was lost where no journal could be written, and remove the file that says it."""
    try:
        restoration = _Restoration({}, file.entries())
        restoration.run()
        lost = _deliver_losses(restoration.lost, deliver)
        if lost is None:
            return Found(left=1)
        file.remove()
    except Exception as error:  # noqa: BLE001 - as below
        report("recovery", error, file=file.path.name)
        return Found(left=1)
    if lost:
        tell("error", _SAID, lost=lost)
    return Found(lost=lost, damaged=restoration.damaged)


def _recover(leftover: Leftover, noted: Sequence[Mapping[str, Any]], deliver: Deliver) -> Found:
    try:
        waiting = _deliver(map(capsule_again, leftover.capsules()), deliver)
        if waiting is None:
            return Found(left=1)
        known = leftover.records()
        unwritten = leftover.unwritten()
        restoration = _Restoration(known, [*unwritten, *_concerning({*known}, noted)])
        restoration.run()
        lost = _deliver_losses(restoration.lost, deliver)
        made = None if lost is None else _deliver(restoration.capsules(), deliver)
        if lost is None or made is None:
            return Found(left=1)
        found = Found(
            journals=1,
            capsules=waiting + made,
            unfinished=restoration.unfinished,
            lost=lost,
            ends_lost=restoration.ends_lost,
            damaged=len(leftover.damages) + restoration.damaged,
            torn=leftover.torn,
        )
        name = leftover.home.path.name
        try:
            if found.damaged:
                leftover.home.set_aside()
            else:
                leftover.home.remove()
        except OSError as error:
            errors["recovery"] += 1
            event = "a journal is in the chain, and cannot be removed: it will be looked at again"
            tell("error", event, journal=name, error=f"{type(error).__name__}: {error}")
            return replace(found, left=1)
        _tell(name, leftover, found)
    except Exception as error:  # noqa: BLE001 - one journal must not keep the others from being recovered
        report("recovery", error, journal=leftover.home.path.name)
        return Found(left=1)
    return found


def _concerning(keys: set[str], noted: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Yield what was noted elsewhere of these records, and of what hangs under them."""
    rest = [one for one in noted if "count" not in one]
    while found := [one for one in rest if {str(one.get("id")), str(one.get("parent"))} & keys]:
        yield from found
        keys |= {str(one.get("id")) for one in found}
        rest = [one for one in rest if one not in found]


def _tell(name: str, leftover: Leftover, found: Found) -> None:
    for path, damage in leftover.damages:
        event = "a journal is damaged; the rest of it was read, and it is kept"
        place = {"file": path.name, "offset": damage.offset, "reason": damage.reason}
        tell("error", event, journal=name, **place)
    if found.capsules:
        figures = {"capsules": found.capsules, "unfinished": found.unfinished}
        tell("warning", "recovered", journal=name, **figures)
    if found.lost or found.ends_lost:
        figures = {"lost": found.lost, "only_begun": found.ends_lost}
        tell("error", _SAID, journal=name, **figures)


def _deliver(capsules: Iterable[Capsule], deliver: Deliver) -> int | None:
    """Deliver in groups; return how many were added, or ``None`` where that is not possible now."""
    rest, count = iter(capsules), 0
    while group := list(islice(rest, _GROUP)):
        added = deliver(group)
        if added is None:
            return None
        count += added
    return count


def _deliver_losses(losses: Iterable[Capsule], deliver: Deliver) -> int | None:
    """Deliver capsules that say that something is lost; return how many records those say that were added."""
    by_count: defaultdict[int, list[Capsule]] = defaultdict(list)
    for capsule in losses:
        by_count[capsule.outcome.metrics[RECORDS_LOST]].append(capsule)
    lost = 0
    for count, capsules in by_count.items():
        added = _deliver(capsules, deliver)
        if added is None:
            return None
        lost += count * added
    return lost


def capsule_again(document: dict[str, Any]) -> Capsule:
    """Return a capsule that has waited on disk; a stand-in for it where another version has left it there."""
    try:
        return Capsule.from_dict(document)
    except Exception as error:  # noqa: BLE001 - it must not hold up the others
        report("recovery.capsule", error)
        reason = f"it waited on disk, and cannot be read: {type(error).__name__}: {error}"
        return loss(1, reason, _key_of(document))


class _Restoration:
    """The records of one process, as they were when it ended, brought to their end."""

    def __init__(
        self, known: Mapping[str, Known], unwritten: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        self.unfinished = self.ends_lost = self.damaged = 0
        #: Capsules for what is lost.
        self.lost: list[Capsule] = []
        self._known = known
        self._unwritten = {str(one.get("id")): one for one in unwritten}
        self._records: dict[str, Record] = {}
        self._in_order: list[Record] = []

    def run(self) -> None:
        """Restore, link and end all of them, in the order of the chain."""
        for key, known in self._known.items():
            try:
                self._records[key] = _restored(key, known)
            except Exception as error:  # noqa: BLE001 - whatever it is, it must not hold up the others
                begun = {**known.begun, **self._unwritten.get(key, {}), "id": key}
                if not known.begun and key in self._unwritten:  # the disk took what came later only
                    self._lose(begun, NOT_TAKEN)
                    continue
                self.damaged += 1
                self._lose(begun, f"{_DAMAGED}: {type(error).__name__}: {error}")
        for key, document in self._unwritten.items():
            if key not in self._known:
                self._lose(document, NOT_TAKEN)
        children = self._link()
        placed = [record for record in self._records.values() if record.placed]
        waiting = [record for record in self._records.values() if not record.placed]
        ended = [record for record in waiting if record.closed]
        cut_off = [record for record in waiting if not record.closed]
        holding = Holding(inf)
        for record in sorted(ended, key=lambda one: self._known[one.id.hex].ended_at):
            holding.add(record, 0.0)
        for record in sorted(cut_off, key=_depth, reverse=True):
            if self._unwritten.get(record.id.hex, {}).get("ended"):
                record.status, record.error, record.ended = "partial", END_LOST, "lost"
                self.ends_lost += 1
            else:
                record.status, record.error = "failure", CUT_OFF
            record.closed = True
            holding.add(record, 0.0)
        self._in_order = self._children_first(placed) + holding.line
        self.unfinished = len(cut_off) - self.ends_lost
        open_children = Counter(record.parent for record in cut_off)
        for task, ids in children.items():
            task.commit_to(ids, open_children[task])

    def capsules(self) -> Iterable[Capsule]:
        """Yield the capsules, children before the task they hang under; a stand-in where none can be made."""
        for record in self._in_order:
            yield capsule_or_stand_in(record)[0]

    def _lose(self, document: Mapping[str, Any], reason: str) -> None:
        try:
            self.lost.append(missed(document, reason))
        except Exception:  # noqa: BLE001 - its names are not to be had, but it was there
            self.lost.append(loss(1, reason, _key_of(document)))

    def _children_first(self, records: Sequence[Record]) -> list[Record]:
        """Order by their ends, none before one under it: the journal says nothing of what a task waited for."""
        last: dict[Record | None, int] = {}
        for record in sorted(records, key=_depth, reverse=True):
            last[record] = max(last.get(record, 0), self._known[record.id.hex].ended_at)
            last[record.parent] = max(last.get(record.parent, 0), last[record])
        return sorted(records, key=lambda one: (last[one], -_depth(one)))

    def _link(self) -> dict[Task, set[UUID]]:
        """Hang records under their tasks; return all children of each task that is not placed yet."""
        self._refuse_circles()
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
        for capsule in self.lost:
            parent = None if capsule.parent_id is None else self._records.get(capsule.parent_id.hex)
            if isinstance(parent, Task) and parent in children:
                children[parent].add(capsule.id)
        return children

    def _refuse_circles(self) -> None:
        """Give up what is said to hang under itself: it would wait for its own end for ever."""
        for key in list(self._records):
            seen: set[str] = set()
            above: str | None = key
            while above in self._records and above not in seen:
                seen.add(above)
                above = self._known[above].begun.get("parent")
            if above == key:
                self.damaged += 1
                document = {"id": key, **_tenant_of(self._records.pop(key))}
                self._lose(document, f"{_DAMAGED}: it hangs under itself")


def _restored(key: str, known: Known) -> Record:
    """Return a record of which so much is known that all that is done with it here can be done.

    Raises:
        LookupError, TypeError, ValueError: that is not so.

    """
    record = restored(known.begun, known.notes, known.ended)
    if record.id.hex != key:
        raise ValueError(f"{key!r} is not an id as it is written")
    if not isinstance(known.begun.get("above"), str | None):
        raise TypeError("its place is not an id")
    if isinstance(record, Task) and type(record.open_children) is not int:
        raise TypeError("its children are not a number")
    return record


def _tenant_of(record: Record) -> dict[str, str]:
    tenant = record.attribution.tenant_id
    return {"tenant": tenant} if isinstance(tenant, str) else {}


def _key_of(document: Mapping[str, Any]) -> UUID:
    """Return the id of what cannot be read; where it has none, always the same one for the same document."""
    try:
        return UUID(str(document["id"]))
    except (LookupError, ValueError):
        return uuid5(NAMESPACE_OID, f"capsule_sdk {sorted(document.items(), key=str)!r}")


def _gone(above: Task) -> Task:
    """Return what stands for a task that is in the chain already, between a record and ``above``."""
    task = Task(
        "", parent=above, attribution=above.attribution, capsule_type="agent", policy=above.policy
    )
    task.placed = True
    return task


def _depth(record: Record) -> int:
    seen, above = set(), record.parent
    while above is not None and above not in seen:
        seen.add(above)
        above = above.parent
    return len(seen)
