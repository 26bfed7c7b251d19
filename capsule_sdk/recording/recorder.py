"""Recorder: takes records when they open and when they end, and answers for them until they are in the chain.

Rules it keeps:

- A record is settled by whoever takes it from ``_open``; all others come too late. One atomic ``dict.pop``
  decides, so it holds between threads, in finalizers, and in a forked child (which begins with none).
- Whatever was begun is known until its end has arrived in a round. What an interrupt left between claim and
  finish is found at the end of the process.
- `finish` may run in a finalizer: it takes no lock and starts no thread.

The writer's work itself is in `rounds`, what a fork means in `forking`, the end of the process in `exiting`.
"""

from __future__ import annotations

import sys
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..clocks import monotonic
from ..errors import RecordingError
from ..forks import Stilled, beginning, end_of_fork, under_way
from ..logs import errors, gaps, report
from ..records.record import Ended, Record
from ..records.task import Task
from ..settings import Settings
from ..threads import get_ident
from .exiting import close_at_exit_of_worker
from .forking import known, live
from .last_word import say
from .libraries import load
from .rounds import ROUND_PATIENCE, Rounds
from .stats import Stats
from .writing import Writer

if TYPE_CHECKING:
    from pathlib import Path

    from ..chain import Chain
    from .recovery import Found

__all__ = ["Recorder"]

#: Seconds that the end of the process waits for those who have claimed a record to hand it over.
HANDOVER_PATIENCE = 0.5
#: Seconds that a flush waits, behind a round under way, for the store to fold its log.
FOLD_PATIENCE = 1.0


class Recorder:
    """One per chain and process. Make it with `configure`; `get_recorder` gives the default one.

    Opening a chain, and with it the first look at the disk, waits for the first record.
    """

    def __init__(
        self,
        settings: Settings,
        open_chain: Callable[[], Chain],
        identity: Callable[[], str],
        journals: Callable[[], Path],
    ) -> None:
        self.settings = settings
        self.policy = settings.policy()
        #: Names the chain, without opening it: the same store gives the same text.
        self.identity = identity
        #: Gives the directory of the journals of that chain.
        self.journals = journals
        self._open_chain = open_chain
        self._rounds = Rounds(settings.settle_timeout, journals)
        #: Set when the process ends: there is no writer any more, and until then the store is waited for.
        self._last_call: float | None = None
        self._start_afresh()
        known.add(weakref.ref(self, known.discard))

    def _start_afresh(self) -> None:
        self._open: dict[Record, None] = {}
        self._writer: Writer | None = None

    # -- the callers' side ------------------------------------------------------------------------

    def begin(self, record: Record) -> None:
        """Take a record that starts now; from here on it will be one capsule.

        It hangs under the nearest task above it that is still open. A task of another recorder, or of the
        process that this one was forked from, is named as its parent and nothing more: that task commits
        to what is recorded where it is.
        """
        rounds = self._rounds
        rounds.line.begun[record] = None
        self._open[record] = None
        while (parent := record.parent) is not None:
            if parent.recorder is not self:
                if not parent.closed:
                    break
            elif parent.adopt(record.id):
                break
            record.parent = parent.parent
        record.parent_id = parent.id if parent is not None else None
        if parent is not None and parent.recorder is not self:
            record.parent, record.counted = None, False
        if isinstance(record, Task):
            record.recorder = self
        self._ready()
        rounds.safekeeping.begun(record)

    def ready(self) -> None:
        """Have journal and writer ready, so that no record's own time has their beginning in it.

        Raises:
            Exception: they cannot be had (a module is missing); the record that cannot begin counts as lost.

        """
        try:
            self._ready()
        except Exception:
            self._rounds.line.count_lost(1)
            raise

    def _ready(self) -> None:
        if under_way and get_ident() in under_way:
            end_of_fork()  # which was interrupted: no fork is under way where a record begins
        if self._writer is None or not self._rounds.safekeeping.is_open:
            self.start()

    def note(self, task: Task, field: str) -> None:
        """Keep what has just been written to an open task."""
        self._rounds.safekeeping.noted(task, field)

    def claim(self, record: Record) -> bool:
        """Take the right to settle ``record``; true exactly once, and only in the process that began it."""
        return self._open.pop(record, self) is None

    def owes(self, record: Record) -> bool:
        """Tell whether a record has been begun here, and has not been handed over: an interrupt may be why."""
        return record in self._rounds.line.begun and not record.handed_over

    def finish(self, record: Record, *, finalizing: bool = False) -> None:
        """Hand over a settled record. When this returns, it survives the end of the process.

        With ``finalizing`` it takes no lock and starts no thread: a finalizer may run inside any line of
        any code, inside the lines of this class and of `threading` too.
        """
        if not finalizing:
            self._rounds.safekeeping.ended(record)
        self._rounds.put(record, finalizing=finalizing)
        if self._last_call is not None:
            # Once the modules are being taken down, what cannot be had now cannot be had at all.
            late = sys.is_finalizing()
            self._rounds.work(0.0 if late else self._last_call - monotonic())
        elif self._writer is None and not finalizing:
            self.start()

    def flush(self, timeout: float = 30.0) -> int:
        """Wait until all that has ended so far is durably in the chain.

        A SQLite file is whole without its write-ahead log then, unless somebody is still reading what it
        held before.

        Args:
            timeout: seconds to wait at most.

        Returns:
            How many of these records are not durable yet; 0 means that all are.

        """
        line = self._rounds.line
        waiting, place = list(line.pending), line.written

        def is_done() -> bool:
            return line.backlog.done >= place and not any(map(line.holds, reversed(waiting)))

        deadline = monotonic() + timeout
        writer = self._writer
        if writer is None or not writer.is_here():
            if not is_done():
                self._wait(is_done, timeout)
            self._rounds.fold(min(deadline - monotonic(), FOLD_PATIENCE))
        in_memory = (record for record in waiting if not 0 < record.backlog_place <= place)
        return sum(map(line.holds, in_memory)) + max(0, place - line.backlog.done)

    @property
    def patience(self) -> float:
        """Seconds that `confirm` waits at most: for the calls under a task, and for the store."""
        return self.settings.settle_timeout + self.settings.exit_timeout

    def confirm(self, record: Record) -> None:
        """Wait until one ended record is durable (strict mode).

        Raises:
            RecordingError: it is not, or only a stand-in for it could be stored.

        """
        line = self._rounds.line
        if line.holds(record):
            self._wait(lambda: not line.holds(record), self.patience)
        if line.holds(record):
            raise RecordingError(
                f"capsule {record.id} is not in the chain after {self.patience:g} s; the store cannot be"
                " reached (see the log of capsule_sdk); it is still queued and will be tried again"
            )
        if record.lost is not None:
            raise RecordingError(
                f"capsule {record.id}, or one under it, could not be recorded: {record.lost}"
            )

    def shutdown(self, timeout: float | None = None) -> int:
        """Flush, stop the writer and close the store.

        What is not durable stays queued: a record that comes later, or a flush, starts the writer again.

        Args:
            timeout: seconds to wait at most; ``exit_timeout`` unless given.

        Returns:
            How many records are not durable.

        """
        left = self.flush(self.settings.exit_timeout if timeout is None else timeout)
        self._stop_writer(0.0 if left else ROUND_PATIENCE)
        line = self._rounds.line
        if line and not left:  # it ended while the writer did
            self.start()
        with beginning:
            if self._writer is None and not line.begun and not line:
                live.discard(self)
        return left

    def recover(self) -> Found:
        """Bring what processes that are no more have left behind into the chain, in this thread.

        The writer does so by itself when it starts.

        Returns:
            What was found, and whether something is left.

        """
        with beginning:
            self._open_outbox()
        found = self._rounds.recover()
        assert found is not None  # noqa: S101 - there is an outbox
        return found

    def is_unused(self) -> bool:
        """Tell whether nothing has been begun here yet."""
        return self._rounds.outbox is None

    def stats(self) -> Stats:
        """Return the figures of this moment."""
        rounds, outbox = self._rounds, self._rounds.outbox
        committed, pending = rounds.figures()
        away = outbox.away_since if outbox is not None else None
        return Stats(
            open=len(self._open),
            submitted=committed + pending + rounds.line.lost,
            committed=committed,
            pending=pending,
            failed=outbox.failed if outbox is not None else 0,
            lost=rounds.line.lost,
            recovered=rounds.recovered,
            errors=errors.total(),
            commit_lag=rounds.lag,
            store_away=None if away is None else monotonic() - away,
            store_trouble=outbox.trouble if outbox is not None else None,
            times_away=outbox.times_away if outbox is not None else 0,
            journal_size=rounds.safekeeping.size(),
            journal_trouble=rounds.safekeeping.trouble,
            checkpoint_trouble=rounds.checkpoint_trouble,
            gaps=tuple(f"{what}: {costs}" for what, costs in [*gaps.items()]),
        )

    def _wait(self, done: Callable[[], bool], timeout: float) -> None:
        if self.start() is not None:
            self._rounds.wait(done, timeout)
        else:
            self._rounds.work(timeout)

    # -- the writer -------------------------------------------------------------------------------

    def start(self) -> Writer | None:
        """See to it that the writer runs; ``None`` where no thread can be started any more."""
        if self._writer is not None and self._rounds.safekeeping.is_open:
            return self._writer
        with beginning:
            live.add(self)
            self._open_outbox()
            if not self._rounds.safekeeping.is_open:
                self._rounds.open_journal()
            if self._writer is None and self._last_call is None:
                self._start_writer()
            return self._writer

    def _start_writer(self) -> None:
        close_at_exit_of_worker()
        # Named before it runs: a signal handler that records something may run inside its start.
        writer = self._writer = Writer(self._run)
        try:
            if not writer.begin():
                self._writer = None
        except BaseException:
            # Whether it runs is not known: then it ends, and the next record has another.
            self._writer, writer.stopping = None, True
            raise

    def _open_outbox(self) -> None:
        if self._rounds.outbox is None:
            load(self.settings.url)
            from .checkpointing import checkpointing_of  # noqa: PLC0415 - imports SQLAlchemy
            from .outbox import Outbox  # noqa: PLC0415 - see above

            checkpoints = checkpointing_of(self.settings)
            outbox = Outbox(self._open_chain, self._rounds.waiting, checkpoints)
            outbox.open()
            self._rounds.open(outbox)

    def _run(self, writer: Writer) -> None:
        while not writer.stopping:
            try:
                self._rounds.recover_in_time(lambda: writer.stopping)
                self._rounds.gather()
                self._rounds.make(stopping=lambda: writer.stopping)
            except BaseException as error:  # noqa: BLE001 - the writer must outlive every error
                report("recorder.writer", error)
                time.sleep(0.05)

    def _stop_writer(self, patience: float) -> None:
        """End the writer, do what has come meanwhile, and close the store.

        Without ``patience`` a round under way goes on by itself, and the store stays open.
        """
        with beginning:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.stopping = True
            self._rounds.wake()
        if writer is not None:
            writer.join(patience)
        if patience:
            self._rounds.work(0.0)
        self._rounds.close(patience)

    # -- the end of the process, and its beginning after a fork ------------------------------------

    def settle_all(self) -> None:
        """Settle what is still open as cut short by the end of the process."""
        begun, pending = self._rounds.line.begun, self._rounds.line.pending
        for record in reversed(list(begun)):
            if self.claim(record):
                self._cut_short(record)
        patience = monotonic() + HANDOVER_PATIENCE
        while any(record not in pending for record in list(begun)) and monotonic() < patience:
            time.sleep(0.005)
        # What an interrupt, or a thread that is no more, has claimed and not handed over:
        for record in reversed(list(begun)):
            self._cut_short(record)

    def _cut_short(self, record: Record) -> None:
        try:
            if record.parent is not None and not record.parent.has_adopted(record.id):
                record.parent = record.parent_id = None  # interrupted before it was adopted
            if not record.closed:
                record.cut_short(Ended.PROCESS_EXIT)
        except Exception as error:  # noqa: BLE001 - what is known of it is enough for its capsule
            report("recorder.exit", error)
        finally:
            self.finish(record)

    def drain(self, last_call: float) -> int:
        """Wait for the store until ``last_call``; what ends after that is committed by the thread that ends it.

        Returns:
            How many records are not durable.

        """
        left = self.flush(last_call - monotonic())
        self._last_call = last_call
        return left

    def close(self, patience: float) -> None:
        """Stop the writer, close the store, and say what is not in the chain."""
        self._stop_writer(patience)
        if self._rounds.line or self._rounds.safekeeping.misses:
            say(self._rounds.account(HANDOVER_PATIENCE))

    def pause_for_fork(self, stilled: list[Stilled]) -> None:
        """Keep the writer out of a round, unless the one under way takes too long."""
        self._rounds.pause(stilled, ROUND_PATIENCE)

    def start_afresh_in_child(self) -> None:
        """Leave to the parent what the parent began; its tasks go on here as names to hang calls under."""
        for record in [*self._rounds.line.begun, *self._rounds.line.pending]:
            if isinstance(record, Task):
                record.recorder = None
        self._rounds.safekeeping.forget()
        self._rounds.line.backlog.forget()
        self._rounds.start_afresh()
        self._start_afresh()
