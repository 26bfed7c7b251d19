"""Rounds: the writer's work. Each takes in what has ended, and commits as much as the store takes.

One thread at a time makes rounds, whichever it is but the main one: a signal handler may raise there in the
middle of anything, and what a round has in hand would be nowhere (`capsule_sdk.interrupts`). No pause for the
store happens inside a round, so that nobody who waits for one to end (a fork, the end of the writer) waits for
the store to come back.

Which thread makes the rounds, and when, is decided in `capsule_sdk.recording.recorder`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ..clocks import monotonic
from ..forks import Stilled
from ..interrupts import Bell, NotHad, held, undisturbed
from ..records.record import Record
from ..threads import Empty, RLock, SimpleQueue, get_ident
from .line import Line
from .safekeeping import Safekeeping

if TYPE_CHECKING:
    from pathlib import Path

    from .checkpointing import Checkpointing
    from .last_word import Kept
    from .outbox import Outbox, Parcel
    from .recovery import Found

__all__ = ["Rounds"]

#: Seconds that the writer waits for more once the first record has come, so that they share a commit.
LINGER = 0.025
#: Seconds between two looks for what processes that are no more have left behind.
RECOVERY = 60.0
#: Seconds that a caller waits for another one to take in what has come.
PATIENCE = 1.0
#: Seconds that a round is waited for beyond the time that it was given.
ROUND_PATIENCE = 10.0


class Rounds:
    """What brings the line of one recorder into its chain, and keeps its journal in order."""

    def __init__(self, settle_timeout: float, journals: Callable[[], Path]) -> None:
        self._settle_timeout = settle_timeout
        self._journals = journals
        self.outbox: Outbox | None = None
        self.committed = self.recovered = 0
        self.lag = 0.0
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget all that belongs to the process this was forked from; counts go on from here."""
        self.safekeeping = Safekeeping(
            self._journals,
            lambda root: _whereabouts().elsewhere_of(root),
            self._living,
            self._tended,
            instead=lambda root: _whereabouts().instead_of(root, make=True),
            label=lambda root: _whereabouts().labels_of(root)[0],
            homeless=lambda root: _whereabouts().why_homeless(root),
        )
        self.line = Line(self._settle_timeout, self.safekeeping)
        self.line.outbox = self.outbox
        if (checkpoints := self._checkpoints()) is not None:
            checkpoints.forget()
        self._lock = RLock()
        self._under_way = False
        #: The threads that want the rounds to stand still, and until when that is to be heeded.
        self._wanted: dict[int, float] = {}
        self._hurrying = False
        self._hurry: SimpleQueue[None] = SimpleQueue()
        self._progress = Bell()
        #: While the store is away: when to try it again, on the clock of `time.monotonic`.
        self._next_try = 0.0
        #: When to look again for what others have left behind, and whether there was something.
        self._next_recovery = 0.0
        self._left = False

    def open(self, outbox: Outbox) -> None:
        """Deliver to ``outbox`` from here on."""
        self.outbox = self.line.outbox = outbox

    def _checkpoints(self) -> Checkpointing | None:
        return None if self.outbox is None else self.outbox.checkpoints

    def _living(self) -> Sequence[Record]:
        """Return what the journal has to know of: what is neither durable nor in the backlog."""
        return list({**self.line.begun, **self.line.pending})

    def _tended(self) -> None:
        """Have the journal tended soon."""
        self.line.wake()

    # -- any thread -------------------------------------------------------------------------------

    def put(self, record: Record, *, finalizing: bool) -> None:
        """Hand over a record that has ended. With ``finalizing`` it takes no lock."""
        self.line.put(record)
        if finalizing or not self.line.is_long():
            return
        self._hurry_up()
        if self.line.is_full():
            undisturbed(lambda: self.line.take_in(PATIENCE), 2 * PATIENCE)

    def _hurry_up(self) -> None:
        if not self._hurrying:
            self._hurry.put(None)
            self._hurrying = True

    def wake(self) -> None:
        """Have the next round made now, and the store tried again."""
        self._next_try = 0.0
        self._hurry_up()
        self.line.wake()

    def wait(self, done: Callable[[], bool], timeout: float) -> None:
        """Wait until rounds made by another thread have brought ``done`` about."""
        self.wake()
        self._progress.wait_for(done, timeout, monotonic)

    def figures(self) -> tuple[int, int]:
        """Return how many are committed and how many are pending; of the same moment, if it is soon."""
        with suppress(NotHad), held(self.line.lock, 0.1):
            return self.committed, len(self.line)
        return self.committed, len(self.line)

    @property
    def checkpoint_trouble(self) -> str | None:
        """Why checkpoints cannot be written just now."""
        checkpoints = self._checkpoints()
        return None if checkpoints is None else checkpoints.trouble

    def waiting(self) -> dict[str, Any]:
        """Return what waits for the store, for the log."""
        since = next(iter(list(self.line.pending.values())), None)
        return {
            "waiting": len(self.line),
            "lag": None if since is None else round(monotonic() - since, 1),
            "journal_size": self.safekeeping.size(),
        }

    def pause(self, stilled: list[Stilled], patience: float) -> None:
        """Keep everybody out of a round, unless the one under way takes too long."""
        self._wanted[get_ident()] = monotonic() + patience
        try:
            for lock in (self._lock, self.line.lock):
                stilled.append(Stilled(lock))
                if not stilled[-1].take(patience):
                    return
        finally:
            self._wanted.pop(get_ident(), None)

    def _is_wanted(self) -> bool:
        """Tell whether somebody waits for the rounds to stand still, and has not given up."""
        return bool(self._wanted) and monotonic() < max(list(self._wanted.values()), default=0.0)

    # -- the thread that makes the rounds ---------------------------------------------------------

    def open_journal(self) -> None:
        """Open the journal, if that is possible."""

        def open_in_time() -> None:
            with suppress(NotHad), held(self.line.lock, PATIENCE):
                self.safekeeping.open()

        undisturbed(open_in_time, 2 * PATIENCE)

    def recover_in_time(self, given_up: Callable[[], bool]) -> None:
        """Do as `recover`, if it is time to look again."""
        now = monotonic()
        if now < self._next_recovery:
            return
        self._next_recovery = now + RECOVERY
        found = self.recover(given_up)
        self._left = found is not None and found.left > 0
        if self._left and self.outbox is not None and self.outbox.away_since is not None:
            self._next_recovery = monotonic() + self.outbox.pause

    def recover(self, given_up: Callable[[], bool] = lambda: False) -> Found | None:
        """Bring what processes that are no more have left behind into the chain; return what there was.

        A fork waits for each step of it: what this thread holds then (a lock of a library, an import) its child
        would wait for, for ever.
        """
        return undisturbed(lambda: self._recover(given_up))

    def _recover(self, given_up: Callable[[], bool]) -> Found | None:
        outbox = self.outbox
        if outbox is None:
            return None

        def deliver(parcels: Sequence[Parcel]) -> int | None:
            added = outbox.deliver(parcels)
            if added is not None:
                self.recovered += added
                self.line.count_lost(sum(parcel.dropped for parcel in parcels))
                self.make()  # what has come meanwhile does not wait for the past
            self._give_way()
            return None if given_up() else added

        with self._lock:
            return outbox.recover(self._journals(), deliver)

    def _give_way(self) -> None:
        """Let those go on who want to fork, or to fold, between two steps under the lock."""
        if self._is_wanted():
            self._lock.release()
            try:
                while self._is_wanted():
                    time.sleep(0.001)
            finally:
                self._lock.acquire()

    def work(self, timeout: float) -> None:
        """Make rounds until all that has ended is durable, ``timeout`` seconds at most."""
        timeout = _bounded(timeout)
        undisturbed(lambda: self._work(timeout), timeout + ROUND_PATIENCE)

    def _work(self, timeout: float) -> None:
        deadline = monotonic() + timeout
        while True:
            with suppress(NotHad), held(self._lock, deadline - monotonic()):
                if self._under_way:  # this is a finalizer, inside a round of this very thread
                    return
                self.make(deadline)
            if not self.line or monotonic() >= deadline:
                return
            # Without the lock, so that no fork waits for the store.
            self.gather(deadline)

    def gather(self, deadline: float | None = None) -> None:
        """Wait for a record, for the next task to be placed, for the next try, or for ``deadline``."""
        while self._is_wanted() and (deadline is None or monotonic() < deadline):
            time.sleep(0.001)
        moments = [deadline, self.line.next_release(), self.safekeeping.due()]
        if not self.line.is_empty():
            moments.append(self._next_try)
        if self._left and deadline is None:
            moments.append(self._next_recovery)
        if (checkpoints := self._checkpoints()) is not None:
            moments.append(checkpoints.due())
        if self.outbox is not None and deadline is None:
            moments.append(self.outbox.fold_due)
        due = min((moment for moment in moments if moment is not None), default=None)
        self.line.wait(None if due is None else _bounded(due - monotonic()))
        if deadline is None and self.line.is_short():
            self._linger()

    def _linger(self) -> None:
        """Wait for more to come, unless there is enough for a round."""
        if not self._hurrying:
            with suppress(Empty):
                self._hurry.get(timeout=LINGER)

    def make(
        self, deadline: float | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        """Make one round: take in, deliver until nothing is left, the store is away, or it is time to stop."""
        with self._lock:
            self._under_way = True
            try:
                self._take_in()
                self._tend_checkpoints(deadline)
                while self._may_go_on():
                    self._deliver()
                    self._fold_in_time(None)
                    self._take_in()
                    self._tend_checkpoints(deadline)
                    if stopping() or self._may_rest(deadline):
                        break
                if self.line.is_empty():
                    self._need_not_hurry()
                self._fold_in_time(deadline)
            finally:
                self._under_way = False

    def fold(self, patience: float) -> None:
        """Have the store fold between two rounds, in this thread, if that is within so many seconds."""
        if self.outbox is not None and self.outbox.fold_due is not None:
            undisturbed(lambda: self._fold(patience), patience + ROUND_PATIENCE)

    def _fold(self, patience: float) -> None:
        outbox, me = self.outbox, get_ident()
        self._wanted[me] = monotonic() + patience
        try:
            with suppress(NotHad), held(self._lock, patience):
                # It is under way where a finalizer has come here from inside a round.
                if not self._under_way and outbox is not None:
                    self._under_way = True
                    try:
                        outbox.fold()
                    finally:
                        self._under_way = False
        finally:
            self._wanted.pop(me, None)

    def close(self, patience: float) -> None:
        """Close store and journal once the round under way is over, if that is within ``patience`` seconds."""
        undisturbed(lambda: self._close(patience), patience + ROUND_PATIENCE)

    def _close(self, patience: float) -> None:
        with suppress(NotHad), held(self._lock, patience):
            with self.line.lock:
                self.safekeeping.close(waiting=bool(self.line.backlog))
            if self.outbox is not None:
                self._tend_checkpoints(monotonic() + patience)
                self.outbox.close()

    def account(self, patience: float) -> Kept:
        """Bring to disk what can be brought there, and tell what is there of all that is not in the chain."""
        with suppress(NotHad), held(self.line.lock, patience):
            return self.safekeeping.account(self.line.backlog)
        return self.safekeeping.account(self.line.backlog)

    def _take_in(self) -> None:
        self.line.take_in()
        with self.line.lock:
            self.safekeeping.tend()
            self.line.tend_backlog()
        self._progress.ring()  # what was written out, or came twice, is pending no more

    def _need_not_hurry(self) -> None:
        self._hurrying = False
        with suppress(Empty):
            while True:
                self._hurry.get_nowait()

    def _tend_checkpoints(self, deadline: float | None) -> None:
        """Write what is due; with a deadline no writer comes back later, and all of it is."""
        if (checkpoints := self._checkpoints()) is not None:
            checkpoints.tend(deadline)

    def _fold_in_time(self, deadline: float | None) -> None:
        """Have the store fold when it is time; with a deadline no writer comes back later, and it is time."""
        outbox = self.outbox
        if outbox is None or outbox.fold_due is None:
            return
        if deadline is not None or monotonic() >= outbox.fold_due:
            outbox.fold()

    def _may_go_on(self) -> bool:
        if self.line.is_empty() or self._is_wanted():
            return False
        return monotonic() >= self._next_try

    def _may_rest(self, deadline: float | None) -> bool:
        """Tell whether what has come meanwhile can wait for more to share its commit, or has to."""
        if deadline is not None:
            return monotonic() >= deadline
        return self.line.is_short() and not self._hurrying

    def _deliver(self) -> None:
        outbox = self.outbox
        if outbox is None:
            return
        try:
            group = self.line.next_group()
        except OSError as error:
            self.line.despair(error)
            self._next_try = monotonic() + 1.0
            return
        if outbox.deliver(group) is None:
            self._next_try = monotonic() + outbox.pause
            return
        with self.line.lock:
            stored, lag = self.line.settle()
            self.committed += stored
        self.lag = self.lag if lag is None else lag
        self._progress.ring()


def _whereabouts() -> ModuleType:
    """Return the module that knows where journals are."""
    from . import whereabouts  # noqa: PLC0415 - imports qp-capsule

    return whereabouts


def _bounded(seconds: float) -> float:
    """Return a timeout that every lock and queue takes."""
    return min(max(0.0, seconds), threading.TIMEOUT_MAX)
