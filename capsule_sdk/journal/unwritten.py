"""Unwritten: which records no journal holds, in room that was taken while there was some.

A disk that is full takes no more bytes, but lets those be written over that it has given. So this file has all
of its bytes from the start, and an entry is written over them: what was begun and could be written nowhere
is known even after ``kill -9``, and counted by whoever recovers.

- An entry is a frame in a place of a fixed size, filled up with line breaks. It names one record, so that one
  that got into the chain after all is never counted; beyond the last place there is one entry with a number.
- The file MUST be locked while its process lives (`flock`), and is read for recovery under that lock only.
- Outside of a journal's own directory a file is believed only if nobody else can have put it there.

`put` and `drop` are for any thread, all else for one at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from hashlib import sha3_256
from pathlib import Path
from typing import Any
from uuid import uuid4

from .files import ours
from .frames import Frame, Kind, encode, read

__all__ = ["Unwritten", "entries_in", "left_in"]

#: Bytes of a place, and how many there are; the last ones are for numbers.
PLACE, PLACES, _NUMBERS = 192, 1024, 8
_FREE = b"\n" * PLACE


class Unwritten:
    """A file of such entries, held by its lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._fd = descriptor
        self._places: dict[str, int] = {}
        self._free = deque(range(PLACES - _NUMBERS))
        self._for_numbers = deque(range(PLACES - _NUMBERS, PLACES - 1))
        self._beyond: dict[str, None] = {}
        self._beyond_id = uuid4().hex
        ours.add(descriptor)

    @classmethod
    def make(cls, path: Path) -> Unwritten:
        """Make the file, with all of its room.

        Raises:
            OSError: there is not that much.

        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.write(descriptor, _FREE * PLACES) < PLACE * PLACES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except BaseException:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        return cls(path, descriptor)

    @classmethod
    def make_elsewhere(cls, directories: Iterable[Path], root: Path) -> Unwritten | None:
        """Make the file for the journals of ``root`` in the first of other directories that takes it."""
        for directory in directories:
            with contextlib.suppress(OSError):
                return cls.make(directory / f"{_prefix(root)}{secrets.token_hex(4)}")
        return None

    @classmethod
    def take_over(cls, path: Path) -> Unwritten | None:
        """Hold the file of a process that is no more; ``None`` where it lives, or the file is not trusted."""
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags)
        try:
            if _is_trusted(descriptor, path.parent):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return cls(path, descriptor)
        except BlockingIOError:
            pass
        os.close(descriptor)
        return None

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
            self.path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the file and leave it as it is."""
        if self._fd in ours:
            ours.discard(self._fd)
            os.close(self._fd)

    def _write_beyond(self) -> bool:
        frame = encode(Kind.LOST, {"id": self._beyond_id, "count": len(self._beyond)})
        return self._write(PLACES - 1, frame if self._beyond else _FREE)

    def _write(self, place: int, frame: bytes) -> bool:
        try:
            written = os.pwrite(self._fd, frame[:PLACE].ljust(PLACE, b"\n"), place * PLACE)
        except OSError:
            return False
        return written == PLACE


def entries_in(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a file.

    Raises:
        OSError: it cannot be read.

    """
    with path.open("rb") as file:
        for frame in read(file):
            if isinstance(frame, Frame) and frame.kind == Kind.LOST:
                yield frame.document


def left_in(directories: Iterable[Path], root: Path) -> Iterator[Unwritten | OSError]:
    """Yield the files for the journals of ``root`` whose processes are no more; each is held until the next.

    In place of one that this user may not open, and that is to be believed, comes the reason.
    """
    for directory in directories:
        for path in sorted(directory.glob(f"{_prefix(root)}*")):
            try:
                file = Unwritten.take_over(path)
            except OSError as error:
                with contextlib.suppress(OSError):
                    if _is_to_be_believed(path.lstat(), directory):
                        yield error
                continue
            if file is not None:
                try:
                    yield file
                finally:
                    file.release()


def _prefix(root: Path) -> str:
    """Return how the names of files begin that stand in for the journals of ``root``."""
    return f"capsule_sdk-{sha3_256(os.fsencode(root)).hexdigest()[:16]}-unwritten-"


def _is_trusted(descriptor: int, directory: Path) -> bool:
    """Tell whether the file is this user's, or lies where only those put files who may write the store."""
    return _is_to_be_believed(os.fstat(descriptor), directory)


def _is_to_be_believed(found: os.stat_result, directory: Path) -> bool:
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        return False
    shared = directory.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP)
    return found.st_uid == os.geteuid() or not shared
