"""Holding: puts ended records in the order of the chain, children before the task they hang under.

Invariants: a record is placed once; a task is placed after all that was started under it, or ``patience``
seconds after its end, and from then on its sums and its commitment are final. Used by one thread at a time.
Pure: no clock, no I/O. What becomes of the line is not handled here (`capsule_sdk.recording.outbox`).
"""

from __future__ import annotations

from ..logs import report
from ..records.record import Record
from ..records.task import Task

__all__ = ["Holding", "pass_on_sums"]


class Holding:
    """The line of records whose capsules are complete, and the ended tasks that are not yet in it."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.line: list[Record] = []
        #: About the bytes of memory that the line takes.
        self.weight = 0
        self._held: dict[Task, float] = {}

    def __contains__(self, record: Record) -> bool:
        return record in self._held or record in self.line

    def add(self, record: Record, ended: float) -> None:
        """Take a record that ended at ``ended``: into the line, or back until its children have ended."""
        if isinstance(record, Task) and record.waits():
            self._held[record] = ended + self.patience
        else:
            self._place(record)

    def release(self, now: float) -> None:
        """Place the tasks that have been held back for long enough."""
        while (until := self.next_release()) is not None and until <= now:
            task = next(iter(self._held))
            del self._held[task]
            self._place(task)

    def remove(self, count: int) -> None:
        """Let the first of the line go."""
        self.weight -= sum(record.weight for record in self.line[:count])
        del self.line[:count]

    def remove_last(self, count: int) -> None:
        """Let the last of the line go."""
        self.weight -= sum(record.weight for record in self.line[-count:])
        del self.line[-count:]

    def next_release(self) -> float | None:
        """Return when the next task is to be placed, come what may; they are held in the order they ended."""
        return next(iter(self._held.values()), None)

    def _place(self, record: Record) -> None:
        """Put a complete record in line, and every task above it that was only waiting for it."""
        while True:
            self.line.append(record)
            self.weight += record.weight
            record.placed = True
            parent = record.parent
            if parent is None:
                return
            pass_on_sums(record, parent)
            if parent.placed or parent.child_ended() or self._held.pop(parent, None) is None:
                return
            record = parent


def pass_on_sums(record: Record, parent: Task | None) -> None:
    """Add what a record amounts to to the nearest task above whose capsule is not complete yet."""
    above = parent
    while above is not None and above.placed:
        above = above.parent
    if above is None:
        return
    try:
        above.subtree.add(record.totals())
    except Exception as error:  # noqa: BLE001 - sums that cannot be made must not cost a capsule
        report("holding.totals", error, capsule_id=str(record.id))
