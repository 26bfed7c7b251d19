"""Leftovers: the journals of processes that are no more, read for recovery.

Reading changes nothing; whoever has brought all of it into the chain removes it. Until then it can be read
again, by this process or another, with the same result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..directories import Held, UnsafeError, open_if_any
from .contents import UNWRITTEN, backlog_in, homes, reading, records_in
from .files import Home, sweep
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

    def __init__(self, directory: Held) -> None:
        self._directory = directory
        self.damages: list[tuple[Path, Damage]] = []
        #: How many lines are no frames and no damage: torn ends, and frames that a full disk has cut.
        self.torn = 0

    def capsules(self) -> Iterator[dict[str, Any]]:
        """Yield the capsules that waited for the store, in order.

        Raises:
            OSError: a file cannot be read.

        """
        for name in backlog_in(self._directory):
            yield from (
                frame.document for frame in self._frames(name) if frame.kind == Kind.CAPSULE
            )

    def records(self) -> dict[str, Known]:
        """Return what is known of each record by its id, in the order in which they began.

        Raises:
            OSError: a file cannot be read.

        """
        records: dict[str, Known] = {}
        at = 0
        for name in records_in(self._directory):
            states: dict[str, Known] = {}
            frames: list[Frame] = []
            for frame in self._frames(name):
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
        try:
            with reading(self._directory, UNWRITTEN) as file:
                return list(entries_in(file))
        except FileNotFoundError:
            return []
        except UnsafeError as error:
            self._pass_over(UNWRITTEN, error)
            return []

    def _pass_over(self, name: str, error: UnsafeError) -> None:
        """Leave out what this user has not laid there: it is damage, and the rest is read."""
        self.damages.append((self._directory.path / name, Damage(0, 0, error.problem, torn=False)))

    def _frames(self, name: str) -> Iterator[Frame]:
        found: list[Damage] = []
        try:
            opened = reading(self._directory, name)
        except UnsafeError as error:
            self._pass_over(name, error)
            return
        with opened as file:
            for one in read(file):
                if isinstance(one, Damage):
                    found.append(one)
                elif one.kind == Kind.CUT:  # its writer knew of all that looks like this
                    self.torn += sum(damage.short for damage in found)
                    found = [damage for damage in found if not damage.short]
                else:
                    yield one
        self.torn += sum(damage.torn for damage in found)
        path = self._directory.path / name
        self.damages += [(path, damage) for damage in found if not damage.torn]


class Leftover(Contents):
    """The journal of a process that is no more, held against all others."""

    def __init__(self, home: Home) -> None:
        super().__init__(home.directory)
        self.home = home


def leftovers(root: Path) -> Iterator[Leftover | OSError]:
    """Yield, one after the other, the journals that nobody holds; each is let go when the next is asked for.

    In place of one that cannot be opened, or that is not to be believed, comes the reason.

    Raises:
        UnsafeError: ``root`` itself is not to be believed.
        OSError: it cannot be read.

    """
    try:
        held = open_if_any(root)
    except UnsafeError:
        raise
    except PermissionError as error:
        raise PermissionError(
            error.errno,
            f"{error.strerror}: run `capsuled recover` as the user whose it is, or give this one the right to"
            " read it if it is his",
            str(root),
        ) from error
    if held is None:
        return
    try:
        sweep(held)
        for path in list(homes(held)):
            try:
                home = Home.take_over(path, held)
            except OSError as error:
                yield error
                continue
            if home is not None:
                try:
                    yield Leftover(home)
                finally:
                    home.release()
    finally:
        held.close()


def _id(frame: Frame) -> str:
    return str(frame.document.get("id"))


def _apply(frame: Frame, records: dict[str, Known], at: int) -> None:
    known = records.setdefault(_id(frame), Known())
    if frame.kind == Kind.BEGUN:
        known.begun = {**known.begun, **frame.document}  # late, where the disk was full at first
    elif frame.kind == Kind.NOTED:
        known.notes.append(frame.document)
    elif frame.kind == Kind.ENDED:
        known.ended, known.ended_at = frame.document, at
