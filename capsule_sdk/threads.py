"""Threads: what concurrency is made of here, as it was when this package was imported. A leaf.

gevent puts its own in the place of Python's: before that import, as it asks for, and then all here is gevent's;
or after it (``gunicorn -k gevent --preload``), and then all here stays Python's. Mixed, they stand still: a
greenlet that waits for a queue of threads holds up all greenlets of the process, and so the server.
"""

from __future__ import annotations

import _thread
import threading
from _thread import get_ident, start_new_thread
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

__all__ = ["Daemon", "Empty", "Lock", "RLock", "SimpleQueue", "get_ident", "start_new_thread"]

Lock: Final = _thread.allocate_lock
#: Not `threading.RLock`: that is a function, which looks each time for what there is.
RLock: Final[Any] = getattr(threading, "_CRLock", None) or threading.RLock


class Daemon:
    """A thread of the kind that locks and queues here are made for; no end of the process waits for it."""

    __slots__ = ("_ended", "_name", "_thread", "_work", "ident")

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._name = name
        self._ended: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        #: Of the thread, once it runs.
        self.ident: int | None = None

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: no thread can be had.

        """
        if _thread.start_new_thread is start_new_thread:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        else:  # `threading.Thread` makes greenlets by now
            start_new_thread(self._run, ())

    def _run(self) -> None:
        self.ident = get_ident()
        try:
            self._work()
        finally:
            self._ended.put(None)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for its end, so many seconds at most; return whether it has ended."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        try:
            self._ended.get(timeout=timeout)
        except Empty:
            return False
        self._ended.put(None)
        return True
