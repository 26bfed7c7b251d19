"""Recorder: takes records when they open and when they end, and answers for them until they are in the chain.

Rules it keeps:

- A record is settled by whoever takes it from ``_open``; all others come too late. One atomic ``dict.pop``
  decides, so it holds between threads, in finalizers, and in a forked child (whose ``_open`` starts empty).
- `finish` may run in a finalizer: it takes no lock and only puts into a `queue.SimpleQueue`.
- A task is placed in the chain after what was started under it, or ``settle_timeout`` after its end.
- What cannot be committed now is tried again; what can never be is replaced by a capsule that says so.
"""

from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import CapsuleRejected, RecordingError
from .logs import errors, log, report
from .record import Ended, Record
from .settings import Settings
from .task import Task

if TYPE_CHECKING:
    from qp_capsule import Capsule

    from .chain import Chain

__all__ = ["Recorder", "Stats"]

#: The most capsules that are committed at once.
GROUP = 512
#: Seconds between two tries while the store is away: the first, and the longest.
RETRY_FIRST, RETRY_MOST = 0.05, 2.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a recorder has done so far.

    Attributes:
        open: tasks and calls that have not ended yet.
        submitted: records that have ended.
        committed: of these, how many are durably in the chain.
        pending: of these, how many are not yet.
        failed: of these, how many are in the chain only as a capsule of type ``system`` that says so.
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
        self._chain: Chain | None = None
        self._committed = 0
        self._failed = 0
        self._lag = 0.0
        self._exiting = False
        self._start_afresh()
        _recorders.add(self)

    def _start_afresh(self) -> None:
        """Forget all that belongs to the process this was forked from; counts go on from here."""
        self._open: dict[Record, None] = {}
        self._pending: dict[Record, float] = {}
        self._held: dict[Task, float] = {}
        self._ready: list[Record] = []
        self._inbox: queue.SimpleQueue[Record | None] = queue.SimpleQueue()
        self._lock = threading.RLock()
        self._working = threading.RLock()
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    # -- the callers' side ------------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        """Take a record that starts now; from here on it will be one capsule.

        It hangs under the nearest task above it that is still open. A task of another recorder is named as
        its parent and nothing more: that task commits to what is in its own chain.
        """
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
        self._open[record] = None
        if self._thread is None:
            self._start()

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
        if self._exiting:
            self._work_inline()
        elif self._thread is None and not finalizing:
            self._start()

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until all that has ended so far is durably in the chain.

        Args:
            timeout: seconds to wait at most.

        Returns:
            How many of these records are not durable yet; 0 means that all are.

        """
        waiting = list(self._pending)
        if not waiting:
            return 0
        if threading.current_thread() is self._thread:
            return len(waiting)
        if self._start() is None:
            self._work_inline()
        self._wait(lambda: not any(record in self._pending for record in waiting), timeout)
        return sum(record in self._pending for record in waiting)

    def confirm(self, record: Record) -> None:
        """Wait until one ended record is durable (strict mode).

        Raises:
            RecordingError: it is not, or only a stand-in for it could be stored.

        """
        patience = self.settings.settle_timeout + self.settings.exit_timeout
        if self._start() is None:
            self._work_inline()
        self._wait(lambda: record not in self._pending, patience)
        if record in self._pending:
            raise RecordingError(
                f"capsule {record.id} is not in the chain after {patience:g} s; the store cannot be "
                "reached (see the log of capsule_sdk); it is still queued and will be tried again"
            )
        if record.lost is not None:
            raise RecordingError(f"capsule {record.id} could not be recorded: {record.lost}")

    def shutdown(self, timeout: float | None = None) -> int:
        """Flush, stop the writer and close the store. A record that comes later starts it again.

        Args:
            timeout: seconds to wait at most; ``exit_timeout`` unless given.

        Returns:
            How many records are not durable.

        """
        left = self.flush(self.settings.exit_timeout if timeout is None else timeout)
        with self._lock:
            thread, self._thread = self._thread, None
            self._stop.set()
            self._inbox.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout=5.0)
        with self._working:
            if self._chain is not None and not self._ready:
                self._chain.close()
                self._chain = None
        return left

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        pending = len(self._pending)
        return Stats(
            open=len(self._open),
            submitted=self._committed + pending,
            committed=self._committed,
            pending=pending,
            failed=self._failed,
            errors=errors.total(),
            commit_lag=self._lag,
        )

    # -- the writer's side ------------------------------------------------------------------------

    def _start(self) -> threading.Thread | None:
        """Start the writer if it does not run; ``None`` where the interpreter starts no threads any more."""
        thread = self._thread
        if thread is not None:
            return thread
        with self._lock:
            if self._thread is None:
                self._stop = threading.Event()
                thread = threading.Thread(
                    target=self._run, args=(self._stop,), name="capsule-writer", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    return None
                self._thread = thread
                _drain_at_exit_of_worker(self)
            return self._thread

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._round(self._gather(), stop)
            except Exception as error:  # noqa: BLE001 - the writer must outlive whatever goes wrong in a round
                report("recorder.writer", error)
                stop.wait(RETRY_FIRST)

    def _gather(self) -> list[Record]:
        """Wait for records, or for the next task that has been held back long enough."""
        patience = min(self._held.values(), default=None) if self._held else None
        if self._ready:
            patience = time.monotonic()
        try:
            first = self._inbox.get(
                timeout=None if patience is None else max(0.0, patience - time.monotonic())
            )
        except queue.Empty:
            return []
        return self._drain([first] if first is not None else [])

    def _drain(self, arrived: list[Record]) -> list[Record]:
        while len(arrived) < GROUP:
            try:
                record = self._inbox.get_nowait()
            except queue.Empty:
                break
            if record is not None:
                arrived.append(record)
        return arrived

    def _work_inline(self) -> None:
        """Do the writer's work here, where no thread can do it."""
        stop = threading.Event()
        stop.set()
        while arrived := self._drain([]):
            self._round(arrived, stop)

    def _round(self, arrived: list[Record], stop: threading.Event) -> None:
        with self._working:
            for record in arrived:
                if isinstance(record, Task) and record.open_children:
                    self._held[record] = self._pending[record] + self.settings.settle_timeout
                else:
                    self._place(record)
            now = time.monotonic()
            for task in [task for task, until in self._held.items() if until <= now]:
                if self._held.pop(task, None) is not None:
                    self._place(task)
            while self._ready and self._commit(self._ready[:GROUP], stop):
                pass

    def _place(self, record: Record) -> None:
        """Put a complete record in line, and every task above it that was only waiting for it."""
        while True:
            self._ready.append(record)
            if isinstance(record, Task):
                record.placed = True
            parent = record.parent
            if parent is None:
                return
            unplaced: Task | None = parent
            while unplaced is not None and unplaced.placed:
                unplaced = unplaced.parent
            if unplaced is not None:
                unplaced.subtree.add(record.totals())
            if parent.child_ended() or self._held.pop(parent, None) is None:
                return
            record = parent

    def _commit(self, group: list[Record], stop: threading.Event) -> bool:
        """Bring a group into the chain; false if it has to stay in line because the writer was stopped."""
        capsules = {record: self._capsule(record) for record in group}
        delay = RETRY_FIRST
        while True:
            try:
                if self._chain is None:
                    self._chain = self._open_chain()
                self._chain.append(list(capsules.values()))
            except CapsuleRejected as error:
                self._replace(capsules, error)
            except Exception as error:  # noqa: BLE001 - a custom storage may raise anything; it is tried again
                if delay == RETRY_FIRST:
                    errors["recorder.store"] += 1
                    log.error("the store is away, trying again", pending=len(self._pending),
                              error=f"{type(error).__name__}: {error}")
                if stop.wait(delay):
                    return False
                delay = min(2 * delay, RETRY_MOST)
            else:
                if delay != RETRY_FIRST:
                    log.warning("the store is back", pending=len(self._pending))
                self._committed_now(group)
                return True

    def _capsule(self, record: Record) -> Capsule:
        from .records import capsule_of, stand_in  # noqa: PLC0415 - imports qp-capsule and SQLAlchemy

        try:
            return capsule_of(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be made must not hold up the others
            report("records", error, capsule_id=str(record.id))
            self._lose(record, f"{type(error).__name__}: {error}")
            return stand_in(record, record.lost or "")

    def _replace(self, capsules: dict[Record, Capsule], rejected: CapsuleRejected) -> None:
        """Let a stand-in take the place of a capsule that cannot be stored."""
        from .records import stand_in  # noqa: PLC0415 - see _capsule

        for record in capsules:
            if str(record.id) == rejected.capsule_id:
                log.error("capsule rejected", capsule_id=rejected.capsule_id, reason=rejected.reason)
                if record.lost is None:
                    self._lose(record, rejected.reason)
                    capsules[record] = stand_in(record, rejected.reason)
                else:
                    del capsules[record]
                return
        raise rejected

    def _lose(self, record: Record, reason: str) -> None:
        record.lost = reason
        self._failed += 1

    def _committed_now(self, group: list[Record]) -> None:
        del self._ready[: len(group)]
        with self._progress:
            for record in group:
                ended = self._pending.pop(record, None)
                if ended is not None:
                    self._lag = time.monotonic() - ended
            self._committed += len(group)
            self._progress.notify_all()

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        with self._progress:
            self._progress.wait_for(done, timeout)

    # -- the end of the process, and its beginning after a fork ------------------------------------

    def after_fork_in_child(self) -> None:
        """Leave to the parent what the parent began; its tasks go on here as names to hang calls under."""
        for record in list(self._open):
            if isinstance(record, Task):
                record.renew_lock()
        self._start_afresh()

    def close_at_exit(self) -> None:
        """Settle what is still open as cut short by the end of the process, and drain."""
        for record in reversed(list(self._open)):
            if self.claim(record):
                record.cut_short(Ended.PROCESS_EXIT)
                self.finish(record)
        left = self.flush(self.settings.exit_timeout)
        self._exiting = True
        if left:
            log.error("records are not in the chain at the end of the process", records=left)


_recorders: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _at_exit() -> None:
    for recorder in list(_recorders):
        try:
            recorder.close_at_exit()
        except Exception as error:  # noqa: BLE001 - the other recorders still have to be closed
            report("recorder.exit", error)


def _after_fork_in_child() -> None:
    for recorder in list(_recorders):
        recorder.after_fork_in_child()


def _drain_at_exit_of_worker(recorder: Recorder) -> None:
    """A worker that `multiprocessing` has forked ends without ``atexit``; it has finalizers of its own."""
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415 - only where it is in use already

        Finalize(recorder, recorder.close_at_exit, exitpriority=0)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork_in_child)
