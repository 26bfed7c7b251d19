"""Unwritten: which records no journal holds, in room that was taken while there was some.

A disk that is full takes no more bytes, but lets those be written over that it has given. So this file has all
of its bytes from the start, and an entry is written over them: what was begun and could be written nowhere
is known even after ``kill -9``, and counted by whoever recovers.

- An entry is a frame in a place of a fixed size, filled up with line breaks. It names one record, so that one
  that got into the chain after all is never counted; beyond the last place there is one entry with a number.
- The file MUST be locked while its process lives (`flock`), and is read for recovery under that lock only.
- Outside of a journal's own directory a file is believed only if it is this user's alone, and has one name.

`put` and `drop` are for any thread, all else for one at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

from ..directories import Held, UnsafeError, beside, ours
from ..owners import acting_uid
from .frames import Frame, Kind, encode, read
from .location import mark_of

__all__ = ["Unwritten", "entries_in", "left_in"]

#: Bytes of a place, in which a tenant's id fits whatever its characters are, and how many places there are; the
#: last ones are for numbers.
PLACE, PLACES, _NUMBERS = 384, 1024, 8
_FREE = b"\n" * PLACE


class Unwritten:
    """A file of such entries, held by its lock."""

    def __init__(self, directory: Held, name: str, descriptor: int) -> None:
        self._directory = directory
        self._name = name
        self._fd = descriptor
        self._places: dict[str, int] = {}
        self._free = deque(range(PLACES - _NUMBERS))
        self._for_numbers = deque(range(PLACES - _NUMBERS, PLACES - 1))
        self._beyond: dict[str, None] = {}
        self._beyond_id = uuid4().hex
        ours.add(descriptor)

    @property
    def path(self) -> Path:
        """Where it lay when it was last seen."""
        return self._directory.path / self._name

    @classmethod
    def make(cls, directory: Held, name: str) -> Unwritten:
        """Make the file, with all of its room.

        Raises:
            OSError: there is not that much.

        """
        descriptor = directory.create(name, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(descriptor, _FREE * PLACES) < PLACE * PLACES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory.path / name))
            return cls(directory.again(), name, descriptor)
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                directory.unlink(name)
            raise

    @classmethod
    def make_elsewhere(cls, directories: Iterable[Path], root: Path) -> Unwritten | None:
        """Make the file for the journals of ``root`` in the first of other directories that takes it."""
        for directory in directories:
            with contextlib.suppress(OSError):
                held = beside(directory)
                try:
                    return cls.make(held, f"{_prefix(root)}{secrets.token_hex(4)}")
                finally:
                    held.close()
        return None

    @classmethod
    def take_over(cls, directory: Held, name: str) -> Unwritten | None:
        """Hold the file of a process that is no more; ``None`` where it lives.

        Raises:
            UnsafeError: it is not this user's alone, or a link.
            OSError: it cannot be opened.

        """
        descriptor = directory.open(name, os.O_RDWR)
        with contextlib.ExitStack() as unused, contextlib.suppress(BlockingIOError):
            unused.callback(os.close, descriptor)
            if os.fstat(descriptor).st_nlink == 1:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                taken = cls(directory.again(), name, descriptor)
                unused.pop_all()
                return taken
        return None

    def entries(self) -> list[dict[str, Any]]:
        """Return what stands in it.

        Raises:
            OSError: it cannot be read.

        """
        os.lseek(self._fd, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._fd), "rb") as file:
            return list(entries_in(file))

    def put(self, key: str, document: dict[str, Any]) -> bool:
        """Write an entry, in the place of the one of before with this key; false where that failed."""
        place = self._places.get(key)
        if place is None and key in self._beyond:  # it counts already
            return self._write_beyond()
        if place is None:
            try:
                place = (self._for_numbers if "count" in document else self._free).popleft()
            except IndexError:
                self._beyond[key] = None
                return self._write_beyond()
            self._places[key] = place
        return self._write(place, encode(Kind.LOST, document))

    def drop(self, key: str) -> None:
        """Remove an entry."""
        place = self._places.pop(key, None)
        if place is not None:
            if self._write(place, _FREE):
                last = place >= PLACES - _NUMBERS
                (self._for_numbers if last else self._free).append(place)
        elif key in self._beyond:
            self._beyond.pop(key, None)
            self._write_beyond()

    def holds(self, key: str) -> bool:
        """Tell whether there is an entry, or a place in the number, for this key."""
        return key in self._places or key in self._beyond

    def is_there(self) -> bool:
        """Tell whether the file can still be found."""
        try:
            return os.fstat(self._fd).st_nlink > 0
        except OSError:
            return False

    def sync(self) -> None:
        """Have the disk confirm it.

        Raises:
            OSError: it does not.

        """
        os.fsync(self._fd)

    def remove(self) -> None:
        """Remove the file, and let go of it."""
        with contextlib.suppress(OSError):
            self._directory.unlink(self._name)
        self.release()

    def release(self) -> None:
        """Let go of the file and leave it as it is."""
        if self._fd in ours:
            ours.discard(self._fd)
            os.close(self._fd)
        self._directory.close()

    def _write_beyond(self) -> bool:
        frame = encode(Kind.LOST, {"id": self._beyond_id, "count": len(self._beyond)})
        return self._write(PLACES - 1, frame if self._beyond else _FREE)

    def _write(self, place: int, frame: bytes) -> bool:
        try:
            written = os.pwrite(self._fd, frame[:PLACE].ljust(PLACE, b"\n"), place * PLACE)
        except OSError:
            return False
        return written == PLACE


def entries_in(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file.

    Raises:
        OSError: it cannot be read.

    """
    for frame in read(file):
        if isinstance(frame, Frame) and frame.kind == Kind.LOST:
            yield frame.document


def left_in(directories: Iterable[Path], *roots: Path) -> Iterator[Unwritten | OSError]:
    """Yield the files for the journals of ``roots`` whose processes are no more; each is held until the next.

    In place of one that this user may not open comes the reason. What is not this user's is passed over:
    anybody may lay one in a directory for all.
    """
    for directory in directories:
        try:
            held = beside(directory)
        except OSError:
            continue
        try:
            for root in roots:
                for name in held.names(_prefix(root)):
                    yield from _left(held, name)
        finally:
            held.close()


def _left(directory: Held, name: str) -> Iterator[Unwritten | OSError]:
    try:
        file = Unwritten.take_over(directory, name)
    except UnsafeError:
        return
    except OSError as error:
        with contextlib.suppress(OSError):
            if directory.look(name).st_uid == acting_uid():
                yield error
        return
    if file is not None:
        try:
            yield file
        finally:
            file.release()


def _prefix(root: Path) -> str:
    """Return how the names of files begin that stand in for the journals of ``root``."""
    return f"capsule_sdk-{mark_of(root)}-unwritten-"
