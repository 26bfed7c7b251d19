"""Line: the records that have ended, in the order of the chain; in memory first, on disk beyond a bound.

    inbox ──► holding ──► line ─────────► under way ──► store
                            └► backlog ──────┘

Invariants:

- A record is in `pending` from its end until its capsule is durable or lies in the backlog. What arrives
  twice is placed once.
- The line is bounded. When it outgrows that, all of it goes to the end of the backlog, which is older than
  the line and goes first: so the order holds, and memory stays flat however long the store is away.
- Taking in waits for no store; a caller does it where the writer falls behind.
- Only where the disk takes no more either are records lost: counted, logged, and said in a capsule of their
  own.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING
from uuid import uuid4

from ..clocks import monotonic
from ..interrupts import NotHad, held
from ..journal.backlog import Backlog
from ..logs import errors, tell
from ..records.record import Record
from ..threads import Empty, RLock, SimpleQueue
from .holding import Holding
from .safekeeping import Safekeeping
from .telling import REMINDER

if TYPE_CHECKING:
    from .outbox import Outbox, Parcel

__all__ = ["Line"]

#: The most capsules, and about the most bytes of them, that are committed at once.
GROUP, GROUP_SIZE = 512, 8 << 20
#: The most records, and about the most bytes of them, that wait in memory.
LENGTH, SIZE = 4096, 16 << 20
#: How many times that may wait where the disk takes no more; what comes then is lost.
LAST_RESORT = 4
#: How often, once a second, a file of the backlog that cannot be read is tried again.
PATIENCE = 60


class Line:
    """What has been begun and has ended, until it is durable."""

    def __init__(self, patience: float, safekeeping: Safekeeping) -> None:
        self._safekeeping = safekeeping
        #: Makes capsules of records; set before the first has ended.
        self.outbox: Outbox | None = None
        #: Whose end has not been taken in yet.
        self.begun: dict[Record, None] = {}
        #: Since when a record has ended; until it is durable, or in the backlog.
        self.pending: dict[Record, float] = {}
        self.backlog = Backlog()
        #: How many have been written to the backlog so far, and wait in memory no more.
        self.written = 0
        #: What is on its way to the store; it stays so until it is there.
        self.under_way: list[Parcel] = []
        #: How many records were lost, and of these, how many no capsule speaks of yet, and that one's id.
        self.lost = self._unsaid = self._lost_before = self._damaged = self._despairs = 0
        self._loss = uuid4()
        self.lock = RLock()
        self._taking_in = False
        self._holding = Holding(patience)
        self._inbox: SimpleQueue[Record | None] = SimpleQueue()
        self._arrived: deque[Record] = deque()
        self._next_reminder = 0.0

    def __len__(self) -> int:
        """Return how many have ended and are not durable."""
        return len(self.pending) + self.written - self.backlog.done

    # -- any thread -------------------------------------------------------------------------------

    def put(self, record: Record) -> None:
        """Hand over a record that has ended. Takes no lock: a finalizer may do it inside any line."""
        self.pending.setdefault(record, monotonic())
        self._inbox.put(record)
        record.handed_over = True

    def wake(self) -> None:
        """Have `wait` return now."""
        self._inbox.put(None)

    def wait(self, timeout: float | None) -> None:
        """Wait for something to take in, or for `wake`."""
        with suppress(Empty):
            record = self._inbox.get(timeout=timeout)
            if record is not None:
                self._arrived.append(record)

    def is_long(self) -> bool:
        """Tell whether there is a group of them to take in."""
        return self._inbox.qsize() >= GROUP

    def is_full(self) -> bool:
        """Tell whether more has come than the writer takes in."""
        return self._inbox.qsize() > LENGTH

    def is_short(self) -> bool:
        """Tell whether there is less than a group of them."""
        waiting = self._inbox.qsize() + len(self._holding.line)
        return waiting < GROUP and not self.backlog and not self.under_way

    def holds(self, record: Record) -> bool:
        """Tell whether a record that has ended is not durable yet."""
        return record in self.pending or record.backlog_place > self.backlog.done

    def take_in(self, patience: float = inf) -> None:
        """Bring what has ended into line, and what is beyond the bound to disk."""
        with suppress(NotHad), held(self.lock, patience):
            if self._taking_in:  # this is a finalizer, inside a line of this very method
                return
            self._taking_in = True
            try:
                self._receive()
                self._holding.release(monotonic())
                self._bound()
            finally:
                self._taking_in = False

    # -- the thread that delivers -----------------------------------------------------------------

    def next_release(self) -> float | None:
        """Return when the next ended task is to be placed, come what may."""
        with self.lock:
            return self._holding.next_release()

    def is_empty(self) -> bool:
        """Tell whether nothing can be delivered."""
        return not (self.under_way or self.backlog or self._holding.line or self._unsaid)

    def next_group(self) -> list[Parcel]:
        """Return what is under way; if nothing is, the next of the line are from here on.

        Raises:
            OSError: the backlog cannot be read.

        """
        outbox = self.outbox
        if self.under_way or outbox is None:
            return self.under_way
        with self.lock:
            backlog, line = self.backlog, self._holding.line
            if backlog.read < backlog.added:
                documents = backlog.take(GROUP, GROUP_SIZE)
                self.under_way = [outbox.unpacked(document) for document in documents]
                self._count_damage()
            elif line:
                count = size = 0
                while count < min(len(line), GROUP) and size < GROUP_SIZE:
                    size += line[count].weight
                    count += 1
                self.under_way = [outbox.packed(record) for record in line[:count]]
                self._holding.remove(count)
            if self._unsaid:  # under an id of its own, so that a number is never in the chain twice
                self.under_way.append(outbox.loss(self._unsaid, self._loss))
                self._unsaid, self._loss = 0, uuid4()
            return self.under_way

    def despair(self, error: OSError) -> None:
        """Say that the backlog cannot be read; give up a file of it that could not be for too long."""
        self._despairs += 1
        if self._despairs == 1:
            errors["recorder.backlog"] += 1
            tell(
                "error", "what waits for the store cannot be read back from disk", error=str(error)
            )
        if self._despairs > PATIENCE:
            self._despairs = 0
            with self.lock:
                self.backlog.skip()
                self._count_damage()

    def tend_backlog(self) -> None:
        """Write anew what waits on disk where somebody has removed it. Cheap where nothing waits."""
        home = self._safekeeping.home
        if self.backlog and home is not None:
            with suppress(OSError):  # it can still be read by this process, and is tried again
                self.backlog.move(home)

    def settle(self) -> tuple[int, float | None]:
        """Note that what is under way is durable; return how many, and the seconds the last one took."""
        now, lag = monotonic(), None
        with self.lock:
            parcels, self.under_way = self.under_way, []
            for parcel in parcels:
                if parcel.record is not None:
                    lag = now - self.pending.pop(parcel.record, now)
                    parcel.record.release()
                    if not parcel.dropped:
                        self._note_durable(parcel.record)
                elif parcel.lost and not parcel.dropped:
                    self._safekeeping.done_with(parcel.capsule.id.hex)
            self.backlog.settle(sum(parcel.from_backlog for parcel in parcels))
        self.count_lost(sum(parcel.dropped and not parcel.lost for parcel in parcels))
        return sum(not (parcel.dropped or parcel.lost) for parcel in parcels), lag

    def count_lost(self, count: int) -> None:
        """Count records that are lost; a capsule will say how many."""
        if count:
            with self.lock:
                self.lost += count
                self._unsaid += count
                self._safekeeping.hold(self._loss.hex, self._unsaid)

    # -- under the lock ---------------------------------------------------------------------------

    def _receive(self) -> None:
        while True:
            while self._arrived:
                record = self._arrived.popleft()
                self._safekeeping.ended(record)  # where a finalizer had no time for it
                if self.begun.pop(record, self) is None:
                    self._holding.add(record, self.pending[record])
                elif record not in self._holding and not self._is_under_way(record):
                    self.pending.pop(record, None)  # a second time, after it was committed
            try:
                record_or_call = self._inbox.get_nowait()
            except Empty:
                return
            if record_or_call is not None:
                self._arrived.append(record_or_call)

    def _is_under_way(self, record: Record) -> bool:
        return any(parcel.record is record for parcel in self.under_way)

    def _bound(self) -> None:
        if len(self._holding.line) > LENGTH or self._holding.weight > SIZE:
            try:
                self._write_out()
            except Exception as error:  # noqa: BLE001 - the disk may fail in any way; memory has some room left
                length, weight = len(self._holding.line), self._holding.weight
                if length > LAST_RESORT * LENGTH or weight > LAST_RESORT * SIZE:
                    self._lose(error)
                self._complain(error)

    def _write_out(self) -> None:
        home, outbox, line = self._safekeeping.home, self.outbox, self._holding.line
        if home is None or outbox is None:
            raise OSError("there is no journal to write to")
        added, records = self.backlog.added, list(line)
        try:
            self.backlog.add(home, map(outbox.document, records), outbox.instead)
        finally:
            written = self.backlog.added - added
            self._holding.remove(written)
            for place, record in enumerate(records[:written], added + 1):
                record.backlog_place = place
                self.written = place
                self.pending.pop(record, None)
                self._note_durable(record)
                record.release()

    def _note_durable(self, record: Record) -> None:
        above = record.parent
        lives = above is not None and (above in self.begun or above in self.pending)
        self._safekeeping.durable(record, above_lives=lives)

    def _lose(self, error: Exception) -> None:
        """Let go of the newest half of the line."""
        line = self._holding.line
        kept = len(line) // 2
        for record in line[kept:]:
            record.lost = f"neither the store nor the disk took it: {error}"
            self.pending.pop(record, None)
            self._safekeeping.done_with(record.id.hex)  # it counts among the number from here on
        lost = len(line) - kept
        self._holding.remove_last(lost)
        self.count_lost(lost)

    def _count_damage(self) -> None:
        """Count what has rotted on disk while it waited."""
        new = self.backlog.damaged - self._damaged
        if new:
            self._damaged += new
            self.count_lost(new)
            tell("error", "records are lost: what waited on disk cannot be read back", records=new)

    def _complain(self, error: Exception) -> None:
        now = monotonic()
        if now >= self._next_reminder or (self.lost and not self._lost_before):
            self._next_reminder, self._lost_before = now + REMINDER, self.lost
            errors["recorder.backlog"] += 1
            tell(
                "error",
                "records are lost: neither the store nor the disk takes them"
                if self.lost
                else "the store is away, and what waits for it cannot be written to disk",
                error=f"{type(error).__name__}: {error}",
                waiting=len(self._holding.line),
                lost=self.lost,
            )
