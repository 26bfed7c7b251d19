"""Interrupts: what an exception out of a signal handler cannot leave half done. A leaf.

Python runs signal handlers in the main thread, and there between any two instructions that call, jump back or
begin a function; never in the middle of a call of a function in C. Ctrl-C and soft time limits raise there. So:

- A lock MUST be taken by ``with``, and by a method in C: between the instruction that calls ``__enter__`` and
  the block there is no such point, nor is there one between the block and ``__exit__``. (CPython 3.11 to 3.14:
  ``BEFORE_WITH`` and ``LOAD_SPECIAL`` look at no signal.) A method in Python has one at its first line already,
  so `threading.Condition` and `threading.Event` are not used.
- What takes several steps that belong together is done in a thread in which no handler runs (`undisturbed`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import copy_context
from math import inf
from typing import Any, TypeVar

from .threads import Empty, SimpleQueue, start_new_thread

__all__ = ["Bell", "NotHad", "held", "undisturbed"]

T = TypeVar("T")

#: Raised by ``with held(...)`` where the lock cannot be had in time.
NotHad = StopIteration


class held:  # noqa: N801 - used as a statement: with suppress(NotHad), held(lock, 1.0)
    """Hold a lock for a block, if it can be had within so many seconds; raises `NotHad` otherwise.

    Python's own ``lock.acquire(timeout=...)`` has to be followed by ``try``, and a signal handler may raise
    between the two. So the way in is the acquiring itself, as an iterator in C: its next item is there once the
    lock is held, and none is left where that was in vain.
    """

    __slots__ = ("__enter__", "__exit__")

    def __init__(self, lock: Any, seconds: float) -> None:
        seconds = min(max(0.0, seconds), threading.TIMEOUT_MAX)
        self.__enter__ = filter(None, map(lock.acquire, (True,), (seconds,))).__next__
        self.__exit__ = lock.__exit__


class Bell:
    """Wakes waiting threads, as `threading.Condition` does; ringing takes no lock."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: dict[SimpleQueue[None], None] = {}

    def ring(self) -> None:
        """Have all waiting threads look again."""
        for one in list(self._waiting):
            one.put(None)

    def wait_for(self, done: Callable[[], bool], seconds: float, look: Callable[[], float]) -> None:
        """Return when ``done`` is true, or that many seconds are over on the clock ``look``."""
        rung: SimpleQueue[None] = SimpleQueue()
        deadline = look() + seconds
        try:
            self._waiting[rung] = None
            while not done() and (left := deadline - look()) > 0:
                try:
                    rung.get(timeout=min(left, threading.TIMEOUT_MAX))
                except Empty:
                    return
        finally:
            self._waiting.pop(rung, None)


def undisturbed(work: Callable[[], T], patience: float = inf) -> T | None:
    """Do ``work`` where no signal handler runs, and return what it returns.

    Where its caller is interrupted, or waits for more than ``patience`` seconds (and gets ``None``), it goes on
    by itself to its end. It MUST NOT need a lock that its caller may hold.
    """
    if threading.current_thread() is not threading.main_thread() or sys.is_finalizing():
        return work()
    context = copy_context()
    outcome: SimpleQueue[tuple[bool, Any]] = SimpleQueue()

    def run() -> None:
        try:
            outcome.put((True, context.run(work)))
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            outcome.put((False, error))

    try:
        start_new_thread(run, ())
    except RuntimeError:  # at the end of the process there may be no more threads
        return work()
    try:
        well, result = outcome.get(timeout=min(max(0.0, patience), threading.TIMEOUT_MAX))
    except Empty:
        return None
    if not well:
        raise result
    return result  # type: ignore[no-any-return]
