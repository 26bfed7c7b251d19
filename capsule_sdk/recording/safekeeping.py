"""Safekeeping: what the journal says of the records of one recorder, and how it is kept in order.

The callers' side writes what begins and ends; the writer tends: it drops what is in the chain, and when the
journal cannot be written (a full disk, a directory that is read-only or gone) it tries again, and says once
there is room all that was missed. What was missed meanwhile is in memory, and as safe as that; which records
it is stands in room that was taken for this before (`capsule_sdk.journal.unwritten`), so that whoever comes
later can count what was lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..clocks import monotonic
from ..journal.backlog import Backlog
from ..journal.contents import UNWRITTEN
from ..journal.files import Home
from ..journal.frames import Kind
from ..journal.journal import Journal
from ..journal.leftovers import Contents
from ..journal.unwritten import Unwritten
from ..logs import report, tell
from ..records.record import Record
from ..records.state import beginning, ending, missing, note, state
from ..records.task import Task
from .last_word import Kept
from .telling import Telling

__all__ = ["Safekeeping"]

#: Seconds between two looks at the journal, and at where it belongs while it is elsewhere.
LOOK, RETURN = 0.5, 60.0
#: Bytes that a journal may have before what is in the chain is dropped from it.
SIZE = 4 << 20


class Safekeeping:
    """Keeps records safe from the end of the process. Writing is for any thread, `tend` for one at a time."""

    def __init__(
        self,
        root: Callable[[], Path],
        elsewhere: Callable[[Path], Sequence[Path]],
        living: Callable[[], Iterable[Record]],
        wake: Callable[[], None],
        *,
        instead: Callable[[Path], Sequence[Path]] = lambda _: (),
        label: Callable[[Path], Path] = lambda root: root,
        homeless: Callable[[Path], str | None] = lambda _: None,
    ) -> None:
        self._root = root
        #: Of that directory: where what is missed is left, where the journal goes that cannot lie there,
        #: what it goes by then, and why nobody knows where it belongs.
        self._elsewhere = elsewhere
        self._instead = instead
        self._label = label
        self._homeless = homeless
        self._living = living
        #: Has whoever tends come soon.
        self._wake = wake
        self._journal: Journal | None = None
        #: What the journal does not hold, by id; and the file that says so.
        self._missed: dict[str, dict[str, Any]] = {}
        #: What is durable itself, and still missed for the sake of the task above, by that one's id.
        self._below: dict[str, list[str]] = {}
        self._unwritten: Unwritten | None = None
        #: Whether that file has not taken all that is missed.
        self._untold = False
        self._next_look = self._next_return = 0.0
        self._telling = Telling()

    # -- the callers' side ------------------------------------------------------------------------

    def begun(self, record: Record) -> None:
        """Write that a record has begun, if that is possible."""
        record.weight = self._write(Kind.BEGUN, record, beginning)
        if not record.weight:
            self._miss(record.id.hex, missing(record))

    def ended(self, record: Record) -> None:
        """Write how a record has ended, if that is possible."""
        if not record.journaled:
            record.journaled = True
            if not record.weight and record.id.hex in self._missed:
                record.weight = self._write(Kind.BEGUN, record, beginning)
            written = self._write(Kind.ENDED, record, ending)
            record.weight += written
            if not written:
                self._miss(record.id.hex, missing(record))

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

    def hold(self, key: str, count: int) -> None:
        """Keep a number of lost records, under the id of the capsule that is to say so."""
        self._miss(key, {"id": key, "count": count})

    def durable(self, record: Record, *, above_lives: bool) -> None:
        """Note that a record is in the chain, or in the backlog.

        Args:
            record: the record.
            above_lives: whether the task above is not: whoever recovers that one has to know of this one.

        """
        key = record.id.hex
        if key in self._missed and above_lives and record.parent_id is not None:
            self._below.setdefault(record.parent_id.hex, []).append(key)
        elif self._missed:
            self.done_with(key)
        if self._below:
            self._forget_below(key)

    def _forget_below(self, key: str) -> None:
        for child in self._below.pop(key, ()):
            self.done_with(child)

    def done_with(self, key: str) -> None:
        """Note that something is missed no more."""
        if self._missed and self._missed.pop(key, None) is not None and self._unwritten is not None:
            self._unwritten.drop(key)

    def _miss(self, key: str, document: dict[str, Any]) -> None:
        self._missed[key] = document
        if self._unwritten is not None and not self._unwritten.put(key, document):
            self._untold = True

    # -- one thread at a time ---------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether there is a journal to write to."""
        return self._journal is not None and self._journal.is_open

    @property
    def misses(self) -> bool:
        """Whether the journal lacks something that is not in the chain."""
        return bool(self._missed)

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
        home = self.home  # once: any thread may ask, while the journal is let go of
        return 0 if home is None else home.size()

    def open(self) -> None:
        """Open the journal, or try again later."""
        now = monotonic()
        if now < self._next_look and self._journal is not None:
            return
        self._next_look = now + LOOK
        try:
            if self._journal is None:
                root = self._root()
                self._journal = Journal(root, lambda: self._instead(root))
                self._next_return = now + RETURN
            self._rotate(self._journal)
            self._telling.well(self._journal, self._homeless)
        except Exception as error:  # noqa: BLE001 - the records are in memory, and this is tried again
            self._complain(error)
        self._take_room()

    def tend(self) -> None:
        """Keep the journal small and writable. Cheap where there is nothing to do."""
        now = monotonic()
        if now < self._next_look:
            return
        self._next_look = now + LOOK
        journal = self._journal
        if journal is None:
            return
        self._telling.gaps(journal.home)
        try:
            if journal.is_open and journal.is_there() is False:
                tell("error", "the journal was removed while in use", directory=str(journal.root))
                journal.let_go()
                self._rotate(journal)
            elif journal.trouble is not None or not journal.is_open:
                if journal.trouble is not None:
                    self._complain(journal.trouble)
                self._rotate(journal)
            elif self._returns(journal, now):
                tell(
                    "warning", "the journal is where it belongs again", directory=str(journal.root)
                )
            elif journal.outgrown(SIZE) or not (journal.is_empty() or self._anything_lives()):
                self._rotate(journal)
            else:
                self._take_room()
                return
            self._telling.well(journal, self._homeless)
        except Exception as error:  # noqa: BLE001 - as above
            self._complain(error)
        self._take_room()

    def _returns(self, journal: Journal, now: float) -> bool:
        """Go to where the journal belongs, if it can be there again, and no capsules wait where it is."""
        if journal.refused is None or now < self._next_return:
            return False
        self._next_return = now + RETURN
        before = journal.home
        if before is None or before.backlog() or not journal.can_return():
            return False
        self._rotate(journal, anew=True)
        before.remove()
        return True

    def due(self) -> float | None:
        """Return when `tend` has something to do though nothing happens, on the clock of `time.monotonic`."""
        journal = self._journal
        if journal is None or (journal.is_open and journal.trouble is None and journal.is_empty()):
            return None
        return self._next_look

    def close(self, *, waiting: bool) -> None:
        """Remove the journal, unless something counts on it still or capsules are ``waiting`` in it."""
        if not (waiting or self.misses or self._anything_lives()):
            self._leave_no_room()
        journal = self._journal
        if journal is None or not journal.is_open:
            return
        self._next_look = 0.0
        try:
            if waiting or self.misses or self._anything_lives():
                self._rotate(journal)
                return
            journal.close()
            if not (waiting or self.misses or self._anything_lives()):
                journal.remove()
            if waiting or self.misses or self._anything_lives():  # it has begun since
                self._rotate(journal)
        except Exception as error:  # noqa: BLE001 - whoever recovers it finds all in the chain
            self._complain(error)

    def forget(self) -> None:
        """Leave the journal to the process that this one was forked from."""
        if self._journal is not None:
            self._journal.forget()
        self._journal = self._unwritten = None  # its descriptor went with the fork
        self._untold = False
        self._missed, self._below = {}, {}
        self._next_look = 0.0
        self._telling.forget()

    def account(self, backlog: Backlog) -> Kept:
        """Bring to disk what can be brought there, and look what is there indeed.

        Args:
            backlog: what waits there for the store, each of it written and synced.

        """
        journal, living = self._journal, list(self._living())
        known: dict[str, Any] = {}
        doubt: str | None = None
        there: bool | None = False
        with suppress(Exception):  # what cannot be read is not called safe
            if journal is not None:
                doubt = self._brought_to_disk(journal, backlog)
                there = journal.is_there()
                if journal.home is not None and there:
                    known = Contents(journal.home.directory).records()
        gone, unseen = backlog.gone(), backlog.unseen()
        if gone:
            self.hold(uuid4().hex, gone)
        safe, ends, lost = len(backlog) - gone - unseen, 0, 0
        for record in living:
            key, found = record.id.hex, known.get(record.id.hex)
            if found is not None and (found.ended is not None or "status" in found.begun):
                safe += 1
                if doubt is not None:  # its id is not counted where it is there after all
                    self._miss(key, missing(record))
                continue
            if there is None and record.journaled and record.weight and key not in self._missed:
                unseen += 1
                continue
            if found is not None and found.begun:
                ends += 1
            else:
                lost += 1
            self._miss(key, missing(record))
        lost += sum(one["count"] for one in self._missed.values() if "count" in one)
        noted = self._noted() if ends or lost or doubt is not None else None
        where, noted = self.home.path if self.home else None, noted if ends or lost else None
        return Kept(safe, ends, lost, noted, doubt if safe else None, unseen, where)

    def _brought_to_disk(self, journal: Journal, backlog: Backlog) -> str | None:
        """Say all again, where it is to be found; return why the disk does not confirm it."""
        with suppress(OSError):
            # Somebody has closed the way to it:
            hidden, before = journal.is_there() is None, journal.home
            if journal.is_open and journal.is_there() is False:
                journal.let_go()  # somebody has taken it away
            self._rotate(journal, anew=hidden)
            if hidden and before is not None:
                before.release()
            if journal.home is not None:
                backlog.move(journal.home, unseen=hidden)
        try:
            journal.sync()
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return None

    def _noted(self) -> Path | None:
        """Return where all that is missed stands, on disk, for whoever comes next."""
        self._take_room()
        unwritten = self._unwritten
        try:
            if unwritten is None or not self._told_to(unwritten):
                return None
            unwritten.sync()
        except OSError:
            return None
        return unwritten.path if unwritten.is_there() else None

    def _take_room(self) -> None:
        """Have room for what is missed: in the directory of the journal, or wherever there is some."""
        before, home = self._unwritten, self.home
        if before is not None and not before.is_there():
            before.release()
            before = None
        if before is not None and self._untold:
            self._untold = not self._told_to(before)
        in_place = before is not None and (home is None or before.path.parent == home.path)
        if in_place and not self._untold:
            return
        unwritten = None
        with suppress(OSError):
            unwritten = None if home is None else Unwritten.make(home.directory, UNWRITTEN)
        if unwritten is None and (before is None or self._untold):
            with suppress(Exception):  # where nothing has a name, nothing can be left
                root = self._root()
                unwritten = Unwritten.make_elsewhere(self._elsewhere(root), self._label(root))
        self._unwritten = unwritten or before
        if unwritten is None:
            return
        self._untold = not self._told_to(unwritten)
        if before is not None:
            before.remove()

    def _told_to(self, unwritten: Unwritten) -> bool:
        """Write all that is missed to a file; false where it did not take all of it."""
        missed = list(self._missed.items())
        return not [key for key, document in missed if not unwritten.put(key, document)]

    def _leave_no_room(self) -> None:
        unwritten, self._unwritten = self._unwritten, None
        if unwritten is not None:
            unwritten.remove()

    def _rotate(self, journal: Journal, *, anew: bool = False) -> None:
        """Say again what still counts, and then miss it no more."""
        said: list[tuple[str, dict[str, Any] | None]] = []

        def states() -> Iterator[tuple[bytes, dict[str, Any]]]:
            for record in self._living():
                said.append((record.id.hex, self._missed.get(record.id.hex)))
                yield Kind.STATE, state(record)

        journal.rotate(states, anew=anew)
        for key, missed in said:
            self._forget_below(key)
            if self._missed.get(key) is missed:  # no end came meanwhile that could not be written
                self.done_with(key)

    def _anything_lives(self) -> bool:
        return any(True for _ in self._living())

    def _complain(self, error: Exception) -> None:
        self._telling.trouble(error, self._journal, misses=self.misses)
