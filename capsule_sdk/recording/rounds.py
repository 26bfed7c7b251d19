"""Rounds: the writer's work. Each takes what has ended, orders it, commits as much as the store takes.

Invariants: one round at a time, whichever thread makes it; a record is in `pending` from its end until its
capsule is durable; what arrives twice is placed once. No pause for the store happens inside a round, so that
nobody who waits for one to end (a fork, the end of the writer) waits for the store to come back.

Who makes the rounds, and when, is `capsule_sdk.recording.recorder`'s affair.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..records.record import Record
from .holding import Holding

if TYPE_CHECKING:
    from .outbox import Outbox

__all__ = ["Rounds"]

#: The most capsules that are committed at once.
GROUP = 512


class Rounds:
    """What has been begun and has ended, on its way to the outbox."""

    def __init__(self, settle_timeout: float) -> None:
        self._settle_timeout = settle_timeout
        self.outbox: Outbox | None = None
        self.committed = 0
        self.lag = 0.0
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all that belongs to the process this was forked from; counts go on from here."""
        #: Whose end has not arrived in a round yet.
        self.begun: dict[Record, None] = {}
        #: Since when a record has ended; until it is durable.
        self.pending: dict[Record, float] = {}
        self.lock = threading.RLock()
        self._under_way = False
        self._holding = Holding(self._settle_timeout)
        self._arrived: deque[Record] = deque()
        self._inbox: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._progress = threading.Condition()
        #: While the store is away: when to try it again, on the clock of `time.monotonic`.
        self._next_try = 0.0

    # -- any thread -------------------------------------------------------------------------------

    def put(self, record: Record) -> None:
        """Hand over a record that has ended. Takes no lock: a finalizer may do it inside any line."""
        self.pending.setdefault(record, time.monotonic())
        self._inbox.put(record)

    def wake(self) -> None:
        """Have the next round made now, and the store tried again."""
        self._inbox.put(None)

    def wait(self, done: Callable[[], bool], timeout: float) -> None:
        """Wait until rounds made by another thread have brought ``done`` about."""
        self.wake()
        with self._progress:
            self._progress.wait_for(done, _bounded(timeout))

    def figures(self) -> tuple[int, int]:
        """Return how many are committed and how many are pending, of the same moment."""
        with self._progress:
            return self.committed, len(self.pending)

    # -- the thread that makes the rounds ---------------------------------------------------------

    def work(self, timeout: float) -> None:
        """Make rounds in this thread until all that has ended is durable, ``timeout`` seconds at most."""
        deadline = time.monotonic() + _bounded(timeout)
        if not self.lock.acquire(timeout=_bounded(timeout)):
            return
        try:
            first = None
            # A finalizer may come here from inside a round of this very thread.
            while not self._under_way:
                self.make(first)
                if not self.pending or time.monotonic() >= deadline:
                    return
                first = self.gather(deadline)
        finally:
            self.lock.release()

    def gather(self, deadline: float | None = None) -> Record | None:
        """Wait for a record, for the next task to be placed, for the next try, or for ``deadline``."""
        with self.lock:
            next_try = self._next_try if self._holding.line else None
            moments = (deadline, next_try, self._holding.next_release())
        due = min((moment for moment in moments if moment is not None), default=None)
        try:
            return self._take(None if due is None else _bounded(due - time.monotonic()))
        except queue.Empty:
            return None

    def make(self, first: Record | None) -> None:
        """Make one round, of what `gather` gave and of what else has come."""
        with self.lock:
            self._under_way = True
            try:
                self._arrive(first)
                while self._arrived:
                    record = self._arrived.popleft()
                    if self.begun.pop(record, self) is None:
                        self._holding.add(record, self.pending[record])
                    elif record not in self._holding:  # a second time, after it was committed
                        self._done([record], 0)
                self._holding.release(time.monotonic())
                self._deliver()
            finally:
                self._under_way = False

    def close(self, patience: float) -> None:
        """Close the store once the round under way is over, if that is within ``patience`` seconds."""
        if self.outbox is not None and self.lock.acquire(timeout=patience):
            try:
                self.outbox.close()
            finally:
                self.lock.release()

    def _arrive(self, first: Record | None) -> None:
        if first is not None:
            self._arrived.append(first)
        while len(self._arrived) < GROUP:
            try:
                record = self._take(0.0)
            except queue.Empty:
                break
            if record is not None:
                self._arrived.append(record)

    def _take(self, timeout: float | None) -> Record | None:
        record = self._inbox.get(timeout=timeout)
        if record is None:  # somebody called `wake`
            self._next_try = 0.0
        return record

    def _deliver(self) -> None:
        outbox, line = self.outbox, self._holding.line
        while outbox is not None and line and time.monotonic() >= self._next_try:
            group = line[:GROUP]
            stored = outbox.deliver(group)
            if stored is None:
                self._next_try = time.monotonic() + outbox.pause
                return
            del line[: len(group)]
            self._done(group, stored)

    def _done(self, group: Sequence[Record], stored: int) -> None:
        now = time.monotonic()
        with self._progress:
            for record in group:
                self.lag = now - self.pending.pop(record, now)
            self.committed += stored
            self._progress.notify_all()


def _bounded(seconds: float) -> float:
    """Return a timeout that every lock and queue takes."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
