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

from ..chain import open_chain
from ..errors import CapsuleSDKError
from ..journal.leftovers import Known, Leftover, leftovers
from ..journal.location import journal_root
from ..logs import report, tell
from ..records.capsules import capsule_of, loss
from ..records.record import Record
from ..records.state import restored
from ..records.task import Task
from .holding import Holding

__all__ = ["CUT_OFF", "Found", "journals_of", "recover", "recover_store"]

#: The error of a record whose process ended before it did.
CUT_OFF = "process ended before completion"
_GROUP = 512


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in the journals of processes that are no more.

    Attributes:
        journals: how many there were.
        capsules: capsules that were brought into the chain; some may have been there already.
        unfinished: of these, how many had not ended.
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


def recover_store(
    url: str | os.PathLike[str] | None = None, journals: str | os.PathLike[str] | None = None
) -> Found:
    """Recover what there is for one store, now; what the next process that records there would do.

    Args:
        url: the store, as in `capsule_sdk.configure`.
        journals: the directory of journals, where one was chosen.

    Raises:
        ConfigurationError: that is no store.
        ChainUnavailable: there is something to recover, and the store does not take it.

    """
    chain = open_chain(None, url)
    trouble: list[Exception] = []

    def deliver(capsules: Sequence[Capsule]) -> bool:
        try:
            chain.append(capsules)
        except CapsuleSDKError as error:
            trouble.append(error)
            return False
        return True

    try:
        found = recover(journals_of(chain.identity, journals), deliver)
    finally:
        chain.close()
    if trouble:
        raise trouble[0]
    return found


def recover(root: Path, deliver: Callable[[Sequence[Capsule]], bool]) -> Found:
    """Bring what processes that are no more have left in ``root`` into the chain, and remove it.

    Args:
        root: the directory of the chain's journals.
        deliver: commits capsules, and leaves out those that are in the chain; false if that is not
            possible now.

    Returns:
        What was found; ``left`` counts what is still there.

    """
    total = Found()
    try:
        for leftover in leftovers(root):
            if isinstance(leftover, OSError):
                report("recovery", leftover)
                total += Found(left=1)
            else:
                total += _recover(leftover, deliver)
    except OSError as error:
        report("recovery", error)
        total += Found(left=1)
    return total


def _recover(leftover: Leftover, deliver: Callable[[Sequence[Capsule]], bool]) -> Found:
    name = leftover.home.path.name
    try:
        waiting = _deliver((Capsule.from_dict(one) for one in leftover.capsules()), deliver)
        restoration = _Restoration(leftover.records())
        restoration.run()
        made = waiting if waiting is None else _deliver(restoration.capsules(), deliver)
        if waiting is None or made is None:
            return Found(left=1)
        damages = [damage for _, damage in leftover.damages]
        torn = sum(damage.torn for damage in damages)
        found = Found(
            journals=1,
            capsules=waiting + made,
            unfinished=restoration.unfinished,
            damaged=len(damages) - torn + restoration.damaged,
            torn=torn,
        )
        for path, damage in leftover.damages:
            if not damage.torn:
                tell(
                    "error",
                    "a journal is damaged; the rest of it was read",
                    file=str(path),
                    offset=damage.offset,
                    reason=damage.reason,
                )
        if found.damaged:
            leftover.home.set_aside()
        else:
            leftover.home.remove()
    except Exception as error:  # noqa: BLE001 - one journal must not keep the others from being recovered
        report("recovery", error, journal=name)
        return Found(left=1)
    if found.capsules:
        tell(
            "warning",
            "recovered",
            journal=name,
            capsules=found.capsules,
            unfinished=found.unfinished,
            damaged=found.damaged,
        )
    return found


def _deliver(
    capsules: Iterable[Capsule], deliver: Callable[[Sequence[Capsule]], bool]
) -> int | None:
    """Deliver in groups; return how many, or ``None`` where that is not possible now."""
    rest, count = iter(capsules), 0
    while group := list(islice(rest, _GROUP)):
        if not deliver(group):
            return None
        count += len(group)
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
