"""Recorder: takes records when they open and when they end, and answers for them until they are in the chain.

Rules it keeps:

- A record is settled by whoever takes it from ``_open``; all others come too late. One atomic ``dict.pop``
  decides, so it holds between threads, in finalizers, and in a forked child (which begins with none).
- Whatever was begun stays in ``_begun`` until its end has arrived at the writer. What an interrupt left
  between claim and finish is found there at the end of the process; what arrives twice counts once.
- `finish` may run in a finalizer: it takes no lock and only puts into a `queue.SimpleQueue`.
- The order of the chain is `capsule_sdk.holding`'s affair, the store `capsule_sdk.outbox`'s.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import RecordingError
from .holding import Holding
from .logs import errors, report, tell
from .record import Ended, Record
from .settings import Settings
from .task import Task

if TYPE_CHECKING:
    from .chain import Chain
    from .outbox import Outbox

__all__ = ["Recorder", "Stats", "live_recorders"]

#: The most capsules that are committed at once.
GROUP = 512
#: Seconds that a fork, or the end of the writer, waits for the commit under way.
ROUND_PATIENCE = 10.0
#: Seconds that the end of the process waits for those who have claimed a record to hand it over.
HANDOVER_PATIENCE = 0.5


@dataclass(frozen=True, slots=True)
class Stats:
    """What a recorder has done so far.

    Attributes:
        open: tasks and calls that have not ended yet.
        submitted: records that have ended.
        committed: of these, how many are durably in the chain.
        pending: of these, how many are not yet.
        failed: of these, how many could not be recorded; a capsule of type ``system`` says so in their place.
        errors: internal errors in this process, in whatever recorder.
        commit_lag: seconds from the end of the last committed record to its commit.

    """

    open: int
    submitted: int
    committed: int
    pending: int
    failed: int
    errors: int
    commit_lag: float


class Recorder:
    """One per chain and process. Make it with `configure`; `get_recorder` gives the default one.

    Opening a chain, and with it the first look at the disk, waits for the first record.
    """

    def __init__(
        self, settings: Settings, open_chain: Callable[[], Chain], identity: Callable[[], str]
    ) -> None:
        self.settings = settings
        self.policy = settings.policy()
        #: Names the chain, without opening it: the same store gives the same text.
        self.identity = identity
        self._open_chain = open_chain
        self._outbox: Outbox | None = None
        self._committed = 0
        self._lag = 0.0
        self._last_call: float | None = None
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Forget all that belongs to the process this was forked from; counts go on from here."""
        self._open: dict[Record, None] = {}
        self._begun: dict[Record, None] = {}
        self._pending: dict[Record, float] = {}
        self._holding = Holding(self.settings.settle_timeout)
        self._inbox: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._round_lock = threading.RLock()
        self._in_round = False
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    # -- the callers' side ------------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        """Take a record that starts now; from here on it will be one capsule.

        It hangs under the nearest task above it that is still open. A task of another recorder, or of the
        process that this one was forked from, is named as its parent and nothing more: that task commits
        to what is recorded where it is.
        """
        self._begun[record] = None
        self._open[record] = None
        parent = record.parent
        while parent is not None:
            if parent.recorder is not self:
                if not parent.closed:
                    break
            elif parent.adopt(record.id):
                break
            parent = parent.parent
        record.parent_id = parent.id if parent is not None else None
        record.parent = parent if parent is not None and parent.recorder is self else None
        if isinstance(record, Task):
            record.recorder = self
        if self._thread is None:
            self.start()

    def claim(self, record: Record) -> bool:
        """Take the right to settle ``record``; true exactly once, and only in the process that began it."""
        return self._open.pop(record, self) is None

    def finish(self, record: Record, *, finalizing: bool = False) -> None:
        """Hand over a settled record.

        With ``finalizing`` it takes no lock and starts no thread: a finalizer may run inside any line of
        any code, inside the lines of this class and of `threading` too.
        """
        self._pending[record] = time.monotonic()
        self._inbox.put(record)
        if self._last_call is not None:
            self._work(max(0.0, self._last_call - time.monotonic()))
        elif self._thread is None and not finalizing:
            self.start()

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until all that has ended so far is durably in the chain.

        Args:
            timeout: seconds to wait at most.

        Returns:
            How many of these records are not durable yet; 0 means that all are.

        """
        waiting = list(self._pending)
        if waiting and threading.current_thread() is not self._thread:
            self._wait(lambda: not any(r in self._pending for r in reversed(waiting)), timeout)
        return sum(record in self._pending for record in waiting)

    def confirm(self, record: Record) -> None:
        """Wait until one ended record is durable (strict mode).

        Raises:
            RecordingError: it is not, or only a stand-in for it could be stored.

        """
        patience = self.settings.settle_timeout + self.settings.exit_timeout
        if record in self._pending:
            self._wait(lambda: record not in self._pending, patience)
        if record in self._pending:
            raise RecordingError(
                f"capsule {record.id} is not in the chain after {patience:g} s; the store cannot be "
                "reached (see the log of capsule_sdk); it is still queued and will be tried again"
            )
        if record.lost is not None:
            raise RecordingError(f"capsule {record.id} could not be recorded: {record.lost}")

    def shutdown(self, timeout: float | None = None) -> int:
        """Flush, stop the writer and close the store.

        What is not durable stays queued: a record that comes later, or a flush, starts the writer again.

        Args:
            timeout: seconds to wait at most; ``exit_timeout`` unless given.

        Returns:
            How many records are not durable.

        """
        left = self.flush(self.settings.exit_timeout if timeout is None else timeout)
        self._stop_writer()
        with self._lock:
            if self._thread is None and not self._begun and not self._pending:
                _live.discard(self)
        if self._pending and not left:
            self.start()
        return left

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        with self._progress:
            pending, committed = len(self._pending), self._committed
        return Stats(
            open=len(self._open),
            submitted=committed + pending,
            committed=committed,
            pending=pending,
            failed=self._outbox.failed if self._outbox is not None else 0,
            errors=errors.total(),
            commit_lag=self._lag,
        )

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        if self.start() is None:
            self._work(timeout)
            return
        self._inbox.put(None)
        with self._progress:
            self._progress.wait_for(done, min(timeout, threading.TIMEOUT_MAX))

    # -- the writer's side ------------------------------------------------------------------------

    def start(self) -> threading.Thread | None:
        """See to it that the writer runs; ``None`` where the interpreter starts no threads any more."""
        if self._thread is not None:
            return self._thread
        with self._lock:
            if self._thread is not None or self._last_call is not None:
                return self._thread
            _live.add(self)
            if self._outbox is None:
                self._outbox = _load()(self._open_chain)
            self._stop = threading.Event()
            # Named before it runs: a signal handler that records something may run inside its start.
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="capsule-writer", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:
                self._thread = None
            else:
                _drain_at_exit_of_worker(self)
            return self._thread

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._gather(None)
                self._round()
            except BaseException as error:  # noqa: BLE001 - the writer must outlive whatever goes wrong in a round
                report("recorder.writer", error)
                stop.wait(0.05)

    def _stop_writer(self) -> None:
        """End the writer, do what has come meanwhile, and close the store."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._inbox.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(ROUND_PATIENCE)
        self._work(0.0)
        if self._outbox is not None and self._round_lock.acquire(timeout=ROUND_PATIENCE):
            try:
                self._outbox.close()
            finally:
                self._round_lock.release()
