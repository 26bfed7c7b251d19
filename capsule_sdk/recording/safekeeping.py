"""Safekeeping: what the journal says of the records of one recorder, and how it is kept in order.

The callers' side writes what begins and ends; the writer tends: it drops what is in the chain, and when the
journal cannot be written (a full disk, a directory that is read-only or gone) it tries again, and says once
there is room all that was missed. What was missed meanwhile is in memory, and as safe as that.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ..journal.files import Home
from ..journal.frames import Kind
from ..journal.journal import Journal
from ..logs import errors, gaps, report, tell
from ..records.record import Record
from ..records.state import beginning, ending, note, state
from ..records.task import Task

__all__ = ["Safekeeping"]

#: Seconds between two looks at the journal, and between two lines in the log about the same trouble.
LOOK, REMINDER = 0.5, 60.0
#: Bytes that a journal may have before what is in the chain is dropped from it.
SIZE = 4 << 20


class Safekeeping:
    """Keeps records safe from the end of the process. Writing is for any thread, `tend` for one at a time."""

    def __init__(
        self,
        root: Callable[[], Path],
        living: Callable[[], Iterable[Record]],
        wake: Callable[[], None],
    ) -> None:
        self._root = root
        self._living = living
        #: Has whoever tends come soon.
        self._wake = wake
        self._journal: Journal | None = None
        self._next_look = 0.0
        self._trouble_since: float | None = None
        self._next_reminder = 0.0
        self._gaps_told: tuple[Home | None, int] = (None, 0)

    # -- the callers' side ------------------------------------------------------------------------

    def begun(self, record: Record) -> None:
        """Write that a record has begun, if that is possible."""
        record.weight = self._write(Kind.BEGUN, record, beginning)

    def ended(self, record: Record) -> None:
        """Write how a record has ended, if that is possible."""
        if not record.journaled:
            record.journaled = True
            record.weight += self._write(Kind.ENDED, record, ending)

    def noted(self, task: Task, field: str) -> None:
        """Write what has just been written to an open task, if that is possible."""
        self._write(Kind.NOTED, task, lambda task: note(task, field))

    def _write(self, kind: bytes, record: Any, document: Callable[[Any], dict[str, Any]]) -> int:
        journal = self._journal
        try:
            if journal is not None and journal.is_open:
                well = journal.trouble is None
                written = journal.append(kind, document(record))
                if not written and well:
                    self._wake()
                return written
        except Exception as error:  # noqa: BLE001 - it is still in memory, and the user's code goes on
            report("journal.write", error, capsule_id=str(record.id))
        return 0

    # -- one thread at a time ---------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a journal to write to."""
        return self._journal is not None and self._journal.is_open

    @property
    def trouble(self) -> str | None:
        """Why the journal cannot be written just now."""
        trouble = self._journal.trouble if self._journal is not None else None
        return None if trouble is None else str(trouble)

    @property
    def home(self) -> Home | None:
        """The directory of this process, where there is one."""
        return self._journal.home if self._journal is not None else None

    def size(self) -> int:
        """Return the bytes of this process's journal, with all that waits there for the store."""
        return self.home.size() if self.home is not None else 0

    def open(self) -> None:
        """Open the journal, or try again later."""
        now = time.monotonic()
        if now < self._next_look and self._journal is not None:
            return
        self._next_look = now + LOOK
        try:
            if self._journal is None:
                self._journal = Journal(self._root())
            self._journal.rotate(self._states)
        except Exception as error:  # noqa: BLE001 - the records are in memory, and this is tried again
            self._complain(error)
        else:
            self._is_well()

    def tend(self) -> None:
        """Keep the journal small and writable. Cheap where there is nothing to do."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        journal = self._journal
        if journal is None:
            return
        self._tell_gaps()
        try:
            if journal.is_open and not journal.is_there():
                tell("error", "the journal was removed while in use", directory=str(journal.root))
                journal.begin_anew(self._states)
            elif journal.trouble is not None or not journal.is_open:
                if journal.trouble is not None:
                    self._complain(journal.trouble)
                journal.rotate(self._states)
            elif journal.outgrown(SIZE) or not (journal.is_empty() or self._anything_lives()):
                journal.rotate(self._states)
            else:
                return
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)
        else:
            self._is_well()

    def due(self) -> float | None:
        """Return when `tend` has something to do though nothing happens, on the clock of `time.monotonic`."""
        journal = self._journal
        if journal is None or (journal.is_open and journal.trouble is None and journal.is_empty()):
            return None
        return self._next_look

    def close(self, *, waiting: bool) -> None:
        """Remove the journal, unless something counts on it still or capsules are ``waiting`` in it."""
        journal = self._journal
        if journal is None or not journal.is_open:
            return
        self._next_look = 0.0
        try:
            journal.close()
            if not waiting and not self._anything_lives():
                journal.remove()
            if waiting or self._anything_lives():  # what has begun since, too
                journal.rotate(self._states)
        except Exception as error:  # noqa: BLE001 - whoever recovers it finds all in the chain
            self._complain(error)

    def forget(self) -> None:
        """Leave the journal to the process that this one was forked from."""
        if self._journal is not None:
            self._journal.forget()
        self._journal = None
        self._next_look = 0.0
        self._trouble_since = None

    def _anything_lives(self) -> bool:
        return any(True for _ in self._living())

    def _states(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        for record in self._living():
            yield Kind.STATE, state(record)

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if self._trouble_since is None:
            errors["recorder.journal"] += 1
            self._trouble_since, self._next_reminder = now, now
        if now >= self._next_reminder:
            self._next_reminder = now + REMINDER
            tell(
                "error",
                "the journal cannot be written: until the store has them, records are in memory only",
                error=f"{type(error).__name__}: {error}",
            )

    def _tell_gaps(self) -> None:
        """Leave in the journal what this process cannot record as it should, for ``capsuled status``."""
        told = (self.home, len(gaps))
        if told[0] is not None and gaps and told != self._gaps_told:
            self._gaps_told = told
            with contextlib.suppress(OSError):  # the log has it
                told[0].say_gaps(f"{what}: {costs}" for what, costs in gaps.items())

    def _is_well(self) -> None:
        self._tell_gaps()
        if self._trouble_since is not None:
            seconds = round(time.monotonic() - self._trouble_since, 1)
            tell("warning", "the journal can be written again", seconds=seconds)
            self._trouble_since = None
