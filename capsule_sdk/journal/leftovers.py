"""Leftovers: the journals of processes that are no more, read for recovery.

Reading changes nothing; whoever has brought all of it into the chain removes it. Until then it can be read
again, by this process or another, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .files import Home, backlog_in, homes, records_in, sweep, unwritten_in
from .frames import Damage, Frame, Kind, read
from .unwritten import entries_in

__all__ = ["Contents", "Known", "Leftover", "leftovers"]


@dataclass(slots=True)
class Known:
    """What the frames say of one record."""

    begun: dict[str, Any] = field(default_factory=dict)
    notes: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None
    #: Its place among all that has ended.
    ended_at: int = 0


class Contents:
    """What stands in the journal of one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damages: list[tuple[Path, Damage]] = []
        self._cut = 0

    def capsules(self) -> Iterator[dict[str, Any]]:
        """Yield the capsules that waited for the store, in order.

        Raises:
            OSError: a file cannot be read.

        """
        for path in backlog_in(self.path):
            yield from (
                frame.document for frame in self._frames(path) if frame.kind == Kind.CAPSULE
            )

    def records(self) -> dict[str, Known]:
        """Return what is known of each record by its id, in the order in which they began.

        Raises:
            OSError: a file cannot be read.

        """
        records: dict[str, Known] = {}
        at = 0
        for path in records_in(self.path):
            states: dict[str, Known] = {}
            frames: list[Frame] = []
            for frame in self._frames(path):
                if frame.kind == Kind.STATE:
                    states[_id(frame)] = Known(frame.document, ended_at=len(states))
                elif frame.kind == Kind.RESTATED:
                    records, states, at = states, {}, len(states)
                else:
                    frames.append(frame)
            # The disk was full, or the process ended, before all was said again.
            for key, known in states.items():
                if not records.setdefault(key, known).begun:
                    records[key].begun = known.begun
            for frame in frames:
                at += 1
                _apply(frame, records, at)
        return records

    def unwritten(self) -> list[dict[str, Any]]:
        """Return what could not be written: records, the ends of records, and numbers of them.

        Raises:
            OSError: that cannot be read.

        """
        path = unwritten_in(self.path)
        entries = list(entries_in(path)) if path.exists() else []
        self._cut = sum(int(one.get("cut", 0)) for one in entries)
        return [one for one in entries if "cut" not in one]

    def torn(self) -> int:
        """Return how many damages are none: torn ends, and frames that a full disk is known to have cut."""
        short = sum(one.short and not one.torn for _, one in self.damages)
        return sum(one.torn for _, one in self.damages) + min(short, self._cut)

    def _frames(self, path: Path) -> Iterator[Frame]:
        with path.open("rb") as file:
            for found in read(file):
                if isinstance(found, Frame):
                    yield found
                else:
                    self.damages.append((path, found))


class Leftover(Contents):
    """The journal of a process that is no more, held against all others."""

    def __init__(self, home: Home) -> None:
        super().__init__(home.path)
        self.home = home


def leftovers(root: Path) -> Iterator[Leftover | OSError]:
    """Yield, one after the other, the journals that nobody holds; each is let go when the next is asked for.

    In place of one that cannot be opened comes the reason.

    Raises:
        OSError: ``root`` cannot be read.

    """
    sweep(root)
    for path in homes(root):
        try:
            home = Home.take_over(path)
        except OSError as error:
            yield error
            continue
        if home is not None:
            try:
                yield Leftover(home)
            finally:
                home.release()


def _id(frame: Frame) -> str:
    return str(frame.document.get("id"))


def _apply(frame: Frame, records: dict[str, Known], at: int) -> None:
    known = records.setdefault(_id(frame), Known())
    if frame.kind == Kind.BEGUN:
        known.begun = frame.document
    elif frame.kind == Kind.NOTED:
        known.notes.append(frame.document)
    elif frame.kind == Kind.ENDED:
        known.ended, known.ended_at = frame.document, at
