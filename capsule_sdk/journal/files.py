"""Where journals lie, and whose they are: a directory for each process, locked while that process lives.

- A directory MUST be locked before anyone else can see it: it is made under a hidden name and moved to its
  place.
- Nothing MUST be removed from it while others can see it: it is hidden again first. So what is hidden
  counts for nothing, and `sweep` removes what a process leaves that ends in between.
- The lock MUST end with its owner: it is the kernel's (`flock`), and a forked child lets go of its copy at
  once.
- Nobody MUST read a directory for recovery, or remove it, without holding its lock.
- Only what is this user's alone MUST be read or removed, and no link followed: all goes by the descriptors of
  `capsule_sdk.directories`. Paths are for messages.

A child that C code has forked without Python's hooks keeps the lock of its parent until it ends; the
journal is then recovered later, never twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ..directories import Held, open_directory, ours
from .contents import (
    BACKLOG,
    DAMAGED,
    GAPS,
    RECORDS,
    backlog_in,
    is_same,
    leads_to,
    records_in,
    size_of,
)

__all__ = ["Home", "is_alive", "sweep"]

_LOCK = "owner.lock"
_PROBE_NAME = "probe"
#: Bytes that have to fit on a disk that was full, before it is used again.
_PROBE = 65_536
#: How often a directory is made, in case that others sweep it away before it is locked.
_TRIES = 3


class Home:
    """One process's directory, held by its lock."""

    def __init__(self, root: Held, directory: Held, lock: int) -> None:
        self._root = root
        self.directory = directory
        self._lock = lock
        self._numbers = 0
        ours.add(lock)

    @property
    def path(self) -> Path:
        """Where it lay when it was last seen."""
        return self.directory.path

    @classmethod
    def make(cls, root: Path) -> Home:
        """Make a directory for this process, and hold it.

        Raises:
            UnsafeError: others could lay something there.
            OSError: it cannot be made or locked.

        """
        for _ in range(_TRIES):
            held = open_directory(root, make=True)
            try:
                home = cls._made(held)
            except FileNotFoundError:  # it was swept away, or all of it removed
                continue
            finally:
                held.close()
            if home is not None:
                return home
        raise OSError(f"no directory can be made in {root}: others sweep it away each time")

    @classmethod
    def _made(cls, root: Held) -> Home | None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}"
        hidden = f".{name}"
        root.make(hidden)
        try:
            directory = root.directory(hidden)
            home = cls._locked(root, directory, os.O_CREAT | os.O_EXCL)
            if home is None:
                return None
            try:
                home._rename(name)
            except BaseException:
                home.release()
                raise
        except FileNotFoundError:
            raise
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(f"{hidden}/{_LOCK}", dir_fd=root.fd)
            with contextlib.suppress(OSError):
                os.rmdir(hidden, dir_fd=root.fd)
            raise
        return home

    @classmethod
    def take_over(cls, path: Path, root: Held | None = None) -> Home | None:
        """Hold the directory of a process that is no more; ``None`` where somebody else holds it.

        Args:
            path: the directory.
            root: the directory that it is in, where that is held already.

        Raises:
            UnsafeError: it is not this user's alone, or a link.
            OSError: it cannot be read.

        """
        held = None if root is not None else open_directory(path.parent)
        try:
            home = cls._taken_over(path.name, root or held)
        except FileNotFoundError:
            return None
        finally:
            if held is not None:
                held.close()
        if home is not None and not home._is_named():  # removed by another, just now
            home.release()
            return None
        return home

    @classmethod
    def _taken_over(cls, name: str, root: Held | None) -> Home | None:
        assert root is not None  # noqa: S101 - one of both is there
        # Its lock may have been removed by hand.
        return cls._locked(root, root.directory(name), os.O_CREAT)

    @classmethod
    def _locked(cls, root: Held, directory: Held, flags: int) -> Home | None:
        """Lock a directory, which is let go of where that fails."""
        descriptor = -1
        try:
            descriptor = directory.open(_LOCK, os.O_RDWR | flags)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(root.again(), directory, descriptor)
        except BaseException as error:
            directory.close()
            if descriptor >= 0:
                os.close(descriptor)
            if isinstance(error, BlockingIOError):
                return None
            raise

    def _rename(self, name: str) -> None:
        os.rename(self.path.name, name, src_dir_fd=self._root.fd, dst_dir_fd=self._root.fd)
        self.directory.path = self._root.path / name

    def _is_named(self) -> bool:
        """Tell whether its name still leads to it, as seen from the directory that it is in."""
        with contextlib.suppress(OSError):
            there, lock = self._root.look(self.path.name), self.directory.look(_LOCK)
            return is_same(there, os.fstat(self.directory.fd)) and is_same(
                lock, os.fstat(self._lock)
            )
        return False

    def is_there(self) -> bool | None:
        """Tell whether its path leads to it still: all above it may have been moved away.

        ``None``: nobody can look, as where a directory above was closed.
        """
        return leads_to(self.path / _LOCK, os.fstat(self._lock))

    def records(self) -> list[Path]:
        """Return the files of records, oldest first."""
        return [self.path / name for name in records_in(self.directory)]

    def backlog(self) -> list[Path]:
        """Return the files of capsules that wait for the store, oldest first."""
        return [self.path / name for name in backlog_in(self.directory)]

    def new_records(self) -> Path:
        """Return the name of a file of records that is not there yet."""
        return self._new(RECORDS)

    def new_backlog(self) -> Path:
        """Return the name of a file of capsules that is not there yet."""
        return self._new(BACKLOG)

    def probe(self) -> None:
        """Find out whether files can be written here again, without leaving one.

        Raises:
            OSError: they cannot.

        """
        self.directory.unlink(_PROBE_NAME)
        try:
            self._write(_PROBE_NAME, bytes(_PROBE))
        finally:
            with contextlib.suppress(OSError):
                self.directory.unlink(_PROBE_NAME)

    def say_gaps(self, gaps: Iterable[str]) -> None:
        """Leave, for whoever looks at living processes, what this one cannot record as it should; line by line.

        Raises:
            OSError: it cannot be written.

        """
        text = "\n".join(" ".join(gap.split()) for gap in gaps)
        self.directory.unlink(GAPS)
        self._write(GAPS, text.encode("utf-8", "replace"))

    def _write(self, name: str, content: bytes) -> None:
        with os.fdopen(self.directory.create(name), "wb") as file:
            file.write(content)

    def size(self) -> int:
        """Return how many bytes lie here."""
        return size_of(self.directory)

    def remove(self) -> None:
        """Remove all that lies here, and let go of it."""
        with contextlib.suppress(FileNotFoundError):
            if self._is_named():
                if not self.path.name.startswith("."):
                    self._rename(f".{self.path.name}")
                for name in self.directory.names():
                    if name != _LOCK:
                        self.directory.unlink(name)
                self.directory.unlink(_LOCK)
                os.rmdir(self.path.name, dir_fd=self._root.fd)
        self.release()

    def set_aside(self) -> None:
        """Keep what lies here where nobody recovers it again, and let go of it."""
        with contextlib.suppress(FileExistsError):
            self._root.make(DAMAGED)
        aside, name = self._root.directory(DAMAGED), self.path.name
        try:
            os.rename(name, name, src_dir_fd=self._root.fd, dst_dir_fd=aside.fd)
        finally:
            aside.close()
        self.directory.path = aside.path / name
        self.release()

    def release(self) -> None:
        """Let go of the directory and leave it as it is."""
        self._root.close()
        self.directory.close()
        if self._lock in ours:
            ours.discard(self._lock)
            os.close(self._lock)
        self._lock = -1

    def _new(self, kind: str) -> Path:
        self._numbers += 1
        return self.path / f"{kind}{self._numbers:08}"


def sweep(root: Held) -> None:
    """Remove what processes have left that ended while they made or removed a directory."""
    with contextlib.suppress(OSError):
        for name in root.names("."):
            if name.count("-") > 1:
                with contextlib.suppress(OSError):
                    _sweep_one(root, name)


def _sweep_one(root: Held, name: str) -> None:
    try:
        home = Home._locked(root, root.directory(name), 0)
    except FileNotFoundError:
        os.rmdir(name, dir_fd=root.fd)  # refused where its maker has just put the lock there
        return
    if home is not None:
        try:
            home.remove()
        finally:
            home.release()


def is_alive(path: Path) -> bool:
    """Tell whether somebody holds a directory: its process, or one that is recovering it.

    Raises:
        OSError: this user may not look, or it is not to be believed.

    """
    root = open_directory(path.parent)
    try:
        home = Home._locked(root, root.directory(path.name), 0)
    except FileNotFoundError:  # removed just now, or its lock by hand: nothing is made by looking
        return False
    finally:
        root.close()
    if home is None:
        return path.exists()
    home.release()
    return False
