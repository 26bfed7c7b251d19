"""Confirming: who waits, in strict mode, until what was recorded is in the chain, and how.

The rule: whatever ended well waits for its own commit, unless a task above it is still open. That task commits
to it, comes behind it in the line, and waits for both when it ends. So leaving the outermost task waits, in
whatever thread or asyncio task those under it ran, and leaving them does not; what its task did not wait for
(fire and forget) waits itself.

Invariants: what ended with an exception waits for nothing, and neither does a generator that is closed; a wait
that was begun is gone through with, whatever is cancelled meanwhile, and the cancellation raised after it; no
thread is taken from those that the user's code shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread

from ..clocks import monotonic
from ..errors import RecordingError
from ..threads import Lock

if TYPE_CHECKING:
    from ..recording.recorder import Recorder
    from ..records.record import Record

__all__ = ["Confirmation", "is_covered"]

#: How many threads of one event loop wait at once; whoever comes later waits for one of them first.
THREADS = 40

_threads: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar(
    "capsule_sdk_confirming"
)


def is_covered(record: Record) -> bool:
    """Tell whether a task above ``record``, which has been handed over, is open and will wait for both."""
    above = record.parent
    while above is not None and above.closed:
        above = above.parent
    return above is not None


class Confirmation:
    """The commits that the end of a call, of a block or of a stream is to wait for. Used once."""

    __slots__ = ("_deadline", "_done", "_lock", "_records")

    def __init__(self, records: Sequence[tuple[Recorder, Record]]) -> None:
        self._records = records
        self._lock = Lock()
        self._done = False
        self._deadline = monotonic() + max(recorder.patience for recorder, _ in records)

    def confirm(self) -> None:
        """Wait; blocks.

        Raises:
            RecordingError: a capsule is not in its chain in time.

        """
        for recorder, record in self._records:
            recorder.confirm(record)

    async def aconfirm(self) -> None:
        """Wait in a thread, to the end.

        Raises:
            RecordingError: as `confirm`; but a cancellation of the meantime comes first.

        """
        try:
            anyio.current_time()
        except RuntimeError:  # nobody's event loop: the coroutine is stepped by hand
            self.confirm()
            return
        cancelled: BaseException | None = None
        failure: RecordingError | None = None
        with anyio.CancelScope(shield=True):
            while not self._done:
                try:
                    await anyio.to_thread.run_sync(self._once, limiter=_limiter())
                except anyio.get_cancelled_exc_class() as error:
                    cancelled = error  # asyncio's own `Task.cancel` knows no shield
                except RecordingError as error:
                    failure = error
                except RuntimeError:
                    if self._done:
                        raise
                    self._once()  # no thread can be started any more
        try:
            if cancelled is not None:
                raise cancelled
            await anyio.lowlevel.checkpoint_if_cancelled()
            if failure is not None:
                raise failure
        finally:
            del cancelled, failure  # or each and this frame would keep each other alive

    def _once(self) -> None:
        """Do as `confirm`, one thread at a time, and in vain no longer than the first of them."""
        with self._lock:
            try:
                if monotonic() > self._deadline:
                    raise RecordingError(
                        f"capsule {self._records[0][1].id} is not known to be in the chain: {THREADS} others"
                        " were waited for, in vain, all the time (see the log of capsule_sdk)"
                    )
                self.confirm()
            finally:
                self._done = True


def _limiter() -> anyio.CapacityLimiter:
    try:
        return _threads.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(THREADS)
        _threads.set(limiter)
        return limiter
