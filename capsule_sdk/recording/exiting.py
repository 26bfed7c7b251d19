"""Exiting: all recorders close within one bound when the process ends, however many there are.

``exit_timeout`` is what the chains are waited for, counted once from when the end begins; `CLOSING` is what
stopping the writers and closing the stores may take beyond that, all together. What ends later is committed by
the thread that ends it, within what is left. What is not in a chain by then is in the journal.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..clocks import monotonic
from ..forks import Stage, at_fork
from ..logs import report
from .forking import live_recorders

if TYPE_CHECKING:
    from .recorder import Recorder

__all__ = ["close_all", "close_at_exit_of_worker", "shut_down"]

#: Seconds that closing all recorders may take once their chains were waited for.
CLOSING = 3.0


def close_all(recorders: Sequence[Recorder]) -> None:
    """Settle what is open, wait for the chains, and close these recorders, within one bound for all."""
    last_call = monotonic() + max((one.settings.exit_timeout for one in recorders), default=0.0)
    left: dict[Recorder, int] = {}
    for recorder in recorders:
        _try(recorder.settle_all)
    for recorder in recorders:  # their writers work side by side while one of them is waited for
        left[recorder] = 1  # unless it is known better
        _try(partial(_drain, recorder, last_call, left))
    deadline = max(last_call, monotonic()) + CLOSING
    # Those first that close at once.
    for recorder in sorted(recorders, key=lambda one: left[one] > 0):
        patience = 0.0 if left[recorder] else max(0.0, deadline - monotonic())
        _try(partial(recorder.close, patience))


def _drain(recorder: Recorder, last_call: float, left: dict[Recorder, int]) -> None:
    left[recorder] = recorder.drain(last_call)


def shut_down(recorders: Sequence[Recorder], timeout: float | None) -> int:
    """Shut these recorders down within ``timeout`` seconds for all; return how many records are not durable."""
    if timeout is None:
        timeout = max((one.settings.exit_timeout for one in recorders), default=0.0)
    deadline = monotonic() + timeout
    return sum(recorder.shutdown(max(0.0, deadline - monotonic())) for recorder in recorders)


def _try(work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the other recorders still have to be closed
        report("recorder.exit", error)


def _at_exit() -> None:
    close_all(live_recorders())


#: Whether the end of this process is looked after as that of a worker.
_worker = False


def close_at_exit_of_worker() -> None:
    """Do as ``atexit`` in a worker that `multiprocessing` or Celery has forked: it ends in a way of its own."""
    global _worker  # noqa: PLW0603 - a process ends once, whichever recorder comes first
    if _worker:
        return
    if (celery := sys.modules.get("celery.signals")) is not None:
        # A child of its pool says so, and is gone by `os._exit` a second later.
        celery.worker_process_shutdown.connect(
            _at_end_of_pool_worker, weak=False, dispatch_uid="capsule_sdk"
        )
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None and multiprocessing.parent_process() is not None:
        from multiprocessing.util import Finalize  # noqa: PLC0415 - only where it is in use already

        Finalize(None, _at_exit, exitpriority=0)
        _worker = True


def _at_end_of_pool_worker(**_: object) -> None:
    _at_exit()


def _after_fork_in_child(_: object) -> None:
    global _worker  # noqa: PLW0603 - multiprocessing has cleared the finalizers of the parent
    _worker = False


at_fork(Stage.REST, in_child=_after_fork_in_child)
atexit.register(_at_exit)
