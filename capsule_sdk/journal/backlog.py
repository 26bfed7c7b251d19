"""Backlog: capsules that wait for the store, on disk, first in first out.

Memory holds none of them. They are written and synced in the order in which they are to be in the chain; a
file of them is removed once all that it holds is there. Used by one thread at a time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable
from io import BufferedReader
from typing import Any, BinaryIO, cast

from ..directories import Held
from .contents import leads_to, reading
from .files import Home
from .frames import Frame, Kind, encode, parse

__all__ = ["Backlog"]

#: Bytes after which the next capsules go to another file, so that what is done with can be removed.
_FILE_SIZE = 64 << 20


class Backlog:
    """A queue of capsules, as dictionaries, in the directory of a journal."""

    def __init__(self) -> None:
        #: How many were added so far, how many of them were read, and how many are in the chain.
        self.added = self.read = self.done = 0
        #: How many could not be read back.
        self.damaged = 0
        #: Of these, how many have been passed over since the last `settle`: until then, what was read before
        #: them is safe here alone.
        self._passed_over = 0
        self._files: deque[_File] = deque()

    def __len__(self) -> int:
        return self.added - self.done

    def add(
        self,
        home: Home,
        capsules: Iterable[dict[str, Any]],
        instead: Callable[[dict[str, Any], Exception], dict[str, Any]],
    ) -> None:
        """Put capsules at the end; ``instead`` gives the stand-in for one that is not JSON.

        Raises:
            OSError: the disk takes no more; `added` tells how many there are.

        """
        if not self._files or self._files[-1].size >= _FILE_SIZE:
            self._files.append(_File(home.directory, home.new_backlog().name))
        last = self._files[-1]
        try:
            for capsule in capsules:
                try:
                    frame = encode(Kind.CAPSULE, capsule)
                except (TypeError, ValueError, RecursionError) as error:
                    frame = encode(Kind.CAPSULE, instead(capsule, error))
                last.write(frame)
                self.added += 1
        finally:
            last.sync()

    def take(self, count: int, size: int) -> list[dict[str, Any]]:
        """Return the next capsules: at most so many, and about so many bytes of them but one at least.

        Raises:
            OSError: they cannot be read.

        """
        capsules: list[dict[str, Any]] = []
        while self.read < self.added and len(capsules) < count and size > 0:
            try:
                line = next(file for file in self._files if file.read < file.given).read_line()
            except OSError:
                if capsules:
                    break  # these first; it will be raised again
                raise
            self.read += 1
            size -= len(line)
            frame = parse(line)
            if isinstance(frame, Frame):
                capsules.append(frame.document)
            else:
                self.damaged += 1
                self._passed_over += 1
        return capsules

    def skip(self) -> None:
        """Give up what has not been read of the first file that cannot be read."""
        file = next(file for file in self._files if file.read < file.given)
        left = file.given - file.read
        file.read = file.given
        self.read += left
        self.damaged += left
        self._passed_over += left
        self.settle(0)

    def settle(self, count: int) -> None:
        """Note that the next ``count`` are in the chain, and remove the files that nobody needs any more.

        Damaged capsules among them count by themselves.
        """
        count, self._passed_over = count + self._passed_over, 0
        self.done += count
        while count:
            first = self._files[0]
            step = min(count, first.given - first.done)
            first.done += step
            count -= step
            if first.done == first.given and (count or not len(self)):
                self._files.popleft().remove()

    def gone(self) -> int:
        """Tell how many wait in files that somebody has removed: nobody finds them after this process."""
        return sum(file.given - file.done for file in self._files if file.is_there() is False)

    def unseen(self) -> int:
        """Tell how many wait in files that nobody can look at now."""
        return sum(file.given - file.done for file in self._files if file.is_there() is None)

    def move(self, home: Home, *, unseen: bool = False) -> None:
        """Write anew, in ``home``, the files that somebody has removed.

        Args:
            home: the directory of a journal.
            unseen: whether to do so with those too that nobody can look at now.

        Raises:
            OSError: that cannot be done; what could not be moved stays as it was.

        """
        for file in self._files:
            there = file.is_there()
            if there is False or (unseen and there is None):
                file.move(home.directory, home.new_backlog().name)

    def close(self) -> None:
        """Close the files; they stay."""
        for file in self._files:
            file.close()

    def forget(self) -> None:
        """Leave the files to the process that this one was forked from."""
        for file in self._files:
            file.forget()


class _File:
    """One file of the queue, written at its end and read from its start."""

    def __init__(self, directory: Held, name: str) -> None:
        self._directory, self._name, self._end, self._start = _made(directory, name)
        self.size = self.given = self.read = self.done = 0

    def write(self, frame: bytes) -> None:
        try:
            if os.write(self._end, frame) < len(frame):
                raise OSError(
                    errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._directory.path / self._name)
                )
        except BaseException:
            try:
                os.ftruncate(self._end, self.size)
            except OSError:  # then nothing may follow what was written in part
                self.size = _FILE_SIZE
            raise
        self.size += len(frame)
        self.given += 1

    def sync(self) -> None:
        os.fsync(self._end)

    def read_line(self) -> bytes:
        line = b""
        while not line:
            line = self._start.readline()
            if not line:
                raise OSError(
                    errno.EIO,
                    "it is shorter than what was written",
                    str(self._directory.path / self._name),
                )
            line = line.rstrip(b"\n")
        self.read += 1
        return line

    def is_there(self) -> bool | None:
        """Tell whether its path leads to it still; ``None`` where nobody can look."""
        return leads_to(self._directory.path / self._name, os.fstat(self._end))

    def move(self, directory: Held, name: str) -> None:
        place = self._start.tell()
        copy, name, end, start = _made(directory, name)
        try:
            try:
                self._start.seek(0)
                with os.fdopen(os.dup(end), "wb") as file:
                    shutil.copyfileobj(self._start, file)
                os.fsync(end)
            finally:
                self._start.seek(place)
        except BaseException:
            os.close(end)
            start.close()
            with contextlib.suppress(OSError):
                copy.unlink(name)
            copy.close()
            raise
        self.remove()  # where it was moved away, nobody else is to bring it in
        self._directory, self._name, self._end, self._start = copy, name, end, start
        start.seek(place)

    def close(self) -> None:
        os.close(self._end)
        self._start.close()
        self._directory.close()

    def forget(self) -> None:
        """Close it in a forked child; past the buffer, whose lock a thread of the parent may have held."""
        with contextlib.suppress(OSError):
            os.close(self._end)
            cast("BufferedReader", self._start).raw.close()

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._directory.unlink(self._name)
        self.close()


def _made(directory: Held, name: str) -> tuple[Held, str, int, BinaryIO]:
    """Make a file; return it with its directory, which is held for it, for writing, and for reading.

    For reading now, so that it can be read though somebody removes it.
    """
    held = directory.again()
    end = -1
    try:
        end = held.create(name)
        return held, name, end, reading(held, name)
    except BaseException:
        if end >= 0:
            os.close(end)
            with contextlib.suppress(OSError):
                held.unlink(name)
        held.close()
        raise
