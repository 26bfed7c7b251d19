"""Writing: the thread that a recorder's rounds are made in.

Python's own `threading.Thread` is no safe thing where a signal handler may raise: what waits for its beginning
lets go of a lock in between, and as it dies a line of Python runs, in which Ctrl-C would be lost. So it is
begun, waited for and let go of where no handler runs (`capsule_sdk.interrupts`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ..interrupts import undisturbed
from ..threads import Daemon, get_ident

__all__ = ["Writer"]

#: Seconds that the beginning and the end of a thread are waited for beyond what was asked.
PATIENCE: Final = 10.0


class Writer:
    """One thread, from its naming on: whoever finds it begun begins no other."""

    __slots__ = ("_thread", "_work", "stopping")

    def __init__(self, work: Callable[[Writer], None]) -> None:
        self._work = work
        #: Whether it is to end.
        self.stopping = False
        self._thread: Daemon | None = None

    def begin(self) -> bool:
        """Begin; false where no thread can be had."""
        return undisturbed(self._begin, PATIENCE) is not False

    def _begin(self) -> bool:
        self._thread = Daemon(lambda: self._work(self), "capsule-writer")
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            return False
        return True

    def is_here(self) -> bool:
        """Tell whether this is the thread that asks."""
        return self._thread is not None and self._thread.ident == get_ident()

    def join(self, patience: float) -> None:
        """Wait for its end, so many seconds at most."""
        undisturbed(lambda: self._join(patience), patience + PATIENCE)

    def _join(self, patience: float) -> None:
        thread = self._thread
        if thread is not None and not self.is_here() and thread.join(patience):
            self._thread = None
