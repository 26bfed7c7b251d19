"""Where journals lie, and whose they are: a directory for each process, locked while that process lives.

- A directory MUST be locked before anyone else can see it: it is made under a hidden name and moved to its
  place.
- Nothing MUST be removed from it while others can see it: it is hidden again first. So what is hidden
  counts for nothing, and `sweep` removes what a process leaves that ends in between.
- The lock MUST end with its owner: it is the kernel's (`flock`), and a forked child lets go of its copy at
  once.
- Nobody MUST read a directory for recovery, or remove it, without holding its lock.

A child that C code has forked without Python's hooks keeps the lock of its parent until it ends; the
journal is then recovered later, never twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from ..forks import Stage, at_fork

__all__ = [
    "Home",
    "backlog_in",
    "create",
    "gaps_in",
    "homes",
    "is_alive",
    "ours",
    "records_in",
    "set_aside_in",
    "size_of",
    "sweep",
    "unwritten_in",
]

_LOCK = "owner.lock"
_RECORDS, _BACKLOG = "records", "backlog"
_DAMAGED = "damaged"
_GAPS = "gaps"
_UNWRITTEN = "unwritten"
#: Bytes that have to fit on a disk that was full, before it is used again.
_PROBE = 65_536
#: How often a directory is made, in case that others sweep it away before it is locked.
_TRIES = 3

#: Descriptors that a forked child must not keep: each is, or keeps, a lock of its parent's.
ours: set[int] = set()


class Home:
    """One process's directory, held by its lock."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock
        self._numbers = 0
        ours.add(lock)

    @classmethod
    def make(cls, root: Path) -> Home:
        """Make a directory for this process, and hold it.

        Raises:
            OSError: it cannot be made or locked.

        """
        for directory in (root.parent, root):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(_TRIES):
            name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}"
            hidden = root / f".{name}"
            hidden.mkdir(mode=0o700)
            try:
                home = cls._locked(hidden, os.O_CREAT | os.O_EXCL)
                if home is not None:
                    home.path = hidden.rename(root / name)
                    return home
            except FileNotFoundError:  # it was swept away
                continue
            except BaseException:
                shutil.rmtree(hidden, ignore_errors=True)
                raise
        raise OSError(f"no directory can be made in {root}: others sweep it away each time")

    @classmethod
    def take_over(cls, path: Path) -> Home | None:
        """Hold the directory of a process that is no more; ``None`` where somebody else holds it.

        Raises:
            OSError: it cannot be read.

        """
        try:
            home = cls._locked(path, os.O_CREAT)  # its lock may have been removed by hand
        except FileNotFoundError:
            return None
        if home is not None and not home.is_there():  # removed by another, just now
            home.release()
            return None
        return home

    @classmethod
    def _locked(cls, path: Path, flags: int) -> Home | None:
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def is_there(self) -> bool:
        """Tell whether the directory is still the one that is held."""
        try:
            found, held = (self.path / _LOCK).stat(), os.fstat(self._lock)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def records(self) -> list[Path]:
        """Return the files of records, oldest first."""
        return records_in(self.path)

    def backlog(self) -> list[Path]:
        """Return the files of capsules that wait for the store, oldest first."""
        return backlog_in(self.path)

    def new_records(self) -> Path:
        """Return the name of a file of records that is not there yet."""
        return self._new(_RECORDS)

    def new_backlog(self) -> Path:
        """Return the name of a file of capsules that is not there yet."""
        return self._new(_BACKLOG)

    def probe(self) -> None:
        """Find out whether files can be written here again, without leaving one.

        Raises:
            OSError: they cannot.

        """
        path = self.path / "probe"
        try:
            path.write_bytes(bytes(_PROBE))
        finally:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def say_gaps(self, gaps: Iterable[str]) -> None:
        """Leave, for whoever looks at living processes, what this one cannot record as it should; line by line.

        Raises:
            OSError: it cannot be written.

        """
        text = "\n".join(" ".join(gap.split()) for gap in gaps)
        (self.path / _GAPS).write_text(text, encoding="utf-8")

    def size(self) -> int:
        """Return how many bytes lie here."""
        return size_of(self.path)

    def remove(self) -> None:
        """Remove all that lies here, and let go of it."""
        with contextlib.suppress(FileNotFoundError):
            if not self.path.name.startswith("."):
                self.path = self.path.rename(self.path.with_name(f".{self.path.name}"))
            for path in sorted(self.path.iterdir()):
                if path.name != _LOCK:
                    path.unlink(missing_ok=True)
            (self.path / _LOCK).unlink(missing_ok=True)
            self.path.rmdir()
        self.release()

    def set_aside(self) -> None:
        """Keep what lies here where nobody recovers it again, and let go of it."""
        aside = self.path.parent / _DAMAGED
        aside.mkdir(mode=0o700, exist_ok=True)
        self.path = self.path.rename(aside / self.path.name)
        self.release()

    def release(self) -> None:
        """Let go of the directory and leave it as it is."""
        if self._lock in ours:
            ours.discard(self._lock)
            os.close(self._lock)

    def _new(self, kind: str) -> Path:
        self._numbers += 1
        return self.path / f"{kind}-{self._numbers:08}"


def gaps_in(path: Path) -> list[str]:
    """Return what the process of a directory said that it cannot record as it should."""
    try:
        return (path / _GAPS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def sweep(root: Path) -> None:
    """Remove what processes have left that ended while they made or removed a directory."""
    with contextlib.suppress(OSError):
        for path in root.glob(".*-*-*"):
            with contextlib.suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    try:
        home = Home._locked(path, 0)
    except FileNotFoundError:
        path.rmdir()  # refused where its maker has just put the lock there
        return
    if home is not None:
        try:
            home.remove()
        finally:
            home.release()


def create(path: Path) -> int:
    """Make a file for its owner only, to which whatever is written is appended; return its descriptor."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def records_in(directory: Path) -> list[Path]:
    """Return the files of records, oldest first."""
    return sorted(directory.glob(f"{_RECORDS}-*"))


def backlog_in(directory: Path) -> list[Path]:
    """Return the files of capsules that wait for the store, oldest first."""
    return sorted(directory.glob(f"{_BACKLOG}-*"))


def unwritten_in(directory: Path) -> Path:
    """Return the file of what could not be written, or where it would be."""
    return directory / _UNWRITTEN


def set_aside_in(root: Path) -> list[Path]:
    """Return the directories that are kept because they are damaged."""
    return sorted((root / _DAMAGED).glob("*"))


def homes(root: Path) -> Iterator[Path]:
    """Yield the directories of all processes that have a journal here, oldest first."""
    try:
        found = sorted(root.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in found:
        if path.is_dir() and path.name != _DAMAGED and not path.name.startswith("."):
            yield path


def is_alive(path: Path) -> bool:
    """Tell whether somebody holds a directory: its process, or one that is recovering it.

    Raises:
        OSError: this user may not look.

    """
    home = Home.take_over(path)
    if home is None:
        return path.exists()
    home.release()
    return False


def size_of(path: Path) -> int:
    """Return how many bytes lie in a directory, as far as that can be told; room that was taken is none."""
    total = 0
    with contextlib.suppress(OSError):
        for file in path.iterdir():
            with contextlib.suppress(OSError):
                total += file.stat().st_size if file.name != _UNWRITTEN else 0
    return total


def _after_fork_in_child(_: object) -> None:
    for descriptor in ours:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    ours.clear()


at_fork(Stage.REST, in_child=_after_fork_in_child)
